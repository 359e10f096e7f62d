"""Any graph comes back from a canvas as it was, however it is folded into subgraphs and led by roundabout ways."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from qied_client.workflows import read_workflow
from qied_client.workflows.workflow import Link

from tests.workflows.canvases import BYPASSED, MUTED, Graph

# Inputs by link, outputs, and widgets in the order of a canvas; after "seed" the page keeps one value more.
CLASSES: dict[str, tuple[dict[str, str], tuple[str, ...], tuple[str, ...]]] = {
    "UNETLoader": ({}, ("MODEL",), ("unet_name", "weight_dtype")),
    "CLIPLoader": ({}, ("CLIP",), ("clip_name", "type", "device")),
    "LoraLoader": (
        {"model": "MODEL", "clip": "CLIP"},
        ("MODEL", "CLIP"),
        ("lora_name", "strength_model", "strength_clip"),
    ),
    "ModelSamplingAuraFlow": ({"model": "MODEL"}, ("MODEL",), ("shift",)),
    "CLIPTextEncode": ({"clip": "CLIP"}, ("CONDITIONING",), ("text",)),
    "PrimitiveInt": ({}, ("INT",), ("value",)),
    "KSampler": (
        {"model": "MODEL", "positive": "CONDITIONING", "negative": "CONDITIONING", "latent_image": "LATENT"},
        ("LATENT",),
        ("seed", "steps", "cfg", "sampler_name", "scheduler", "denoise"),
    ),
}
CONTROLLED = {"seed", "value"}
PROMOTABLE = {"KSampler": "steps", "CLIPTextEncode": "text", "LoraLoader": "lora_name", "UNETLoader": "unet_name"}
INNER_TYPE = {"steps": "INT", "text": "STRING", "lora_name": "COMBO", "unet_name": "COMBO"}


@dataclass
class Folded:
    """A graph of the canvas under construction: a group of nodes, and its instance in the group around it."""

    graph: Graph
    around: Folded | None = None
    number: int = 0
    name: str = ""
    values: list[Any] = field(default_factory=list)

    @property
    def path(self) -> tuple[int, ...]:
        return () if self.around is None else (*self.around.path, self.number)

    def flat(self, number: int) -> str:
        return ":".join(map(str, (*self.path, number)))

    def shown(self, name: str, kind: str, widget: bool) -> None:
        """Give its instance an input for that of the subgraph."""
        assert self.around is not None
        self.graph.takes(name, kind)
        slot = {"name": name, "type": kind, "link": None, **({"widget": {"name": name}} if widget else {})}
        self.instance()["inputs"].append(slot)

    def instance(self) -> dict[str, Any]:
        assert self.around is not None
        return next(each for each in self.around.graph.nodes if each["id"] == self.number)


class Folding:
    """Puts a random graph on a canvas, and keeps what ComfyUI's server would be sent for it."""

    def __init__(self, draw: Callable[[st.SearchStrategy[Any]], Any]) -> None:
        self.draw = draw
        self.ids = itertools.count(1)
        self.root = Folded(Graph())
        self.groups = [self.root]
        self.expected: dict[str, dict[str, Any]] = {}
        self.made: list[tuple[Folded, int, str]] = []

    def build(self) -> dict[str, Any]:
        for _ in range(self.draw(st.integers(0, 4))):
            self.fold(self.draw(st.sampled_from(self.groups)))
        for _ in range(self.draw(st.integers(1, 14))):
            self.add(self.draw(st.sampled_from(self.groups)), self.draw(st.sampled_from([*CLASSES])))
        for group in self.groups[1:]:
            group.instance()["widgets_values"] = group.values
        definitions = {group.name: group.graph for group in self.groups[1:]}
        return self.root.graph.document(definitions, version=self.draw(st.sampled_from([0.4, 1])))

    def fold(self, around: Folded) -> None:
        number = next(self.ids)
        group = Folded(Graph(), around, number, f"00000000-0000-4000-8000-{number:012}")
        around.graph.node(number, group.name)
        self.groups.append(group)

    def add(self, group: Folded, kind: str) -> None:
        number = next(self.ids)
        links, gives, widgets = CLASSES[kind]
        values = {name: self.draw(st.integers(0, 99)) for name in widgets}
        shown = PROMOTABLE.get(kind)
        takes = {**links, **({shown: INNER_TYPE[shown]} if shown else {})}
        listed: Any = [
            each
            for name in widgets
            for each in ((values[name], "randomize") if name in CONTROLLED else (values[name],))
        ]
        if self.draw(st.booleans()):
            listed = dict(values)
        group.graph.node(number, kind, listed, takes=takes, gives=" ".join(gives), widgets=(shown,) if shown else ())
        inputs: dict[str, Any] = dict(values)
        for name, of in links.items():
            ends = [
                (at, origin, slot)
                for at, origin, made in self.made
                for slot, out in enumerate(CLASSES[made][1])
                if out == of
            ]
            if ends and self.draw(st.booleans()):
                at, origin, slot = self.draw(st.sampled_from(ends))
                self.lead((at, origin, slot), (group, number, name), of)
                inputs[name] = Link(at.flat(origin), slot)
        if shown is not None and self.draw(st.booleans()):
            inputs[shown] = self.set_from_outside(group, number, shown, INNER_TYPE[shown])
        self.expected[group.flat(number)] = {"class_type": kind, "inputs": inputs}
        self.made.append((group, number, kind))

    def lead(self, origin: tuple[Folded, int, int], target: tuple[Folded, int, str], of: str) -> None:
        """Connect two nodes, through the sides of all subgraphs between them."""
        at, number, slot = origin
        into, end, name = target
        shared = next(n for n in range(len(at.path), -1, -1) if at.path[:n] == into.path[:n])
        while len(at.path) > shared:
            side = f"out{next(self.ids)}"
            at.graph.gives(side, of)
            self.wire(at.graph, number, slot, -20, side, of)
            at.instance()["outputs"].append({"name": side, "type": of, "links": []})
            number, slot = at.number, len(at.graph.outputs) - 1
            assert at.around is not None
            at = at.around
        down: list[Folded] = []
        while into.path != at.path:
            down.insert(0, into)
            assert into.around is not None
            into = into.around
        for group in down:
            side = f"in{next(self.ids)}"
            group.shown(side, of, widget=False)
            self.wire(at.graph, number, slot, group.number, side, of)
            at, number, slot = group, -10, len(group.graph.inputs) - 1
        self.wire(at.graph, number, slot, end, name, of)

    def wire(self, graph: Graph, origin: int, slot: int, target: int, name: str, of: str) -> None:
        """Connect two nodes of one graph, perhaps through a reroute, or a bypassed node that passes the type on."""
        way = self.draw(st.sampled_from(["straight", "straight", "reroute", "bypassed"]))
        if way == "straight":
            graph.link(origin, slot, target, name)
            return
        number = next(self.ids)
        if way == "reroute":
            graph.node(number, "Reroute", takes={"": "*"}, gives="*")
            graph.link(origin, slot, number, "")
        else:
            graph.node(number, "AnyNode", takes={"other": "AUDIO", "same": of}, gives=of, mode=BYPASSED)
            graph.link(origin, slot, number, "same")
        graph.link(number, 0, target, name)

    def set_from_outside(self, group: Folded, number: int, name: str, of: str) -> int:
        """Have a widget's value come from a primitive, or from the instance around it; returns what counts."""
        value = self.draw(st.integers(100, 199))
        if group.around is None:
            primitive = next(self.ids)
            group.graph.node(primitive, "PrimitiveNode", [value, "fixed"], gives=of)
            group.graph.link(primitive, 0, number, name)
            return value
        side = f"{name}{next(self.ids)}"
        group.shown(side, of, widget=True)
        group.graph.link(-10, len(group.graph.inputs) - 1, number, name)
        group.values.append(value)
        if self.draw(st.booleans()):  # and that is led on to the instance around, whose value goes before
            return self.set_from_outside(group.around, group.number, side, of)
        return value


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_graph_comes_back_from_a_canvas(data: st.DataObject) -> None:
    folding = Folding(data.draw)
    workflow = read_workflow(folding.build())
    found = {
        name: {"class_type": node.class_type, "inputs": dict(node.inputs)} for name, node in workflow.nodes.items()
    }
    assert found == folding.expected


