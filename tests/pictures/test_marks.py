"""Marks that AI made a picture: read back by exiftool, a reader that is not ours, and carried to results."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from qied_client.picture_file.dialects import a1111_text
from qied_client.picture_file.marks import (
    COMPOSITE,
    TRAINED,
    Ingredient,
    Marks,
    aigc_label,
    marks_of_edit,
    read_marks,
    xmp_packet,
)
from qied_client.picture_metadata import PictureMetadata
from qied_client.pixels.converted import converted

from qied.edit import OutputFormat
from qied.pictures.encode import encode, encode_preview, encode_thumbnail

FORMATS: tuple[OutputFormat, ...] = get_args(OutputFormat)
METADATA = PictureMetadata("把心形变成蓝色, now", "blurry", 7, 20, 4.0, 8, 8, "builtin", "0.2.0", sources=("a" * 64,))
LABEL = aigc_label('producer "1" & <co>', "job-1")
BLOB = "b" * 64
MARKS = marks_of_edit([(BLOB, Marks(TRAINED, aigc_label("other", "x"), c2pa=True))], COMPOSITE, LABEL)


@pytest.fixture(scope="module")
def exiftool() -> str:
    """The reader that is not ours; without it these tests are skipped, unless QIED_TEST_REQUIRE_EXIFTOOL is 1."""
    found = shutil.which("exiftool")
    if found is None and os.environ.get("QIED_TEST_REQUIRE_EXIFTOOL") != "1":
        pytest.skip("needs exiftool")
    return found or "exiftool"


def written(kind: OutputFormat, marks: Marks = MARKS, mode: str = "RGB") -> bytes:
    return encode(
        Image.new(mode, (8, 8), 90 if mode == "L" else (90, 80, 70, 60)[: len(mode)]),
        kind,
        METADATA,
        90,
        xmp_packet(marks),
    )


def told(exiftool: str, folder: Path, *pictures: bytes) -> list[dict[str, Any]]:
    """What exiftool reads in files, with groups before names."""
    paths = []
    for number, data in enumerate(pictures):
        paths.append(folder / f"{number}.bin")
        paths[-1].write_bytes(data)
    done = subprocess.run([exiftool, "-j", "-G1", "-struct", *paths], capture_output=True, check=True)
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def test_exiftool_reads_marks_and_settings_in_every_format(exiftool: str, tmp_path: Path):
    for kind, found in zip(FORMATS, told(exiftool, tmp_path, *map(written, FORMATS)), strict=True):
        assert found["File:FileType"].split()[-1] == kind.upper()
        assert not any("Warning" in name or "Error" in name for name in found), found
        assert found["XMP-iptcExt:DigitalSourceType"] == COMPOSITE
        assert json.loads(found["XMP-TC260:Aigc"])["ContentProducer"] == 'producer "1" & <co>'
        (ingredient,) = found["XMP-xmpMM:Ingredients"]
        assert ingredient["DocumentID"] == f"urn:sha256:{BLOB}"
        assert ingredient["DigitalSourceType"] == TRAINED
        assert json.loads(ingredient["Aigc"])["ContentProducer"] == "other" and ingredient["Manager"] == "C2PA"
        assert found["PNG:Parameters" if kind == "png" else "ExifIFD:UserComment"] == a1111_text(METADATA)
        graph = found["PNG:Prompt"] if kind == "png" else found["IFD0:Model"].removeprefix("prompt:")
        assert json.loads(graph)["2"]["class_type"] == "QiedEdit"


def test_the_text_of_a1111_has_the_type_that_its_reader_takes(exiftool: str, tmp_path: Path):
    """That reader, piexif, gives bytes for the type "undefined" alone; exiftool warns of any other."""
    for number, kind in enumerate(("webp", "jpeg")):
        file = tmp_path / f"{number}.bin"
        file.write_bytes(written(kind))
        command = [exiftool, "-validate", "-warning", "-a", str(file)]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert "Validate" in said and "UserComment" not in said and "format" not in said, said


def test_exiftool_reads_the_marks_of_previews_thumbnails_and_conversions(exiftool: str, tmp_path: Path):
    picture, xmp = Image.new("RGB", (8, 8)), xmp_packet(Marks(COMPOSITE))
    files = [encode_preview(picture, xmp), encode_thumbnail(picture, xmp)]
    files += [converted(written(kind), to) for kind in FORMATS for to in ("PNG", "WEBP", "JPEG")]
    for found in told(exiftool, tmp_path, *files):
        assert found["XMP-iptcExt:DigitalSourceType"] == COMPOSITE
    assert all(read_marks(each) == read_marks(written("png")) for each in files[2:])


@pytest.mark.parametrize("kind", FORMATS)
def test_pillow_opens_each_and_reads_the_same_packet(kind: OutputFormat):
    with Image.open(io.BytesIO(written(kind))) as opened:
        opened.load()
        xmp = opened.info.get("xmp") or opened.info["XML:com.adobe.xmp"]
    assert (xmp if isinstance(xmp, bytes) else xmp.encode()) == xmp_packet(MARKS)


@pytest.mark.parametrize("kind", FORMATS)
def test_without_marks_no_packet_is_written(kind: OutputFormat):
    assert xmp_packet(Marks()) == b""
    data = encode(Image.new("RGB", (8, 8)), kind, METADATA, 90, b"")
    assert b"xmpmeta" not in data and read_marks(data) == Marks()


SOURCE_TYPES = st.sampled_from(["", COMPOSITE, TRAINED])
LABELS = st.just("") | st.builds(
    aigc_label, st.text(st.characters(exclude_categories=["C", "Z"]), max_size=40), st.just("x")
)
INGREDIENTS = st.builds(Ingredient, st.sampled_from(["", BLOB]), SOURCE_TYPES, LABELS, st.booleans()).filter(
    lambda each: bool(each.source_type or each.aigc or each.c2pa)
)


@settings(max_examples=60, deadline=None)
@given(SOURCE_TYPES, LABELS, st.lists(INGREDIENTS, max_size=4), st.binary(max_size=40))
def test_what_is_written_is_read_back(source_type: str, label: str, ingredients: list[Ingredient], other: bytes):
    marks = Marks(source_type, label, ingredients=tuple(ingredients))
    assert read_marks(other + xmp_packet(marks) + other) == marks


def test_marks_of_other_programs_are_read_however_they_are_written(exiftool: str, tmp_path: Path):
    path = tmp_path / "camera.jpg"
    Image.new("RGB", (8, 8)).save(path)
    subprocess.run([exiftool, "-q", f"-XMP-iptcExt:DigitalSourceType={TRAINED}", str(path)], check=True)
    assert read_marks(path.read_bytes()) == Marks(TRAINED)
    space = 'xmlns:TC260="http://www.tc260.org.cn/ns/AIGC/1.0/"'
    quoted = LABEL.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    for packet in (
        f'<x:xmpmeta><rdf:Description {space} TC260:AIGC="{quoted}"/></x:xmpmeta>',
        f"<x:xmpmeta><x:y {space}><TC260:AIGC><![CDATA[{LABEL}]]></TC260:AIGC></x:y></x:xmpmeta>",
        f"<x:xmpmeta><rdf:Description {space}>\n<tc:AIGC>\n{quoted}\n</tc:AIGC></rdf:Description></x:xmpmeta>",
    ):
        assert read_marks(packet.encode()).aigc == LABEL
    linked = f'<x:xmpmeta><iptc:DigitalSourceType rdf:resource="{TRAINED}"/></x:xmpmeta>'
    assert read_marks(linked.encode()).source_type == TRAINED
    text = io.BytesIO()
    chunks = PngInfo()
    chunks.add_text("AIGC", aigc_label("chunk", "1"))
    Image.new("RGB", (8, 8)).save(text, "PNG", pnginfo=chunks)
    assert json.loads(read_marks(text.getvalue()).aigc)["ContentProducer"] == "chunk"


@pytest.mark.parametrize(
    "packet",
    [
        b"<x:xmpmeta",
        b"<x:xmpmeta x:DigitalSourceType='javascript:alert(1)'>",
        b"<x:xmpmeta x:AIGC='{}'>",
        b"<x:xmpmeta x:AIGC='[1]'>",
        b'<x:xmpmeta><x:AIGC>{"Label": 1}</x:AIGC>',
        b'<x:xmpmeta><x:AIGC>{"Label": "1\\u0000"}\x07</x:AIGC>',
        b"<x:xmpmeta " + b"x:AIGC>" * 40_000,
        b"<x:xmpmeta x:Ingredients>" + b"<rdf:li" * 40_000,
        b"<x:xmpmeta x:AIGC" + b"\t" * 250_000,
        b"<x:xmpmeta><x:AIGC>" + b"{" * 5000,
    ],
    ids=range(10),
)
def test_forged_packets_are_no_marks_and_take_no_time(packet: bytes):
    assert read_marks(packet) == Marks()


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_no_bytes_make_the_reader_fail(data: bytes):
    read_marks(data)
    read_marks(b"<x:xmpmeta :AIGC>" + data)


def test_a_result_of_many_turns_and_marks_fits_in_one_segment_of_a_jpeg():
    marks = MARKS
    for turn in range(50):
        label = aigc_label("&" * 3000, f"{turn}")
        marks = marks_of_edit([(f"{turn:064x}", marks), ("c" * 64, Marks(TRAINED, label))], COMPOSITE)
    packet = xmp_packet(marks)
    assert len(packet) <= 65_502
    assert read_marks(written("jpeg", marks)).source_type == COMPOSITE
    same = MARKS
    for turn in range(50):
        same = marks_of_edit([(f"{turn:064x}", same)], COMPOSITE)
    assert len(same.ingredients) <= 3, "turns of the same marks are told once"


def test_an_input_s_label_stays_the_result_s_unless_it_has_its_own():
    source = [(BLOB, Marks(TRAINED, LABEL))]
    assert marks_of_edit(source, "").aigc == LABEL
    own = marks_of_edit(source, COMPOSITE, aigc_label("own", "1"))
    assert json.loads(own.aigc)["ContentProducer"] == "own" and own.ingredients[0].aigc == LABEL


def test_readers_of_a1111_s_text_get_all_settings_back():
    """Split as A1111 and Civitai do it: the last line, at commas outside quotes."""
    text = a1111_text(PictureMetadata("a, b: c", "bad", 7, 4, 1.0, 64, 48, 'odd, "name"', "0.2.0", (("ink", 0.5),)))
    prompt, negative, last = text.split("\n")
    assert (prompt, negative) == ("a, b: c <lora:ink:0.5>", "Negative prompt: bad")
    found = dict(re.findall(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)', last))
    assert json.loads(found["Model"]) == 'odd, "name"'
    assert {
        name: found[name] for name in ("Steps", "Sampler", "Schedule type", "CFG scale", "Seed", "Size", "Version")
    } == {
        "Steps": "4",
        "Sampler": "Euler",
        "Schedule type": "Simple",
        "CFG scale": "1",
        "Seed": "7",
        "Size": "64x48",
        "Version": "qied 0.2.0",
    }


def test_long_prompts_leave_out_the_graph_of_a_jpeg_and_never_the_result():
    def texts(length: int) -> dict[int, object]:
        long = PictureMetadata("\x01" * length, None, 7, 20, 4.0, 8, 8, "builtin", "0.2.0")
        with Image.open(io.BytesIO(encode(Image.new("RGB", (8, 8)), "jpeg", long))) as opened:
            exif = opened.getexif()
            return {**dict(exif), **exif.get_ifd(0x8769)}

    assert {0x010E, 0x0110, 0x9286} <= texts(1000).keys()
    assert 0x0110 not in texts(7000) and {0x010E, 0x9286} <= texts(7000).keys()
    assert not {0x010E, 0x0110, 0x9286} & texts(12_000).keys()
