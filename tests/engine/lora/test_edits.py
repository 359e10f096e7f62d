"""Whole edits with LoRAs, by the engine as a worker runs it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from qied_client.errors import ModelUnsupported, UnknownLora
from qied_client.protocol.request import LoraChoice
from torch import Tensor

from benchmarks.part_runs.dense_source import DenseSource
from qied.edit import EditSpec
from qied.engine.edits import phases
from qied.engine.edits.context import Advance
from qied.engine.edits.edit import Edit
from qied.engine.engine import Engine, EngineOptions
from qied.engine.models import open_pipeline
from qied.engine.sigmas import ScheduleConfig
from qied.engine.weights.sources import TensorSource
from qied.loras.catalogue import Catalogue, LoraFile
from qied.planning.profiles.model_profile import ModelProfile
from qied.resources import builtin_model_folder
from qied.scheduling.sweep import going_together

Load = Callable[..., Engine]
Spec = Callable[..., EditSpec]
Finish = Callable[[Edit], list[Advance]]
ONE, TWO, MOVED = LoraChoice("one", 0.5), LoraChoice("two", 1.0), LoraChoice("moved", 0.5)


@pytest.fixture(scope="module")
def engine(load_with_loras: Load) -> Engine:
    return load_with_loras()


@pytest.fixture
def small(spec: Spec) -> Spec:
    return lambda **changes: spec(**{"width": 64, "height": 80, "steps": 2, **changes})


@pytest.fixture
def run(scene: Callable[..., Image.Image], finish: Finish) -> Callable[[Engine, EditSpec], bytes]:
    def edit(engine: Engine, wanted: EditSpec) -> bytes:
        image = finish(engine.begin(wanted, {"a": scene(64, 64)}, None))[-1].image
        assert image is not None
        return image.tobytes()

    return edit


class Merged(DenseSource):
    """The transformer's weights with a LoRA's products added."""

    def __init__(self, source: TensorSource, added: dict[str, Tensor], strength: float) -> None:
        self.component, self.nbytes = source.component, source.nbytes
        self._source, self._added, self._strength = source, added, strength

    def names(self) -> Collection[str]:
        return self._source.names()

    def origin(self, name: str) -> str:
        return self._source.origin(name)

    def read(self, name: str) -> Tensor:
        stored = self._source.read(name)
        addition = self._added.get(name.removesuffix(".weight"))
        return stored if addition is None else (stored.double() + self._strength * addition).float()


@pytest.mark.parametrize("name", ["one", "moved"])
def test_an_edit_with_a_lora_is_that_of_a_model_with_merged_weights(
    engine: Engine,
    run: Callable[..., bytes],
    small: Spec,
    profile: ModelProfile,
    tmp_path: Path,
    write_lora: Callable[..., dict[str, Any]],
    name: str,
) -> None:
    modules = ("attn.to_v", "attn.add_k_proj", "img_mlp.net.2", "img_mod.1", "txt_mod.1")
    made = {"one": {"style": "kohya", "alpha": 8.0, "seed": 1}, "moved": {"seed": 3, "rank": 2, "modules": modules}}
    added = write_lora(tmp_path / "same.safetensors", **made[name])
    files = open_pipeline(builtin_model_folder(), profile)
    sources = replace(files, transformer=Merged(files.transformer, added, 0.5))
    merged = Engine.build(sources, profile, EngineOptions(dtype="fp32"), lambda *_: None)
    expected, found, plain = (
        np.frombuffer(run(*each), np.uint8).astype(int)
        for each in ((merged, small()), (engine, small(loras=(LoraChoice(name, 0.5),))), (engine, small()))
    )
    assert np.abs(found - expected).max() <= 1
    assert np.abs(found - plain).mean() > 0.6


def test_edits_in_turns_give_what_each_gives_alone_also_where_only_one_lora_fits(
    engine: Engine,
    load_with_loras: Load,
    catalogue: Catalogue,
    run: Callable[..., bytes],
    small: Spec,
    scene: Callable[..., Image.Image],
) -> None:
    wanted = [small(loras=loras) for loras in ((), (ONE,), (TWO,), (MOVED,))]
    alone = [run(engine, each) for each in wanted]
    assert len(set(alone)) == 4
    limit = 4 * catalogue.facts["one"].parameters
    narrow = load_with_loras(limit, resident_blocks=2, ring_slots=2)
    edits = {index: narrow.begin(each, {"a": scene(64, 64)}, None) for index, each in enumerate(wanted)}
    results: dict[int, bytes] = {}
    while edits:
        for index, edit in list(edits.items()):
            image = edit.advance().image
            assert narrow.lora_bytes() <= limit
            if image is not None:
                results[index] = image.tobytes()
                del edits[index]
    assert [results[index] for index in range(4)] == alone


def test_strength_zero_equals_none(engine: Engine, run: Callable[..., bytes], small: Spec) -> None:
    assert run(engine, small(loras=(LoraChoice("one", 0.0), LoraChoice("moved", 0.0)))) == run(engine, small())


def test_guidance_goes_together_with_a_lora(engine: Engine, run: Callable[..., bytes], small: Spec) -> None:
    guided = {"true_cfg_scale": 3.0, "negative_prompt": " "}
    others = {run(engine, small(**guided)), run(engine, small(loras=(ONE,)))}
    assert run(engine, small(loras=(ONE,), **guided)) not in others


def test_loading_is_a_unit_of_work_before_the_steps(
    load_with_loras: Load, scene: Callable[..., Image.Image], small: Spec, finish: Finish
) -> None:
    engine = load_with_loras()
    units = finish(engine.begin(small(loras=(ONE, TWO)), {"a": scene(64, 64)}, None))
    told = [(unit.phase, unit.step, unit.steps) for unit in units if unit.phase == "prepare_steps"]
    assert told == [("prepare_steps", 1, 2), ("prepare_steps", 2, 2), ("prepare_steps", 6, 6)]


def test_only_loras_of_the_modulation_make_a_table_of_their_own(
    engine: Engine, run: Callable[..., bytes], small: Spec
) -> None:
    tables = engine.models.transformer.modulation._kept
    tables.clear()
    for loras in ((), (ONE,), (TWO, ONE), (MOVED,), (ONE, MOVED), (replace(MOVED, strength=0.25),)):
        run(engine, small(loras=loras))
    assert len(tables) == 3


def test_the_lightning_schedule_is_that_of_diffusers_with_its_settings(
    engine: Engine, scene: Callable[..., Image.Image], small: Spec, finish: Finish, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[float]] = []
    make = phases.sigma_schedule

    def watched(config: ScheduleConfig, steps: int, tokens: int) -> Tensor:
        sigmas = make(config, steps, tokens)
        seen.append(sigmas.tolist())
        return sigmas

    monkeypatch.setattr(phases, "sigma_schedule", watched)
    for schedule in ("lightning", "model"):
        finish(engine.begin(small(steps=4, schedule=schedule), {"a": scene(64, 64)}, None))
    assert seen[0] == pytest.approx([1, 0.9, 0.75, 0.5, 0])
    assert seen[1][3] == pytest.approx(0.02)


def test_unknown_and_broken_loras_fail_at_the_start(
    engine: Engine, scene: Callable[..., Image.Image], small: Spec, profile: ModelProfile, tmp_path: Path
) -> None:
    with pytest.raises(UnknownLora, match="'three'"):
        engine.begin(small(loras=(LoraChoice("three"),)), {"a": scene(64, 64)}, None)
    (tmp_path / "a.safetensors").write_bytes(b"nothing at all")
    options = EngineOptions(dtype="fp32", loras={"a": LoraFile.at(tmp_path / "a.safetensors")}, lora_bytes=1 << 20)
    broken = Engine.load(builtin_model_folder(), profile, options, lambda *_: None)
    with pytest.raises(ModelUnsupported, match="The LoRA file a.safetensors cannot be used"):
        broken.begin(small(loras=(LoraChoice("a"),)), {"a": scene(64, 64)}, None)


def test_edits_with_different_loras_swept_together_give_what_each_gives_alone(
    engine: Engine,
    load_with_loras: Load,
    catalogue: Catalogue,
    run: Callable[[Engine, EditSpec], bytes],
    small: Spec,
    scene: Callable[..., Image.Image],
) -> None:
    wanted = [small(loras=loras, seed=seed) for seed, loras in enumerate(((), (ONE,), (TWO,), (MOVED,)))]
    alone = [run(engine, each) for each in wanted]
    limit = 4 * (catalogue.facts["one"].parameters + catalogue.facts["two"].parameters)
    swept = load_with_loras(limit, resident_blocks=2, ring_slots=2, sweep_bytes=1 << 30)
    edits = [swept.begin(each, {"a": scene(64, 64)}, None) for each in wanted]
    for edit in edits:
        while edit.step_needs is None:
            edit.advance()
    together = going_together([edit.step_needs for edit in edits], swept.sweep_room)
    assert together == 3, "the room for LoRAs bounds it"
    for _ in range(2):
        assert all(isinstance(step, Advance) for step in swept.sweep(edits[:together]))
        assert swept.lora_bytes() <= limit
    images = [finished(edit) for edit in edits]
    assert images == alone


def finished(edit: Edit) -> bytes:
    while (image := edit.advance().image) is None:
        pass
    return image.tobytes()
