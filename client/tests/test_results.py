import io
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from qied_client.errors import InvalidRequest, SetupError, UnsupportedPicture
from qied_client.results import Progress, Result


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


@pytest.mark.parametrize("name", ["out.gif", "out", "png", "out.png.part"])
def test_a_suffix_of_no_format_is_refused(result: Result, tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidRequest, match=rf"{name}: .*PNG, WebP or JPEG"):
        result.save(tmp_path / name)
    assert files(tmp_path) == []


@pytest.mark.parametrize("name", ["out.webp", "out.jpg", "out.JPEG"])
def test_another_format_needs_pillow(
    result: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.delitem(sys.modules, "qied_client.pixels.converted", raising=False)
    with pytest.raises(InvalidRequest, match=r"image/png.*ends in \.png.*qied-client\[pictures\]"):
        result.save(tmp_path / name)
    assert files(tmp_path) == []
    assert result.save(tmp_path / "out.png").read_bytes() == result.bytes


def pixels(picture: Path) -> bytes:
    return Image.open(picture).convert("RGB").tobytes()


def test_png_and_webp_have_the_same_pixels(result: Result, tmp_path: Path) -> None:
    png = result.save(tmp_path / "one.png")
    webp = result.save(tmp_path / "two.webp")
    assert webp.read_bytes()[8:12] == b"WEBP"
    again = replace(result, bytes=webp.read_bytes(), media_type="image/webp").save(tmp_path / "three.png")
    assert again.read_bytes().startswith(b"\x89PNG")
    assert pixels(png) == pixels(webp) == pixels(again)


def test_a_jpeg_has_the_quality_that_was_asked_for(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.effect_noise((64, 64), 60).convert("RGB").save(buffer, "PNG")
    result = Result(buffer.getvalue(), "image/png", 64, 64, 7, {}, "job")
    default, coarse = result.save(tmp_path / "a.jpg"), result.save(tmp_path / "b.jpeg", quality=30)
    assert default.read_bytes() == result.save(tmp_path / "c.JPG", quality=95).read_bytes()
    assert coarse.stat().st_size < default.stat().st_size
    with Image.open(default) as opened:
        assert (opened.format, opened.size, opened.mode) == ("JPEG", (64, 64), "RGB")
    lossy = result.save(tmp_path / "d.webp", quality=30)
    assert lossy.stat().st_size < result.save(tmp_path / "e.webp").stat().st_size


@pytest.mark.parametrize("quality", [0, 101, "95", 95.0, True])
def test_a_quality_that_there_is_not_is_refused(result: Result, tmp_path: Path, quality: Any) -> None:
    with pytest.raises(InvalidRequest, match="1 to 100"):
        result.save(tmp_path / "out.jpg", quality=quality)
    with pytest.raises(InvalidRequest, match="loses nothing"):
        result.save(tmp_path / "out.png", quality=95)
    assert files(tmp_path) == []


def test_what_pillow_cannot_read_leaves_the_file_that_was_there(result: Result, tmp_path: Path) -> None:
    target = tmp_path / "out.jpg"
    target.write_bytes(b"before")
    with pytest.raises(UnsupportedPicture, match="not a PNG"):
        replace(result, bytes=b"RIFF").save(target)
    assert target.read_bytes() == b"before"


def test_a_tilde_is_the_home_folder(result: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert result.save("~/out.png") == tmp_path / "out.png"
    assert files(tmp_path) == ["out.png"]


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


def test_a_result_is_short_to_read(result: Result) -> None:
    assert repr(result) == "<Result 64x64 image/png, seed 7, job>"
    whole = replace(result, turn=2, steps=4, precision="fp8", warnings=("Lightning runs at 20 steps.",))
    assert repr(whole) == "<Result 64x64 image/png, seed 7, 4 steps, fp8, job, turn 2, 1 warning>"


def test_progress_is_short_to_read() -> None:
    assert repr(Progress("step", 3, 20, "denoise", remaining_ms=1200)) == (
        "Progress(step, done=3, total=20, phase=denoise, remaining_ms=1200)"
    )
    assert repr(Progress("preview", preview=bytes(5000))) == "Progress(preview, preview=5000 bytes)"


def test_a_notebook_shows_the_picture(result: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert result._repr_png_() == result.bytes
    webp = replace(result, bytes=result.save(tmp_path / "out.webp").read_bytes(), media_type="image/webp")
    shown = webp._repr_png_()
    assert shown is not None
    assert Image.open(io.BytesIO(shown)).tobytes() == result.image.tobytes()
    assert replace(webp, bytes=b"RIFF")._repr_png_() is None
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.delitem(sys.modules, "qied_client.pixels.converted", raising=False)
    assert webp._repr_png_() is None
