import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from qied_client.errors import BlobTooLarge, InvalidRequest, QiedError, SetupError, UnsupportedPicture
from qied_client.inputs import picture_bytes
from qied_client.protocol import limits


def pixels(data: bytes) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(data)))


def test_a_file_is_taken_as_it_is_however_it_is_given(picture: bytes, tmp_path: Path) -> None:
    path = tmp_path / "in.png"
    path.write_bytes(picture)
    with path.open("rb") as file:
        given: list[Any] = [path, str(path), picture, bytearray(picture), memoryview(picture), file]
        assert all(picture_bytes(one) == picture for one in given)
    assert picture_bytes(io.BytesIO(picture)) == picture


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "1", "I;16"])
def test_a_pillow_image_becomes_a_png_with_the_same_pixels(mode: str) -> None:
    image = Image.effect_noise((9, 7), 40).convert(mode)
    data = picture_bytes(image)
    assert data.startswith(b"\x89PNG")
    assert np.array_equal(pixels(data), np.asarray(image))


@pytest.mark.parametrize("shape", [(7, 9), (7, 9, 3), (7, 9, 4), (7, 9, 1)])
def test_an_array_becomes_a_png_with_the_same_pixels(shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    assert np.array_equal(pixels(picture_bytes(array)), array.reshape(shape[:2]) if shape[2:] == (1,) else array)


def test_an_array_need_not_be_contiguous() -> None:
    array = np.random.default_rng(1).integers(0, 256, (8, 8, 3), dtype=np.uint8)[::2, ::-1]
    assert np.array_equal(pixels(picture_bytes(array)), array)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((4, 4, 5), np.uint8),
        np.zeros((4,), np.uint8),
        np.zeros((2, 4, 4, 3), np.uint8),
        np.zeros((4, 4, 3), np.int64),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 0), np.uint8),
    ],
    ids=lambda array: f"{array.dtype}{list(array.shape)}",
)
def test_an_array_that_is_no_picture_is_refused(array: np.ndarray[Any, Any]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        picture_bytes(array)
    assert str(list(array.shape)) in caught.value.message
    assert caught.value.details == {"field": "images"}


def test_an_image_that_png_does_not_have_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="no equivalent in PNG") as caught:
        picture_bytes(Image.new("LAB", (4, 4)), "mask")
    assert caught.value.details == {"field": "mask"}


@pytest.mark.parametrize("thing", [None, 7, ["a.png"], object()], ids=["none", "number", "list", "object"])
def test_what_is_no_picture_is_refused(thing: Any) -> None:
    with pytest.raises(InvalidRequest, match="is not a picture"):
        picture_bytes(thing)


def test_a_file_in_text_mode_is_refused(picture: bytes, tmp_path: Path) -> None:
    path = tmp_path / "in.png"
    path.write_bytes(picture)
    with path.open() as file:
        texts: list[Any] = [io.StringIO("text"), file]
        for text in texts:
            with pytest.raises(InvalidRequest, match="text mode") as caught:
                picture_bytes(text)
            assert "rb" in caught.value.remedy
    assert str(path) in caught.value.message


def test_a_file_that_cannot_be_read_is_refused(picture: bytes, tmp_path: Path) -> None:
    with (tmp_path / "out.png").open("wb") as file, pytest.raises(InvalidRequest, match="cannot be read"):
        picture_bytes(file)  # type: ignore[arg-type]
    file = io.BytesIO(picture)
    assert picture_bytes(file) == picture
    with pytest.raises(UnsupportedPicture, match=r"seek\(0\)"):
        picture_bytes(file)


def test_a_tilde_is_the_home_folder(picture: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for name in ("in.png", "~nobody-has-this-name.png"):
        Path(name).write_bytes(picture)
    assert picture_bytes("~/in.png") == picture_bytes(Path("~/in.png")) == picture
    assert picture_bytes("~nobody-has-this-name.png") == picture


@pytest.mark.parametrize(
    ("address", "remedy"),
    [
        ("https://example.com/cat.png", "Download it first"),
        (Path("https://example.com/cat.png"), "Download it first"),
        ("HTTP://example.com/cat.png", "Download it first"),
        ("s3://bucket/cat.png", "object"),
        ("file:///home/ann/cat.png", "path alone"),
        ("data:image/png;base64,AAAA", "Decode what follows"),
        ("data:;base64,AAAA", "Decode what follows"),
    ],
    ids=str,
)
def test_an_address_is_refused_with_what_to_do(address: str | Path, remedy: str) -> None:
    with pytest.raises(InvalidRequest, match="is an address") as caught:
        picture_bytes(address)
    assert remedy in caught.value.remedy


def test_a_long_address_is_not_repeated_whole() -> None:
    with pytest.raises(InvalidRequest) as caught:
        picture_bytes("data:image/png;base64," + "A" * 10_000)
    assert len(caught.value.message) < 200


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes of this kind are POSIX")
def test_a_named_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(InvalidRequest, match=r"pipe\.png is a named pipe"):
        picture_bytes(tmp_path / "pipe.png")
    read, write = os.pipe()
    os.write(write, b"picture")
    os.close(write)
    assert picture_bytes(f"/dev/fd/{read}") == b"picture", "what a shell gives for <(command)"
    os.close(read)


def test_a_folder_is_called_a_folder(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="is a folder"):
        picture_bytes(tmp_path)


@pytest.mark.parametrize("name", ["absent.png", "", "folder", "nul\0.png"])
def test_a_path_that_cannot_be_read_is_refused_by_name(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    path = tmp_path / name
    with pytest.raises(InvalidRequest) as caught:
        picture_bytes(path)
    assert str(path) in caught.value.message


@pytest.mark.parametrize("nothing", [b"", io.BytesIO()], ids=["bytes", "file"])
def test_no_bytes_are_no_picture(nothing: Any) -> None:
    with pytest.raises(UnsupportedPicture):
        picture_bytes(nothing)


@pytest.mark.parametrize("kind", ["bytes", "file", "path"])
def test_more_than_a_blob_may_have_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "large.png"
    with path.open("wb") as file:
        file.truncate(limits.BLOB_BYTES + 1)
    with path.open("rb") as opened:
        large: Any = {"bytes": bytes(limits.BLOB_BYTES + 1), "file": opened, "path": path}[kind]
        with pytest.raises(BlobTooLarge, match=str(limits.BLOB_BYTES)):
            picture_bytes(large)


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="needs an endless file")
def test_an_endless_file_is_not_read_to_its_end() -> None:
    with pytest.raises(BlobTooLarge):
        picture_bytes("/dev/zero")


@pytest.fixture
def without_root() -> Iterator[None]:
    """Root may read everything, so tests that it runs become somebody else for a moment."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    yield
    os.seteuid(0)


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX permissions")
def test_a_file_of_somebody_else_is_refused(picture: bytes, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    path = tmp_path / "in.png"
    path.write_bytes(picture)
    path.chmod(0)
    request.getfixturevalue("without_root")
    with pytest.raises(QiedError, match="Permission denied"):
        picture_bytes(path)


def test_an_array_without_pillow_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(SetupError, match="pictures"):
        picture_bytes(np.zeros((4, 4, 3), np.uint8))
