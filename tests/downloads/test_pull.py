"""Pulling from a hub over real HTTP: into the cache or a folder, once, and on from where it broke off."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import constants, snapshot_download
from huggingface_hub.utils import WeakFileLock
from qied_client.errors import DiskFull, DownloadFailed, ModelNotFound

from qied.checkpoints.places import choose_model, find_models
from qied.doctor.weight_files import known_hash
from qied.downloads.pull import Pull, carry_out, prepare
from qied.downloads.wanted import RemoteFile
from qied.loras.catalogue import find_loras
from qied.planning.profiles.model_profile import shipped_downloads, shipped_profiles
from tests.downloads.hub_server import COMMIT, LIGHTNING, LORA, MODEL, SHARD, UNWANTED, Hub, hash_of

DOWNLOADS = shipped_downloads()
WHOLE = "qwen-image-edit-2511"
TOKENIZER = "qwen-image-edit-2511-tokenizer"
FIRST = SHARD.format(1)

Prepared = Callable[..., Pull]
Pulled = Callable[..., Path]


@pytest.fixture
def prepared(hub: Hub, tmp_path: Path) -> Prepared:
    """Look what a pull of this name has to do, in a cache of the test's own."""
    return lambda name=WHOLE, **more: prepare(DOWNLOADS[name], cache=tmp_path / "cache", endpoint=hub.endpoint, **more)


@pytest.fixture
def pulled(prepared: Prepared) -> Pulled:
    """Pull, with as many further attempts as given, made at once."""
    return lambda name=WHOLE, attempts=0, **more: carry_out(
        prepared(name, **more), 0, lambda *_: None, waits_s=(0.0,) * attempts
    )


def files_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def wanted(hub: Hub) -> set[str]:
    return set(hub.repositories[MODEL].files) - set(UNWANTED)


# Into the cache


def test_the_whole_model_is_found_complete_afterwards_and_nothing_else_was_fetched(
    hub: Hub, pulled: Pulled, tmp_path: Path
) -> None:
    folder = pulled()
    assert files_below(folder) == wanted(hub)
    assert all((folder / path).read_bytes() == hub.repositories[MODEL].files[path] for path in wanted(hub))
    found = choose_model(find_models({"HF_HUB_CACHE": str(tmp_path / "cache")}, tmp_path))
    assert found is not None and (found.path, found.complete) == (folder, True)
    assert {path for path, _ in hub.fetched()} <= wanted(hub)


