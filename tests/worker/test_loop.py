"""The step loop, on an engine that is told what to do."""

from __future__ import annotations

import queue
from dataclasses import dataclass

import pytest
from PIL import Image
from qied_client.errors import JobFailed, OutOfMemory

from qied.edit import EditSpec
from qied.link import messages as w
from qied.link.engine_port import DeviceLost, Ended
from qied.worker.loop import BeginEdit, DropEdit, DropScope, QuitLoop, StepLoop


@dataclass(frozen=True)
class Unit:
    phase: str
    step: int
    steps: int
    preview: Image.Image | None = None
    image: Image.Image | None = None
    ended: tuple[Ended, ...] | None = None


class Edit:
    def __init__(self, spec, log):
        self.spec, self.log, self.step = spec, log, 0

    def advance(self):
        self.log.append(self.spec.seed)
        self.step += 1
        if self.spec.prompt == "fail":
            raise JobFailed("no", "do")
        if self.spec.prompt == "oom":
            raise OutOfMemory("no", "do")
        if self.spec.prompt == "lost":
            raise DeviceLost("cuda:0 no longer answers")
        if self.spec.prompt == "defect":
            raise ZeroDivisionError
        if self.step > self.spec.steps:
            return Unit("decode", 1, 1, image=Image.new("RGB", (16, 16)))
        return Unit("denoise", self.step, self.spec.steps, preview=Image.new("RGB", (4, 4)))


class Engine:
    device, precision, model, budget_bytes, weights_bytes = "test", "fp32", "test", 1, 0
    sweep_room = None

    def __init__(self):
        self.log, self.forgotten = [], []

    def begin(self, spec, pictures, scope):
        if spec.prompt == "lost at once":
            raise DeviceLost("cuda:0 no longer answers")
        return Edit(spec, self.log)

    def forget(self, scope):
        self.forgotten.append(scope)


def take(job, *, user="anna", prompt="go", seed=1, steps=3, preview=False):
    spec = EditSpec(("a" * 64,), prompt, None, seed, steps, 1.0, 16, 16)
    return BeginEdit(w.Begin(user, job, spec, f"{user}.user", 1, preview), {})


@pytest.fixture
def run():
    def run(*orders, results=1):
        """Give the orders, and quit after so many results."""
        engine, waiting, reports, finished = Engine(), queue.SimpleQueue(), [], []

        def finish(edit, image):
            finished.append((edit.begin.job, edit.timings()))
            if len(finished) == results:
                waiting.put(QuitLoop())

        loop = StepLoop(engine, waiting, reports.append, finish, lambda image: b"preview")
        for order in orders:
            waiting.put(order)
        loop.run()
        return engine, reports, finished

    return run


def test_an_edit_is_reported_step_by_step_and_finished(run):
    _, reports, results = run(take("one"))
    assert [(report.phase, report.step) for report in reports] == [
        ("denoise", 1),
        ("denoise", 2),
        ("denoise", 3),
        ("decode", 1),
    ]
    assert reports[0].preview == b"preview"
    job, timings = results[0]
    assert job == "one"
    assert set(timings) == {"denoise_ms", "decode_ms", "held_ms"}


def test_two_users_take_turns(run):
    engine, _, results = run(take("one", seed=1, steps=6), take("two", user="ben", seed=2, steps=6), results=2)
    assert len(results) == 2
    assert {1, 2} <= set(engine.log[:4])


def test_a_preview_goes_first(run):
    quick = take("quick", user="ben", seed=2, steps=2, preview=True)
    engine, _, _ = run(take("long", seed=1, steps=9), quick, results=2)
    assert engine.log[0] == 2
    assert engine.log[:5].count(2) == 3, "all of the preview within the first units"


@pytest.mark.parametrize(
    ("prompt", "code", "retry"),
    [("fail", "job_failed", False), ("oom", "out_of_memory", True), ("defect", "internal_error", False)],
)
def test_a_failing_edit_is_reported_and_its_neighbour_finishes(run, prompt, code, retry):
    _, reports, results = run(take("bad", prompt=prompt), take("good"))
    failed = next(report for report in reports if isinstance(report, w.EditFailed))
    assert (failed.job, failed.code, failed.retry_smaller) == ("bad", code, retry)
    assert [job for job, _ in results] == ["good"]


@pytest.mark.parametrize("prompt", ["lost", "lost at once"])
def test_a_lost_device_ends_the_loop_and_no_edit_is_reported_failed(prompt):
    engine, waiting, reports = Engine(), queue.SimpleQueue(), []
    loop = StepLoop(engine, waiting, reports.append, lambda *_: None, lambda image: b"preview")
    for order in (take("good", user="ben", steps=1000), take("bad", prompt=prompt)):
        waiting.put(order)
    with pytest.raises(DeviceLost):
        loop.run()
    assert not any(isinstance(report, w.EditFailed) for report in reports)


def test_a_dropped_edit_takes_no_further_step(run):
    engine, reports, _ = run(take("one", seed=1, steps=5), take("two", seed=2), DropEdit("anna", "one"))
    assert 1 not in engine.log
    assert [report.code for report in reports if isinstance(report, w.EditFailed)] == ["job_cancelled"]


def test_dropping_what_is_not_held_is_nothing(run):
    _, reports, results = run(DropEdit("anna", "gone"), take("one"))
    assert not any(isinstance(report, w.EditFailed) for report in reports)
    assert len(results) == 1


def test_a_closed_session_is_forgotten_by_the_engine(run):
    engine, _, _ = run(DropScope("anna.session.s"), take("one"))
    assert engine.forgotten == ["anna.session.s"]
