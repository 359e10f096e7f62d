"""A daemon in INT8 that holds BF16 as well: passes that name it are those of a daemon in BF16."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from qied_client.errors import PrecisionUnavailable
from qied_client.picture_metadata import read_metadata

from qied.resources import builtin_model_folder

PICTURE = builtin_model_folder().parent / "demo.png"
PASS = {"box": (16, 16, 40, 28), "strength": 1.0}


def pixels(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


@pytest.fixture(scope="module")
def small():
    return Image.open(PICTURE).convert("RGB").resize((96, 64))


def redrawn(daemon, picture, **region):
    with daemon.client(patience=60.0) as client:
        return client.edit(picture, "make it red", canvas=picture, redraw={**PASS, **region}, seed=3, steps=2)


def test_a_pass_in_bf16_beside_int8_is_that_of_a_daemon_in_bf16(start_daemon, tmp_path, small):
    engine = {"engine": "qied.engine.serving:load"}
    both = start_daemon(tmp_path / "both", QIED_MODEL_PRECISION="int8", QIED_MODEL_SECOND_PRECISION="bf16", **engine)
    first, second = redrawn(both, small), redrawn(both, small, precision="bf16")
    with both.client() as client:
        (plan,) = client.plans()
        with pytest.raises(PrecisionUnavailable, match="holds its model in int8 and bf16, not in 'fp8'"):
            client.redraw(small, "x", box=PASS["box"], precision="fp8")
    both.stop()
    alone = redrawn(start_daemon(tmp_path / "alone", QIED_MODEL_PRECISION="bf16", **engine), small)
    assert (pixels(second.bytes) == pixels(alone.bytes)).all() and (pixels(first.bytes) != pixels(alone.bytes)).any()
    assert (plan["precision"], plan["second_precision"]) == ("int8", "bf16")
    found = [read_metadata(result.bytes).redraw[0].partition("precision=")[2] for result in (first, second, alone)]
    assert found == ["", "bf16", ""]
