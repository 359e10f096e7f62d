"""HEIC, AVIF and JPEG XL: the size and the turn from their first bytes, and nothing but typed errors for others."""

from __future__ import annotations

import io
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from qied_client.errors import PictureError, PictureUnreadable
from qied_client.picture_header import PictureHeader, PictureLimits, read_header


def header_of(data: bytes) -> PictureHeader:
    return read_header(io.BytesIO(data), PictureLimits())


def box(kind: bytes, *parts: bytes, full: bytes = b"") -> bytes:
    body = full + b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), kind) + body


FULL = bytes(4)


def heic(*, item: int = 3, wide: bool = False, properties: tuple[bytes, ...] = (), brand: bytes = b"heic") -> bytes:
    """A HEIC of a phone: tiles and a thumbnail beside the main picture, which is the item that is named."""
    number = ">I" if wide else ">H"
    full = bytes([1 if wide else 0, 0, 0, 1 if wide else 0])
    sizes = [box(b"ispe", struct.pack(">II", *size), full=FULL) for size in ((512, 512), (4032, 3024), (160, 120))]
    stored = [*sizes, *properties]
    place = ">H" if wide else ">B"
    entries = []
    for name, own in ((1, [1]), (item, [2, *range(4, len(stored) + 1)]), (40, [3])):
        places = b"".join(struct.pack(place, value | (0x8000 if wide else 0x80)) for value in own)
        entries.append(struct.pack(number, name) + bytes([len(own)]) + places)
    ipma = box(b"ipma", struct.pack(">I", len(entries)), *entries, full=full)
    meta = box(
        b"meta",
        box(b"hdlr", bytes(20), full=FULL),
        box(b"pitm", struct.pack(number, item), full=full),
        box(b"iprp", box(b"ipco", *stored), ipma),
        full=FULL,
    )
    return box(b"ftyp", brand, FULL, b"mif1", b"miaf") + box(b"free", bytes(50)) + meta + box(b"mdat", bytes(99))


@pytest.mark.parametrize("wide", [False, True])
def test_the_main_picture_of_a_heic_counts(wide: bool) -> None:
    assert header_of(heic(wide=wide)) == PictureHeader("heif", 4032, 3024, 1)
    turned = header_of(heic(wide=wide, properties=(box(b"irot", b"\x03"), box(b"auxC", b"urn:x:alpha"))))
    assert (turned.orientation, turned.displayed_size, turned.alpha) == (6, (3024, 4032), True)


@pytest.mark.parametrize(
    ("brand", "kind"), [(b"mif1", "heif"), (b"heix", "heif"), (b"avif", "avif"), (b"avis", "avif")]
)
def test_brands_tell_the_format(brand: bytes, kind: str) -> None:
    assert header_of(heic(brand=brand)).format == kind


def test_a_size_of_64_bits_is_followed() -> None:
    whole = heic()
    at = whole.index(b"meta") - 4
    length = int.from_bytes(whole[at : at + 4], "big")
    large = struct.pack(">I4sQ", 1, b"meta", length + 8)
    assert header_of(whole[:at] + large + whole[at + 8 :]).displayed_size == (4032, 3024)


