"""From a canvas to the nodes that run: subgraphs opened, bypassed nodes and those of the page alone passed through.

The rules are those of ComfyUI's page when it queues a workflow: a muted node takes its links away, a bypassed one
passes on the first input that fits the type, a link to a value goes before the value, and an instance of a subgraph has
values of its own for the inputs that it shows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from qied_client.workflows.canvas.graph import BYPASSED, MUTED, Canvas, CanvasNode, Graph, Slot
from qied_client.workflows.canvas.instances import host_values, shown_inputs
from qied_client.workflows.canvas.widgets import widget_values
from qied_client.workflows.workflow import Link, Node, Workflow, not_a_workflow

_NOTES: Final = frozenset({"Note", "MarkdownNote", "Label (rgthree)", "Bookmark (rgthree)"})
_REROUTES: Final = frozenset({"Reroute", "Reroute (rgthree)"})
_PRIMITIVE: Final = "PrimitiveNode"
_SETTERS: Final = frozenset({"SetNode", "easy setNode"})
_GETTERS: Final = frozenset({"GetNode", "easy getNode"})
_OF_THE_PAGE: Final = frozenset({*_NOTES, *_REROUTES, *_SETTERS, *_GETTERS, _PRIMITIVE})
"""Nodes that never reach the server."""
_MOST_NODES: Final = 5_000
_ANY: Final = frozenset({"*", ""})
_EVERYWHERE: Final = "a node such as Anything Everywhere gives it on ComfyUI's page alone; export with Export (API)"


@dataclass(frozen=True)
class _Value:
    """What stands at the other end of a link where that is a value."""

    value: Any


@dataclass(frozen=True)
class _Nothing:
    """An end of a link without anything: ``why``. ``removed``: a value of the input goes with it."""

    why: str
    removed: bool = False


_End = Link | _Value | _Nothing


@dataclass(frozen=True)
class Place:
    """A graph as one instance has it: ``path`` are the ids of the instances around it, the outermost first."""

    graph: Graph
    path: tuple[str, ...] = ()
    instance: CanvasNode | None = None
    around: Place | None = None
    values: dict[str, Any] = field(default_factory=dict)
    """Of its own inputs by name, and by ``id.name`` of widgets within that it shows without an input."""

    def flat(self, node: str) -> str:
        """The id of a node of this graph among all nodes."""
        return ":".join((*self.path, node))


def flattened(canvas: Canvas) -> Workflow:
    """The nodes that ComfyUI's server would be sent; raises InvalidRequest for a canvas that goes round in circles."""
    return _Flattening(canvas).run()


