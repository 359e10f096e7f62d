"""Steps of several edits in one sweep, on an engine that streams its blocks."""

from __future__ import annotations

import gc
import queue
import random
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest
import torch
from PIL import Image
from qied_client.errors import JobFailed, OutOfMemory
from qied_client.protocol.request import Compat

from qied.edit import EditSpec, PassSpec
from qied.engine.edits.context import Advance
from qied.engine.edits.edit import Edit
from qied.engine.engine import Engine, EngineOptions
from qied.engine.transformer.transformer import Forward
from qied.link import messages as w
from qied.link.engine_port import DeviceLost
from qied.planning.layout.forward_layout import Tokens
from qied.planning.layout.memory import step_bytes
from qied.planning.plan import Execution
from qied.planning.profiles.model_profile import ModelProfile
from qied.resources import builtin_model_folder
from qied.worker.active_edit import ActiveEdit
from qied.worker.loop import BeginEdit, QuitLoop, StepLoop

Make = Callable[..., EditSpec]
Velocities = Callable[[Sequence[Forward]], list[torch.Tensor]]
STREAMED = {"resident_blocks": 2, "ring_slots": 2, "max_reference_pixels": 64 * 64}
BLOCKS, STREAMED_BLOCKS = 6, 4


@pytest.fixture(scope="module")
def load(profile: ModelProfile, execution: Callable[..., Execution]) -> Callable[..., Engine]:
    def engine(**changes: object) -> Engine:
        options = EngineOptions(execution=execution(**{**STREAMED, "sweep_bytes": 1 << 30, **changes}))
        return Engine.load(builtin_model_folder(), profile, options, lambda *_: None)

    return engine


@pytest.fixture(scope="module")
def swept(load: Callable[..., Engine]) -> Engine:
    return load()


@pytest.fixture
def small(spec: Make) -> Make:
    return lambda **changes: spec(**{"width": 64, "height": 80, "steps": 2, **changes})


@pytest.fixture(scope="module")
def scope() -> str:
    """One for all tests here, so that encoders run once an engine."""
    return "sweeps"


@pytest.fixture
def begin(swept: Engine, scene: Callable[..., Image.Image], scope: str) -> Callable[..., Edit]:
    """Begin an edit and advance it to its first step."""

    def at_first_step(wanted: EditSpec, engine: Engine = swept) -> Edit:
        edit = engine.begin(wanted, {"a": scene(128, 128)}, scope)
        while edit.step_needs is None:
            edit.advance()
        return edit

    return at_first_step


def alone(edit: Edit) -> bytes:
    while (image := edit.advance().image) is None:
        pass
    return image.tobytes()


@contextmanager
def velocities_replaced(
    engine: Engine, replacement: Callable[[Velocities, Sequence[Forward]], object]
) -> Iterator[None]:
    transformer = engine.models.transformer
    own = transformer.velocities
    transformer.velocities = lambda forwards: replacement(own, forwards)
    try:
        yield
    finally:
        del transformer.velocities


def failing_together(error: Exception) -> Callable[[Velocities, Sequence[Forward]], object]:
    def velocities(own: Velocities, forwards: Sequence[Forward]) -> list[torch.Tensor]:
        if len(forwards) > 1:
            raise error
        return own(forwards)

    return velocities


