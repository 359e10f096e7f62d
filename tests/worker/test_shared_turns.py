"""The step loop on an engine that takes steps of several edits together."""

from __future__ import annotations

import queue
from dataclasses import dataclass

import pytest
from PIL import Image
from qied_client.errors import OutOfMemory

from qied.edit import EditSpec
from qied.link import messages as w
from qied.link.engine_port import DeviceLost, Ended
from qied.scheduling.sweep import StepNeeds, SweepRoom
from qied.worker.loop import BeginEdit, DropEdit, QuitLoop, StepLoop

MS = 10.0


@dataclass(frozen=True)
class Unit:
    phase: str
    step: int
    steps: int
    ended: tuple[Ended, ...]
    preview: Image.Image | None = None
    image: Image.Image | None = None


class Edit:
    """A prompt, so many steps, a decode; ``bytes`` is the width in the spec."""

    def __init__(self, spec: EditSpec, turns: list[tuple[int, ...]]) -> None:
        self.spec, self.turns, self.done = spec, turns, 0

    @property
    def step_needs(self) -> StepNeeds | None:
        return StepNeeds(self.spec.width) if 0 < self.done <= self.spec.steps else None

    def advance(self) -> Unit:
        self.turns.append((self.spec.seed,))
        return self.unit(MS)

    def unit(self, milliseconds: float) -> Unit:
        self.done += 1
        step, steps = self.done - 1, self.spec.steps
        if step == 0:
            return Unit("encode_prompt", 1, 1, (Ended("encode_prompt", 1, milliseconds),))
        if step > steps:
            return Unit("decode", 1, 1, (Ended("decode", 1, milliseconds),), image=Image.new("RGB", (16, 16)))
        preview = Image.new("RGB", (4, 4)) if self.spec.preview_every else None
        return Unit("denoise", step, steps, (Ended("denoise", step, milliseconds),), preview=preview)


class Engine:
    device, precision, model, budget_bytes, weights_bytes = "test", "fp32", "test", 1, 0
    sweep_room = SweepRoom(100, 0)

    def __init__(self, during=None) -> None:
        self.turns: list[tuple[int, ...]] = []
        self.during = during

    def begin(self, spec, pictures, scope):
        return Edit(spec, self.turns)

    def sweep(self, edits):
        assert sum(edit.step_needs.bytes for edit in edits) <= 100
        self.turns.append(tuple(edit.spec.seed for edit in edits))
        if self.during:
            self.during(self)
        if any(edit.spec.prompt in ("lost", "defect") for edit in edits):
            raise DeviceLost("gone") if edits[0].spec.prompt == "lost" else ZeroDivisionError("sweep")
        return [
            OutOfMemory("no", "do") if edit.spec.prompt == "oom" else edit.unit(edit.spec.width / 10) for edit in edits
        ]


def take(seed, *, user="anna", prompt="go", steps=3, size=16, preview=False, previews=0):
    spec = EditSpec(("a" * 64,), prompt, None, seed, steps, 1.0, size, 16, preview_every=previews)
    return BeginEdit(w.Begin(user, f"job{seed}", spec, f"{user}.user", 1, preview), {})


@pytest.fixture
def run():
    def run(*orders, results, during=None):
        """Give the orders, and quit after so many results and failures."""
        waiting, reports, timings = queue.SimpleQueue(), [], {}
        engine = Engine(during and (lambda engine: during(engine, waiting)))

        def over():
            failed = sum(isinstance(each, w.EditFailed) for each in reports)
            if len(timings) + failed == results:
                waiting.put(QuitLoop())

        def report(message):
            reports.append(message)
            over()

        def finish(edit, image):
            timings[edit.begin.spec.seed] = edit.timings()
            over()

        for order in orders:
            waiting.put(order)
        StepLoop(engine, waiting, report, finish, lambda image: b"preview").run()
        return engine.turns, reports, timings

    return run


def test_steps_go_together_and_everything_else_alone(run):
    turns, _, timings = run(take(1), take(2, user="ben"), take(3, user="carl"), results=3)
    assert sorted(timings) == [1, 2, 3]
    assert [turn for turn in turns if len(turn) > 1] == [(1, 2, 3)] * 3
    assert [len(turn) for turn in turns] == [1] * 3 + [3] * 3 + [1] * 3


def test_no_more_go_together_than_fit_in_the_order_of_fair_share(run):
    turns, _, _ = run(
        *(take(seed, user=user, size=40, steps=6) for seed, user in ((1, "anna"), (2, "ben"), (3, "carl"))), results=3
    )
    shared = [turn for turn in turns if len(turn) > 1]
    assert shared[:3] == [(1, 2), (3, 1), (2, 3)]


