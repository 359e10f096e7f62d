"""The state folder: private, writable, its keys whole, its disk with room."""

from __future__ import annotations

import json
import shutil
from collections import namedtuple

import pytest

from qied.doctor.findings import Status
from qied.server.access.keys import KeyStore

Usage = namedtuple("Usage", "total used free")
GIB = 1024**3


@pytest.fixture
def used(facts):
    """Facts of a state folder that a daemon has used."""
    examined = facts()
    KeyStore(examined.home).ensure_local("tcp://127.0.0.1:7447")
    return examined


@pytest.mark.parametrize("check", ["state.folder", "state.keys"])
def test_a_folder_that_is_not_there_yet_is_fine(facts, ask, check):
    found = ask(check, facts())
    assert (found.status, "made at the first start" in found.message) == (Status.OK, True)


def test_a_private_folder_with_its_keys_is_fine(used, ask):
    assert ask("state.folder", used).message.endswith("is private and writable.")
    assert ask("state.keys", used).message == "1 enrolled: local."


def test_a_folder_that_others_can_read_is_a_warning_with_the_command_that_helps(used, ask):
    used.home.chmod(0o755)
    found = ask("state.folder", used)
    assert (found.status, found.remedy) == (Status.WARNING, f"chmod 700 {used.home}")


def test_a_file_in_the_place_of_the_folder_is_an_error(facts, ask):
    examined = facts()
    examined.home.write_text("")
    assert ask("state.folder", examined).status is Status.ERROR


def test_a_folder_that_cannot_be_written_to_is_an_error(facts, ask, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)  # a superuser may write everywhere
    found = ask("state.folder", facts())
    assert (found.status, "--home" in found.remedy) == (Status.ERROR, True)


@pytest.mark.parametrize("name", ["keys/server.key", "keys", "local.key.json"])
def test_keys_that_others_can_read_are_an_error_with_the_command_that_helps(used, ask, name):
    (used.home / name).chmod(0o755)
    found = ask("state.keys", used)
    assert (found.status, "chmod" in found.remedy) == (Status.ERROR, True)


@pytest.mark.parametrize("name", ["keys/server.key", "keys/clients/local.json", "local.key.json"])
def test_a_damaged_key_file_is_named(used, ask, name):
    (used.home / name).write_text("{}")
    found = ask("state.keys", used)
    assert (found.status, name.rpartition("/")[2] in found.message) == (Status.ERROR, True)


def test_secrets_stay_out_of_findings(used, ask):
    keys = json.loads((used.home / "local.key.json").read_text())
    found = json.dumps(ask("state.keys", used).to_json())
    assert keys["secret_key"] not in found


@pytest.mark.parametrize(
    ("free_gib", "status"), [(0.5, Status.ERROR), (1, Status.ERROR), (10, Status.WARNING), (30, Status.OK)]
)
def test_the_disk_must_have_room_for_what_may_be_kept(facts, ask, monkeypatch, free_gib, status):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(100 * GIB, 0, int(free_gib * GIB)))
    assert ask("state.disk", facts()).status is status


def test_pictures_that_are_stored_already_need_no_more_room(facts, ask, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(100 * GIB, 0, GIB + 64 * 1024**2))
    examined = facts(overrides={"storage.blob_bytes": 65 * 1024**2})
    assert ask("state.disk", examined).status is Status.WARNING
    stored = examined.home / "blobs" / "ab" / ("ab" * 32)
    stored.parent.mkdir(parents=True)
    stored.write_bytes(bytes(1024**2))
    assert ask("state.disk", examined).status is Status.OK


@pytest.mark.parametrize("check", ["state.folder", "state.keys", "state.disk"])
@pytest.mark.parametrize("below", ["", "state"])
def test_a_folder_that_may_not_be_entered_is_an_error_of_the_machine(facts, ask, locked, check, below):
    with locked() as folder:
        found = ask(check, facts(home=folder / below))
    assert (found.status, "--home" in found.remedy) == (Status.ERROR, True)
    assert "broke" not in found.message


@pytest.fixture
def mounted(monkeypatch, tmp_path):
    """Have Linux list one file system below the test's folder."""

    def mount(kind):
        listed = tmp_path / "mounts"
        listed.write_text(f"/dev/sda1 / ext4 rw 0 0\nfar {tmp_path.resolve()} {kind} rw 0 0\n")
        monkeypatch.setattr("qied.doctor.checks.state._MOUNTS", listed)

    return mount


@pytest.mark.parametrize(
    ("kind", "status"),
    [("ext4", Status.OK), ("9p", Status.WARNING), ("nfs4", Status.WARNING), ("drvfs", Status.WARNING)],
)
def test_a_folder_that_another_machine_or_system_keeps_is_a_warning(facts, ask, mounted, kind, status):
    mounted(kind)
    found = ask("state.file_system", facts())
    assert found.status is status
    assert kind in found.message
    assert ("--home" in found.remedy) == (status is Status.WARNING)


def test_a_link_leads_to_the_file_system_that_counts(facts, ask, mounted, tmp_path):
    mounted("9p")
    link = tmp_path.parent / f"{tmp_path.name}-link"
    link.symlink_to(tmp_path)
    assert ask("state.file_system", facts(home=link / "state")).status is Status.WARNING


def test_a_system_that_lists_no_mounts_is_not_asked(facts, ask, monkeypatch, tmp_path):
    monkeypatch.setattr("qied.doctor.checks.state._MOUNTS", tmp_path / "absent")
    assert ask("state.file_system", facts()).status is Status.SKIPPED
