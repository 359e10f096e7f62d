"""Loads the engine that a launch order describes; ``worker.engine`` names ``load`` here unless it is changed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from qied_client.errors import ModelUnsupported

from qied.checkpoints.checkpoint import Checkpoint
from qied.engine.block.packed import PACKED
from qied.engine.device_errors import is_exhausted
from qied.engine.disk.cache import DiskCache, DiskCaches, Kind
from qied.engine.engine import Engine, EngineOptions
from qied.engine.transformer.modulation_cache import MODULATION
from qied.link.launch import LaunchOrder
from qied.planning.profiles.model_profile import ModelProfile, load_profile, shipped_profiles
from qied.progress import OnProgress


def load(order: LaunchOrder, on_progress: OnProgress) -> Engine:
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
        upscalers=order.upscalers,
        caches=_caches(order),
        scene_cache_bytes=order.cache_bytes,
        budget_bytes=order.budget_bytes,
        fixed_bytes=order.fixed_bytes,
    )
    engine = _engine(order.checkpoint, profile, options, on_progress)
    if engine.weights_bytes >= engine.budget_bytes:
        raise ModelUnsupported(
            f"The weights take {engine.weights_bytes} bytes; the budget is {engine.budget_bytes} bytes.",
            "Free memory, raise worker.budget_bytes, or serve a smaller model.",
        )
    return engine


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
