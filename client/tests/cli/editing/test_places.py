import os
from pathlib import Path
from typing import Any

import pytest
from qied_client.cli.editing.places import Place
from qied_client.errors import InvalidRequest


@pytest.mark.parametrize(
    ("out", "count", "names"),
    [
        ("a.png", 1, ["a.png"]),
        ("a.png", 2, ["a-1.png", "a-2.png"]),
        ("a.v2.webp", 2, ["a.v2-1.webp", "a.v2-2.webp"]),
        ("{n} of 2.png", 2, ["1 of 2.png", "2 of 2.png"]),
        ("{seed}.png", 2, ["7.png", "8.png"]),
        ("{seed}-{n}{x}.png", 1, ["7-1{x}.png"]),
    ],
)
def test_each_result_has_a_name_of_its_own(tmp_path: Path, out: str, count: int, names: list[str]) -> None:
    place = Place(tmp_path / out, count)
    assert [place.path(n, 6 + n) for n in range(1, count + 1)] == [tmp_path / name for name in names]


JPEG = {"output_format": "jpeg", "output_quality": 95}
WEBP = {"output_format": "webp", "output_quality": 100}


@pytest.mark.parametrize(
    ("name", "quality", "now", "before"),
    [
        ("a.png", None, {"output_format": "png"}, "png"),
        ("a.PNG", None, {"output_format": "png"}, "png"),
        ("a.webp", None, WEBP, "webp"),
        ("a.webp", 70, {**WEBP, "output_quality": 70}, "png"),
        ("a.jpg", None, JPEG, "png"),
        ("a.JPEG", 1, {**JPEG, "output_quality": 1}, "png"),
    ],
)
def test_the_daemon_makes_the_file_unless_it_is_too_old(
    tmp_path: Path, name: str, quality: int | None, now: dict[str, Any], before: str
) -> None:
    place = Place(tmp_path / name, quality=quality)
    place.check()
    assert place.asks(2) == now
    assert place.asks(1) == {"output_format": before}
    assert list(tmp_path.iterdir()) == []


def test_without_pillow_an_old_daemon_makes_no_jpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qied_client.cli.editing.places.find_spec", lambda name: None)
    place = Place(tmp_path / "a.jpg")
    assert place.asks(2) == JPEG
    with pytest.raises(InvalidRequest, match="too old to make it"):
        place.asks(1)


@pytest.mark.parametrize(
    ("name", "quality", "said"),
    [
        ("a.png", 90, "a PNG has no quality"),
        ("a.jpg", 0, "--quality: must be 1 to 100, not 0."),
        ("a.webp", 101, "101"),
    ],
)
def test_a_quality_that_the_format_does_not_have_is_refused(tmp_path: Path, name: str, quality: int, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said) as refused:
        Place(tmp_path / name, quality=quality).check()
    assert refused.value.remedy


@pytest.mark.parametrize(
    ("out", "count", "said"),
    [
        ("a.gif", 1, "a.gif: results are saved as PNG, WebP or JPEG."),
        ("absent/a.png", 1, "there is no folder"),
        ("folder.png", 1, "folder.png is a folder."),
        (".", 1, "is a folder."),
        ("file/a.png", 1, "there is no folder"),
        ("a.png", 0, "--count: must be 1 to 100, not 0."),
        ("a.png", 101, "--count: must be 1 to 100, not 101."),
    ],
)
def test_a_place_for_no_picture_is_refused(tmp_path: Path, out: str, count: int, said: str) -> None:
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(InvalidRequest, match=said) as refused:
        Place(tmp_path / out, count).check()
    assert refused.value.remedy


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="a folder that nobody, not even root, can write to")
def test_a_folder_that_cannot_be_written_to_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="no file can be written there") as refused:
        Place(Path("/proc/self/out.png")).check()
    assert refused.value.remedy


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(InvalidRequest, match="Permission denied"):
        Place(tmp_path / "out.png").check()
