"""PNG in strips: one valid stream, whatever the size, the mode and the number of threads."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from qied.pictures.png import encode_png


def chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """Type and bytes of each chunk, with their checksums looked at."""
    found, at = [], 8
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", data, at + 8 + length)[0] == zlib.crc32(kind + body)
        found.append((kind, body))
        at += 12 + length
    return found


@settings(max_examples=60, deadline=None)
@given(
    arrays.arrays(
        np.uint8, st.tuples(st.sampled_from([1, 2, 63, 64, 65, 129]), st.integers(1, 9), st.sampled_from([3, 4]))
    )
)
def test_any_picture_comes_back_to_the_bit(levels: np.ndarray):
    data = encode_png(Image.fromarray(levels), [], threads=1)
    with Image.open(io.BytesIO(data)) as opened:
        assert opened.mode == ("RGB" if levels.shape[2] == 3 else "RGBA")
        assert (np.asarray(opened) == levels).all()


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_threads_change_no_byte_and_strips_are_one_stream(mode: str):
    noise = np.random.default_rng(0).integers(0, 256, (200, 31, len(mode)), dtype=np.uint8)
    picture = Image.fromarray(noise)
    one, many = (encode_png(picture, [(b"sRGB", b"\0")], threads) for threads in (1, 4))
    assert one == many == encode_png(picture, [(b"sRGB", b"\0")])
    ramp = np.add.outer(np.arange(200) * 3, np.arange(31 * len(mode))).astype(np.uint8).reshape(noise.shape)
    for levels in (noise, ramp):
        with Image.open(io.BytesIO(encode_png(Image.fromarray(levels), [], 2))) as opened:
            assert (np.asarray(opened) == levels).all(), "strips go on where the one above them ends"
    kinds = [kind for kind, _ in chunks(one)]
    assert kinds == [b"IHDR", b"sRGB", b"IDAT", b"IEND"]
    rows = zlib.decompress(dict(chunks(one))[b"IDAT"])
    assert len(rows) == 200 * (1 + 31 * len(mode))


def test_each_filter_is_used_where_it_is_the_best():
    across = np.tile(np.arange(0, 250, 5, dtype=np.uint8)[:, None], (70, 1, 3))
    down = np.repeat(np.random.default_rng(1).integers(0, 256, (1, 50, 3), dtype=np.uint8), 70, axis=0)
    for levels, expected in ((across, {1, 2, 4}), (down, {2})):
        rows = zlib.decompress(dict(chunks(encode_png(Image.fromarray(levels), [])))[b"IDAT"])
        used = set(rows[:: 1 + 150][1:])
        assert used <= expected | {3} and used
    smooth = np.asarray(Image.linear_gradient("L").resize((256, 256)).convert("RGB"))
    assert len(encode_png(Image.fromarray(smooth), [])) < 256 * 256 * 3 // 20