def test_a_file_is_on_the_disk_before_it_has_its_name(
    hub: Hub, pulled: Pulled, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: set[tuple[int, int]] = set()

    def sync(descriptor: int) -> None:
        status = os.fstat(descriptor)
        synced.add((status.st_ino, status.st_size))

    monkeypatch.setattr("qied.downloads.hub.sync_file", sync)
    folder = pulled()
    placed = [(folder / path).stat() for path in wanted(hub)]
    assert {(status.st_ino, status.st_size) for status in placed} <= synced


def test_the_hubs_own_library_finds_it_without_the_network(pulled: Pulled, tmp_path: Path) -> None:
    folder = pulled()
    assert snapshot_download(MODEL, cache_dir=tmp_path / "cache", local_files_only=True) == str(folder)


def test_the_hubs_own_library_fetches_nothing_more(hub: Hub, pulled: Pulled, tmp_path: Path) -> None:
    folder = pulled()
    hub.requests.clear()
    known = snapshot_download(
        MODEL, cache_dir=tmp_path / "cache", endpoint=hub.endpoint, ignore_patterns=list(UNWANTED)
    )
    assert (known, hub.fetched()) == (str(folder), [])


def test_what_is_there_is_not_fetched_again(hub: Hub, pulled: Pulled) -> None:
    folder = pulled()
    hub.requests.clear()
    assert pulled() == folder
    assert [request.path for request in hub.requests] == [f"/api/models/{MODEL}/revision/main"]


def test_one_content_under_two_names_is_fetched_once(hub: Hub, pulled: Pulled) -> None:
    folder = pulled(TOKENIZER)
    assert [path for path, _ in hub.fetched() if path.endswith("vocab.json")] == ["tokenizer/vocab.json"]
    assert (folder / "processor/vocab.json").read_bytes() == (folder / "tokenizer/vocab.json").read_bytes()


def test_a_file_that_was_lost_or_cut_short_is_fetched_alone(hub: Hub, pulled: Pulled) -> None:
    folder = pulled()
    (folder / FIRST).resolve().write_bytes(b"short")
    (folder / "vae/config.json").resolve().unlink()
    hub.requests.clear()
    pulled()
    assert sorted(hub.fetched()) == [(FIRST, None), ("vae/config.json", None)]
    assert (folder / FIRST).read_bytes() == hub.repositories[MODEL].files[FIRST]


def test_only_some_parts_can_be_had(hub: Hub, pulled: Pulled) -> None:
    folder = pulled(only=["vae", "scheduler"])
    assert {path.partition("/")[0] for path in files_below(folder)} == {"vae", "scheduler"}


def test_the_tokenizer_alone_has_tokenizer_and_processor(pulled: Pulled) -> None:
    assert {path.partition("/")[0] for path in files_below(pulled(TOKENIZER))} == {"tokenizer", "processor"}


def test_the_folder_of_a_pulled_lora_can_be_given_to_the_daemon(
    hub: Hub, pulled: Pulled, write_lora: Callable[..., object], tmp_path: Path
) -> None:
    write_lora(tmp_path / "lora.safetensors", blocks=(0,), modules=("attn.to_q",))
    hub.repositories[LIGHTNING].files[LORA.format(4)] = (tmp_path / "lora.safetensors").read_bytes()
    folder = pulled("lightning-4steps")
    found = find_loras([folder], shipped_profiles()["builtin"].architecture)
    (name,) = found.files
    assert f"{name}.safetensors" == LORA.format(4)
    assert found.facts[name].steps == 4


# Into a folder


def test_a_plain_folder_gets_real_files_with_the_notes_of_the_hubs_tools(
    hub: Hub, pulled: Pulled, prepared: Prepared, tmp_path: Path
) -> None:
    folder = pulled(folder=tmp_path / "model")
    assert folder == tmp_path / "model"
    assert {path for path in files_below(folder) if not path.startswith(".cache/")} == wanted(hub)
    assert not any(path.is_symlink() for path in folder.rglob("*"))
    assert known_hash(folder / FIRST, folder) == hash_of(hub.repositories[MODEL].files[FIRST], FIRST)
    assert not (tmp_path / "cache").exists()
    hub.requests.clear()
    snapshot_download(MODEL, revision=COMMIT, local_dir=folder, endpoint=hub.endpoint, ignore_patterns=list(UNWANTED))
    assert any("/tree/" in request.path for request in hub.requests), "the hub's own library has looked at the folder"
    assert prepared(folder=folder).missing.stocks == (), "what a note vouches for is not even hashed"
    pulled(folder=folder)
    assert hub.fetched() == []


def test_files_of_a_folder_without_notes_are_known_by_their_hashes(hub: Hub, pulled: Pulled, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    for path, content in hub.repositories[MODEL].files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    other = bytes(len(hub.repositories[MODEL].files[FIRST]))
    (folder / FIRST).write_bytes(other)
    pulled(folder=folder)
    assert hub.fetched() == [(FIRST, None)]
    assert (folder / FIRST).read_bytes() == hub.repositories[MODEL].files[FIRST]
    assert known_hash(folder / "vae/diffusion_pytorch_model.safetensors", folder) is not None


# What breaks off


@pytest.mark.parametrize("to_folder", [False, True])
def test_a_download_that_broke_off_goes_on_with_the_bytes_that_are_missing(
    hub: Hub, pulled: Pulled, prepared: Prepared, tmp_path: Path, to_folder: bool
) -> None:
    where = {"folder": tmp_path / "model"} if to_folder else {}
    size = len(hub.repositories[MODEL].files[FIRST])
    hub.cut_off_after[FIRST] = [100_000]
    with pytest.raises(DownloadFailed, match="stopped answering") as caught:
        pulled(only=["transformer"], **where)
    assert "resumes where this one stopped" in caught.value.remedy
    whole = prepared(**where).missing.bytes
    hub.requests.clear()
    folder = pulled(only=["transformer"], **where)
    assert (FIRST, "bytes=100000-") in hub.fetched()
    assert len([path for path, _ in hub.fetched() if path == FIRST]) == 1
    assert (folder / FIRST).read_bytes() == hub.repositories[MODEL].files[FIRST]
    assert prepared(**where).missing.bytes < whole - (size - 100_000)
    assert not any("partial" in path for path in files_below(tmp_path))


def test_a_pull_that_is_interrupted_keeps_every_byte_that_came(hub: Hub, prepared: Prepared) -> None:
    counts: list[int] = []

    def interrupt(file: RemoteFile, done: int, total: int) -> None:
        counts.append(done)
        if done >= total // 3:
            raise KeyboardInterrupt

    before = prepared(only=["transformer"])
    with pytest.raises(KeyboardInterrupt):
        carry_out(before, 0, interrupt)
    assert prepared(only=["transformer"]).missing.bytes == before.missing.bytes - counts[-1]


def test_a_connection_that_breaks_is_made_again_within_one_pull(hub: Hub, pulled: Pulled) -> None:
    hub.cut_off_after[FIRST] = [50_000, 0, 70_000]
    folder = pulled(only=["transformer"], attempts=2)
    asked = [asked for path, asked in hub.fetched() if path == FIRST]
    assert asked == [None, "bytes=50000-", "bytes=50000-", "bytes=120000-"]
    assert (folder / FIRST).read_bytes() == hub.repositories[MODEL].files[FIRST]


def test_it_gives_up_where_nothing_more_comes(hub: Hub, pulled: Pulled) -> None:
    hub.cut_off_after[FIRST] = [50_000, 0, 0]
    with pytest.raises(DownloadFailed):
        pulled(only=["transformer"], attempts=2)
    assert hub.cut_off_after[FIRST] == []


def test_a_hub_that_is_busy_is_asked_again(hub: Hub, pulled: Pulled) -> None:
    hub.busy_times[FIRST] = 2
    assert FIRST in files_below(pulled(only=["transformer"], attempts=2))
    hub.busy_times["vae/config.json"] = 1
    with pytest.raises(DownloadFailed, match="HTTP 503"):
        pulled(only=["vae"])


def test_a_server_that_cannot_go_on_in_a_file_sends_it_anew_and_progress_stays_true(
    hub: Hub, prepared: Prepared
) -> None:
    content = hub.repositories[MODEL].files[FIRST]
    hub.cut_off_after[FIRST] = [100_000]
    with pytest.raises(DownloadFailed):
        carry_out(prepared(only=["transformer"]), 0, lambda *_: None, waits_s=())
    hub.knows_ranges = False
    seen: list[tuple[int, int]] = []
    again = prepared(only=["transformer"])
    folder = carry_out(again, 0, lambda _, done, total: seen.append((done, total)), waits_s=())
    assert (folder / FIRST).read_bytes() == content
    assert seen[0] == (0, again.missing.bytes)
    assert seen[-1] == (again.missing.bytes + 100_000,) * 2
    assert all(done <= total for done, total in seen)


def test_progress_counts_only_what_is_fetched(hub: Hub, pulled: Pulled, prepared: Prepared) -> None:
    pulled(only=["text_encoder"])
    seen: list[tuple[str, int, int]] = []
    rest = prepared()
    carry_out(rest, 0, lambda file, done, total: seen.append((file.path, done, total)))
    assert seen[-1][1:] == (rest.missing.bytes, rest.missing.bytes)
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)
    assert not any(path.startswith("text_encoder") for path, _, _ in seen)


# What is refused


def test_where_the_disk_is_too_small_nothing_is_written(hub: Hub, prepared: Prepared, tmp_path: Path) -> None:
    with pytest.raises(DiskFull):
        carry_out(prepared(), 1 << 60, lambda *_: None)
    with pytest.raises(DiskFull):
        carry_out(prepared(folder=tmp_path / "model"), 1 << 60, lambda *_: None)
    assert list(tmp_path.iterdir()) == []
    assert hub.fetched() == []


def test_a_second_pull_of_the_same_is_told_so(prepared: Prepared) -> None:
    first = prepared()
    first.place.lock.parent.mkdir(parents=True)
    with WeakFileLock(first.place.lock), pytest.raises(DownloadFailed, match="Another process"):
        carry_out(first, 0, lambda *_: None)


@pytest.mark.parametrize("gated", ["", FIRST])
def test_a_gated_repository_says_how_to_log_in(hub: Hub, pulled: Pulled, gated: str) -> None:
    hub.repositories[MODEL] = replace(hub.repositories[MODEL], gated=frozenset({gated}))
    with pytest.raises(DownloadFailed, match=f"{MODEL} is gated") as caught:
        pulled()
    assert "hf auth login" in caught.value.remedy
    assert f"{hub.endpoint}/{MODEL}" in caught.value.remedy


@pytest.mark.parametrize("gate", ["", FIRST])
def test_a_key_that_may_not_read_it_is_told_to_log_in(hub: Hub, pulled: Pulled, gate: str) -> None:
    hub.repositories[MODEL] = replace(hub.repositories[MODEL], gated=frozenset({gate}), gate_code="")
    with pytest.raises(DownloadFailed, match=rf"refuses {MODEL} \(HTTP 403\)") as caught:
        pulled()
    assert "hf auth login" in caught.value.remedy


def test_a_repository_or_revision_that_is_not_there_is_not_found(hub: Hub, tmp_path: Path) -> None:
    download = DOWNLOADS[WHOLE]
    for wrong in ({"repository": "Qwen/Gone"}, {"revision": "gone"}):
        with pytest.raises(ModelNotFound, match="has no"):
            prepare(download.model_copy(update=wrong), cache=tmp_path, endpoint=hub.endpoint)


def test_a_file_that_the_repository_lacks_is_named(hub: Hub, prepared: Prepared) -> None:
    del hub.repositories[MODEL].files["model_index.json"]
    with pytest.raises(ModelNotFound, match="has no model_index.json"):
        prepared()


def test_names_that_lead_out_of_the_folder_are_refused_before_anything_is_written(
    hub: Hub, pulled: Pulled, tmp_path: Path
) -> None:
    hub.repositories[MODEL].files["vae/../../../../evil.safetensors"] = b"evil"
    with pytest.raises(DownloadFailed, match=r"not valid: 'vae/\.\./"):
        pulled()
    assert list(tmp_path.iterdir()) == []


def test_more_bytes_than_were_listed_are_refused(hub: Hub, pulled: Pulled) -> None:
    hub.repositories[MODEL].listed_sizes[FIRST] = 1000
    with pytest.raises(DownloadFailed, match="more than the 1000 bytes"):
        pulled()


@pytest.mark.parametrize("to_folder", [False, True])
@pytest.mark.parametrize("path", [FIRST, "tokenizer/vocab.json"])
def test_other_bytes_than_listed_get_no_name_and_are_fetched_anew(
    hub: Hub, pulled: Pulled, tmp_path: Path, to_folder: bool, path: str
) -> None:
    where = {"folder": tmp_path / "model"} if to_folder else {}
    hub.sent_instead[path] = b"W" * len(hub.repositories[MODEL].files[path])
    with pytest.raises(DownloadFailed, match="other bytes than the hub lists") as caught:
        pulled(**where)
    assert caught.value.details["path"] == path
    assert not any(file.read_bytes() == hub.sent_instead[path] for file in tmp_path.rglob("*") if file.is_file())
    hub.sent_instead.clear()
    assert (pulled(**where) / path).read_bytes() == hub.repositories[MODEL].files[path]


def test_a_partial_file_that_was_damaged_is_noticed_at_its_end(hub: Hub, pulled: Pulled, tmp_path: Path) -> None:
    hub.cut_off_after[FIRST] = [50_000]
    with pytest.raises(DownloadFailed):
        pulled(only=["transformer"])
    (partial,) = (file for file in tmp_path.rglob("*partial") if file.stat().st_size)
    partial.write_bytes(b"x" + partial.read_bytes()[1:])
    with pytest.raises(DownloadFailed, match="other bytes than the hub lists"):
        pulled(only=["transformer"])
    assert pulled(only=["transformer"]).is_dir()


def test_a_page_in_place_of_a_list_is_told(hub: Hub, prepared: Prepared) -> None:
    hub.list_as_html = True
    with pytest.raises(DownloadFailed, match="did not answer with the files"):
        prepared()


def test_a_hub_that_does_not_answer_is_told_with_its_address(tmp_path: Path) -> None:
    with pytest.raises(DownloadFailed, match=r"http://127\.0\.0\.1:1 cannot be reached.*refused"):
        prepare(DOWNLOADS[WHOLE], cache=tmp_path, endpoint="http://127.0.0.1:1")


def test_offline_mode_is_told(hub: Hub, prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(DownloadFailed, match="offline") as caught:
        prepared()
    assert "HF_HUB_OFFLINE" in caught.value.remedy


def test_a_folder_that_may_not_be_written_is_named(prepared: Prepared, tmp_path: Path) -> None:
    (tmp_path / "model").write_text("a file")
    with pytest.raises(DownloadFailed, match=str(tmp_path / "model")):
        carry_out(prepared(folder=tmp_path / "model"), 0, lambda *_: None)


def test_a_pull_that_was_waited_out_finds_what_the_other_one_fetched(hub: Hub, prepared: Prepared) -> None:
    late = prepared()
    carry_out(prepared(), 0, lambda *_: None)
    hub.requests.clear()
    carry_out(late, 0, lambda *_: None)
    assert hub.fetched() == []
