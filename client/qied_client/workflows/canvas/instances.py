"""What an instance of a subgraph has of its own: values for the inputs that it shows.

Files of today have them in the order of those inputs of the subgraph that are widgets within. Older ones name widgets
in ``proxyWidgets`` and, if they have values at all, have them in that order; without, the values within count.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from qied_client.workflows.canvas.graph import Boundary, CanvasNode, Graph, Slot

_OWN: Final = "-1"
"""Stands for the subgraph itself in ``proxyWidgets``."""


def shown_inputs(graph: Graph, boundary: Boundary) -> Iterator[tuple[CanvasNode, Slot]]:
    """The widgets within a subgraph that one of its inputs is connected to."""
    for link in boundary.links:
        wire = graph.wires.get(link)
        target = graph.nodes.get(wire.target) if wire is not None else None
        if wire is None or target is None or wire.target_slot >= len(target.inputs):
            continue
        slot = target.inputs[wire.target_slot]
        if slot.widget:
            yield target, slot


def host_values(graph: Graph, instance: CanvasNode) -> dict[str, Any]:
    """Values of an instance by the name of an input; of a widget within that has none, by ``id.name``."""
    if not isinstance(instance.values, list):
        return {str(name): value for name, value in instance.values.items() if value is not None}
    proxies = _proxies(instance)
    if proxies:
        named = [_host_name(graph, node, widget) for node, widget in proxies]
    else:
        named = [each.name for each in graph.inputs if any(True for _ in shown_inputs(graph, each))]
    # A list that is too short leaves the rest to the nodes within.
    return {name: value for name, value in zip(named, instance.values, strict=False) if value is not None}


def _proxies(instance: CanvasNode) -> list[tuple[str, str]]:
    listed = instance.properties.get("proxyWidgets")
    if isinstance(listed, str):
        try:
            listed = json.loads(listed)
        except (ValueError, RecursionError):
            listed = None
    if not isinstance(listed, list):
        return []
    return [(str(each[0]), str(each[1])) if isinstance(each, list) and len(each) > 1 else ("", "") for each in listed]


def _host_name(graph: Graph, node: str, widget: str) -> str:
    if node == _OWN:
        return widget
    for boundary in graph.inputs:
        if any(target.id == node and slot.name == widget for target, slot in shown_inputs(graph, boundary)):
            return boundary.name
    return f"{node}.{widget}"
