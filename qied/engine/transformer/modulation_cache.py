"""Modulation tables kept on disk, by everything that shaped them: files, schedule, type, device and versions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import diffusers
import torch
from torch import Tensor

from qied.engine.disk.cache import DiskCache, Kind, identity_of
from qied.engine.disk.file import Contents
from qied.engine.transformer.modulation_table import ModulationTable
from qied.engine.weights.sources import FileSource, TensorSource

MODULATION = Kind("modulation tables", "storage.modulation_bytes")
TABLES = 1
"""Version of how tables are computed and laid out: files of another one are of no use."""


class KeptTables:
    """The tables of one transformer, without LoRAs; ``made_of`` is all that they have in common."""

    def __init__(self, cache: DiskCache, made_of: Mapping[str, Any]) -> None:
        self._cache = cache
        self._made_of = made_of

    def read(self, sigmas: Tensor, table: ModulationTable) -> bool:
        """Fill the table of a schedule (FP32 [steps]); False, with anything in it, where it is not kept."""
        return self._cache.read(self._contents(sigmas, table), [table.bytes], lambda _: None)

    def keep(self, sigmas: Tensor, table: ModulationTable) -> None:
        """Keep the table of a schedule, where the disk allows it."""
        with self._cache.writing(self._contents(sigmas, table)) as keeping:
            keeping.add(table.bytes)

    def _contents(self, sigmas: Tensor, table: ModulationTable) -> Contents:
        shape = table.shape
        made_of = {
            **self._made_of,
            "tables": TABLES,
            "shape": [shape.steps, shape.layers, shape.inner],
            "dtype": str(shape.dtype),
            # To the bit: the shortest text that gives an FP32 number back is what JSON writes of it.
            "sigmas": sigmas.tolist(),
        }
        return Contents(made_of, 1, table.nbytes, synced=False)


def kept_tables(cache: DiskCache | None, source: TensorSource, device: torch.device) -> KeptTables | None:
    """The kept tables of a transformer computed on ``device``; None without a folder, or for weights from no file.

    Another card or version of a library may round the last bit differently, and the same request must give the same.
    """
    if cache is None or not isinstance(source, FileSource):
        return None
    cuda = device.type == "cuda"
    made_with = {
        "device": torch.cuda.get_device_name(device) if cuda else torch.backends.cpu.get_cpu_capability(),
        "torch": str(torch.__version__),
        "diffusers": str(diffusers.__version__),
    }
    return KeptTables(cache, {"files": identity_of(source), "made_with": made_with})