@pytest.mark.parametrize("turn", range(1, 9))
def test_each_turn_of_an_avif_is_the_one_that_it_was_saved_with(turn: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    target = io.BytesIO()
    Image.new("RGB", (40, 24)).save(target, "AVIF", exif=exif.tobytes())
    assert header_of(target.getvalue()) == PictureHeader("avif", 40, 24, turn)


def test_an_avif_with_opacity_can_be_transparent() -> None:
    target = io.BytesIO()
    Image.new("RGBA", (40, 24)).save(target, "AVIF")
    assert header_of(target.getvalue()).alpha


class Bits:
    """Writes numbers from the least significant bit on."""

    def __init__(self) -> None:
        self.value = self.count = 0

    def put(self, value: int, bits: int) -> None:
        self.value |= value << self.count
        self.count += bits

    def data(self) -> bytes:
        return self.value.to_bytes(-(-self.count // 8), "little")


def jpeg_xl(width: int, height: int, orientation: int = 1, *, ratio: int = 0) -> bytes:
    """The beginning of a codestream, as its standard has it."""
    bits = Bits()
    small = all(side % 8 == 0 and side <= 256 for side in (width, height))
    bits.put(small, 1)

    def side(value: int) -> None:
        if small:
            bits.put(value // 8 - 1, 5)
            return
        choice = next(number for number, size in enumerate((9, 13, 18, 30)) if value - 1 < 1 << size)
        bits.put(choice, 2)
        bits.put(value - 1, (9, 13, 18, 30)[choice])

    side(height)
    bits.put(ratio, 3)
    if not ratio:
        side(width)
    if orientation == 1:
        bits.put(1, 1)
    else:
        bits.put(0, 1)
        bits.put(1, 1)
        bits.put(orientation - 1, 3)
    return b"\xff\x0a" + bits.data() + bytes(40)


def in_boxes(codestream: bytes, *, parts: bool = False) -> bytes:
    start = b"\0\0\0\x0cJXL \r\n\x87\n" + box(b"ftyp", b"jxl ", FULL, b"jxl ") + box(b"jxll", b"\x05")
    return start + (box(b"jxlp", FULL, codestream) if parts else box(b"jxlc", codestream))


@given(st.integers(1, 16_000), st.integers(1, 3_000), st.integers(1, 8))
def test_the_size_of_a_jpeg_xl_is_read_bare_and_in_boxes(width: int, height: int, turn: int) -> None:
    bare = jpeg_xl(width, height, turn)
    for data in (bare, in_boxes(bare), in_boxes(bare, parts=True)):
        assert header_of(data) == PictureHeader("jxl", width, height, turn, alpha=True)


@pytest.mark.parametrize(
    ("ratio", "size"),
    [(1, (720, 720)), (2, (864, 720)), (3, (960, 720)), (5, (1280, 720)), (6, (900, 720)), (7, (1440, 720))],
)
def test_a_jpeg_xl_may_give_its_width_as_a_ratio(ratio: int, size: tuple[int, int]) -> None:
    assert header_of(jpeg_xl(*size, ratio=ratio)).displayed_size == size


FILES = {
    "heic": heic(),
    "wide": heic(wide=True, properties=(box(b"irot", b"\x01"),)),
    "jxl": in_boxes(jpeg_xl(800, 601, 5)),
}


@pytest.mark.parametrize("name", FILES)
def test_a_header_that_is_cut_off_is_never_taken_for_something_else(name: str) -> None:
    whole = header_of(FILES[name])
    for length in range(24, len(FILES[name])):
        try:
            cut = header_of(FILES[name][:length])
        except PictureUnreadable:
            continue
        assert (cut.width, cut.height) == (whole.width, whole.height)


@settings(max_examples=300)
@given(
    st.sampled_from(sorted(FILES)),
    st.lists(st.tuples(st.integers(0, 600), st.integers(0, 255)), min_size=1, max_size=8),
)
def test_damaged_headers_give_a_size_or_a_typed_error(name: str, changes: list[tuple[int, int]]) -> None:
    data = bytearray(FILES[name])
    for offset, value in changes:
        data[offset % len(data)] = value
    try:
        found = header_of(bytes(data))
    except PictureError as error:
        assert error.remedy
    else:
        assert min(found.displayed_size) > 0


def test_boxes_made_to_be_read_for_ever_are_not() -> None:
    start = box(b"ftyp", b"heic", FULL, b"mif1")
    for more in (box(b"free") * 100_000, struct.pack(">I4s", 0, b"free"), box(b"meta", bytes(3_000_000), full=FULL)):
        with pytest.raises(PictureUnreadable):
            header_of(start + more)
