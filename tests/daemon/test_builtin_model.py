"""The whole daemon with the built-in model: references, masks, sessions, formats."""

from __future__ import annotations

import io
import subprocess
import sys
from random import Random

import numpy as np
import pytest
import torch
from PIL import Image
from qied_client.errors import InvalidRequest, PrecisionUnavailable
from qied_client.picture_file.marks import COMPOSITE, ENHANCED, read_marks
from qied_client.picture_metadata import read_metadata
from qied_client.pixels.plugins import load_plugin

from qied.resources import builtin_model_folder
from tools.tiny_model.edits import sample_edit, sample_session
from tools.tiny_model.render import render_scenes
from tools.tiny_model.scenes import Scene
from tools.tiny_model.scoring import score
from tools.tiny_model.style import shows_style

PICTURE = builtin_model_folder().parent / "demo.png"


def pixels(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


def drawn(scene: Scene) -> bytes:
    """The scene as a PNG."""
    levels = (render_scenes([scene])[0] * 255).round().byte().permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(levels).save(file, "PNG")
    return file.getvalue()


def pictures(results) -> torch.Tensor:
    """Results of edits as they are scored: FP32 [N, 3, 256, 256], 0..1."""
    levels = np.stack([pixels(result.bytes) for result in results])
    return torch.from_numpy(levels).permute(0, 3, 1, 2).float() / 255


@pytest.fixture(scope="module")
def builtin_daemon(tmp_path_factory, daemon_process):
    daemon = daemon_process(tmp_path_factory.mktemp("builtin") / "home", engine="qied.engine.serving:load")
    yield daemon.start()
    daemon.stop()


def test_two_turns_change_two_things_and_undo_goes_back(builtin_daemon):
    with builtin_daemon.client(patience=60.0) as client:
        session = client.session(PICTURE)
        first = session.edit("make the red heart blue", seed=0, steps=8)
        second = session.edit("make the green square red", seed=0, steps=8)
        again = session.edit("make the red heart blue", base=0, seed=0, steps=8)
        assert session.undo() == 0
    one, two = pixels(first.bytes), pixels(second.bytes)
    assert one[120, 128][2] > 180 > one[120, 128][0], "the heart turned blue"
    assert two[45, 210][0] > 180 > two[45, 210][1], "the square turned red"
    assert two[120, 128][2] > 180 > two[120, 128][0], "the heart stayed blue"
    assert again.bytes == first.bytes


def test_a_mask_keeps_the_pixels_outside(builtin_daemon):
    mask = Image.new("L", (256, 256), 0)
    mask.paste(255, (70, 70, 186, 186))
    source = pixels(PICTURE.read_bytes())
    with builtin_daemon.client(patience=60.0) as client:
        result = pixels(client.edit(PICTURE, "make the red heart blue", seed=0, steps=8, mask=mask).bytes)
    assert (result[:50] == source[:50]).all()
    assert result[120, 128][2] > 180


def test_a_picture_of_any_size_comes_back_at_its_own_with_every_pixel_in_its_place(builtin_daemon):
    source = Image.open(PICTURE).convert("RGB").crop((0, 0, 250, 199))
    mask = Image.new("L", source.size, 0)
    mask.paste(255, (70, 70, 186, 160))
    with builtin_daemon.client(patience=60.0) as client:
        session = client.session(source)
        options = {"seed": 0, "steps": 8, "size": "same"}
        edited = client.edit(source, "make the red heart blue", mask=mask, **options)
        whole = session.edit("make the red heart blue", **options)
        again = session.edit("make the green square red", **options)
    assert (edited.width, edited.height) == edited.image.size == (250, 199)
    assert (whole.image.size, again.image.size) == ((250, 199), (250, 199))
    result = pixels(edited.bytes)
    assert (result[:50] == np.asarray(source).astype(int)[:50]).all(), "not scaled, so equal to the bit"
    assert result[120, 128][2] > 180 and pixels(whole.bytes)[120, 128][2] > 180
    metadata = read_metadata(edited.bytes)
    assert metadata is not None and (metadata.size, metadata.width, metadata.height) == ("same", 250, 199)


def test_a_region_of_a_result_is_drawn_again_and_nothing_else_changes(builtin_daemon):
    mask = Image.new("L", (97, 66), 0)
    mask.paste(255, (20, 20, 60, 50))
    left, top, width, height = box = (16, 16, 64, 32)
    with builtin_daemon.client(patience=60.0) as client:
        small = Image.open(PICTURE).convert("RGB").resize((97, 66))
        options = {"seed": 0, "steps": 2, "size": "same"}
        first = client.edit(small, "make the red heart blue", **options)
        both = client.edit(
            small, "make the red heart blue", redraw={"box": box, "strength": 1.0}, refine=0.4, **options
        )
        again = client.redraw(
            first.bytes, "make the red heart blue", references=small, seed=0, steps=2, box=box, mask=mask, strength=1.0
        )
        quoted = client.quote(small, "x", canvas=small, redraw=box, steps=4)
        with pytest.raises(PrecisionUnavailable, match="holds its model in fp32 alone"):
            client.redraw(small, "x", box=box, precision="bf16")
        with pytest.raises(InvalidRequest, match="off the picture of 97 x 66"):
            client.redraw(small, "x", box=(97, 0, 5, 5))
        empty = client.submit(small, "x", canvas=small, redraw={"mask": Image.new("L", (97, 66))}, steps=2)
        with pytest.raises(InvalidRequest, match="marks nothing"):
            empty.result()
    assert (quoted.width, quoted.height, quoted.forwards) == (97, 66, 2)
    before, after = pixels(first.bytes), pixels(again.bytes)
    inside = (np.asarray(mask) > 0) & (np.indices(before.shape[:2])[1] >= left)
    inside[: max(top, 20)], inside[top + height :], inside[:, left + width :] = False, False, False
    assert (after[~inside] == before[~inside]).all() and (after[inside] != before[inside]).any()
    assert both.image.size == (97, 66) and both.bytes != first.bytes
    assert {"denoise_ms", "redraw_ms"} <= both.timings.keys() and "denoise_ms" not in again.timings
    metadata = read_metadata(again.bytes)
    assert metadata is not None and metadata.canvas is not None and again.drift is None
    assert metadata.redraw[0].startswith("20,20,40,28,strength=1,mask=")


def test_phones_pictures_are_edited(builtin_daemon):
    load_plugin("heif")
    target = io.BytesIO()
    Image.open(PICTURE).convert("RGB").save(target, "HEIF", quality=90)
    with builtin_daemon.client(patience=60.0) as client:
        result = pixels(client.edit(target.getvalue(), "make the red heart blue", seed=0, steps=8).bytes)
    assert result[120, 128][2] > 180 > result[120, 128][0]


def test_three_pictures_and_webp_with_its_settings_inside(builtin_daemon):
    with builtin_daemon.client(patience=60.0) as client:
        result = client.edit(
            [PICTURE] * 3, "remove the red heart", seed=3, steps=2, output_format="webp", width=128, height=128
        )
    assert result.media_type == "image/webp"
    assert result.image.size == (128, 128)
    metadata = read_metadata(result.bytes)
    assert metadata is not None
    assert (metadata.prompt, metadata.seed, metadata.steps) == ("remove the red heart", 3, 2)


def test_the_same_request_and_seed_give_the_same_bytes(builtin_daemon):
    with builtin_daemon.client(patience=60.0) as client:
        one, two, other = (client.edit(PICTURE, "go", seed=seed, steps=2).bytes for seed in (5, 5, 6))
    assert one == two != other


def test_a_session_of_two_turns_does_both_edits_and_keeps_the_rest(builtin_daemon):
    turns = sample_session(Random(1), 2, "en")
    with builtin_daemon.client(patience=60.0) as client:
        session = client.session(drawn(turns[0].source))
        results = [session.edit(turn.instruction, seed=1, steps=8) for turn in turns]
    assert [one.success for one in score(pictures(results), turns)] == [True, True]


def test_styled_and_plain_edits_that_share_the_worker_each_get_what_they_asked_for(builtin_daemon):
    edits = [sample_edit(Random(f"style {number}"), "recolour") for number in range(4)]
    choices = [["builtin-outline"], [], ["builtin-outline"], []]
    with builtin_daemon.client(patience=60.0) as client:
        jobs = [
            client.submit(drawn(edit.source), edit.instruction, seed=1, steps=8, loras=loras)
            for edit, loras in zip(edits, choices, strict=True)
        ]
        outputs = pictures([job.result() for job in jobs])
    assert shows_style(outputs, edits) == [True, False, True, False]
    assert all(one.success for one in score(outputs[1::2], edits[1::2]))


def test_four_steps_with_the_lightning_lora_make_the_edit_in_english_and_chinese(builtin_daemon):
    edits = [sample_edit(Random(f"four {language}"), "add", language) for language in ("en", "zh")]
    with builtin_daemon.client(patience=60.0) as client:
        results = [
            client.edit(drawn(edit.source), edit.instruction, seed=1, steps=4, loras=["builtin-lightning-4steps"])
            for edit in edits
        ]
    assert all(one.success for one in score(pictures(results), edits))


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def test_edits_and_pictures_are_enlarged_and_marked(builtin_daemon):
    source = Image.open(PICTURE).convert("RGB").crop((0, 0, 101, 75))
    see_through = source.copy()
    see_through.putalpha(Image.new("L", source.size, 0))
    see_through.paste((255, 0, 0, 255), (0, 0, 50, 75))
    with builtin_daemon.client(patience=60.0) as client:
        plain = client.upscale(source)
        clear = client.upscale(see_through, "builtin-2x", output_format="webp")
        edited = client.edit(source, "make the sky darker", seed=1, steps=1, size="same", upscale="2x")
        redrawn = client.redraw(see_through, "a red heart", box=(60, 30, 30, 30), steps=1, upscale="2x")
        with pytest.raises(InvalidRequest, match="refine: upscaling alone draws nothing"):
            client.edit(source, "upscale", task="upscale", refine=0.2)
        with pytest.raises(InvalidRequest, match=r"no upscaler '4x'. It has builtin-2x \(2x\)"):
            client.upscale(source, "4x")
        with pytest.raises(InvalidRequest, match="one picture is upscaled at a time"):
            client.edit([source, source], "upscale", task="upscale", upscale="2x")
        with pytest.raises(InvalidRequest, match="has no prompt rewriter"):
            client.edit(source, "go", rewrite_prompt=True)
        asked = client.edit(source, "make the sky darker", seed=1, steps=1, width=101, height=75)
        status = [summary for summary in client.jobs() if summary.id == plain.job]
    assert (plain.width, plain.height) == opened(plain.bytes).size == (202, 150)
    assert opened(asked.bytes).size == (101, 75), "to the pixel, off the grid"
    large = np.asarray(source.resize((202, 150), Image.Resampling.BICUBIC), int)
    assert np.abs(np.asarray(opened(plain.bytes), int) - large).mean() < 6, "the same picture, larger"
    assert opened(plain.bytes).mode == "RGB" and read_marks(plain.bytes).source_type == ENHANCED
    alpha = opened(clear.bytes).getchannel("A")
    assert (alpha.size, alpha.getpixel((20, 75)), alpha.getpixel((180, 75))) == ((202, 150), 255, 0)
    again = opened(redrawn.bytes)
    assert again.size == (202, 150) and again.getchannel("A").tobytes() == alpha.tobytes()
    assert np.array_equal(np.asarray(again)[:20, :40, :3], np.asarray(opened(clear.bytes))[:20, :40, :3])
    assert opened(edited.bytes).size == (202, 150) and read_marks(edited.bytes).source_type == COMPOSITE
    told = read_metadata(edited.bytes)
    assert told is not None and (told.upscale, told.upscale_by, told.width) == ("builtin-2x", 2, 202)
    assert len(status) == 1


def test_pictures_of_any_shape_are_enlarged_and_a_broken_one_does_not_stop_the_others(builtin_daemon, tmp_path):
    Image.new("RGB", (200, 1), "red").save(tmp_path / "strip.png")
    Image.new("RGBA", (1, 1), (255, 0, 0, 0)).save(tmp_path / "dot.png")
    (tmp_path / "broken.png").write_bytes((tmp_path / "strip.png").read_bytes()[:45])
    names = [str(tmp_path / f"{name}.png") for name in ("strip", "broken", "dot")]
    (tmp_path / "out").mkdir()

    def upscale(*arguments):
        command = [sys.executable, "-m", "qied", "upscale", *arguments, "--key", str(builtin_daemon.key)]
        return subprocess.run(command, check=False, capture_output=True, text=True, timeout=90)

    ended = upscale(*names, str(tmp_path / "nowhere.png"), "-o", str(tmp_path / "out" / "{name}.png"))
    assert ended.returncode == 2 and ended.stderr.count(f"{names[1]}: ") == 1 and "qied result" not in ended.stderr
    assert ended.stderr.count("nowhere.png: ") == 1
    assert opened((tmp_path / "out" / "strip.png").read_bytes()).size == (400, 2)
    assert opened((tmp_path / "out" / "dot.png").read_bytes()).getpixel((1, 1))[3] == 0
    assert not (tmp_path / "out" / "broken.png").exists()
    ended = upscale(*names, "-o", str(tmp_path / "out" / "all.png"))
    assert f"the result of both {names[0]} and {names[1]}" in ended.stderr


def test_an_edit_as_comfyui_does_it_says_so_and_is_made_again_from_what_it_says(builtin_daemon):
    source = Image.open(PICTURE).convert("RGB").crop((0, 0, 101, 75))
    source.putalpha(Image.new("L", source.size, 0))
    source.paste((255, 0, 0, 255), (0, 0, 50, 75))
    options = {"seed": 3, "steps": 2, "true_cfg_scale": 3.0}
    with builtin_daemon.client(patience=60.0) as client:
        quoted = client.quote(source, "a red heart", compat="comfyui", **options)
        made = client.edit(source, "a red heart", compat="comfyui,shift=2", **options)
        told = read_metadata(made.bytes)
        assert told is not None and (told.compat, told.size) == ("comfyui,shift=2", "kontext")
        again = client.edit(source, "a red heart", compat=told.compat, size=told.size, **options)
        over = client.edit(
            source, "a red heart", canvas=source, refine=0.5, compat="comfyui", size="kontext", **options
        )
        usual = client.edit(source, "a red heart", **options)
        with pytest.raises(InvalidRequest, match="compat='comfyui' too"):
            client.edit(source, "a red heart", size="kontext")
    # 101 x 75 is nearest to 1184 x 880, a quarter of which on the grid is this.
    assert (quoted.width, quoted.height) == (made.width, made.height) == opened(made.bytes).size == (288, 224)
    assert again.bytes == made.bytes != usual.bytes and opened(over.bytes).size == (288, 224)
    alpha = opened(made.bytes).getchannel("A")
    assert (alpha.getpixel((60, 110)), alpha.getpixel((220, 110))) == (255, 0)
