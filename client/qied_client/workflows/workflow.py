"""A workflow as it runs: nodes with their inputs, without a canvas; and what is wrong with one of its nodes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from qied_client.errors import InvalidRequest, WorkflowRefused

UNSUPPORTED: Final = "unsupported_node"
MISSING: Final = "required_input_missing"
WRONG: Final = "invalid_input"
PICTURE: Final = "picture_missing"
ProblemKind = Literal["unsupported_node", "required_input_missing", "invalid_input", "picture_missing"]
"""What is wrong: with the class of a node, with an input that is not connected, with a value, or with a file."""
_MOST_NAMED: Final = 3


@dataclass(frozen=True)
class Link:
    """The output that an input comes from: a node's id, and the number of its output from 0."""

    node: str
    slot: int


@dataclass(frozen=True)
class Node:
    """One node. ``inputs`` are values of JSON, or links. ``cut`` says of inputs without either what stood there."""

    id: str
    class_type: str
    inputs: Mapping[str, Any]
    title: str = ""
    cut: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The node as people are told of it: ``169 (KSampler)``, with its title where it has one of its own."""
        title = f" {self.title!r}" if self.title and self.title != self.class_type else ""
        return f"{self.id} ({self.class_type}{title})"

    def links(self) -> Iterator[tuple[str, Link]]:
        """Its inputs that come from other nodes."""
        return ((name, value) for name, value in self.inputs.items() if isinstance(value, Link))


@dataclass(frozen=True)
class Workflow:
    """Nodes by id; those within a subgraph have ids such as ``170:161``, as ComfyUI gives them.

    ``kind`` is the format that it was read from: ``api`` or ``ui``. ``promoted`` are the inputs that a subgraph shows
    of its nodes, by (id, name): the (id, name) of each that it stands for.
    """

    nodes: Mapping[str, Node]
    kind: Literal["api", "ui"] = "api"
    promoted: Mapping[tuple[str, str], tuple[tuple[str, str], ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class NodeProblem:
    """Why a node cannot be run here, and what to do. ``input`` is the input that it is about, if any."""

    node_id: str
    class_type: str
    message: str
    remedy: str
    kind: ProblemKind = "invalid_input"
    input: str = ""

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".rstrip()


def refused(problems: tuple[NodeProblem, ...]) -> WorkflowRefused:
    """The error for a workflow that cannot be run here, for these reasons."""
    first = problems[0]
    told = [each.message for each in problems[:_MOST_NAMED]]
    left = len(problems) - len(told)
    more = f" And {left} more." if left else ""
    error = WorkflowRefused(
        " ".join(told) + more,
        " ".join(dict.fromkeys(each.remedy for each in problems[:_MOST_NAMED] if each.remedy)),
        field="workflow",
        node=first.node_id,
        class_type=first.class_type,
        problems=len(problems),
    )
    error.problems = problems
    return error


def not_a_workflow(what: str, remedy: str) -> InvalidRequest:
    """The error for a document that is not a workflow, or not a whole one."""
    return InvalidRequest(f"workflow: {what}", remedy, field="workflow")
