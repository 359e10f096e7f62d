"""One load of a transformer in a process of its own: what it takes, and what stays of it. Prints a line of JSON."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch

from qied.checkpoints.file_bytes import stored_block_bytes
from qied.checkpoints.pipeline_folder import read_json
from qied.engine.block.packed import PACKED
from qied.engine.disk.cache import DiskCache, DiskCaches
from qied.engine.engine import EngineOptions
from qied.engine.transformer.transformer import load_transformer
from qied.engine.weights.sources import FileSource, WeightReader
from qied.planning.profiles.model_profile import shipped_profiles
from qied.resources import model_configuration
from tools.own_memory import forget_peak, resident

REAL = "qwen-image-edit-2511"


def main(file: str, layers: str, packed: str, streamed: str = "") -> None:
    """Load the first ``layers`` blocks of the real model from ``file`` as FP8, with a cache in ``packed`` if named.

    With ``streamed`` all but a tenth of the blocks stay as their GGUF file has them.
    """
    settings = model_configuration(REAL)
    assert settings is not None
    config = {**read_json(settings / "transformer" / "config.json"), "num_layers": int(layers)}
    plain = EngineOptions().resolved(shipped_profiles()[REAL])
    count = int(layers)
    run = replace(plain, precision="fp8", scaling="rowwise", compute="bf16", total_blocks=count, resident_blocks=count)
    if streamed:
        stored = stored_block_bytes([Path(file)], shipped_profiles()[REAL].architecture)
        run = replace(run, resident_blocks=count // 10, ring_slots=3, stored_block_bytes=stored)
    source = FileSource("transformer", [Path(file)])
    caches = DiskCaches(packed=DiskCache(PACKED, Path(packed), 1 << 40) if packed else None)
    torch.zeros(1).bfloat16()
    before = forget_peak()
    started = time.monotonic()
    with torch.no_grad():
        reader = WeightReader(source.nbytes, lambda *_: None)
        loaded = load_transformer(config, source, run, torch.device("cpu"), reader, caches)
    seconds = time.monotonic() - started
    stays = loaded.device_bytes + loaded.host_bytes
    print(json.dumps({"seconds": seconds, "stays_bytes": stays, "peak_bytes": resident("VmHWM") - before}))


if __name__ == "__main__":
    main(*sys.argv[1:])
