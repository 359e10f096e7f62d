"""Graphs for ComfyUI: of results, so that a file dropped on its page opens as the workflow that makes it again.

A graph has two forms. ComfyUI's API takes nodes by number, whose inputs have names; its page saves nodes with places on
the canvas, links by number, and the values of widgets in order. Files of results hold both, as ComfyUI's own do.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from qied_client.options.redraws import GivenRedraw, given_redraws
from qied_client.picture_file.comfyui_nodes import KINDS, SEED, NodeKind, Value
from qied_client.picture_metadata import PictureMetadata

_ACROSS: Final = 60
_DOWN: Final = 50
"""Pixels between nodes on the canvas."""
_VERSION: Final = 0.4
"""Of the format in which ComfyUI's page saves workflows."""
_OPTIONAL_SHAPE: Final = 7
"""How a socket that may stay empty is drawn."""
MOST_PICTURES: Final = 3
"""Pictures that Qied Edit has inputs for: as many as any model takes that qied knows."""


@dataclass(frozen=True)
class Output:
    """One output of a node, by its place."""

    node: int
    slot: int = 0


Input = Value | Output


class Graph:
    """Nodes in the order in which they were added, each after those that it is linked to."""

    def __init__(self) -> None:
        self._nodes: list[tuple[str, str, dict[str, Input]]] = []

    def add(self, kind: str, title: str = "", **inputs: Input | None) -> Output:
        """Add a node and return its first output; inputs that are None are left out. ``kind`` is one of ``KINDS``."""
        given = {name: value for name, value in inputs.items() if value is not None}
        known = {*KINDS[kind].sockets, *KINDS[kind].widgets}
        assert given.keys() <= known, f"{kind} has no {given.keys() - known}"
        self._nodes.append((kind, title or kind, given))
        return Output(len(self._nodes))

    def for_api(self) -> dict[str, Any]:
        """The form that ``POST /prompt`` takes."""
        return {
            str(number): {
                "class_type": kind,
                "inputs": {
                    name: [str(value.node), value.slot] if isinstance(value, Output) else value
                    for name, value in inputs.items()
                    if name != "upload"
                },
                "_meta": {"title": title},
            }
            for number, (kind, title, inputs) in enumerate(self._nodes, 1)
        }

    def for_page(self) -> dict[str, Any]:
        """The form that ComfyUI's page saves and opens, with seeds that stay as they are after a run."""
        links: list[list[int | str]] = []
        for number, (kind, _, inputs) in enumerate(self._nodes, 1):
            for place, (name, type_) in enumerate(KINDS[kind].sockets.items()):
                if isinstance(source := inputs.get(name), Output):
                    links.append([len(links) + 1, source.node, source.slot, number, place, type_])
        places = self._places()
        return {
            "last_node_id": len(self._nodes),
            "last_link_id": len(links),
            "nodes": [self._node(number, places[number - 1], links) for number in range(1, len(self._nodes) + 1)],
            "links": links,
            "groups": [],
            "config": {},
            "extra": {},
            "version": _VERSION,
        }

    def _node(self, number: int, place: tuple[int, int], links: Sequence[Sequence[int | str]]) -> dict[str, Any]:
        kind, title, inputs = self._nodes[number - 1]
        declared = KINDS[kind]
        into = {link[4]: link[0] for link in links if link[3] == number}
        own_title = {} if title == kind else {"title": title}
        return {
            "id": number,
            "type": kind,
            **own_title,
            "pos": [*place],
            "size": [*declared.size],
            "flags": {},
            "order": number - 1,
            "mode": 0,
            "inputs": [
                {"name": name, "type": type_, "shape": _OPTIONAL_SHAPE, "link": into.get(slot)}
                for slot, (name, type_) in enumerate(declared.sockets.items())
            ],
            "outputs": [
                {
                    "name": name,
                    "type": type_,
                    "links": [link[0] for link in links if link[1] == number and link[2] == slot],
                }
                for slot, (name, type_) in enumerate(declared.outputs.items())
            ],
            "properties": {"Node name for S&R": kind},
            "widgets_values": _widget_values(declared, inputs),
        }

    def _places(self) -> list[tuple[int, int]]:
        """Columns from left to right: each node is one to the right of what it is linked to."""
        columns: list[int] = []
        for _, _, inputs in self._nodes:
            before = [columns[value.node - 1] for value in inputs.values() if isinstance(value, Output)]
            columns.append(1 + max(before, default=-1))
        left = [0]
        for column in range(max(columns, default=0) + 1):
            widths = [
                KINDS[kind].size[0] for at, (kind, _, _) in zip(columns, self._nodes, strict=True) if at == column
            ]
            left.append(left[-1] + max(widths, default=0) + _ACROSS)
        tops: dict[int, int] = {}
        places = []
        for column, (kind, _, _) in zip(columns, self._nodes, strict=True):
            top = tops.get(column, 0)
            places.append((left[column], top))
            tops[column] = top + KINDS[kind].size[1] + _DOWN
        return places


