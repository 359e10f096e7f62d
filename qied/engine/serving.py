"""The engine as a worker serves it: run as planned, with one cache for each session."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from qied_client.errors import ModelUnsupported

from qied.checkpoints.checkpoint import Checkpoint
from qied.edit import EditSpec
from qied.engine.block.packed import PACKED
from qied.engine.device_errors import is_exhausted
from qied.engine.disk.cache import DiskCache, DiskCaches, Kind
from qied.engine.edits.context import Advance
from qied.engine.edits.edit import Edit
from qied.engine.edits.scene_cache import SceneCache
from qied.engine.engine import Engine, EngineOptions
from qied.engine.transformer.modulation_cache import MODULATION
from qied.engine.weights.sources import OnProgress
from qied.link.engine_port import Picture
from qied.link.launch import LaunchOrder
from qied.planning.model_profile import ModelProfile, load_profile, shipped_profiles
from qied.planning.plan import Execution
from qied.planning.view import View
from qied.scheduling.sweep import SweepRoom

_SCOPES = 64


class ServedEngine:
    """See ``engine_port.EnginePort``. Caches share one byte limit; the least recently used session goes first.

    The limit holds at all times: what edits put in while they run takes the room of the others' caches.

    ``weights_bytes`` are all that is there without an edit: what the plan says, or the weights where they are more.
    """

    def __init__(self, engine: Engine, order: LaunchOrder, execution: Execution) -> None:
        self._engine = engine
        self._execution = execution
        self._cache_bytes = order.cache_bytes
        self._caches: OrderedDict[str, SceneCache] = OrderedDict()
        self.device = torch.cuda.get_device_name(execution.device_index) if execution.device == "cuda" else "CPU"
        self.precision = execution.precision
        self.model = order.profile
        self.weights_bytes = max(order.fixed_bytes, engine.memory_bytes())
        self.budget_bytes = order.budget_bytes

    def views(self, spec: EditSpec, blob: str, size: tuple[int, int]) -> tuple[View, ...]:
        """All that an edit will need of one of its pictures."""
        return self._engine.views(spec, blob, size)

    def begin(self, spec: EditSpec, pictures: Mapping[str, Picture], scope: str) -> Edit:
        """Begin an edit with the cache of its scope; raises InvalidRequest, or ModelUnsupported for a LoRA."""
        return self._engine.begin(spec, pictures, self._cache(scope))

    @property
    def sweep_room(self) -> SweepRoom | None:
        """Room for steps that go together; None if each goes alone."""
        return self._engine.sweep_room

    def sweep(self, edits: Sequence[Edit]) -> list[Advance | Exception]:
        """Take the next step of each edit together; see ``qied.engine.engine.Engine.sweep``."""
        return self._engine.sweep(edits)

    def forget(self, scope: str) -> None:
        """Drop the cache of a scope."""
        if (cache := self._caches.pop(scope, None)) is not None:
            cache.close()

    def device_memory(self) -> tuple[int, int] | None:
        """Bytes of the device that this process has, and that are free; None on the CPU.

        Besides what torch has reserved the process has its context, for which the plan leaves room in the budget.
        """
        if self._execution.device == "cpu":
            return None
        free, _ = torch.cuda.mem_get_info(self._execution.device_index)
        context = max(0, self.budget_bytes - self._execution.allocator_bytes)
        return torch.cuda.memory_reserved(self._execution.device_index) + context, free

    def _cache(self, scope: str) -> SceneCache:
        if scope not in self._caches:
            self._caches[scope] = SceneCache(self._cache_bytes, lambda: self._make_room(scope))
        self._make_room(scope)
        return self._caches[scope]

    def _make_room(self, scope: str) -> None:
        """Drop the caches of other scopes, the least recently used first, until what is left is within the limits."""
        self._caches.move_to_end(scope)
        while len(self._caches) > 1 and (
            len(self._caches) > _SCOPES or sum(held.bytes_used for held in self._caches.values()) > self._cache_bytes
        ):
            _, dropped = self._caches.popitem(last=False)
            dropped.close()


def load(order: LaunchOrder, on_progress: OnProgress) -> ServedEngine:
    """Load the model of a launch order.

    Raises ModelNotFound, ModelUnsupported (also where memory does not suffice for the weights), ConfigError.
    """
    if order.threads:
        torch.set_num_threads(order.threads)
    profiles = shipped_profiles()
    profile = profiles[order.profile] if order.profile in profiles else load_profile(Path(order.profile))
    # A process that sees its card alone sees it as the first one.
    execution = replace(order.execution, device_index=0) if order.card else order.execution
    if execution.device == "cuda" and not torch.cuda.is_available():
        raise ModelUnsupported(
            "The plan is for a CUDA device, and this torch finds none.",
            "Install a torch build for your driver, or set model.device to cpu.",
        )
    options = EngineOptions(
        execution=execution,
        loras=order.loras,
        lora_bytes=order.lora_bytes,
        caches=_caches(order),
    )
    engine = _engine(order.checkpoint, profile, options, on_progress)
    served = ServedEngine(engine, order, execution)
    if served.weights_bytes >= served.budget_bytes:
        raise ModelUnsupported(
            f"The weights take {served.weights_bytes} bytes; the budget is {served.budget_bytes} bytes.",
            "Free memory, raise worker.budget_bytes, or serve a smaller model.",
        )
    return served


def _caches(order: LaunchOrder) -> DiskCaches:
    def cache(kind: Kind, folder: str, limit_bytes: int) -> DiskCache | None:
        return DiskCache(kind, Path(folder), limit_bytes, order.free_reserve_bytes) if folder else None

    return DiskCaches(
        packed=cache(PACKED, order.packed_folder, order.packed_bytes),
        modulation=cache(MODULATION, order.modulation_folder, order.modulation_bytes),
    )


def _engine(files: Checkpoint, profile: ModelProfile, options: EngineOptions, on_progress: OnProgress) -> Engine:
    try:
        return Engine.load(files, profile, options, on_progress)
    except (RuntimeError, MemoryError, OSError) as error:
        if not is_exhausted(error):
            raise
        reason = str(error)
    # Raised only here, so that the error does not keep what was loaded alive.
    raise ModelUnsupported(
        f"Memory ran out while the model was loaded: {reason}",
        "Free memory, lower worker.budget_bytes so that less stays on the card, or serve a smaller model.",
    )
