"""The quality benchmark's sets, figures, bars, tables, plot and page; no model runs here."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from random import Random
from typing import Any

import pytest
from PIL import Image, ImageChops
from quality_bench import measures, page, plot, report, rows, sets, tables
from quality_bench.bars import BARS, judged
from quality_bench.jobs import Outcome
from quality_bench.measuring import Measured, row_report
from quality_bench.rows import Row
from quality_bench.sets import Session
from rich.console import Console

from qied.planning.profiles.model_profile import ModelProfile, shipped_profiles
from tools.tiny_model.phrasings import TASKS
from tools.tiny_model.scoring import THRESHOLDS, TILE, Score

ROOT = Path(__file__).resolve().parents[2]
BUILTIN = shipped_profiles()["builtin"]


def score(success: bool = True, psnr: float = 40.0, preserved: float | None = 45.0) -> Score:
    return Score(success, 2.0, 90.0, 3.0, preserved, 4.0, 0.97, psnr, 0.99)


def outcome(number: int, turn: int = 0, **changes: Any) -> Outcome:
    values: dict[str, Any] = {
        "with_lora": False,
        "score": score(),
        "digest": f"{number}",
        "untouched_db": 44.0 - turn,
        "shows_style": None,
        "styled_db": None,
    }
    return Outcome(number, turn, **{**values, **changes})


def measured(row: Row, make: Callable[[Session, int], Outcome], limit: int | None = None) -> Measured:
    sessions = sets.turns(limit) if row.set == "turns" else sets.single_edits(limit)
    outcomes = [make(session, turn) for session in sessions for turn in range(len(session.edits))]
    return Measured(row, {session.number: session for session in sessions}, tuple(outcomes), 1.0)


def plausible(row: Row) -> Measured:
    """Outcomes as of a model that succeeds in most edits; FP8 costs a little."""
    rng = Random(row.name)

    def make(session: Session, turn: int) -> Outcome:
        styled = row.lora == "style" and (row.set != "mixed" or session.number % 2 == 0)
        good = rng.random() < 0.97
        quality = 40.0 - 3 * row.precision.startswith("fp8") + rng.random()
        return outcome(
            session.number,
            turn,
            with_lora=styled,
            score=score(good, quality),
            digest=f"{session.number} {styled}",
            shows_style=styled,
            styled_db=38.0 if styled else None,
        )

    return measured(row, make)


@pytest.fixture(scope="module")
def whole() -> dict[str, Any]:
    """A report of all rows."""
    done: dict[str, Measured] = {}
    found = []
    for row in rows.rows(BUILTIN):
        if row.set != "two pictures":
            done[row.name] = plausible(row)
            found.append(row_report(done[row.name], done))
    facts = {
        "command": "python benchmarks/quality.py",
        "at": "2026-01-02T03:04:05Z",
        "seconds": 200.0,
        "device": "NVIDIA H200",
        "machine": {"driver": {"version": "580.1"}},
        "recommended_cfg": 1.0,
        "versions": {"torch": "2", "diffusers": "3", "qied": "4"},
        "edits": 384,
        "limit": None,
        "notes": ["`bf16 20 two pictures` was left out."],
        "vae": {"fp32": {"pictures": 700, "mean_db": 46.0, "worst_db": 41.0}},
        "rows": found,
    }
    made: dict[str, Any] = report.rounded({**facts, "bars": judged(facts)})
    return json.loads(json.dumps(made))  # type: ignore[no-any-return]


class TestSets:
    def test_the_set_has_384_edits_as_many_of_each_task_language_and_phrasing(self) -> None:
        edits = [session.edits[0] for session in sets.single_edits()]
        assert len(edits) == len({edit.source for edit in edits}) == 384
        for group in ("task", "language", "held_out_phrase", "held_out_combination"):
            counts = Counter(getattr(edit, group) for edit in edits)
            assert len(set(counts.values())) == 1, group
        assert {edit.task for edit in edits} == set(TASKS)

    @pytest.mark.parametrize("limit", [1, 8, 20, 32, 100])
    def test_a_part_of_it_is_even_over_the_tasks_with_the_same_seeds(self, limit: int) -> None:
        part = sets.single_edits(limit)
        assert len(part) == limit
        assert set(part) <= set(sets.single_edits())
        counts = Counter(session.edits[0].task for session in part)
        assert max(counts.values()) - min(counts.get(task, 0) for task in TASKS) <= 1

    def test_a_part_of_32_has_both_languages_and_both_kinds_of_phrasing_of_each_task(self) -> None:
        edits = [session.edits[0] for session in sets.single_edits(32)]
        assert len({(edit.task, edit.language, edit.held_out_phrase) for edit in edits}) == 32

    def test_no_two_edits_start_from_the_same_noise(self) -> None:
        for sessions in (sets.single_edits(), sets.two_picture_edits(), sets.turns()):
            seeds = [session.seed + turn for session in sessions for turn in range(len(session.edits))]
            assert len(set(seeds)) == len(seeds)

    def test_sessions_have_five_turns_each_on_the_result_of_the_one_before(self) -> None:
        sessions = sets.turns()
        assert len(sessions) >= 24
        for session in sessions:
            assert len(session.edits) == 5
            assert all(
                after.source == before.target for before, after in zip(session.edits, session.edits[1:], strict=False)
            )
            assert not any(edit.held_out_phrase or edit.held_out_combination for edit in session.edits)

    def test_two_pictures_are_in_every_edit_of_their_set(self) -> None:
        edits = [session.edits[0] for session in sets.two_picture_edits()]
        assert len(edits) == 96
        assert all(edit.reference is not None for edit in edits)


class TestRows:
    def test_names_differ(self) -> None:
        names = [row.name for row in rows.rows(BUILTIN)]
        assert len(set(names)) == len(names)

    @pytest.mark.parametrize(("recommended", "others"), [(1.0, {"2.5"}), (2.5, {"1"}), (4.0, {"1", "2.5"})])
    def test_the_presets_guidance_is_that_of_all_rows_but_the_named_ones(
        self, recommended: float, others: set[str]
    ) -> None:
        preset = BUILTIN.presets["final"].model_copy(update={"true_cfg_scale": recommended})
        profile: ModelProfile = BUILTIN.model_copy(update={"presets": {**BUILTIN.presets, "final": preset}})
        named = {row.name: row for row in rows.rows(profile)}
        assert named[rows.MAIN].cfg == recommended
        assert {name.removeprefix("bf16 20 cfg ") for name in named if " cfg " in name} == others
        assert named[rows.LIGHTNING].cfg == 1.0


class TestMeasures:
    @pytest.mark.parametrize(
        ("successes", "count", "low", "high"),
        [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (23, 24, 0.7976, 0.9926), (50, 100, 0.4038, 0.5962)],
    )
    def test_confidence_is_wilsons(self, successes: int, count: int, low: float, high: float) -> None:
        assert measures.wilson(successes, count) == pytest.approx((low, high), abs=5e-5)

    def test_groups_overlap_as_they_say(self) -> None:
        row = rows.rows(BUILTIN)[0]
        found = measured(row, lambda session, _: outcome(session.number))
        groups = measures.by_group(found.sessions, found.outcomes)
        counts = {name: figures["success"]["count"] for name, figures in groups.items()}
        assert list(counts) == list(measures.GROUPS)
        assert counts["overall"] + counts["held-out phrasings"] == counts["everything"] == 384
        assert sum(counts[task] for task in TASKS) == counts["English"] + counts["Chinese"] == counts["overall"]
        assert counts["held-out combinations"] + counts["trained combinations"] == counts["overall"]

    def test_success_is_counted_in_the_group_of_the_edit(self) -> None:
        row = rows.rows(BUILTIN)[0]
        found = measured(
            row,
            lambda session, _: outcome(
                session.number, score=score(session.edits[0].task != "move" or session.edits[0].held_out_phrase)
            ),
        )
        groups = measures.by_group(found.sessions, found.outcomes)
        shares = {name: groups[name]["success"]["share"] for name in groups}
        assert (shares["move"], shares["grow"], shares["held-out phrasings"]) == (0.0, 1.0, 1.0)
        assert shares["overall"] == pytest.approx(7 / 8)

    def test_an_edit_that_changes_every_pixel_has_no_preserved_region_to_count(self) -> None:
        both = [outcome(0, score=score(preserved=40.0)), outcome(1, score=score(preserved=None))]
        assert measures.summary(both)["preserved_db"] == 40.0

    def test_a_difference_is_taken_edit_by_edit(self) -> None:
        sessions = {session.number: session for session in sets.single_edits(4)}
        numbers = sorted(sessions)
        base = [outcome(number, score=score(psnr=40.0 + number)) for number in numbers]
        ours = [outcome(number, score=score(psnr=39.0 + number)) for number in numbers[:3]]
        ours.append(outcome(numbers[3], score=score(success=False, psnr=30.0 + numbers[3])))
        found = measures.difference(sessions, ours, base)
        assert found["mean_db"] == pytest.approx((-3 * 1.0 - 10.0) / 4)
        assert found["both_db"] == pytest.approx(-1.0)
        assert (found["lost"], found["won"], found["count"]) == (1, 0, 4)
        assert found["error_db"] == pytest.approx(9.0 / 4)
        assert min(found["tasks_db"].values()) == pytest.approx(-10.0)

    def test_a_session_with_a_failure_counts_as_failed_from_that_turn_on(self) -> None:
        fails_at = {0: 1, 1: 4}
        outcomes = [
            outcome(number, turn, score=score(turn != fails_at[number])) for number in (0, 1) for turn in range(5)
        ]
        found = measures.drift(outcomes)
        assert [turn["success"]["share"] for turn in found["turns"]] == [1.0, 0.5, 1.0, 1.0, 0.5]
        assert [turn["all_so_far"]["share"] for turn in found["turns"]] == [1.0, 0.5, 0.5, 0.5, 0.0]
        assert [turn["untouched_db"] for turn in found["turns"]] == [44.0, 43.0, 42.0, 41.0, 40.0]
        assert found["turns"][4]["untouched_good_db"] is None

    def test_style_is_counted_apart_with_and_without_its_lora_where_there_is_a_shape(self) -> None:
        outcomes = [
            outcome(0, with_lora=True, shows_style=True, styled_db=30.0),
            outcome(1, with_lora=True, shows_style=None, styled_db=40.0),
            outcome(2, with_lora=True, shows_style=False),
            outcome(3, shows_style=False),
        ]
        found = measures.style(outcomes)
        assert (found["with"]["share"], found["with"]["count"]) == (0.5, 2)
        assert (found["without"]["share"], found["without"]["count"]) == (0.0, 1)
        assert found["psnr_to_styled_truth_db"] == 35.0


class TestReport:
    def test_every_bar_is_judged(self, whole: dict[str, Any]) -> None:
        judgement = {bar["name"]: bar for bar in whole["bars"]}
        assert len(judgement) == len(BARS)
        assert all(bar["met"] is not None for bar in judgement.values())
        assert judgement["PSNR that FP8 row-wise loses"]["met"] is False
        assert judgement["style shows without, packed"] == {
            "name": "style shows without, packed",
            "value": 0.0,
            "limit": 0.0,
            "at_most": True,
            "unit": "share",
            "met": True,
        }

    def test_bars_of_rows_that_were_not_run_are_open(self) -> None:
        assert {bar["met"] for bar in judged({"rows": [], "vae": None})} == {None}

    def test_a_mixed_row_is_compared_with_the_rows_of_each_alone(self, whole: dict[str, Any]) -> None:
        mixed = next(row for row in whole["rows"] if row["name"] == rows.MIXED)
        assert mixed["same_as_alone"] == {"count": 384, "same": 384}

    def test_failed_edits_of_the_main_row_are_named(self, whole: dict[str, Any]) -> None:
        main = whole["rows"][0]
        everything = main["groups"]["everything"]["success"]
        assert len(main["failures"]) == round(everything["count"] * (1 - everything["share"])) > 0
        assert {"edit", "task", "instruction"} == main["failures"][0].keys()

    def test_rows_of_another_set_are_not_compared_with_the_main_row(self, whole: dict[str, Any]) -> None:
        compared = {row["name"] for row in whole["rows"] if row["against_bf16"] is not None}
        assert rows.ROWWISE in compared
        assert not compared & {rows.MAIN, rows.STYLE, rows.MIXED, rows.TURNS, rows.FP8_TURNS}


class TestTables:
    def test_every_row_is_in_a_table_of_80_columns(self, whole: dict[str, Any]) -> None:
        out = StringIO()
        tables.show(whole, Console(file=out, width=80, color_system=None))
        text = out.getvalue()
        assert all(row["name"].removesuffix(" turns") in text for row in whole["rows"])
        assert "…" not in text
        assert max(len(line) for line in text.splitlines()) <= 80

    def test_numbers_of_the_report_are_in_the_part_of_the_page(self, whole: dict[str, Any]) -> None:
        part = page.part(whole)
        rowwise = next(row for row in whole["rows"] if row["name"] == rows.ROWWISE)
        assert f"{rowwise['against_bf16']['mean_db']:+.2f}" in part
        assert f"{whole['rows'][0]['groups']['overall']['success']['share']:.1%}" in part
        assert all(fact in part for fact in ("NVIDIA H200", "2026-01-02", "580.1", "torch 2", whole["command"]))
        for block in part.split("###")[1:]:
            assert len({line.count("|") for line in block.splitlines() if line.startswith("|")}) == 1, block

    def test_the_page_says_what_the_results_say(self) -> None:
        command = [sys.executable, str(ROOT / "benchmarks" / "quality.py"), "--page", "--check"]
        assert subprocess.run(command, check=False).returncode == 0, "run: python benchmarks/quality.py --page"

    def test_the_page_states_the_limits_that_success_is_judged_by(self) -> None:
        text = page.PAGE.read_text(encoding="utf-8")
        limits, removed = THRESHOLDS["move"], THRESHOLDS["remove"]
        assert len({limits for task, limits in THRESHOLDS.items() if task != "remove"}) == 1
        for stated in (
            f"at most {limits.colour_error:g} of 255 levels",
            f"at most {limits.shape_error:g} levels",
            f"at least {limits.preserved_db:g} dB",
            f"mean error of at most {limits.tile_error:g} levels",
            f"at least {limits.overlap:g}; of a removed shape {removed.overlap:.0%} must be gone",
            f"{TILE} x {TILE} pixels",
        ):
            assert stated in text
        assert limits.colour_share == 0.25 and "at most a quarter of" in text

    def test_a_page_of_other_figures_is_found(self, whole: dict[str, Any], tmp_path: Path, monkeypatch: Any) -> None:
        files = ("quality.json", "quality-main.json", "quality-text.json")
        for name in files:
            (tmp_path / name).write_text(json.dumps(whole))
        parts = ("quality main", "quality", "quality text")
        marks = "".join(f"<!-- {mark}: begin -->\n<!-- {mark}: end --> after" for mark in parts)
        (tmp_path / "quality.md").write_text(f"before {marks}")
        for name in ("RESULTS", "MAIN_RESULTS", "TEXT_RESULTS", "PAGE", "PLOT", "MAIN_PLOT"):
            monkeypatch.setattr(page, name, tmp_path / getattr(page, name).name)
        monkeypatch.setattr(sys, "argv", ["quality.py", "--page", "--check"])
        assert page.write_page(check=True) == 1
        monkeypatch.setattr(sys, "argv", ["quality.py", "--page"])
        assert page.write_page(check=False) == 0
        for name in ("quality-plot.png", "quality-main-plot.png"):
            assert (tmp_path / name).stat().st_size < 200_000
        monkeypatch.setattr(sys, "argv", ["quality.py", "--page", "--check"])
        assert page.write_page(check=True) == 0
        changed = {**whole, "device": "another card"}
        for name in files:
            (tmp_path / name).write_text(json.dumps(changed))
            assert page.write_page(check=True) == 1
            (tmp_path / name).write_text(json.dumps(whole))


class TestPlot:
    def test_a_dot_moves_with_its_figure(self, whole: dict[str, Any]) -> None:
        lower = json.loads(json.dumps(whole))
        lower["rows"][1]["groups"]["everything"]["psnr_db"] -= 1.0
        before, after = plot.plot(whole), plot.plot(lower)
        assert before.size == after.size
        assert ImageChops.difference(before, after).getbbox() is not None

    def test_parts_without_rows_are_left_out(self, whole: dict[str, Any]) -> None:
        no_turns = {**whole, "rows": [row for row in whole["rows"] if row["drift"] is None]}
        assert plot.plot(no_turns).height < plot.plot(whole).height
        assert isinstance(plot.plot({**whole, "rows": []}), Image.Image)

    def test_equal_values_lie_on_an_axis_that_shows_that_little_differs(self) -> None:
        scale = plot.axis([100.0, 100.0], 0, 100, limit=100, span=10)
        assert (scale.low, scale.high) == (88.0, 100)

    @pytest.mark.parametrize("values", [[40.0], [0.0, 25.0], [99.0, 100.0], [3.0, 97.0], [38.02, 38.05, 41.9]])
    def test_an_axis_has_few_round_ticks_around_all_values(self, values: list[float]) -> None:
        scale = plot.axis(values, 0, 100, limit=100)
        ticks = list(scale.ticks())
        assert 2 <= len(ticks) <= 9
        assert scale.low <= min(values) <= max(values) <= scale.high == pytest.approx(ticks[-1])
        assert scale.low >= 0 and scale.high <= 100
        assert 0 <= scale.at(min(values)) <= scale.at(max(values)) <= 100
