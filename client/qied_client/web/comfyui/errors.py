"""Errors in ComfyUI's shape: what is wrong with a request, and with which nodes of a graph."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from qied_client.web.http.json_answers import Json
from qied_client.workflows import NodeProblem, Workflow

_KINDS: Final[Mapping[str, str]] = {"picture_missing": "custom_validation_failed"}
"""ComfyUI's names of what its clients know of; others keep ours."""
_MOST_NODES: Final = 32
_MOST_OUTPUTS: Final = 100
"""A graph of thousands of nodes that are all wrong has an answer that grows with their square."""


class ComfyError(Exception):
    """An answer of the façade itself that is not a success; ``nodes`` are what ComfyUI calls node_errors."""

    def __init__(
        self, kind: str, message: str, details: str = "", *, status: int = 400, nodes: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.message = message
        self.details = details
        self.nodes = dict(nodes or {})

    def response(self) -> Json:
        """The whole answer."""
        error = {"type": self.kind, "message": self.message, "details": self.details, "extra_info": {}}
        return Json({"error": error, "node_errors": self.nodes}, self.status)


def refused_graph(workflow: Workflow, problems: Iterable[NodeProblem]) -> ComfyError:
    """The answer to a graph none of whose outputs can be made."""
    found = tuple(problems)
    return ComfyError(
        "prompt_outputs_failed_validation",
        "Prompt outputs failed validation",
        " ".join(dict.fromkeys(str(problem) for problem in found))[:2000],
        nodes=node_errors(workflow, found),
    )


def node_errors(workflow: Workflow, problems: Iterable[NodeProblem]) -> dict[str, Any]:
    """What is wrong with each node, up to ``_MOST_NODES``, and which outputs are not made for that reason."""
    found: dict[str, Any] = {}
    followers: dict[str, set[str]] | None = None
    for problem in problems:
        entry = found.get(problem.node_id)
        if entry is None:
            if len(found) == _MOST_NODES:
                continue
            followers = _followers(workflow) if followers is None else followers
            entry = found[problem.node_id] = {
                "errors": [],
                "dependent_outputs": _outputs_behind(followers, problem.node_id),
                "class_type": problem.class_type,
            }
        entry["errors"].append(
            {
                "type": _KINDS.get(problem.kind, problem.kind),
                "message": problem.message,
                "details": problem.remedy,
                "extra_info": {"input_name": problem.input} if problem.input else {},
            }
        )
    return found


def _followers(workflow: Workflow) -> dict[str, set[str]]:
    """The nodes behind each node."""
    followers: dict[str, set[str]] = {}
    for each in workflow.nodes.values():
        for _, link in each.links():
            followers.setdefault(link.node, set()).add(each.id)
    return followers


def _outputs_behind(followers: Mapping[str, Collection[str]], node: str) -> list[str]:
    """The nodes at the end of a graph that depend on a node, up to ``_MOST_OUTPUTS``."""
    behind = _reachable(node, followers)
    return sorted(each for each in behind if each not in followers)[:_MOST_OUTPUTS]


def _reachable(node: str, followers: Mapping[str, Collection[str]]) -> set[str]:
    seen, waiting = {node}, [node]
    while waiting:
        for follower in followers.get(waiting.pop(), ()):
            if follower not in seen:
                seen.add(follower)
                waiting.append(follower)
    return seen
