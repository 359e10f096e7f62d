from __future__ import annotations

import io
from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin
from qied_client.errors import UnsupportedPicture
from qied_client.picture_file.dialects import a1111_text
from qied_client.picture_metadata import PictureMetadata, read_metadata
from qied_client.protocol.request import LoraChoice

import qied
from qied.edit import EditSpec, OutputFormat
from qied.pictures.encode import encode
from qied.pictures.metadata import as_json, metadata_of

FORMATS: tuple[OutputFormat, ...] = get_args(OutputFormat)
METADATA = PictureMetadata("make the heart blue", " ", 7, 20, 4.0, 64, 48, "builtin", "0.1.0")
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


def written(metadata: PictureMetadata, kind: OutputFormat) -> bytes:
    return encode(Image.new("RGB", (4, 4)), kind, metadata)


@pytest.mark.parametrize("kind", FORMATS)
@settings(max_examples=60, deadline=None)
@given(
    prompt=TEXT,
    negative=st.none() | TEXT,
    seed=st.integers(0, 2**63 - 1),
    scale=st.floats(1, 20),
)
def test_what_is_written_is_read_back(
    kind: OutputFormat, prompt: str, negative: str | None, seed: int, scale: float
) -> None:
    metadata = replace(METADATA, prompt=prompt, negative_prompt=negative, seed=seed, true_cfg_scale=scale)
    assert read_metadata(written(metadata, kind)) == metadata


def test_it_describes_an_edit_and_this_version() -> None:
    spec = EditSpec(("a" * 64,), "make it blue", None, 3, 8, 1.0, 64, 48)
    assert metadata_of(spec, "builtin") == PictureMetadata(
        "make it blue", None, 3, 8, 1.0, 64, 48, "builtin", qied.__version__, schedule="model", sources=("a" * 64,)
    )


FULL = replace(
    METADATA,
    precision="fp8",
    preset="final",
    schedule="lightning",
    sources=("a" * 64, "b" * 64),
    mask="c" * 64,
    warnings=("The size, 64 x 48, is odd: use 64 x 64.",),
)


def test_all_that_made_a_picture_is_told() -> None:
    spec = EditSpec(
        FULL.sources,
        FULL.prompt,
        " ",
        7,
        20,
        4.0,
        64,
        48,
        FULL.mask,
        schedule="lightning",
        preset="final",
        precision="fp8",
        warnings=FULL.warnings,
    )
    assert metadata_of(spec, "builtin") == replace(FULL, version=qied.__version__)
    assert a1111_text(FULL).splitlines()[-1] == (
        "Steps: 20, Sampler: Euler, Schedule type: Simple, CFG scale: 4, Seed: 7, Size: 64x48, Model: builtin, "
        "Precision: fp8, Preset: final, Schedule: lightning, "
        'Source hashes: "aaaaaaaaaaaa, bbbbbbbbbbbb", Mask hash: cccccccccccc, Version: qied 0.1.0'
    )


@pytest.mark.parametrize("kind", FORMATS)
def test_files_of_older_and_later_versions_are_read(kind: OutputFormat, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_metadata(written(FULL, kind)) == FULL
    old = (
        '{"height": 48, "loras": [["ink", 1.0]], "model": "builtin", "negative_prompt": null, "prompt": "go", '
        '"seed": 7, "steps": 20, "true_cfg_scale": 1, "version": "0.2.0", "width": 64}'
    )
    for stored in (old, old.replace("{", '{"a later field": {"x": [1]}, ', 1)):
        monkeypatch.setattr("qied.pictures.metadata.as_json", lambda _, stored=stored: stored)
        assert read_metadata(written(FULL, kind)) == PictureMetadata(
            "go", None, 7, 20, 1.0, 64, 48, "builtin", "0.2.0", (("ink", 1.0),)
        )


@pytest.mark.parametrize("kind", FORMATS)
def test_loras_are_told_with_their_strengths(kind: OutputFormat) -> None:
    loras = (LoraChoice("styles/ink (v2)"), LoraChoice("other", -0.5))
    metadata = metadata_of(EditSpec(("a" * 64,), "go", None, 3, 8, 1.0, 64, 48, loras=loras), "builtin")
    assert metadata.loras == (("styles/ink (v2)", 1.0), ("other", -0.5))
    assert a1111_text(metadata).startswith("go <lora:styles/ink (v2):1> <lora:other:-0.5>\nSteps: 8")
    assert read_metadata(written(metadata, kind)) == metadata


def test_tools_of_artists_find_readable_text_in_a_png() -> None:
    with Image.open(io.BytesIO(written(METADATA, "png"))) as image:
        assert image.info["parameters"] == (
            "make the heart blue\nNegative prompt:  \n"
            "Steps: 20, Sampler: Euler, Schedule type: Simple, CFG scale: 4, Seed: 7, Size: 64x48, Model: builtin, "
            "Version: qied 0.1.0"
        )


def test_tools_of_artists_find_the_same_text_in_a_webp() -> None:
    metadata = replace(METADATA, prompt="把心形变成蓝色", negative_prompt=None)
    with Image.open(io.BytesIO(written(metadata, "webp"))) as image:
        comment = image.getexif().get_ifd(0x8769)[0x9286]
    assert comment.startswith(b"UNICODE\0")
    assert comment[8:].decode("utf-16-be") == a1111_text(metadata)
    assert a1111_text(metadata).startswith("把心形变成蓝色\nSteps: 20")


@pytest.mark.parametrize("kind", FORMATS)
def test_a_prompt_that_is_no_valid_text_does_not_stop_the_result(kind: OutputFormat) -> None:
    assert written(replace(METADATA, prompt="lone \ud800 half\0and nul"), kind)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG"])
def test_pictures_of_others_have_none(kind: str) -> None:
    target = io.BytesIO()
    Image.new("RGB", (4, 4)).save(target, kind)
    assert read_metadata(target.getvalue()) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"prompt": "x"}',
        as_json(METADATA).replace("7", '"7"'),
        as_json(METADATA).replace('"loras": []', '"loras": [["x"]]'),
        as_json(METADATA).replace('"sources": []', '"sources": [1]'),
        as_json(METADATA).replace("4.0", "NaN"),
        "[" * 5000,
        "[" * 500_000,
    ],
    ids=["empty", "cut", "a list", "null", "one field", "wrong type", "half a LoRA", "source", "NaN", "deep", "deeper"],
)
def test_damaged_or_forged_metadata_counts_as_none(text: str) -> None:
    chunks = PngImagePlugin.PngInfo()
    chunks.add_itxt("qied", text)
    target = io.BytesIO()
    Image.new("RGB", (4, 4)).save(target, "PNG", pnginfo=chunks)
    assert read_metadata(target.getvalue()) is None


def test_what_is_no_picture_is_refused() -> None:
    with pytest.raises(UnsupportedPicture):
        read_metadata(b"not a picture at all")
