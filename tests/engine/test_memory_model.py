"""What the engine holds is what planning counts."""

from collections.abc import Callable

import pytest
from PIL import Image

from qied.edit import EditSpec
from qied.engine.engine import Engine
from qied.planning.edits.workload import workload_of
from qied.planning.layout.memory import MemoryModel, Precisions
from qied.planning.profiles.model_profile import ModelProfile


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_an_edit_holds_the_state_that_is_planned_for_it(
    load_engine: Callable[..., Engine],
    profile: ModelProfile,
    scene: Callable[..., Image.Image],
    spec: Callable[..., EditSpec],
    dtype: str,
) -> None:
    engine = load_engine(dtype=dtype)
    wanted = spec(width=64, height=96, steps=3)
    model = MemoryModel(profile, Precisions(dtype, None, dtype), "cpu")
    edit = engine.begin(wanted, {"a": scene(64, 96)}, None)
    while edit.advance().phase != "denoise":
        pass
    parts = edit.held.parts
    assert parts["modulation"] == model._step_rows() > 0
    assert edit.state_bytes == sum(parts.values()) <= model.state(workload_of(wanted, profile, 1 << 20))
    while edit.advance().step != 3:
        assert parts["modulation"] == model._step_rows()