def sampler(**inputs: str) -> Graph:
    """A subgraph's graph with a KSampler, whose widgets are inputs where ``inputs`` says so."""
    g = Graph()
    takes = {"seed": "INT", "steps": "INT"}
    g.node(
        1, "KSampler", [7, "fixed", 20, 4, "euler", "simple", 1], takes=takes, gives="LATENT", widgets=("seed", "steps")
    )
    for side, name in inputs.items():
        g.link(-10, g.takes(side, takes[name]), 1, name)
    return g


def inputs_of(document: dict[str, Any], node: str) -> dict[str, Any]:
    return dict(read_workflow(document).nodes[node].inputs)


def test_proxied_widgets_have_their_values_in_the_order_of_the_proxies() -> None:
    g = Graph()
    proxies = [["1", "denoise"], ["1", "steps"], ["-1", "noise"]]
    g.node(
        5, "S", [0.5, 8, 3], takes={"noise": "INT", "count": "INT"}, widgets=("noise", "count"), proxyWidgets=proxies
    )
    found = inputs_of(g.document({"S": sampler(noise="seed", count="steps")}), "5:1")
    assert (found["seed"], found["steps"], found["denoise"], found["cfg"]) == (3, 8, 0.5, 4)


def test_what_is_proxied_from_further_out_goes_first() -> None:
    """An instance shows a widget of an instance within it, which has a value of its own."""
    middle = Graph()
    middle.node(2, "S", [8], takes={"count": "INT"}, widgets=("count",))
    for values, steps in (([9], 9), ([], 8)):
        g = Graph()
        g.node(5, "M", values, proxyWidgets=[["2", "count"]])
        found = inputs_of(g.document({"S": sampler(count="steps"), "M": middle}), "5:2:1")
        assert found["steps"] == steps


def test_a_muted_node_takes_the_value_of_a_widget_with_it_and_a_bypassed_one_does_not() -> None:
    for mode, left in ((MUTED, None), (BYPASSED, 20)):
        g = sampler()
        g.node(2, "PrimitiveInt", [8, "fixed"], gives="INT", mode=mode)
        g.link(2, 0, 1, "steps")
        assert inputs_of(g.document(), "1").get("steps") == left
