"""Measures encoding results as PNG: strips on threads beside Pillow's encoder, in time and bytes.

README.md beside this file tells the method.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import time
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image
from wire_bench.machine import command, versions, without_identity

from qied.hardware.probe import probe
from qied.pictures.png import encode_png

_DEMO: Final = Path(__file__).resolve().parents[1] / "qied" / "builtin" / "demo.png"
_THREADS: Final = (1, 2, 4, 8)


def main() -> None:
    """Measure, print and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file")
    parser.add_argument("--rounds", type=int, default=15, help="times that each encoder runs; they take turns")
    chosen = parser.parse_args()
    pictures = {
        "photograph-like, 1024": photograph_like(1024),
        "photograph-like, 2048": photograph_like(2048),
        "drawing, 1024": Image.open(_DEMO).convert("RGB").resize((1024, 1024), Image.Resampling.LANCZOS),
    }
    report: dict[str, Any] = {
        "schema": 1,
        "benchmark": "png",
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "command": command(),
        "versions": versions(),
        "machine": without_identity(probe(os.environ).to_json()),
        "pictures": {name: measured(picture, chosen.rounds) for name, picture in pictures.items()},
    }
    print(json.dumps(report["pictures"], indent=1))
    if chosen.json is not None:
        chosen.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def photograph_like(side: int) -> Image.Image:
    """Soft shapes under fine noise, as decoders of latents make them; the same each time."""
    random = np.random.default_rng(0)
    shapes = Image.fromarray(random.integers(0, 256, (24, 24, 3), dtype=np.uint8)).resize((side, side))
    levels = np.asarray(shapes).astype(np.float64) + random.normal(0, 3, (side, side, 3))
    return Image.fromarray(levels.clip(0, 255).astype(np.uint8))


def measured(picture: Image.Image, rounds: int) -> dict[str, Any]:
    """Milliseconds (median) and bytes of each encoder, and how many times as fast as Pillow's level 1 it was.

    The encoders take turns, and a ratio is the median of those within a turn, so that what else the machine does
    meets all of them.
    """
    encoders: dict[str, Callable[[], bytes]] = {
        "pillow, runs of level 1": partial(_pillow, picture, compress_level=1, compress_type=zlib.Z_RLE),
        "pillow, level 6": partial(_pillow, picture, compress_level=6),
        **{f"strips, {threads} threads": partial(encode_png, picture, (), threads) for threads in _THREADS},
    }
    times: dict[str, list[float]] = {name: [] for name in encoders}
    sizes: dict[str, int] = {}
    for _ in range(rounds):
        for name, encode in encoders.items():
            started = time.perf_counter()
            sizes[name] = len(encode())
            times[name].append((time.perf_counter() - started) * 1000)
    first = times["pillow, runs of level 1"]
    return {
        name: {
            "milliseconds": round(statistics.median(taken), 1),
            "bytes": sizes[name],
            "times_as_fast": round(statistics.median(a / b for a, b in zip(first, taken, strict=True)), 2),
        }
        for name, taken in times.items()
    }


def _pillow(picture: Image.Image, **settings: int) -> bytes:
    target = io.BytesIO()
    picture.save(target, "PNG", **settings)
    return target.getvalue()


if __name__ == "__main__":
    main()
