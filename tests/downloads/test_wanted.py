"""What of a listing is wanted, what is missing, and whether it fits."""

from __future__ import annotations

from pathlib import Path

import pytest
from qied_client.errors import DiskFull, DownloadFailed, InvalidRequest, ModelNotFound

from qied.downloads.wanted import Listing, RemoteFile, Stock, check_room, missing, wanted_files

COMMIT = "c" * 40
PATTERNS = {"vae": ("vae/*",), "index": ("model_index.json",)}


def listing(*paths: str, commit: str = COMMIT, size: int = 10, known: str = "a" * 64) -> Listing:
    return Listing("owner/name", commit, tuple(RemoteFile(path, size, known) for path in paths))


def names(files: tuple[RemoteFile, ...]) -> list[str]:
    return [file.path for file in files]


def test_only_files_that_fit_a_pattern_are_wanted() -> None:
    found = listing("README.md", "model_index.json", "old/vae/config.json", "vae/config.json", "vae/sub/x")
    assert names(wanted_files(found, PATTERNS)) == ["model_index.json", "vae/config.json", "vae/sub/x"]


def test_only_the_parts_that_were_asked_for_are_wanted() -> None:
    assert names(wanted_files(listing("model_index.json", "vae/config.json"), PATTERNS, ["vae"])) == ["vae/config.json"]


def test_an_unknown_part_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(InvalidRequest, match="'unet'") as caught:
        wanted_files(listing("vae/config.json"), PATTERNS, ["vae", "unet"])
    assert caught.value.remedy == "The parts are vae, index."


def test_what_a_repository_does_not_have_is_named() -> None:
    with pytest.raises(ModelNotFound, match="owner/name has no model_index.json at commit cccccccccccc"):
        wanted_files(listing("vae/config.json"), PATTERNS)


def test_a_part_that_is_not_asked_for_may_be_missing() -> None:
    assert wanted_files(listing("vae/config.json"), PATTERNS, ["vae"])


@pytest.mark.parametrize(
    "path",
    [
        "vae/../../x",
        "vae/..",
        "vae//x",
        "vae/./x",
        "/vae/x",
        "vae\\..\\x",
        "C:/x",
        "vae/x:y",
        "vae/.ssh",
        "vae/\x1b[2J",
    ],
)
def test_a_name_that_leads_out_of_its_folder_or_deceives_is_refused(path: str) -> None:
    with pytest.raises(DownloadFailed, match="is not valid"):
        wanted_files(listing("vae/config.json", path), {"all": ("*",)})


@pytest.mark.parametrize("wrong", [{"known": "../x"}, {"known": "a" * 41}, {"commit": "../../x"}, {"size": -1}])
def test_a_hash_commit_or_size_that_is_none_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(DownloadFailed, match="is not valid"):
        wanted_files(listing("vae/config.json", **wrong), {"all": ("*",)})  # type: ignore[arg-type]


def test_strange_names_of_files_that_are_not_wanted_do_no_harm() -> None:
    assert names(wanted_files(listing("a:b", "vae/config.json"), PATTERNS, ["vae"])) == ["vae/config.json"]


def stock(path: str, state: str, there: int, content: str = "") -> Stock:
    return Stock(RemoteFile(path, 10, "a" * 64), Path(content or path), there, state)  # type: ignore[arg-type]


def test_missing_is_what_is_not_in_its_place_less_the_bytes_that_are_there() -> None:
    left = missing(
        [stock("a", "placed", 10), stock("b", "whole", 10), stock("c", "partial", 4), stock("d", "partial", 0)]
    )
    assert [each.file.path for each in left.stocks] == ["b", "c", "d"]
    assert left.bytes == 6 + 10


def test_one_content_of_several_files_is_fetched_once() -> None:
    assert missing([stock("a", "partial", 4, "blob"), stock("b", "partial", 4, "blob")]).bytes == 6


def test_what_fits_beside_the_reserve_to_the_last_byte_is_let_through() -> None:
    check_room(70, free=100, reserve=30, folder=Path("/disk"))
    check_room(0, free=10, reserve=30, folder=Path("/disk"))


def test_one_byte_too_many_is_refused_with_the_numbers_and_what_to_do() -> None:
    with pytest.raises(DiskFull) as caught:
        check_room(70 * 10**9 + 1, free=100 * 10**9, reserve=30 * 10**9, folder=Path("/disk"))
    assert caught.value.details == {"needed": 70 * 10**9 + 1, "free": 100 * 10**9, "reserve": 30 * 10**9}
    assert "/disk has room for 70.0 GB: 100 GB are free, of which 30.0 GB stay free" in caught.value.message
    assert "--to FOLDER" in caught.value.remedy
