"""The host memory of a large result, from the engine's picture to its file, measured in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

from qied.planning.edits.pictures import RESULT_PIXEL

PROGRAM = """
import sys
import numpy as np
from PIL import Image
from qied.config.output import Marking
from qied.edit import EditSpec
from qied.link import messages as w
from qied.pictures.drift import drift_of
from qied.pictures.finishing import finished
from qied.worker.carried import Carried
from qied.worker.results import result_file

def kib(name):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name))

side = 3072
kind, quality = sys.argv[1], int(sys.argv[2])
spec = EditSpec(("a" * 64,), "go", None, 7, 3, 1.0, side // 4, side // 4, upscale="it", upscale_by=4,
                output_format=kind, output_quality=quality, background="auto")
begin = w.Begin("ann", "one", spec, "ann", 1, False)
small = Image.effect_noise((64, 64), 50)
result_file(begin, small.convert("RGB"), "m", Carried(opacity=small), Marking())  # loads what is loaded once
before = kib("VmRSS")
levels = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
image = Image.fromarray(levels)
original = image.convert("L").resize((side // 4, side // 4))
image, _ = finished(image, spec, original)
made = result_file(begin, image, "m", Carried(opacity=original), Marking())
print((kib("VmHWM") - before) * 1024 / side**2, len(made.data))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel tells a process its peak")
@pytest.mark.parametrize(("kind", "quality"), [("png", 100), ("webp", 90)])
def test_a_large_result_takes_no_more_than_is_planned_for_it(kind: str, quality: int) -> None:
    """Noise that no file makes smaller, with opacity, and moved to where the original lies."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, kind, str(quality)], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    taken = float(done.stdout.split()[0])
    assert RESULT_PIXEL / 2 < taken <= RESULT_PIXEL
