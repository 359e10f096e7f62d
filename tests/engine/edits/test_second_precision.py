"""A second precision beside the model's own: its passes give the bits of a model in that precision."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from PIL import Image
from qied_client.errors import PrecisionUnavailable

from qied.edit import EditSpec, PassSpec
from qied.engine.edits.context import Advance
from qied.engine.edits.edit import Edit
from qied.engine.engine import Engine, EngineOptions
from qied.planning.plan import Execution, SecondPrecision
from qied.planning.profiles.model_profile import ModelProfile
from qied.resources import builtin_model_folder

SIDE = 64
PASS = PassSpec(0.5, 16, 16, 32, 32, padding=16, feather=2, steps=2, max_pixels=1 << 18, scale=1.0)
SECOND = SecondPrecision("bf16", 0, pin=False)
Load = Callable[..., Engine]


@pytest.fixture(scope="module")
def load(profile: ModelProfile, execution: Callable[..., Execution]) -> Load:
    def loaded(**changes: Any) -> Engine:
        options = EngineOptions(execution=execution(compute="bf16", **changes))
        return Engine.load(builtin_model_folder(), profile, options, lambda *_: None)

    return loaded


@pytest.fixture(scope="module")
def in_bf16(load: Load) -> Engine:
    return load(precision="bf16")


@pytest.fixture(scope="module")
def in_int8(load: Load) -> Engine:
    return load(precision="int8")


@pytest.fixture(scope="module")
def beside_int8(load: Load) -> Engine:
    return load(precision="int8", second=SECOND)


@pytest.fixture
def drawn(spec: Callable[..., EditSpec], scene: Callable[..., Image.Image], finish: Callable[[Edit], list[Advance]]):  # type: ignore[no-untyped-def]
    """The picture of a pass over a canvas by an engine, in a precision."""

    def draw(engine: Engine, precision: str = "", **changes: Any) -> bytes:
        picture = scene(SIDE, SIDE)
        each = replace(PASS, precision=precision)
        size = {"width": SIDE, "height": SIDE, "crop_width": SIDE, "crop_height": SIDE}
        wanted = spec(**size, **{"canvas": "c", "passes": (each,)} | changes)
        image = finish(engine.begin(wanted, {"a": picture, "c": picture}, None))[-1].image
        assert image is not None
        return image.tobytes()

    return draw


def test_a_pass_has_the_bits_of_a_model_in_its_precision(in_bf16: Engine, beside_int8: Engine, drawn: Any) -> None:
    assert drawn(beside_int8, "bf16") == drawn(in_bf16)
    assert drawn(beside_int8, "int8") == drawn(beside_int8) != drawn(in_bf16)


def test_the_same_beside_fp8_and_from_blocks_that_stream(load: Load, in_bf16: Engine, drawn: Any) -> None:
    beside_fp8 = load(precision="fp8", scaling="rowwise", second=SECOND, resident_blocks=1, ring_slots=2)
    assert drawn(beside_fp8, "bf16") == drawn(in_bf16)


def test_passes_of_one_job_change_the_precision_and_leave_each_other_alone(
    in_int8: Engine, beside_int8: Engine, drawn: Any
) -> None:
    passes = (PASS, replace(PASS, precision="bf16"), replace(PASS, strength=1.0))
    mixed = drawn(beside_int8, passes=passes)
    assert mixed == drawn(beside_int8, passes=passes)
    assert mixed != drawn(beside_int8, passes=tuple(replace(each, precision="") for each in passes))
    assert drawn(beside_int8) == drawn(in_int8)


def test_a_precision_that_is_not_there_is_refused_when_the_edit_begins(in_bf16: Engine, drawn: Any) -> None:
    with pytest.raises(PrecisionUnavailable, match="int8, and the daemon holds its model in bf16 alone"):
        drawn(in_bf16, "int8")


def test_it_takes_the_blocks_and_nothing_else(in_bf16: Engine, in_int8: Engine, beside_int8: Engine) -> None:
    second = beside_int8.models.second
    assert second is not None and second.modulation is beside_int8.models.transformer.modulation
    added = beside_int8.memory_bytes() - in_int8.memory_bytes()
    assert added == second.blocks.device_bytes == in_bf16.models.transformer.blocks.device_bytes


def test_steps_in_several_precisions_go_together_in_a_sweep_each(
    beside_int8: Engine, spec: Callable[..., EditSpec], scene: Callable[..., Image.Image], drawn: Any
) -> None:
    passes = [replace(PASS, precision=name, steps=4) for name in ("bf16", "", "bf16")]
    picture, size = scene(SIDE, SIDE), {"width": SIDE, "height": SIDE, "crop_width": SIDE, "crop_height": SIDE}
    edits = [
        beside_int8.begin(spec(**size, canvas="c", passes=(each,)), {"a": picture, "c": picture}, None)
        for each in passes
    ]
    for edit in edits:
        while edit.advance().phase != "redraw":
            pass
    assert all(not isinstance(step, Exception) for step in beside_int8.sweep(edits))
    images = []
    for edit in edits:
        while (done := edit.advance()).image is None:
            pass
        images.append(done.image.tobytes())
    assert images == [drawn(beside_int8, passes=(each,)) for each in passes]