def test_blocks_are_copied_once_for_all_steps_of_a_sweep(
    swept: Engine, begin: Callable[..., Edit], small: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    edits = [begin(small(seed=seed)) for seed in (1, 2, 3)]
    # What a sweep leaves loaded is what the next one begins with.
    edits.pop().advance()
    ring, loads = swept.models.transformer.blocks.ring, []
    load = ring.load
    monkeypatch.setattr(ring, "load", lambda host: loads.append(host) or load(host))
    done = swept.sweep(edits)
    assert len(loads) == STREAMED_BLOCKS
    assert [(step.phase, step.step) for step in done] == [("denoise", 1)] * 2
    for edit in edits:
        edit.advance()
    assert len(loads) == 3 * STREAMED_BLOCKS


def test_each_step_tells_what_it_and_the_next_one_takes(
    begin: Callable[..., Edit], small: Make, profile: ModelProfile, scene: Callable[..., Image.Image], swept: Engine
) -> None:
    fresh = swept.begin(small(), {"a": scene(128, 128)}, None)
    assert fresh.step_needs is None, "a prompt comes first"
    plain = begin(small(steps=2))
    guided = begin(small(true_cfg_scale=2.0, negative_prompt="a much longer prompt than that"))
    seen: list[list[Tokens]] = []
    with velocities_replaced(
        swept, lambda own, forwards: seen.append([each.tokens for each in forwards]) or own(forwards)
    ):
        needs = plain.step_needs, guided.step_needs
        plain.advance(), guided.advance()
    numbers = swept.models.transformer.shape
    assert [each.bytes for each in needs] == [step_bytes(numbers, tokens) for tokens in seen]
    assert len(seen[0]) == 1 and len(seen[1]) == 2
    plain.advance()
    assert plain.step_needs is None, "a decode comes next"
    assert guided.step_needs == needs[1]


def test_the_first_step_is_seen_to_come_also_where_everything_is_kept(
    swept: Engine, begin: Callable[..., Edit], small: Make, scene: Callable[..., Image.Image]
) -> None:
    pictures = {"a": scene(128, 128)}
    first = swept.begin(small(), pictures, "kept")
    units = [first.advance()]
    while units[-1].phase != "denoise":
        units.append(first.advance())
    assert [unit.step for unit in units if unit.phase == "prepare_steps"][-1:] == [BLOCKS]
    second = swept.begin(small(seed=9), pictures, "kept")
    assert second.advance().phase == "prepare_steps"
    assert second.step_needs is not None


def test_where_everything_is_resident_nothing_is_swept(load: Callable[..., Engine]) -> None:
    assert load(resident_blocks=BLOCKS, ring_slots=0).sweep_room is None
    assert load(sweep_bytes=0).sweep_room is None


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), ZeroDivisionError("defect")])
def test_where_a_sweep_fails_each_is_tried_alone_and_nobody_fails_by_another(
    load: Callable[..., Engine], begin: Callable[..., Edit], small: Make, error: Exception
) -> None:
    engine = load(sweep_bytes=1 << 20)
    specs = [small(seed=1), small(seed=2, width=96)]
    expected = [alone(begin(each, engine)) for each in specs]
    edits = [begin(each, engine) for each in specs]
    with velocities_replaced(engine, failing_together(error)):
        done = engine.sweep(edits)
    assert [(step.phase, step.step) for step in done] == [("denoise", 1)] * 2
    assert [alone(edit) for edit in edits] == expected
    memory = isinstance(error, torch.OutOfMemoryError)
    assert engine.sweep_room.bytes == (1 << 19 if memory else 1 << 20), "less goes together after memory ran out"


def test_an_error_of_one_leaves_the_others_right(swept: Engine, begin: Callable[..., Edit], small: Make) -> None:
    specs = [small(seed=1), small(seed=2, width=96), small(seed=3)]
    expected = [alone(begin(each)) for each in specs]
    edits = [begin(each) for each in specs]
    wide = edits[1].begin_step().forwards[0].latents.shape[1]
    edits[1] = begin(specs[1])

    def velocities(own: Velocities, forwards: Sequence[Forward]) -> list[torch.Tensor]:
        if any(each.latents.shape[1] == wide for each in forwards):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return own(forwards)

    with velocities_replaced(swept, velocities):
        first, failed, last = swept.sweep(edits)
    assert isinstance(failed, OutOfMemory) and failed.__context__ is None
    assert edits[1].state_bytes == 0 and edits[1].step_needs is None
    assert isinstance(first, Advance) and isinstance(last, Advance)
    assert [alone(edits[0]), alone(edits[2])] == [expected[0], expected[2]]


