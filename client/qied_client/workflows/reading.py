"""A workflow from JSON, in either of ComfyUI's formats: as its API takes it, or as its page saves it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from qied_client.workflows.canvas.flattening import flattened
from qied_client.workflows.canvas.graph import read_canvas
from qied_client.workflows.workflow import Link, Node, Workflow, not_a_workflow

_MOST_BYTES: Final = 16 * 1024 * 1024
_MOST_NODES: Final = 5_000
_NAME_CHARS: Final = 200
"""Most characters of what names a node, as many a message does."""
_EXPORT: Final = "Give a file that ComfyUI saved or exported, or a picture that has a workflow inside."


def read_workflow(document: Mapping[str, Any] | str | bytes) -> Workflow:
    """Read a workflow from JSON, or from what JSON gives; raises InvalidRequest where it is not one.

    It is taken in the format of ComfyUI's API, also within the body of a ``POST /prompt``, and in that of its page.
    """
    given: Any = _parsed(document) if isinstance(document, (str, bytes)) else document
    if not isinstance(given, Mapping):
        raise not_a_workflow(f"this is a {type(given).__name__}, not an object.", _EXPORT)
    if isinstance(given.get("nodes"), list):
        return flattened(read_canvas(given))
    return _of_api(given["prompt"] if isinstance(given.get("prompt"), Mapping) else given)


def _parsed(text: str | bytes) -> Any:
    if len(text) > _MOST_BYTES:
        raise not_a_workflow(f"{len(text)} bytes are more than {_MOST_BYTES}.", _EXPORT)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise not_a_workflow(f"this is not JSON: {error}.", _EXPORT) from None


def _of_api(graph: Mapping[str, Any]) -> Workflow:
    if not graph:
        raise not_a_workflow("it has no nodes.", _EXPORT)
    if len(graph) > _MOST_NODES:
        raise not_a_workflow(f"it has more than {_MOST_NODES} nodes.", "Take a part of it.")
    return Workflow({str(name): _node(str(name), each) for name, each in graph.items()})


def _node(name: str, data: Any) -> Node:
    if not isinstance(data, Mapping) or not isinstance(data.get("class_type"), str):
        raise not_a_workflow(f"{name[:40]!r} is not a node with a class_type.", _EXPORT)
    if max(len(name), len(data["class_type"])) > _NAME_CHARS:
        raise not_a_workflow(f"node {name[:40]!r} has a name of more than {_NAME_CHARS} characters.", _EXPORT)
    inputs = data.get("inputs") or {}
    meta = data.get("_meta")
    if not isinstance(inputs, Mapping):
        raise not_a_workflow(f"the inputs of node {name[:40]!r} are not an object.", _EXPORT)
    title = str(meta.get("title") or "")[:_NAME_CHARS] if isinstance(meta, Mapping) else ""
    return Node(name, data["class_type"], {str(key): _input(value) for key, value in inputs.items()}, title)


def _input(value: Any) -> Any:
    """A link, or a value, which is wrapped where it would look like a link."""
    if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str):
        node, slot = value
        if isinstance(slot, (int, float)) and not isinstance(slot, bool) and slot == slot // 1:
            return Link(node, int(slot))
    if isinstance(value, Mapping) and set(value) == {"__value__"}:
        return value["__value__"]
    return value
