"""HEIC, AVIF and JPEG XL are decoded as PNG and JPEG are, or refused with what to install."""

from __future__ import annotations

import io
from importlib.util import find_spec

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from qied_client.errors import PictureError, UnsupportedPicture
from qied_client.picture_header import PictureLimits
from qied_client.pixels import plugins
from qied_client.pixels.converted import converted
from qied_client.thumbnail import thumbnail_of

from qied.pictures.decode import decode, decode_mask
from qied.pictures.decoder_messages import DecodeOrder
from qied.pictures.decoder_process import Decoder
from qied.pictures.plugins import check_decodable
from qied.planning.edits.pictures import decoding_bytes
from qied.planning.edits.view import View

for kind in ("heif", "jxl"):
    plugins.load_plugin(kind)  # type: ignore[arg-type]


def scene() -> Image.Image:
    image = Image.new("RGB", (160, 90), (200, 40, 30))
    image.paste((30, 60, 200), (0, 0, 40, 20))
    image.paste((40, 190, 60), (120, 0, 160, 20))
    return image


def saved(kind: str, image: Image.Image | None = None, turn: int = 1, **options: object) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = turn
    target = io.BytesIO()
    (image or scene()).save(target, kind, exif=exif.tobytes(), **options)
    return target.getvalue()


def difference(one: Image.Image, other: Image.Image) -> float:
    assert one.size == other.size and one.mode == other.mode
    return float(np.abs(np.asarray(one).astype(int) - np.asarray(other).astype(int)).mean())


@pytest.mark.parametrize("kind", ["HEIF", "AVIF"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_pictures_of_phones_come_upright(kind: str, turn: int) -> None:
    limits = PictureLimits()
    expected = decode(saved("JPEG", turn=turn, quality=95), limits)
    assert difference(decode(saved(kind, turn=turn, quality=95), limits), expected) < 1.5


def test_a_lossless_jpeg_xl_is_the_picture_to_the_bit() -> None:
    assert difference(decode(saved("JXL", lossless=True), PictureLimits()), scene()) == 0


@pytest.mark.parametrize(
    ("kind", "options"), [("HEIF", {"quality": 100}), ("AVIF", {"quality": 100}), ("JXL", {"lossless": True})]
)
def test_their_opacity_counts(kind: str, options: dict[str, object]) -> None:
    image = scene().convert("RGBA")
    image.paste((0, 0, 0, 0), (80, 0, 160, 90))
    data = saved(kind, image, **options)
    assert decode(data, PictureLimits()).getpixel((150, 60)) == (255, 255, 255)
    mask, guess = decode_mask(data, PictureLimits())
    assert (mask.getpixel((10, 60)), mask.getpixel((150, 60)), guess) == (0, 255, "hole")


@pytest.mark.parametrize("kind", ["HEIF", "AVIF", "JXL"])
def test_a_decoder_process_decodes_a_photo_within_the_limits_of_every_picture(kind: str) -> None:
    photo = Image.effect_noise((1600, 1200), 40).convert("RGB")
    # The fastest of its encoder's settings: what counts here is the decoder.
    data = saved(kind, photo, **({"enc_params": {"preset": "ultrafast"}} if kind == "HEIF" else {}))
    order = DecodeOrder((View(64, 48),), None, 64_000_000, decoding_bytes(1600 * 1200, len(data)), 30.0)
    decoder = Decoder()
    try:
        ((view,), _) = decoder.decode(data, order)
    finally:
        decoder.close()
    assert difference(view, photo.resize((64, 48), Image.Resampling.LANCZOS)) < 6


@pytest.mark.parametrize("kind", ["heif", "jxl", "avif"])
def test_without_its_decoder_a_format_is_refused_with_what_to_install(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_decodable(kind)  # type: ignore[arg-type]
    monkeypatch.setattr(plugins, "find_spec", lambda name: None)
    monkeypatch.setattr(plugins.features, "check", lambda name: False)
    with pytest.raises(UnsupportedPicture) as caught:
        check_decodable(kind)  # type: ignore[arg-type]
    assert "pip install" in caught.value.remedy and "PNG or JPEG" in caught.value.remedy
    assert find_spec("pillow_heif") is not None


DAMAGED = {kind: saved(kind, scene().resize((24, 24))) for kind in ("HEIF", "AVIF", "JXL")}


@pytest.mark.filterwarnings("ignore::UserWarning")
@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(sorted(DAMAGED)),
    st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), min_size=1, max_size=6),
)
def test_damaged_files_give_a_picture_or_a_picture_error(name: str, changes: list[tuple[int, int]]) -> None:
    data = bytearray(DAMAGED[name])
    for offset, value in changes:
        data[offset % len(data)] = value
    try:
        assert decode(bytes(data), PictureLimits(max_pixels=1_000_000)).mode == "RGB"
    except PictureError as error:
        assert error.remedy


@pytest.mark.parametrize(("kind", "turn"), [("HEIF", 6), ("AVIF", 6), ("JXL", 1)])
def test_what_a_client_converts_and_makes_small_is_what_the_daemon_sees(kind: str, turn: int) -> None:
    data = saved(kind, turn=turn)
    seen = decode(data, PictureLimits())
    assert difference(Image.open(io.BytesIO(converted(data, "PNG"))), seen) == 0
    small = Image.open(io.BytesIO(thumbnail_of(data)))
    assert difference(small, seen.resize(small.size)) < 8
    assert small.size == seen.size, "it is smaller than thumbnails are"
