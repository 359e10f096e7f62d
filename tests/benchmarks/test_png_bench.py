"""The benchmark of PNG encoders, on a picture that takes no time, and its result."""

from __future__ import annotations

import json
from pathlib import Path

import png
from PIL import Image

RESULT = Path(__file__).parents[2] / "benchmarks" / "results" / "png.json"


def test_each_encoder_is_measured_and_the_result_has_the_same_ones() -> None:
    found = png.measured(Image.new("RGB", (40, 30), "red"), rounds=2)
    assert all(
        each["milliseconds"] >= 0 and each["bytes"] > 60 and each["times_as_fast"] > 0 for each in found.values()
    )
    for measured in json.loads(RESULT.read_text())["pictures"].values():
        assert list(measured) == list(found)