class _Flattening:
    def __init__(self, canvas: Canvas) -> None:
        self._canvas = canvas
        self._nodes: dict[str, Node] = {}
        self._promoted: dict[tuple[str, str], tuple[tuple[str, str], ...]] = {}
        self._inner: dict[str, Place] = {}

    def run(self) -> Workflow:
        try:
            self._walk(Place(self._canvas.root))
        except RecursionError:
            raise not_a_workflow(
                "its links go on without an end.", "Connect fewer nodes one behind the other."
            ) from None
        return Workflow(self._nodes, "ui", self._promoted)

    def _walk(self, place: Place) -> None:
        for node in place.graph.nodes.values():
            if node.mode in (MUTED, BYPASSED) or node.type in _OF_THE_PAGE:
                continue
            if len(self._nodes) >= _MOST_NODES:
                raise not_a_workflow(f"it has more than {_MOST_NODES} nodes.", "Take a part of it.")
            if node.type in self._canvas.subgraphs:
                inner = self._within(place, node)
                self._walk(inner)
                self._promote(inner)
            else:
                self._nodes[place.flat(node.id)] = self._running(place, node)

    def _within(self, place: Place, instance: CanvasNode) -> Place:
        """The graph of an instance, with the values that the instance has for it."""
        flat = place.flat(instance.id)
        if flat not in self._inner:
            graph = self._canvas.subgraphs[instance.type]
            around: Place | None = place
            while around is not None:
                if around.graph is graph:
                    raise not_a_workflow(f"the subgraph of node {flat} contains itself.", "Take it out of itself.")
                around = around.around
            values = {
                name.removeprefix(f"{instance.id}."): value
                for name, value in place.values.items()
                if name.startswith(f"{instance.id}.")
            }
            values = {**host_values(graph, instance), **values}
            self._inner[flat] = Place(graph, (*place.path, instance.id), instance, place, values)
        return self._inner[flat]

    def _running(self, place: Place, node: CanvasNode) -> Node:
        inputs: dict[str, Any] = widget_values(node)
        own = f"{node.id}."
        inputs |= {name.removeprefix(own): value for name, value in place.values.items() if name.startswith(own)}
        cut: dict[str, str] = {}
        for slot in node.inputs:
            if slot.link is None:
                if slot.name not in inputs and any("everywhere" in name.lower() for name in place.graph.types):
                    cut[slot.name] = _EVERYWHERE
                continue
            end = self._before(place, slot, slot.type, frozenset())
            if isinstance(end, Link):
                inputs[slot.name] = end
            elif isinstance(end, _Value):
                inputs[slot.name] = end.value
            else:
                if end.removed:
                    inputs.pop(slot.name, None)
                if slot.name not in inputs and end.why:
                    cut[slot.name] = end.why
        return Node(place.flat(node.id), node.type, inputs, node.title, cut)

    def _promote(self, place: Place) -> None:
        """Note what each input that an instance shows stands for, by its name and by its label."""
        flat = ":".join(place.path)
        for boundary in place.graph.inputs:
            targets: list[tuple[str, str]] = []
            for target, slot in shown_inputs(place.graph, boundary):
                inner = (place.flat(target.id), slot.name)
                targets += self._promoted.get(inner, (inner,))
            if targets:
                for name in {boundary.name, boundary.label}:
                    self._promoted.setdefault((flat, name), tuple(targets))

    # Where an input comes from

    def _before(self, place: Place, slot: Slot, wanted: str, seen: frozenset[tuple[str, int]]) -> _End:
        """What an input is connected to, through all that does nothing. ``seen`` are outputs on the way."""
        if slot.link is None:
            return _Nothing("")
        wire = place.graph.wires.get(slot.link)
        if wire is None:
            return _Nothing("the file has no such link")
        if wire.origin == place.graph.inputs_node and place.instance is not None:
            return self._outside(place, wire.origin_slot, wanted, seen)
        return self._output(place, wire.origin, wire.origin_slot, wanted, seen)

    def _outside(self, place: Place, number: int, wanted: str, seen: frozenset[tuple[str, int]]) -> _End:
        """What an input of a subgraph has around it: a link, or a value of the instance, or nothing."""
        assert place.instance is not None and place.around is not None
        if number >= len(place.graph.inputs):
            return _Nothing("the subgraph has no such input")
        name = place.graph.inputs[number].name
        slot = place.instance.input_named(name)
        if slot is not None and slot.link is not None:
            return self._before(place.around, slot, wanted, seen)
        return _Value(place.values[name]) if name in place.values else _Nothing("")

    def _output(self, place: Place, origin: str, number: int, wanted: str, seen: frozenset[tuple[str, int]]) -> _End:
        node = place.graph.nodes.get(origin)
        if node is None:
            return _Nothing(f"node {place.flat(origin)} is not in the file")
        at = (place.flat(origin), number)
        if at in seen:
            raise not_a_workflow(f"the links of node {at[0]} go round in a circle.", "Disconnect one of them.")
        seen |= {at}
        if node.mode == MUTED:
            return _Nothing(f"node {at[0]} ({node.type}) is muted", removed=True)
        if node.mode == BYPASSED:
            slot = _passed_on(node, number, wanted)
            if slot is None:
                return _Nothing(f"node {at[0]} ({node.type}) is bypassed and has no input of this type to pass on")
            return self._before(place, slot, wanted, seen)
        if node.type in self._canvas.subgraphs:
            return self._out_of(self._within(place, node), number, wanted, seen)
        if node.type in _REROUTES:
            return self._before(place, node.inputs[0], wanted, seen) if node.inputs else _Nothing("")
        if node.type == _PRIMITIVE:
            values = node.values if isinstance(node.values, list) else list(node.values.values())
            return _Value(values[0]) if values else _Nothing(f"node {at[0]} (PrimitiveNode) has no value")
        if node.type in _GETTERS:
            return self._set_elsewhere(place, node, wanted, seen)
        return _Nothing("") if node.type in _OF_THE_PAGE else Link(*at)

    def _out_of(self, inner: Place, number: int, wanted: str, seen: frozenset[tuple[str, int]]) -> _End:
        """What an output of a subgraph comes from, within it."""
        links = inner.graph.outputs[number].links if number < len(inner.graph.outputs) else ()
        wire = next((inner.graph.wires[link] for link in links if link in inner.graph.wires), None)
        if wire is None:
            return _Nothing(f"nothing is connected to this output within subgraph {':'.join(inner.path)}")
        if wire.origin == inner.graph.inputs_node:
            return self._outside(inner, wire.origin_slot, wanted, seen)
        return self._output(inner, wire.origin, wire.origin_slot, wanted, seen)

    def _set_elsewhere(self, place: Place, getter: CanvasNode, wanted: str, seen: frozenset[tuple[str, int]]) -> _End:
        """What the SetNode of a GetNode's name holds, in this graph or in one around it."""
        name = _first(getter)
        where: Place | None = place
        while where is not None:
            for node in where.graph.nodes.values():
                if node.type in _SETTERS and _first(node) == name and node.inputs:
                    if node.mode == MUTED:
                        return _Nothing(f"node {where.flat(node.id)} ({node.type}) is muted", removed=True)
                    return self._before(where, node.inputs[0], wanted, seen)
            where = where.around
        return _Nothing(f"there is no SetNode of the name {name!r}")


def _first(node: CanvasNode) -> object:
    return next(iter(node.values if isinstance(node.values, list) else node.values.values()), None)


def _passed_on(node: CanvasNode, number: int, wanted: str) -> Slot | None:
    """The input that a bypassed node passes on as its output ``number`` to an input of the type ``wanted``."""
    inputs = node.inputs
    if not inputs:
        return None
    opposite = inputs[number] if number < len(inputs) else None
    if wanted in _ANY:
        return opposite or inputs[0]
    given = node.outputs[number].type if number < len(node.outputs) else wanted
    if opposite is not None and _fits(opposite.type, given) and _fits(opposite.type, wanted):
        return opposite
    exact = next((slot for slot in inputs if slot.type == wanted), None)
    return exact or next((slot for slot in inputs if _fits(slot.type, given) and _fits(slot.type, wanted)), None)


def _fits(one: str, other: str) -> bool:
    """Whether a canvas lets two types be connected; several are written with commas between them."""
    if one in _ANY or other in _ANY:
        return True
    return bool(set(one.lower().split(",")) & set(other.lower().split(",")))