def test_each_is_charged_for_its_own_part_and_told_so(run):
    _, reports, timings = run(take(1, size=60), take(2, user="ben", size=20), results=2)
    parts = {(each.job, each.spent_ms) for each in reports if isinstance(each, w.Stepped) and each.phase == "denoise"}
    assert parts == {("job1", 6), ("job2", 2)}
    assert timings[1]["denoise_ms"] == 18 and timings[2]["denoise_ms"] == 6
    assert timings[1]["encode_prompt_ms"] == timings[1]["decode_ms"] == MS


def test_a_preview_is_joined_by_previews_only(run):
    quick = [take(seed, user="ben", steps=2, preview=True) for seed in (1, 2)]
    turns, _, _ = run(take(9, steps=8), *quick, results=3)
    assert (1, 2) in turns
    assert not any(9 in turn and turn[0] != 9 for turn in turns)


def test_previews_and_progress_of_all_come_with_a_sweep(run):
    _, reports, _ = run(take(1, steps=2, previews=1), take(2, user="ben", steps=2, previews=1), results=2)
    steps = [(each.job, each.step, each.preview) for each in reports if each.phase == "denoise"]
    assert steps == [("job1", 1, b"preview"), ("job2", 1, b"preview"), ("job1", 2, b"preview"), ("job2", 2, b"preview")]


def test_orders_are_taken_between_sweeps(run):
    def drop(engine, waiting):
        if len(engine.turns) == 3:
            waiting.put(DropEdit("ben", "job2"))
            waiting.put(take(3, user="carl"))

    turns, reports, timings = run(take(1, steps=6), take(2, user="ben", steps=6), results=3, during=drop)
    assert turns[2] == (1, 2) and not any(2 in turn for turn in turns[3:])
    assert turns[3:5] == [(1,), (3,)], "the newcomer begins behind the one that was there"
    assert sorted(timings) == [1, 3]
    assert [each.code for each in reports if isinstance(each, w.EditFailed)] == ["job_cancelled"]


def test_an_error_in_a_sweep_is_that_of_its_edit_alone(run):
    _, reports, timings = run(take(1), take(2, user="ben", prompt="oom"), take(3, user="carl"), results=3)
    failed = [each for each in reports if isinstance(each, w.EditFailed)]
    assert [(each.job, each.retry_smaller) for each in failed] == [("job2", True)]
    assert sorted(timings) == [1, 3]


def test_a_defect_of_the_sweep_itself_ends_its_edits_and_not_the_loop(run):
    _, reports, timings = run(take(1, prompt="defect"), take(2, user="ben"), take(3, user="carl", size=90), results=3)
    assert {each.job: each.code for each in reports if isinstance(each, w.EditFailed)} == {
        "job1": "internal_error",
        "job2": "internal_error",
    }
    assert list(timings) == [3]


def test_a_device_that_is_lost_in_a_sweep_ends_the_loop(run):
    with pytest.raises(DeviceLost):
        run(take(1, prompt="lost"), take(2, user="ben"), results=2)


def test_what_has_ended_later_counts_for_its_own_phase():
    """A card is behind: units are told of some turns later, and the last one brings the rest."""
    reports, timings = [], []
    told = [(), (Ended("encode_prompt", 1, 50.0),), (Ended("denoise", 1, 7.0),), (Ended("denoise", 2, 5.0),)]
    late = iter([*told, (Ended("denoise", 3, 4.0), Ended("decode", 1, 2.0))])

    class Late(Edit):
        def advance(self):
            unit = self.unit(0)
            return Unit(unit.phase, unit.step, unit.steps, next(late), image=unit.image)

    engine, waiting = Engine(), queue.SimpleQueue()
    engine.begin = lambda spec, pictures, scope: Late(spec, [])
    waiting.put(take(1))

    def finish(edit, image):
        timings.append(edit.timings())
        waiting.put(QuitLoop())

    StepLoop(engine, waiting, reports.append, finish, lambda image: b"").run()
    assert [(each.spent_ms, each.step_ms) for each in reports] == [(0, None), (50, None), (7, None), (5, 5), (6, 4)]
    times = {name: spent for name, spent in timings[0].items() if name != "held_ms"}
    assert times == {"encode_prompt_ms": 50.0, "denoise_ms": 16.0, "decode_ms": 2.0}


@pytest.mark.parametrize(("prompt", "counted"), [("go", [3, 3, 3]), ("oom", [3, 2, 2])])
def test_each_turn_of_steps_is_counted_once_with_its_edits(run, prompt, counted):
    _, reports, _ = run(take(1, prompt=prompt), take(2, user="ben"), take(3, user="carl"), results=3)
    assert [each.together for each in reports if isinstance(each, w.Stepped) and each.together] == counted
