"""Upscaling, marks and opacity through a whole daemon with the built-in model and its small upscaler."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from qied_client.errors import InvalidRequest
from qied_client.picture_file.marks import COMPOSITE, ENHANCED, read_marks
from qied_client.picture_metadata import read_metadata

from qied.resources import builtin_model_folder

PICTURE = builtin_model_folder().parent / "demo.png"


@pytest.fixture(scope="module")
def builtin_daemon(tmp_path_factory, daemon_process):
    daemon = daemon_process(tmp_path_factory.mktemp("upscale") / "home", engine="qied.engine.serving:load")
    yield daemon.start()
    daemon.stop()


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
        with pytest.raises(InvalidRequest, match=r"no upscaler '4x'. It has builtin-2x \(2x\)"):
            client.upscale(source, "4x")
        with pytest.raises(InvalidRequest, match="one picture is upscaled at a time"):
            client.edit([source, source], "upscale", task="upscale", upscale="2x")
        with pytest.raises(InvalidRequest, match="has no prompt rewriter"):
            client.edit(source, "go", rewrite_prompt=True)
        status = [summary for summary in client.jobs() if summary.id == plain.job]
    assert (plain.width, plain.height) == opened(plain.bytes).size == (202, 150)
    large = np.asarray(source.resize((202, 150), Image.Resampling.BICUBIC), int)
    assert np.abs(np.asarray(opened(plain.bytes), int) - large).mean() < 6, "the same picture, larger"
    assert opened(plain.bytes).mode == "RGB" and read_marks(plain.bytes).source_type == ENHANCED
    alpha = opened(clear.bytes).getchannel("A")
    assert (alpha.size, alpha.getpixel((20, 75)), alpha.getpixel((180, 75))) == ((202, 150), 255, 0)
    assert opened(edited.bytes).size == (202, 150) and read_marks(edited.bytes).source_type == COMPOSITE
    told = read_metadata(edited.bytes)
    assert told is not None and (told.upscale, told.upscale_by, told.width) == ("builtin-2x", 2, 202)
    assert len(status) == 1
