import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from qied_client.errors import InvalidRequest, SetupError
from qied_client.results import Result


@pytest.fixture
def result(picture: bytes) -> Result:
    return Result(picture, "image/png", 64, 64, 7, {"held_ms": 1.5}, "job")


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_result_is_saved_as_it_came(result: Result, tmp_path: Path) -> None:
    for name in ("out.png", "out.PNG"):
        path = result.save(tmp_path / name)
        assert path.read_bytes() == result.bytes
    assert result.save(str(tmp_path / "text.png")) == tmp_path / "text.png"
    assert files(tmp_path) == ["out.PNG", "out.png", "text.png"]


def test_saving_replaces_a_file_whole(result: Result, tmp_path: Path) -> None:
    target = tmp_path / "out.png"
    target.write_bytes(b"before" * 10_000)
    opened = target.open("rb")
    result.save(target)
    assert opened.read(6) == b"before"
    opened.close()
    assert target.read_bytes() == result.bytes


@pytest.mark.parametrize("name", ["out.webp", "out.jpg", "out", "png"])
def test_a_suffix_of_another_format_is_refused(result: Result, tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidRequest, match=r"image/png.*\.png"):
        result.save(tmp_path / name)
    assert files(tmp_path) == []


def test_a_webp_is_saved_as_webp(picture: bytes, tmp_path: Path) -> None:
    result = Result(b"RIFF", "image/webp", 64, 64, 7, {}, "job")
    assert result.save(tmp_path / "out.webp").read_bytes() == b"RIFF"


def test_a_place_that_cannot_be_written_is_refused_and_leaves_nothing(result: Result, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="No such file or directory"):
        result.save(tmp_path / "absent" / "out.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(InvalidRequest, match=r"folder\.png: Is a directory"):
        result.save(tmp_path / "folder.png")
    assert files(tmp_path) == ["folder.png"]


def test_a_name_of_any_length_that_the_disk_takes_can_be_saved(result: Result, tmp_path: Path) -> None:
    name = "n" * 251 + ".png"
    assert result.save(tmp_path / name).read_bytes() == result.bytes


def test_many_threads_may_save_to_one_place(result: Result, tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: result.save(tmp_path / "out.png"), range(100)))
    assert files(tmp_path) == ["out.png"]
    assert (tmp_path / "out.png").read_bytes() == result.bytes


def test_the_image_is_a_pillow_image(result: Result) -> None:
    assert result.image.size == (64, 64)
    assert result.image.mode == "RGB"


def test_the_image_without_pillow_says_what_to_install(result: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(SetupError, match=r"qied-client\[pictures\]"):
        _ = result.image
