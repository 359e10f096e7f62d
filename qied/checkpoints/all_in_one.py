"""Checkpoints with transformer, text encoder and VAE in one file, which ComfyUI saves: told by how names begin."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Final

from qied.checkpoints.names import PartRole, text_encoder_prefix, transformer_prefix, vae_prefix
from qied.loras.lightning import lightning_steps

_RAPID: Final = re.compile(r"rapid[-_ ]?aio(?:.*?[-_ ]v(\d{1,3}))?", re.IGNORECASE | re.ASCII)
_RAPID_STEPS: Final = 4
"""Steps that all versions of the most popular of these files were merged for."""
_RAPID_OF_2511: Final = 19
"""The first of their versions that is made of 2511; those from 5 on are of 2509."""
_RAPID_OF_2509: Final = 5


def sections(names: Collection[str]) -> dict[PartRole, str]:
    """What the names of each part begin with in such a file; empty for the file of one part."""
    transformer = transformer_prefix(names)
    if not transformer:
        return {}
    prefixes: dict[PartRole, str] = {
        "transformer": transformer,
        "text_encoder": text_encoder_prefix(names),
        "vae": vae_prefix(names),
    }
    found = {role: prefix for role, prefix in prefixes.items() if prefix}
    return found if len(found) > 1 else {}


def rapid_version(file: str) -> str | None:
    """The model that a "Rapid AIO" file was made of, by the version in its name; None for other files."""
    found = _RAPID.search(file.rpartition("/")[2])
    if found is None or found[1] is None or int(found[1]) < _RAPID_OF_2509:
        return None
    return "2511" if int(found[1]) >= _RAPID_OF_2511 else "2509"


def merged_steps(file: str, metadata: Mapping[str, str]) -> int | None:
    """Steps that a transformer was distilled to by what was merged into it, by its name or texts; None for none."""
    steps = lightning_steps(file, metadata)
    return _RAPID_STEPS if steps is None and _is_rapid(file) else steps


def keeps_schedule(file: str, metadata: Mapping[str, str]) -> bool:
    """Whether a distilled transformer runs on the plain noise schedule: a mixture of LoRAs has none of its own."""
    return lightning_steps(file, metadata) is None and _is_rapid(file)


def _is_rapid(file: str) -> bool:
    return _RAPID.search(file.rpartition("/")[2]) is not None
