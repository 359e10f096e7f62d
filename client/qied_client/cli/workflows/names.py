"""Where the results of a workflow go: a pattern for all of them, or names as ComfyUI gives them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from qied_client.cli.editing.places import Place

if TYPE_CHECKING:
    from qied_client.workflows import WorkflowRequest

_UNSAFE: Final = re.compile(r"[^\w.-]+")
_FIELDS: Final = re.compile(r"%[^%]*%")
"""What ComfyUI fills in by itself, such as a date."""
_DEFAULT: Final = "ComfyUI"


def places_for(requests: Sequence[WorkflowRequest], out: Path | None, quality: int | None) -> list[Place]:
    """Where each request's results go; raises InvalidRequest where nothing can be written there.

    In the name of ``out``, ``{node}`` and ``{prefix}`` stand for the save node's id and its prefix, ``{n}`` and
    ``{seed}`` for a result's number and seed. Without it, names are ``PREFIX_00001_.png``, with the next free number.
    """
    places: list[Place] = []
    for request in requests:
        node, prefix = _safe(request.node_id), _safe_prefix(request.filename_prefix)
        if out is None:
            name = _next_free(prefix, {place.out for place in places})
        else:
            name = out.with_name(out.name.replace("{node}", node).replace("{prefix}", prefix))
            if len(requests) > 1 and (name == out or name in {place.out for place in places}):
                name = name.with_name(f"{name.stem}-{node}{name.suffix}")
        place = Place(name, request.count, quality)
        place.check()
        places.append(place)
    return places


def _next_free(prefix: str, taken: set[Path]) -> Path:
    number = 1
    while (path := Path(f"{prefix}_{number:05}_.png")).exists() or path in taken:
        number += 1
    return path


def _safe_prefix(prefix: str) -> str:
    """A prefix of a workflow, which may be a stranger's, without folders and what a file's name cannot have."""
    return _safe(_FIELDS.sub("", prefix).replace("\\", "/").rpartition("/")[2]) or _DEFAULT


def _safe(text: str) -> str:
    return _UNSAFE.sub("-", text).strip(".-_")[:80]
