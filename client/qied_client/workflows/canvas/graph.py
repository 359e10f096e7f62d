"""One graph of a canvas: its nodes, slots and links, however the file has them.

Versions 0.4 and 1.0 of ComfyUI's file format differ in their links, which are arrays there and objects here; the
graphs within subgraphs always have objects.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final

from qied_client.workflows.workflow import not_a_workflow

INPUTS_NODE: Final = "-10"
"""The node of a subgraph that stands for its inputs."""
MUTED: Final = 2
BYPASSED: Final = 4
_DAMAGED: Final = "Save it again in ComfyUI, or export it there with Export (API)."
_LINK_FIELDS: Final = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")


@dataclass(frozen=True)
class Wire:
    """A link of a canvas: from an output of a node to an input of another."""

    origin: str
    origin_slot: int
    target: str
    target_slot: int


@dataclass(frozen=True)
class Slot:
    """An input or output of a node. ``link`` is the one of an input; ``widget`` whether it is shown as a value."""

    name: str
    type: str
    link: int | None = None
    widget: bool = False


@dataclass(frozen=True)
class CanvasNode:
    """A node of a canvas; ``mode`` is 0 where it runs, ``values`` what its widgets hold, by position or by name."""

    id: str
    type: str
    mode: int
    title: str
    inputs: tuple[Slot, ...]
    outputs: tuple[Slot, ...]
    values: list[Any] | Mapping[str, Any]
    properties: Mapping[str, Any]

    def input_named(self, name: str) -> Slot | None:
        """The input of that name, if the file has it: those that nothing is connected to may be left out."""
        return next((slot for slot in self.inputs if slot.name == name), None)


@dataclass(frozen=True)
class Boundary:
    """An input or output of a subgraph: its name, the label that people see, and the links within."""

    name: str
    label: str
    links: tuple[int, ...]


@dataclass(frozen=True)
class Graph:
    """The nodes and links of a canvas, or of a subgraph's definition, which has inputs and outputs."""

    nodes: Mapping[str, CanvasNode]
    wires: Mapping[int, Wire]
    inputs: tuple[Boundary, ...] = ()
    outputs: tuple[Boundary, ...] = ()
    inputs_node: str = INPUTS_NODE

    @cached_property
    def types(self) -> frozenset[str]:
        """The classes of its nodes."""
        return frozenset(node.type for node in self.nodes.values())


@dataclass(frozen=True)
class Canvas:
    """A whole file: the graph that it opens with, and the definitions of its subgraphs by id."""

    root: Graph
    subgraphs: Mapping[str, Graph] = field(default_factory=dict)


def read_canvas(document: Mapping[str, Any]) -> Canvas:
    """Read a file of ComfyUI's page; raises InvalidRequest where it is damaged."""
    try:
        subgraphs = {str(each["id"]): _graph(each) for each in _definitions(document)}
        return Canvas(_graph(document), subgraphs)
    except (KeyError, TypeError, ValueError, OverflowError, IndexError, AttributeError) as error:
        what = f"{error!s} is missing" if isinstance(error, KeyError) else str(error)
        raise not_a_workflow(f"the file is damaged: {what[:120]}.", _DAMAGED) from None


def _definitions(document: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """All definitions of subgraphs: those at the top, and those within others, which the file format allows."""
    for each in (document.get("definitions") or {}).get("subgraphs") or ():
        yield each
        yield from _definitions(each)


def _graph(data: Mapping[str, Any]) -> Graph:
    nodes = {node.id: node for node in map(_node, data["nodes"])}
    wires = {
        number: wire
        for number, wire in (_wire(each) for each in data.get("links") or () if each is not None)
        if wire.origin_slot >= 0 and wire.target_slot >= 0
    }
    nodes = _connected(nodes, wires, (data.get("extra") or {}).get("ue_links") or ())
    entrance = (data.get("inputNode") or {}).get("id", INPUTS_NODE)
    return Graph(
        nodes,
        wires,
        tuple(map(_boundary, data.get("inputs") or ())),
        tuple(map(_boundary, data.get("outputs") or ())),
        str(entrance),
    )


def _connected(
    nodes: dict[str, CanvasNode], wires: dict[int, Wire], links: Iterable[Mapping[str, Any]]
) -> dict[str, CanvasNode]:
    """The nodes with the links that nodes such as Anything Everywhere had made when the page last ran the file.

    A file lists them apart; they count for inputs without a link of their own. Adds them to ``wires``.
    """
    found = dict(nodes)
    for number, link in enumerate(links, 1):
        origin, target = str(link["upstream"]), found.get(str(link["downstream"]))
        into, slot = int(link["downstream_slot"]), int(link["upstream_slot"])
        maker = nodes.get(str(link.get("controller")))
        if target is None or origin not in nodes or not 0 <= into < len(target.inputs):
            continue
        if target.inputs[into].link is not None or (maker is not None and maker.mode in (MUTED, BYPASSED)):
            continue
        wires[-number] = Wire(origin, slot, target.id, into)
        inputs = (*target.inputs[:into], replace(target.inputs[into], link=-number), *target.inputs[into + 1 :])
        found[target.id] = replace(target, inputs=inputs)
    return found


def _node(data: Mapping[str, Any]) -> CanvasNode:
    values = data.get("widgets_values")
    properties = data.get("properties")
    return CanvasNode(
        str(data["id"]),
        str(data["type"]),
        int(data.get("mode") or 0),
        str(data.get("title") or ""),
        tuple(map(_slot, data.get("inputs") or ())),
        tuple(map(_slot, data.get("outputs") or ())),
        values if isinstance(values, (list, Mapping)) else [],
        properties if isinstance(properties, Mapping) else {},
    )


def _slot(data: Mapping[str, Any]) -> Slot:
    link = data.get("link")
    return Slot(
        str(data["name"]), _type(data.get("type")), None if link is None else int(link), bool(data.get("widget"))
    )


def _type(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value if value not in (None, 0, -1) else "*")


def _boundary(data: Mapping[str, Any]) -> Boundary:
    name = str(data["name"])
    return Boundary(name, str(data.get("label") or name), tuple(int(link) for link in data.get("linkIds") or ()))


def _wire(data: Any) -> tuple[int, Wire]:
    fields: list[Any] = [data.get(name) for name in _LINK_FIELDS] if isinstance(data, Mapping) else list(data)
    number, origin, origin_slot, target, target_slot = fields[:5]
    return int(number), Wire(str(origin), int(origin_slot), str(target), int(target_slot))
