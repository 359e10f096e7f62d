"""The engine as a worker serves it: device and precision chosen, memory bounded, one cache for each session."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import psutil
import torch
from PIL import Image
from qied_client.errors import ModelUnsupported

from qied.edit import EditSpec
from qied.engine.cache import SceneCache
from qied.engine.checkpoint import OnProgress
from qied.engine.engine import Engine, EngineOptions
from qied.engine.stepping import Edit
from qied.link.launch import LaunchOrder
from qied.planning.model_profile import load_profile, shipped_profiles

_SHARE_OF_FREE = 0.8
"""Part of the memory that is free at start which a worker takes for its budget."""
_CONTEXT_BYTES = 700 * 1024 * 1024
"""CUDA context and libraries, which no allocator counts."""
_SCOPES = 64


class ServedEngine:
    """See ``qied.worker.engine.Engine``. Caches share one byte limit; the least recently used session goes first."""

    def __init__(self, engine: Engine, order: LaunchOrder, device: str, precision: str, budget_bytes: int) -> None:
        self._engine = engine
        self._cache_bytes = order.cache_bytes
        self._caches: OrderedDict[str, SceneCache] = OrderedDict()
        self.device = device
        self.precision = precision
        self.model = order.profile
        self.weights_bytes = engine.memory_bytes()
        self.budget_bytes = budget_bytes

    def begin(self, spec: EditSpec, pictures: Mapping[str, Image.Image], scope: str) -> Edit:
        """Begin an edit with the cache of its scope; raises InvalidRequest."""
        return self._engine.begin(spec, pictures, self._cache(scope))

    def forget(self, scope: str) -> None:
        """Drop the cache of a scope."""
        self._caches.pop(scope, None)

    def _cache(self, scope: str) -> SceneCache:
        cache = self._caches.setdefault(scope, SceneCache(self._cache_bytes))
        self._caches.move_to_end(scope)
        while len(self._caches) > 1 and (
            len(self._caches) > _SCOPES or sum(held.bytes_used for held in self._caches.values()) > self._cache_bytes
        ):
            self._caches.popitem(last=False)
        return cache


def load(order: LaunchOrder, on_progress: OnProgress) -> ServedEngine:
    """Load the model of a launch order.

    Raises ModelNotFound, ModelUnsupported (also where the weights do not fit the budget), ConfigError.
    """
    if order.threads:
        torch.set_num_threads(order.threads)
    device = _device(order.device)
    precision = _precision(order.precision, device)
    profiles = shipped_profiles()
    profile = profiles[order.profile] if order.profile in profiles else load_profile(Path(order.profile))
    budget = order.budget_bytes or _free_bytes(device)
    if device == "cuda":
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, budget / total))
    options = EngineOptions(device=device, dtype="fp32" if precision == "fp32" else "bf16")
    engine = Engine.load(Path(order.model), profile, options, on_progress)
    weights = engine.memory_bytes()
    if weights + order.cache_bytes >= budget:
        raise ModelUnsupported(
            f"The weights take {weights} bytes and caches {order.cache_bytes}; the budget is {budget} bytes.",
            "Free memory, raise worker.budget_bytes, or serve a smaller model.",
        )
    name = torch.cuda.get_device_name(0) if device == "cuda" else "CPU"
    return ServedEngine(engine, order, name, precision, budget - order.cache_bytes)


def _device(wanted: str) -> str:
    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise ModelUnsupported(
            "model.device is cuda, and this torch finds no CUDA device.",
            "Install a torch build for your driver, or set model.device to cpu.",
        )
    return "cuda" if wanted == "cuda" or (wanted == "auto" and available) else "cpu"


def _precision(wanted: str, device: str) -> str:
    return ("bf16" if device == "cuda" else "fp32") if wanted == "auto" else wanted


def _free_bytes(device: str) -> int:
    if device == "cuda":
        free, _ = torch.cuda.mem_get_info()
        return max(0, free - _CONTEXT_BYTES)
    return int(psutil.virtual_memory().available * _SHARE_OF_FREE)
