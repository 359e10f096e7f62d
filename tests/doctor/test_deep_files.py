"""Files are read whole and compared with their hashes; nothing is removed."""

from __future__ import annotations

import hashlib
import shutil

import pytest

from qied.doctor.deep_files import blobs, weights
from qied.doctor.findings import Status
from qied.planning.profiles.model_profile import shipped_profiles
from qied.resources import builtin_model_folder
from qied.server.blobs.store import BlobStore
from qied.serving.model import ServedModel


@pytest.fixture
def seen():
    """What the watch was told."""
    return []


@pytest.fixture
def watch(seen):
    return lambda what, done, total: seen.append((what, done, total))


def serving(facts, folder):
    return facts(model=ServedModel(folder, shipped_profiles()["builtin"], "builtin"))


@pytest.fixture
def in_hub_cache(tmp_path):
    """The built-in model as Hugging Face's cache would hold it."""
    snapshot = shutil.copytree(builtin_model_folder(), tmp_path / "snapshots" / "1")
    for file in snapshot.rglob("*.safetensors"):
        blob = tmp_path / "blobs" / hashlib.sha256(file.read_bytes()).hexdigest()
        blob.parent.mkdir(exist_ok=True)
        file.rename(blob)
        file.symlink_to(blob)
    return snapshot


def test_weights_that_have_their_hashes_are_fine(facts, in_hub_cache, watch, seen):
    verdict = weights(serving(facts, in_hub_cache), watch)
    assert (verdict.status, verdict.message[:14]) == (Status.OK, "4 weight files")
    assert seen[-1][1] == seen[-1][2] > 0


def test_a_flipped_bit_is_found(facts, in_hub_cache, watch):
    file = (in_hub_cache / "vae" / "diffusion_pytorch_model.safetensors").resolve()
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    verdict = weights(serving(facts, in_hub_cache), watch)
    assert (verdict.status, "vae" in verdict.message) == (Status.ERROR, True)
    assert f"rm {file}," in verdict.remedy, "the file itself: a download would only link to it again"


def test_weights_without_known_hashes_are_read_but_have_not_passed(facts, watch):
    verdict = weights(serving(facts, builtin_model_folder()), watch)
    assert (verdict.status, "can be read" in verdict.message) == (Status.SKIPPED, True)


def test_weights_that_cannot_be_read_are_an_error(facts, in_hub_cache, watch, monkeypatch):
    def broken(file):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("qied.doctor.deep_files._chunks", broken)
    verdict = weights(serving(facts, in_hub_cache), watch)
    assert (verdict.status, "Input/output error" in verdict.message) == (Status.ERROR, True)


@pytest.fixture
def stored(facts):
    """Facts of a daemon that stores two pictures, and their hashes."""
    examined = facts()
    store = BlobStore(examined.home / "blobs", 2**27, 2**20, 0)
    return examined, [store.put(b"one"), store.put(b"two")]


def test_pictures_that_have_their_hashes_are_fine(stored, watch):
    examined, _ = stored
    assert blobs(examined, watch).message == "2 stored pictures match their hashes."


def test_a_damaged_picture_is_named_and_left_where_it_is(stored, watch):
    examined, (first, _) = stored
    file = examined.home / "blobs" / first[:2] / first
    file.write_bytes(b"0ne")
    verdict = blobs(examined, watch)
    assert (verdict.status, f"rm {file}" in verdict.remedy) == (Status.ERROR, True)
    assert file.read_bytes() == b"0ne"


def test_where_there_is_no_store_there_is_nothing_wrong_with_it(facts, watch):
    examined = facts()
    assert blobs(examined, watch).status is Status.OK
    assert not examined.home.exists()


def test_a_store_that_may_not_be_entered_is_an_error_of_the_machine(facts, watch, locked):
    with locked() as folder:
        verdict = blobs(facts(home=folder), watch)
    assert (verdict.status, "may not enter" in verdict.message) == (Status.ERROR, True)
