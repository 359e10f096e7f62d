"""The shop's benchmark runs, and its report has what readers use; no figure is judged here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from shop_bench.bars import judged
from shop_bench.night import memory_of, pictures_of
from shop_bench.setting import NIGHT

_ROOT = Path(__file__).resolve().parents[2]


def test_a_quick_night_gives_right_files_and_all_figures(tmp_path: Path) -> None:
    program = [sys.executable, str(_ROOT / "benchmarks" / "shop.py"), "--quick", "--pictures", "2"]
    done = subprocess.run(
        [*program, "--json", str(tmp_path / "report.json")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    night = json.loads((tmp_path / "report.json").read_text())["parts"][NIGHT]
    assert night["error"] is None, done.stderr[-2000:]
    figures = night["figures"]
    assert figures["files"]["right"] == figures["files"]["wanted"] == 4 and figures["files"]["size"] == [128, 128]
    assert figures["pictures"]["made"] == 2 and figures["pictures"]["phases_ms"]["upscale_ms"] > 0
    assert figures["quote"]["width"] == 128 and figures["memory"]["host_bytes"]


def test_seconds_a_picture_leave_out_the_first_ones() -> None:
    made = [{"ended_s": 10.0 + number, "denoise_ms": 700.0, "bytes": 5.0} for number in range(16)]
    found = pictures_of(made)
    assert (found["seconds"], found["seconds_each_warm"], found["phases_ms"]) == (25.0, 1.0, {"denoise_ms": 700.0})


def test_memory_is_compared_between_the_halves_of_the_warm_time() -> None:
    card = {"peak_reserved_bytes": 900, "beside_bytes": 90}
    samples = [{"at": float(at), "host_bytes": host, **card} for at, host in enumerate((999, 10, 11, 11, 12))]
    memory = memory_of(samples, 1.0)
    assert (memory["host_first_half_bytes"], memory["host_second_half_bytes"], memory["peak_bytes"]) == (11, 12, 990)
    figures = {"memory": memory, "plan": {"budget_bytes": 1000}, "files": {"right": 119, "wanted": 120}}
    bars = {bar["name"]: bar["met"] for bar in judged({NIGHT: {"device": "card", "figures": figures}})}
    assert list(bars.values()) == [False, True, False]