def test_an_error_before_or_after_the_velocities_is_its_edits_own(
    swept: Engine, begin: Callable[..., Edit], small: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs = [small(seed=1, preview_every=1), small(seed=2)]
    expected = alone(begin(specs[1]))
    edits = [begin(each) for each in specs]

    def fail(*_: object) -> None:
        raise JobFailed("no preview", "ask for none")

    monkeypatch.setattr(type(swept.context.preview), "picture", fail)
    failed, done = swept.sweep(edits)
    assert isinstance(failed, JobFailed) and isinstance(done, Advance)
    assert alone(edits[1]) == expected
    edits = [begin(small(seed=seed)) for seed in (1, 2)]
    monkeypatch.setattr(swept.context.loras, "branches", lambda choices, left=[fail]: left.pop()() if left else ())
    failed, done = swept.sweep(edits)
    assert isinstance(failed, JobFailed) and isinstance(done, Advance)
    monkeypatch.undo()
    assert alone(edits[1]) == expected


def test_a_lost_device_ends_a_sweep_for_everybody(
    swept: Engine, begin: Callable[..., Edit], small: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    edits = [begin(small(seed=seed)) for seed in (1, 2)]
    monkeypatch.setattr("qied.engine.device_errors.is_lost", lambda *_: True)
    fault = torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
    with velocities_replaced(swept, failing_together(fault)), pytest.raises(DeviceLost):
        swept.sweep(edits)


def test_a_lost_device_that_shows_when_the_unit_before_is_waited_for_is_no_defect_of_these_edits(
    swept: Engine, begin: Callable[..., Edit], small: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    edits = [begin(small(seed=seed)) for seed in (1, 2)]
    fault = torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    def fail() -> None:
        raise fault

    monkeypatch.setattr(swept.context.pacer._timeline, "mark", fail)
    monkeypatch.setattr("qied.engine.device_errors.is_lost", lambda *_: True)
    with pytest.raises(DeviceLost):
        swept.sweep(edits)


def test_a_sweep_leaves_nothing_behind(swept: Engine, begin: Callable[..., Edit], small: Make) -> None:
    edits = [begin(small(seed=seed)) for seed in (1, 2)]
    seen: list[weakref.ref[torch.Tensor]] = []

    def velocities(own: Velocities, forwards: Sequence[Forward]) -> list[torch.Tensor]:
        result = own(forwards)
        seen.extend(map(weakref.ref, [*result, *(each.modulation.target for each in forwards)]))
        return result

    gc.disable()
    try:
        with velocities_replaced(swept, velocities):
            done = swept.sweep(edits)
        assert len(seen) == 4 and all(each() is None for each in seen)
        assert len(done) == 2
    finally:
        gc.enable()


def test_the_time_of_a_sweep_is_shared_by_tokens(swept: Engine, begin: Callable[..., Edit], small: Make) -> None:
    edits = [begin(small(seed=1)), begin(small(seed=2, true_cfg_scale=2.0, negative_prompt=" ", width=128))]
    seen: list[list[int]] = []
    with velocities_replaced(
        swept, lambda own, forwards: seen.append([each.tokens.all for each in forwards]) or own(forwards)
    ):
        first, second = swept.sweep(edits)
    (one, *two), share = seen[0], first.milliseconds / (first.milliseconds + second.milliseconds)
    assert share == pytest.approx(one / (one + sum(two)))
    assert [unit.step for unit in (*first.ended, *second.ended)] == [1, 1]


def test_the_step_loop_sweeps_and_gives_the_bytes_of_each_alone(
    load: Callable[..., Engine], small: Make, scene: Callable[..., Image.Image], scope: str
) -> None:
    engine, results, reports = load(), {}, []
    specs = {f"job{seed}": small(seed=seed, width=48 + 16 * seed, preview_every=1) for seed in (1, 2, 3)}
    pictures = {"a": scene(128, 128)}
    expected = {job: alone(engine.begin(each, pictures, scope)) for job, each in specs.items()}
    served = type("Served", (), {"begin": lambda _, *args: engine.begin(args[0], args[1], scope)})()
    served.sweep, served.sweep_room = engine.sweep, engine.sweep_room
    orders: queue.SimpleQueue = queue.SimpleQueue()

    def finish(edit: ActiveEdit, image: Image.Image) -> None:
        results[edit.begin.job] = image.tobytes()
        if len(results) == len(specs):
            orders.put(QuitLoop())

    for job, each in specs.items():
        orders.put(BeginEdit(w.Begin("anna", job, each, "anna", 1, False), pictures))
    sweeps: list[int] = []
    with velocities_replaced(engine, lambda own, forwards: sweeps.append(len(forwards)) or own(forwards)):
        StepLoop(served, orders, reports.append, finish, lambda image: image.tobytes()).run()
    assert results == expected
    assert max(sweeps) == 3 and sum(sweeps) == 6
    assert sum(bool(each.preview) for each in reports) == 3


def test_edits_swept_in_any_groups_give_the_bytes_of_each_alone(
    swept: Engine, begin: Callable[..., Edit], small: Make
) -> None:
    guidance = {"true_cfg_scale": 3.0, "negative_prompt": " "}
    specs = [
        small(seed=1),
        small(seed=2, width=112, **guidance),
        small(seed=3, steps=2, height=128),
        small(seed=4, steps=5),
        small(seed=5, steps=3, width=112, height=144, compat=Compat(), sized="kontext", **guidance),
    ]
    expected = [alone(begin(each)) for each in specs]
    edits, order = dict(enumerate(map(begin, specs))), random.Random(1)
    results: dict[int, bytes] = {}
    while edits:
        group = [index for index in edits if edits[index].step_needs and order.random() < 0.6]
        if len(group) > 1:
            assert all(isinstance(step, Advance) for step in swept.sweep([edits[index] for index in group]))
        else:
            index = order.choice(list(edits))
            if (image := edits[index].advance().image) is not None:
                results[index] = image.tobytes()
                del edits[index]
    assert [results[index] for index in range(len(specs))] == expected


def test_a_pass_over_a_region_goes_together_with_the_steps_of_others(
    swept: Engine, begin: Callable[..., Edit], small: Make, scene: Callable[..., Image.Image], scope: str
) -> None:
    over = PassSpec(0.5, left=8, top=8, width=40, height=40, padding=8, feather=4, steps=4, max_pixels=1 << 16)
    wanted = small(canvas="c", crop_width=64, crop_height=80, passes=(over,))
    pictures = {"a": scene(128, 128), "c": scene(64, 80)}

    def redraw() -> Edit:
        edit = swept.begin(wanted, pictures, scope)
        while edit.step_needs is None:
            edit.advance()
        return edit

    expected = [alone(redraw()), alone(begin(small(seed=3)))]
    edits = [redraw(), begin(small(seed=3))]
    for number in (1, 2):
        done = swept.sweep(edits)
        assert [(step.phase, step.step) for step in done] == [("redraw", number), ("denoise", number)]
    assert [alone(edit) for edit in edits] == expected
