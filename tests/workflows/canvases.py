"""Writes canvases as ComfyUI's page saves them, so that tests can say what is on them in a few words."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

MUTED, BYPASSED = 2, 4


@dataclass
class Graph:
    """A canvas, or with ``inputs`` and ``outputs`` a subgraph's definition. Nodes are added, then links by names."""

    name: str = ""
    nodes: list[dict[str, Any]] = field(default_factory=list)
    links: list[list[Any]] = field(default_factory=list)
    inputs: list[dict[str, Any]] = field(default_factory=list)
    outputs: list[dict[str, Any]] = field(default_factory=list)
    numbers: Any = field(default_factory=lambda: itertools.count(1))

    def node(
        self,
        number: int,
        kind: str,
        values: Any = (),
        *,
        takes: dict[str, str] | None = None,
        gives: str = "",
        widgets: tuple[str, ...] = (),
        mode: int = 0,
        title: str = "",
        **properties: Any,
    ) -> int:
        """Add a node. ``takes`` are its inputs with their types, ``gives`` the types of its outputs with spaces.

        ``widgets`` are those of its inputs that are widgets.
        """
        self.nodes.append(
            {
                "id": number,
                "type": kind,
                "pos": [0, 0],
                "size": [1, 1],
                "flags": {},
                "order": len(self.nodes),
                "mode": mode,
                "inputs": [
                    {"name": name, "type": of, "link": None, **({"widget": {"name": name}} if name in widgets else {})}
                    for name, of in (takes or {}).items()
                ],
                "outputs": [{"name": of, "type": of, "links": []} for of in gives.split()],
                "properties": {"Node name for S&R": kind, **properties},
                "widgets_values": values if isinstance(values, dict) else list(values),
                **({"title": title} if title else {}),
            }
        )
        return number

    def link(self, origin: int, slot: int, target: int, name: str) -> None:
        """Connect an output to the input of that name; -10 and -20 are the subgraph's own sides."""
        number = next(self.numbers)
        if target == -20:
            into = [each["name"] for each in self.outputs].index(name)
            self.outputs[into]["linkIds"].append(number)
            kind = self.outputs[into]["type"]
        else:
            slots = next(node for node in self.nodes if node["id"] == target)["inputs"]
            into = [each["name"] for each in slots].index(name)
            slots[into]["link"] = number
            kind = slots[into]["type"]
        if origin == -10:
            self.inputs[slot]["linkIds"].append(number)
        self.links.append([number, origin, slot, target, into, kind])

    def takes(self, name: str, of: str, label: str = "") -> int:
        """Add an input of a subgraph; returns its number."""
        self.inputs.append(
            {"id": f"in-{name}", "name": name, "type": of, "linkIds": [], **({"label": label} if label else {})}
        )
        return len(self.inputs) - 1

    def gives(self, name: str, of: str) -> int:
        """Add an output of a subgraph; returns its number."""
        self.outputs.append({"id": f"out-{name}", "name": name, "type": of, "linkIds": []})
        return len(self.outputs) - 1

    def definition(self, name: str) -> dict[str, Any]:
        """This graph as the definition of a subgraph."""
        return {
            "id": name,
            "version": 1,
            "revision": 0,
            "name": self.name or name,
            "inputNode": {"id": -10, "bounding": [0, 0, 1, 1]},
            "outputNode": {"id": -20, "bounding": [0, 0, 1, 1]},
            "inputs": self.inputs,
            "outputs": self.outputs,
            "widgets": [],
            "nodes": self.nodes,
            "links": [_as_object(link) for link in self.links],
        }

    def document(self, subgraphs: dict[str, Graph] | None = None, *, version: float = 0.4) -> dict[str, Any]:
        """This graph as a file of that version, with definitions of subgraphs."""
        return {
            "id": "00000000-0000-4000-8000-000000000000",
            "revision": 0,
            "last_node_id": 999,
            "last_link_id": 999,
            "nodes": self.nodes,
            "links": [_as_object(link) for link in self.links] if version == 1 else self.links,
            "groups": [],
            "definitions": {"subgraphs": [graph.definition(name) for name, graph in (subgraphs or {}).items()]},
            "config": {},
            "extra": {},
            "version": version,
        }


def _as_object(link: list[Any]) -> dict[str, Any]:
    return dict(zip(("id", "origin_id", "origin_slot", "target_id", "target_slot", "type"), link, strict=True))
