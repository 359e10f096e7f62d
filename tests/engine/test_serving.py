"""The engine as a worker serves it, with the built-in model."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from qied_client.errors import ModelUnsupported

from qied.checkpoints.pipeline_folder import pipeline_checkpoint
from qied.edit import EditSpec
from qied.engine import serving
from qied.engine.block.packed import PACKED
from qied.engine.disk.cache import NO_CACHES, DiskCache, DiskCaches
from qied.engine.edits.context import Advance
from qied.engine.edits.edit import Edit
from qied.engine.engine import Engine, EngineOptions
from qied.engine.transformer.modulation_cache import MODULATION
from qied.link.launch import LaunchOrder
from qied.planning.plan import Execution
from qied.planning.profiles.model_profile import ModelProfile
from qied.resources import builtin_model_folder

Make = Callable[..., EditSpec]
Finish = Callable[[Edit], list[Advance]]


@pytest.fixture
def order(execution: Callable[..., Execution]) -> Callable[..., LaunchOrder]:
    def launch(**changes: object) -> LaunchOrder:
        plain = LaunchOrder(
            worker="w",
            endpoint="",
            server_key="",
            public_key="",
            secret_key="",
            engine="",
            checkpoint=pipeline_checkpoint(builtin_model_folder()),
            profile="builtin",
            execution=execution(),
            kind="k",
            card={},
            budget_bytes=1 << 32,
            fixed_bytes=0,
            edits_bytes=0,
            cache_bytes=1 << 24,
            max_active=2,
            threads=0,
            log_format="plain",
            log_level="info",
        )
        return replace(plain, **changes)

    return launch


@pytest.fixture
def caching(profile: ModelProfile) -> Callable[[int], Engine]:
    def load(limit_bytes: int) -> Engine:
        options = EngineOptions(dtype="fp32", scene_cache_bytes=limit_bytes)
        return Engine.load(builtin_model_folder(), profile, options, lambda *_: None)

    return load


def test_caches_of_all_sessions_share_one_limit_while_edits_run(
    caching: Callable[[int], Engine], scene: Callable[..., Image.Image], spec: Make, finish: Finish
) -> None:
    picture, wanted = {"a": scene(128, 128)}, spec(width=64, height=64, steps=1)
    free = caching(1 << 24)
    finish(free.begin(wanted, picture, "one"))
    size = free.caches.bytes_used
    engine = caching(size * 3 // 2)
    edits = [engine.begin(wanted, picture, scope) for scope in ("one", "two", "three")]
    while edits:
        edits = [edit for edit in edits if edit.advance().image is None]
        assert engine.caches.bytes_used <= size * 3 // 2
    finish(engine.begin(wanted, picture, "last"))
    assert engine.caches.of("last").bytes_used == size
    assert engine.caches.bytes_used <= size * 3 // 2


def test_an_edit_whose_cache_had_to_go_finishes_with_the_same_bytes_and_keeps_nothing(
    engine: Engine, scene: Callable[..., Image.Image], spec: Make, finish: Finish
) -> None:
    picture, wanted = {"a": scene(128, 128)}, spec(width=64, height=64, steps=1)
    expected = finish(engine.begin(wanted, picture, "one"))[-1].image
    edit = engine.begin(wanted, picture, "two")
    cache = engine.caches.of("two")
    edit.advance()
    engine.forget("two")
    image = finish(edit)[-1].image
    assert image is not None and expected is not None and image.tobytes() == expected.tobytes()
    assert cache.bytes_used == 0 and "two" not in engine.caches.scopes


@pytest.mark.parametrize(("card", "index"), [({"CUDA_VISIBLE_DEVICES": "3"}, 0), ({}, 3)])
def test_a_process_that_sees_its_card_alone_sees_it_as_the_first(
    engine: Engine,
    order: Callable[..., LaunchOrder],
    execution: Callable[..., Execution],
    monkeypatch: pytest.MonkeyPatch,
    card: dict[str, str],
    index: int,
) -> None:
    seen: list[Execution] = []
    planned = Engine(engine.context, execution(), EngineOptions(budget_bytes=1 << 32))

    def load(folder: Path, profile: object, options: EngineOptions, on_progress: object) -> Engine:
        assert options.execution is not None
        seen.append(options.execution)
        return planned

    monkeypatch.setattr(Engine, "load", staticmethod(load))
    serving.load(order(card=card, execution=execution(device_index=3)), lambda *_: None)
    assert [found.device_index for found in seen] == [index]


def test_an_execution_that_came_as_json_is_run_like_any_other(
    order: Callable[..., LaunchOrder], execution: Callable[..., Execution]
) -> None:
    launch = LaunchOrder.from_line(json.dumps(asdict(order(execution=execution(attention=("flash", "math"))))).encode())
    assert serving.load(launch, lambda *_: None).precision == "fp32"


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError("none left")], ids=["card", "host"]
)
def test_memory_that_runs_out_while_loading_is_told_with_a_remedy(
    order: Callable[..., LaunchOrder], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def load(*_: object) -> Engine:
        raise error

    monkeypatch.setattr(Engine, "load", staticmethod(load))
    with pytest.raises(ModelUnsupported, match=str(error)) as raised:
        serving.load(order(), lambda *_: None)
    assert "worker.budget_bytes" in raised.value.remedy
    assert raised.value.__context__ is None


def test_weights_beyond_the_budget_are_refused(order: Callable[..., LaunchOrder]) -> None:
    with pytest.raises(ModelUnsupported, match="budget is 1000 bytes"):
        serving.load(order(budget_bytes=1000), lambda *_: None)


def test_each_kind_of_what_is_kept_on_disk_has_its_own_folder_and_limit(order: Callable[..., LaunchOrder]) -> None:
    assert serving._caches(order()) == NO_CACHES
    launch = order(packed_folder="/p", packed_bytes=7, modulation_folder="/m", modulation_bytes=8, free_reserve_bytes=9)
    assert serving._caches(launch) == DiskCaches(
        DiskCache(PACKED, Path("/p"), 7, 9), DiskCache(MODULATION, Path("/m"), 8, 9)
    )
