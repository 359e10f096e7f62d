"""The benchmark of the VAE on a small network; no time is judged here."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from part_runs.part import Recorder
from vae_bench import differences, speed
from vae_bench.bars import judged
from vae_bench.setting import SIDES, Setting, setting
from vae_bench.show import rows

from qied.planning.profiles.model_profile import shipped_profiles

SMALL = replace(setting("cpu", True), sides=(768,))


def recorded(measure: Any, how: Setting = SMALL) -> dict[str, Any]:
    figures: dict[str, Any] = {}

    def put(path: tuple[str, ...], value: Any) -> None:
        place = figures
        for name in path[:-1]:
            place = place.setdefault(name, {})
        place[path[-1]] = value

    measure(how, Recorder(put))
    return figures


def part(figures: dict[str, Any]) -> dict[str, Any]:
    return {"device": "H100", "error": None, "figures": figures}


def test_the_full_network_is_that_of_the_profile():
    assert dict(Setting().config)["base_dim"] == shipped_profiles()["qwen-image-edit-2511"].architecture.vae_base_dim


def test_both_are_timed_at_each_side_and_ours_in_tiles():
    tiled = replace(SMALL, quick=False, sides=(32, 264), tiles=(256,))
    ours = recorded(speed.measure_ours, tiled)
    assert {how: list(sides) for how, sides in ours.items()} == {"whole": ["32", "264"], "tiles of 256": ["264"]}
    diffusers = recorded(speed.measure_diffusers)
    for figures in (ours["whole"]["264"], diffusers["whole"]["768"]):
        assert figures["encode"]["ms"] > 0 and figures["decode"]["first_ms"] > 0


def test_errors_and_tiles_of_a_real_picture_are_measured():
    figures = recorded(differences.measure)
    for way in ("encode", "decode"):
        errors = figures["errors"][way]
        # On a CPU the project's VAE runs in FP32.
        assert errors["to_fp32"] < 1e-4 < errors["of_diffusers_bf16_to_fp32"] < 0.1
        assert errors["to_diffusers_bf16"] == pytest.approx(errors["of_diffusers_bf16_to_fp32"], rel=0.01)
    assert figures["tiles"]["there and back"]["whole"] > 35
    assert min(figures["tiles"]["tiles of 256"].values()) > 50


def test_a_wrong_encoding_shows(monkeypatch: pytest.MonkeyPatch):
    encode = differences.diffusers_encode
    monkeypatch.setattr(differences, "_tiles", lambda _: {})
    monkeypatch.setattr(differences, "diffusers_encode", lambda *given: encode(*given) * 1.05)
    assert recorded(differences.measure)["errors"]["encode"]["to_fp32"] > 0.01


class TestBars:
    def sizes(self, encode: float, decode: float) -> dict[str, Any]:
        ways = {"encode": {"ms": encode}, "decode": {"ms": decode, "peak_tensors_bytes": 2 * 10**9}}
        return {"whole": {str(side): ways for side in SIDES}}

    def test_times_are_compared_at_each_side_by_itself(self):
        parts = {"ours": part(self.sizes(6, 8)), "diffusers": part(self.sizes(10, 10))}
        assert [(bar["value"], bar["met"]) for bar in judged(parts)[:4]] == [(0.6, True), (0.8, False)] * 2

    def test_the_worst_tile_and_the_worst_error_count(self):
        errors = {
            "encode": {"to_fp32": 1.0, "of_diffusers_bf16_to_fp32": 1.0},
            "decode": {"to_fp32": 3.0, "of_diffusers_bf16_to_fp32": 2.0},
        }
        tiles = {"there and back": {"whole": 40.0}, "tiles of 256": {"encode": 47.0, "decode": 44.0}}
        found = judged({"differences": part({"errors": errors, "tiles": tiles})})
        assert [(bar["value"], bar["met"]) for bar in found[4:]] == [(1.5, False), (44.0, False)]

    def test_a_size_that_did_not_fit_is_left_open(self):
        sizes = self.sizes(1, 1)
        sizes["whole"]["2048"] = {"encode": {"error": "out of memory"}, "decode": {"ms": 1.0}}
        assert judged({"ours": part(sizes), "diffusers": part(self.sizes(2, 2))})[2]["met"] is None
        (row,) = rows({"ours": part(sizes)})
        assert row[2][3] == "-" and row[2][:3] == ["1 / 1"] * 3
