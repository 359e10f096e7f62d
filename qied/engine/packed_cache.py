"""Quantised blocks kept on disk for the next start: what they are found by."""

from __future__ import annotations

from typing import Any

from qied.engine.disk_cache import Kind, identity_of
from qied.engine.packed_file import Contents
from qied.engine.sources import SafetensorsSource
from qied.planning.block_layout import BlockLayout

PACKED = Kind("packed blocks", "storage.packed_bytes")
PACKING = 2
"""Version of how blocks are packed and quantised: files of another one are of no use."""


def contents_of(source: SafetensorsSource, layout: BlockLayout, blocks: int) -> Contents:
    """What the packed blocks of a source are: its files as they are now, their headers, and the layout."""
    shape = layout.shape
    entries = [[entry.name, entry.dtype, list(entry.shape), entry.offset] for entry in layout.entries]
    made_of: dict[str, Any] = {
        "packing": PACKING,
        "files": identity_of(source),
        "shape": [shape.inner_dim, shape.mlp_dim, shape.head_dim],
        "scaling": layout.scaling,
        "entries": entries,
    }
    return Contents(made_of, blocks, layout.nbytes)
