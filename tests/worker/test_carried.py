"""What goes around the engine: opacity, and the marks of inputs and results."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest
from PIL import Image
from qied_client.picture_file.marks import COMPOSITE, TRAINED, Marks, aigc_label, read_marks
from qied_client.picture_metadata import read_metadata

from qied.config.output import Marking
from qied.edit import EditSpec
from qied.link import messages as w
from qied.pictures.reduced import ReducedPicture
from qied.planning.edits.view import View
from qied.worker.carried import NOTHING, Carried, kept_opacity, preview_marks
from qied.worker.results import UNSIGNED, result_file

SPEC = EditSpec(("a" * 64,), "go", None, 7, 3, 1.0, 32, 16)
BEGIN = w.Begin("ann", "job-1", SPEC, "ann.user", 1, False)
PICTURE = Image.new("RGB", (32, 16), (10, 20, 30))


def half(left: int = 0, right: int = 255) -> Image.Image:
    image = Image.new("L", (32, 16), right)
    image.paste(left, (0, 0, 16, 16))
    return image


def first(opacity: Image.Image) -> ReducedPicture:
    return ReducedPicture((64, 32), {View(32, 16): PICTURE, View(32, 16, "opacity"): opacity})


def test_the_result_is_transparent_where_the_first_picture_is():
    kept = kept_opacity(first(half()), None)
    assert kept is not None and kept.tobytes() == half().tobytes()
    assert kept_opacity(first(half(255)), None) is None, "all of it is opaque"
    assert kept_opacity(ReducedPicture((64, 32), {View(32, 16): PICTURE}), None) is None


def test_what_a_mask_lets_be_made_is_seen():
    """The hole of a picture that is its own mask, as OpenAI's callers send it, would hide just what was made."""
    assert kept_opacity(first(half()), half(255, 0)) is None
    soft = kept_opacity(first(half()), half(100, 0))
    assert soft is not None and soft.tobytes() == half(100).tobytes()


def test_a_view_of_opacity_never_stands_for_the_picture():
    picture = ReducedPicture((64, 32), {View(32, 16, "opacity"): half(), View(32, 16): PICTURE})
    assert picture.resize((32, 16), Image.Resampling.LANCZOS) is PICTURE
    with pytest.raises(AssertionError):
        picture.resize((32, 16), Image.Resampling.BILINEAR)


@pytest.mark.parametrize("kind", ["png", "webp", "jpeg"])
def test_a_result_s_file_has_opacity_marks_and_settings(kind: str):
    label = aigc_label("theirs", "1")
    carried = Carried(("one",), (("a" * 64, Marks(TRAINED, label)),), half(), "please go")
    begin = w.Begin("ann", "job-1", replace(SPEC, output_format=kind), "ann.user", 1, False)
    made = result_file(begin, PICTURE, "builtin", carried, Marking(aigc_producer="ours"))
    assert made.warnings == ("one",) and made.media_type == f"image/{kind}"
    with Image.open(io.BytesIO(made.data)) as opened:
        assert opened.mode == ("RGB" if kind == "jpeg" else "RGBA")
        pixel = opened.convert("RGBA").getpixel((2, 2))
    assert pixel[3] == (255 if kind == "jpeg" else 0) and (kind != "jpeg" or min(pixel) > 250)
    marks = read_marks(made.data)
    assert marks.source_type == COMPOSITE
    ours = json.loads(marks.aigc)
    assert (ours["Label"], ours["ContentProducer"], ours["ProduceID"]) == ("1", "ours", "job-1")
    assert [(each.source_type, each.aigc) for each in marks.ingredients] == [(TRAINED, label)]
    assert read_marks(made.thumbnail) == marks
    metadata = read_metadata(made.data)
    assert metadata is not None and (metadata.prompt, metadata.original_prompt) == ("go", "please go")


def test_with_marking_off_only_marks_of_inputs_are_in_a_result():
    off = Marking(on=False)
    assert read_marks(result_file(BEGIN, PICTURE, "builtin", NOTHING, off).data) == Marks()
    assert preview_marks(off) == b"" and preview_marks(Marking()) != b""
    label = aigc_label("theirs", "1")
    kept = read_marks(result_file(BEGIN, PICTURE, "builtin", Carried(inputs=(("a" * 64, Marks("", label)),)), off).data)
    assert (kept.source_type, kept.aigc) == ("", label)


def test_a_result_that_cannot_be_signed_is_delivered_and_says_so(tmp_path):
    marking = Marking(c2pa_certificate=str(tmp_path / "none.pem"), c2pa_key=str(tmp_path / "none.pem"))
    made = result_file(BEGIN, PICTURE, "builtin", NOTHING, marking, [b"no picture"])
    assert made.warnings == (UNSIGNED,)
    assert read_marks(made.data) == Marks(COMPOSITE)
