"""Inputs of a workflow set from outside: by a node's id, title or class, or by the input's name where that is one."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from qied_client.errors import InvalidRequest
from qied_client.workflows.canvas.widgets import widget_names
from qied_client.workflows.rules.table import PREVIEWS, SAVES
from qied_client.workflows.workflow import Link, Node, Workflow

_SHOWN: Final = 6
_TRUE: Final = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
Target = tuple[str, str]
"""A node's id and the name of its input."""


def with_settings(workflow: Workflow, settings: Mapping[str, Any]) -> Workflow:
    """The workflow with inputs set: ``{"12.seed": 7, "Positive.prompt": "make it night", "steps": 8}``.

    Text becomes a number, or true or false, where the input has one. A link of the input is cut. Raises InvalidRequest
    for a name that means no input, or several.
    """
    nodes = dict(workflow.nodes)
    for name, value in settings.items():
        for node_id, key in _targets(workflow, name):
            node = nodes[node_id]
            inputs = {**node.inputs, key: _as_wanted(name, node.inputs.get(key), value)}
            nodes[node_id] = replace(node, inputs=inputs, cut={k: v for k, v in node.cut.items() if k != key})
    return replace(workflow, nodes=nodes)


def _targets(workflow: Workflow, name: str) -> tuple[Target, ...]:
    """The inputs that a name means: one, or all those that an input of a subgraph stands for."""
    which, dot, key = name.rpartition(".")
    if not dot:
        return _by_input(workflow, name)
    if (which, key) in workflow.promoted:
        return workflow.promoted[which, key]
    nodes = _by_node(workflow, which)
    if not nodes:
        raise _refused(f"{name}: there is no node {which!r}.", f"There are: {_listed(_near(workflow, which))}.")
    having = [node for node in nodes if key in _inputs_of(node)]
    if len(having) == 1:
        return ((having[0].id, key),)
    if not having:
        there = list(dict.fromkeys(each for node in nodes for each in _inputs_of(node)))
        near = difflib.get_close_matches(key, there, n=_SHOWN, cutoff=0.5) or there
        raise _refused(f"{name}: node {nodes[0].name} has no input {key!r}.", f"It has: {_listed(near)}.")
    raise _several(name, [(node.id, key) for node in having], workflow)


def _by_node(workflow: Workflow, which: str) -> list[Node]:
    """The nodes of an id, else of a title, else of a class."""
    if which in workflow.nodes:
        return [workflow.nodes[which]]
    wanted = which.lower()
    nodes = list(_needed(workflow))
    titled = [node for node in nodes if node.title.lower() == wanted]
    return titled or [node for node in nodes if node.class_type.lower() == wanted]


def _by_input(workflow: Workflow, key: str) -> tuple[Target, ...]:
    having = [(node.id, key) for node in _needed(workflow) if key in _inputs_of(node)]
    if len(having) == 1:
        return tuple(having)
    shown = {targets for (_, name), targets in workflow.promoted.items() if name == key}
    if len(shown) == 1:
        return next(iter(shown))
    if having:
        positive = _positive(workflow)
        wanted = [target for target in having if target[0] in positive]
        if len(wanted) == 1:  # of two prompts the one that is not the negative
            return tuple(wanted)
        raise _several(key, having, workflow)
    names = list(dict.fromkeys(each for node in _needed(workflow) for each in _inputs_of(node)))
    near = difflib.get_close_matches(key, names, n=_SHOWN, cutoff=0.5) or names
    raise _refused(f"{key}: no node has such an input.", f"There are: {_listed(near)}.")


def _positive(workflow: Workflow) -> set[str]:
    """The nodes that lead to the positive prompt of some sampler, and not to a negative one."""
    return _leading(workflow, "positive") - _leading(workflow, "negative")


def _leading(workflow: Workflow, name: str) -> set[str]:
    """The nodes before the inputs of that name, as far as only prompts are passed on."""
    nodes = workflow.nodes
    left = [link.node for node in _needed(workflow) for key, link in node.links() if key == name]
    found: set[str] = set()
    while left:
        number = left.pop()
        if number in nodes and number not in found:
            found.add(number)
            left += [link.node for key, link in nodes[number].links() if key in ("conditioning", name)]
    return found


def _needed(workflow: Workflow) -> Iterator[Node]:
    """The nodes that some save node needs, or could by a switch."""
    left = [node.id for node in workflow.nodes.values() if node.class_type in (*SAVES, *PREVIEWS)]
    found: set[str] = set()
    while left:
        name = left.pop()
        if name in found or name not in workflow.nodes:
            continue
        found.add(name)
        left += [link.node for _, link in workflow.nodes[name].links()]
    return (node for node in workflow.nodes.values() if node.id in found)


def _inputs_of(node: Node) -> list[str]:
    """Names of inputs that can be values: those that are, and those that may be."""
    known = widget_names(node.class_type)
    return list(dict.fromkeys([*(name for name, value in node.inputs.items() if not isinstance(value, Link)), *known]))


def _as_wanted(name: str, before: Any, value: Any) -> Any:
    """``value``, as a number or true or false where it is text and ``before`` is of that kind."""
    if not isinstance(value, str) or isinstance(before, str):
        return str(value) if isinstance(before, str) and not isinstance(value, str) else value
    if isinstance(before, bool):
        if value.lower() not in _TRUE:
            raise _refused(f"{name}: {value!r} is neither true nor false.", "Write true or false.")
        return _TRUE[value.lower()]
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        found = value
    if isinstance(before, (int, float)) and (isinstance(found, bool) or not isinstance(found, (int, float))):
        raise _refused(f"{name}: {value!r} is not a number.", "Write a number.")
    return found


def _several(name: str, targets: list[Target], workflow: Workflow) -> InvalidRequest:
    told = [f"{node}.{key} ({_called(workflow.nodes[node])})" for node, key in targets]
    return _refused(f"{name}: several nodes have such an input.", f"Name one: {_listed(told)}.")


def _called(node: Node) -> str:
    return node.title or node.class_type


def _near(workflow: Workflow, which: str) -> list[str]:
    names = {node.name: node.id for node in _needed(workflow)}
    titles = {_called(node): node.name for node in _needed(workflow)}
    near = difflib.get_close_matches(which, titles, n=_SHOWN, cutoff=0.5)
    return [titles[each] for each in near] or list(names)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _refused(message: str, remedy: str) -> InvalidRequest:
    return InvalidRequest(message, remedy, field="set")