def _widget_values(kind: NodeKind, inputs: dict[str, Input]) -> list[Value]:
    values: list[Value] = []
    for name, default in kind.widgets.items():
        value = inputs.get(name, default)
        values.append(default if isinstance(value, Output) else value)
        if name == SEED:
            values.append("fixed")
    return values


def forms_of(metadata: PictureMetadata) -> tuple[str, str]:
    """Both forms of the graph of a result, that of the API first, as lines of ASCII JSON.

    Empty where a result is of more pictures than the node has inputs for.
    """
    if len(metadata.sources) > MOST_PICTURES:
        return "", ""
    graph = graph_of(metadata)
    return json.dumps(graph.for_api()), json.dumps(graph.for_page())


def graph_of(metadata: PictureMetadata) -> Graph:
    """The graph that makes a result again, with its pictures fetched from the daemon while that keeps them."""
    graph = Graph()

    def picture(blob: str, title: str, mask_mode: str | None = None) -> Output:
        return graph.add("QiedPicture", title, picture=blob, mask_mode=mask_mode)

    def mask(blob: str, mode: str) -> Output:
        return Output(picture(blob, "Mask", mode or "auto").node, 1)

    def region(each: GivenRedraw, before: Output | None) -> Output:
        x, y, width, height = each.redraw.box or (0, 0, 0, 0)
        return graph.add(
            "QiedRegion",
            "Region",
            regions=before,
            mask=mask(each.mask, each.redraw.mask_mode) if isinstance(each.mask, str) else None,
            **{"x": x, "y": y, "width": width, "height": height, "strength": each.redraw.strength},
            **{
                "padding": -1 if each.redraw.padding is None else each.redraw.padding,
                "feather": each.redraw.feather,
                "scale": each.redraw.scale or 0.0,
            },
            steps=each.redraw.steps or 0,
        )

    pictures = [picture(blob, f"Picture {number}") for number, blob in enumerate(metadata.sources, 1)]
    if metadata.upscale and not metadata.steps:
        result = graph.add("QiedUpscale", "Upscale", image=next(iter(pictures), None), upscaler=metadata.upscale)
    else:
        edited = {f"image{number}": source for number, source in enumerate(pictures, 1)}
        loras: Output | None = None
        for name, strength in metadata.loras:
            loras = graph.add("QiedLora", name, loras=loras, name=name, strength=strength)
        regions: Output | None = None
        for each in given_redraws([*metadata.redraw]):
            regions = region(each, regions)
        result = graph.add(
            "QiedEdit",
            "Edit",
            **edited,
            mask=None if metadata.mask is None else mask(metadata.mask, metadata.mask_mode),
            loras=loras,
            redraw=regions,
            canvas=None if metadata.canvas is None else picture(metadata.canvas, "Canvas"),
            prompt=metadata.prompt,
            seed=metadata.seed,
            steps=metadata.steps,
            true_cfg_scale=metadata.true_cfg_scale,
            preset=metadata.preset,
            negative_prompt=metadata.negative_prompt or "",
            **_size(metadata),
            upscale=metadata.upscale or None,
            background=metadata.background or None,
            align=metadata.aligned or not metadata.drift,
            compat=metadata.compat or None,
        )
    graph.add("SaveImage", "Save", images=result, filename_prefix="qied")
    return graph


def _size(metadata: PictureMetadata) -> dict[str, Input]:
    """What asks for the result's size again: the rule that gave it, or its sides before it was enlarged."""
    if metadata.size:
        return {"size": metadata.size}
    if metadata.canvas is not None:
        return {}
    scale = metadata.upscale_by
    return {"width": metadata.width // scale, "height": metadata.height // scale}
