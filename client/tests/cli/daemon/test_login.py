import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from qied_client.credentials import read_credential

POSIX = pytest.mark.skipif(os.name != "posix", reason="only POSIX has these rights")


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    return tmp_path / "config" / "qied" / "key.json"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_login_is_proven_kept_and_found_by_every_command(run: Any, daemon: Any, kept: Path) -> None:
    done = run("login", daemon.key)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"logged in as ann at {daemon.address}, which serves echo",
        f"The key is kept in {kept}; 'qied-client logout' removes it.",
    ]
    assert read_credential(kept) == read_credential(daemon.key)
    assert (mode(kept), mode(kept.parent)) == (0o600, 0o700)
    assert [path.name for path in kept.parent.iterdir()] == ["key.json"]
    daemon.key.unlink()
    assert run("ps").returncode == 0
    done = run("logout")
    assert (done.returncode, done.stdout) == (0, f"logged out: {kept} is removed\n")
    assert (run("logout").stdout, run("ps").returncode) == ("not logged in\n", 3)


def test_a_key_goes_before_the_login_if_it_is_named(
    run: Any, daemon: Any, kept: Path, free_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("login", daemon.key).returncode == 0
    daemon.write_key(free_address)
    assert run("ps", "--key", daemon.key).returncode == 3
    monkeypatch.setenv("QIED_KEY", str(daemon.key))
    assert run("ps").returncode == 3
    assert "QIED_KEY is set" in run("login", kept).stderr


@POSIX
def test_a_key_file_from_mail_is_closed_to_others(run: Any, daemon: Any, kept: Path) -> None:
    daemon.key.chmod(0o644)
    done = run("login", daemon.key)
    assert done.returncode == 0
    assert done.stderr == f"{daemon.key} was open to other users of this machine; it is closed now.\n"
    assert (mode(daemon.key), mode(kept)) == (0o600, 0o600)


@POSIX
@pytest.mark.skipif(os.name == "posix" and os.geteuid() != 0, reason="only root can give a file away")
def test_somebody_elses_open_file_is_copied_and_said_to_be_open(run: Any, daemon: Any, kept: Path) -> None:
    os.chown(daemon.key, 12345, 12345)
    daemon.key.chmod(0o644)
    done = run("login", daemon.key)
    assert done.returncode == 0
    assert done.stderr.startswith(f"warning: others can read {daemon.key}")
    assert (mode(daemon.key), mode(kept)) == (0o644, 0o600)


def test_another_address_is_kept_with_the_key(run: Any, daemon: Any, kept: Path, free_address: str) -> None:
    daemon.write_key(free_address)
    assert run("login", daemon.key, "--address", daemon.address).returncode == 0
    assert read_credential(kept).endpoint == daemon.address
    assert run("ps").returncode == 0


def test_a_key_that_does_not_work_is_not_kept(run: Any, daemon: Any, kept: Path) -> None:
    assert run("login", daemon.key).returncode == 0
    before = kept.read_bytes()
    daemon.write_key(daemon.address, public_key=daemon.server_public.decode())
    done = run("login", daemon.key)
    assert done.returncode == 3
    assert done.stderr.startswith("error handshake_refused ")
    assert kept.read_bytes() == before


@pytest.mark.parametrize("content", ["no key", json.dumps({"version": 1})])
def test_what_is_not_a_key_file_is_refused(run: Any, tmp_path: Path, kept: Path, content: str) -> None:
    (tmp_path / "x.json").write_text(content)
    done = run("login", tmp_path / "x.json")
    assert (done.returncode, kept.exists()) == (3, False)
    assert done.stderr.startswith("error credentials_missing ")


def test_a_place_that_cannot_be_written_is_said_so(
    run: Any, daemon: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config").touch()
    done = run("login", daemon.key)
    assert done.returncode == 2
    assert done.stderr.startswith("error setup ") and "Traceback" not in done.stderr
