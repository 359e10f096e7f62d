"""From a workflow to its requests: one for each node that saves a picture."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from qied_client.workflows import values as v
from qied_client.workflows.building import Building
from qied_client.workflows.evaluating import Evaluation, Refused
from qied_client.workflows.files import FindPicture, MaskFile, Pictures
from qied_client.workflows.request import WorkflowRequest
from qied_client.workflows.rules.table import PREVIEWS, RULES, SAVES
from qied_client.workflows.served import Served
from qied_client.workflows.workflow import MISSING, Node, NodeProblem, Workflow, refused

_MOST_SAVES: Final = 100
"""Each is an edit of its own, or up to 64 of a batch."""
_NOTHING_DRAWN: Final = (v.Shown, MaskFile)


@dataclass(frozen=True)
class Examined:
    """What a workflow comes to: ``requests``, and the ``problems`` of the save nodes that have none.

    ``passed_over`` are ids of nodes that show or save what no edit made, such as a loaded picture, with the reason.
    """

    requests: tuple[WorkflowRequest, ...]
    problems: tuple[NodeProblem, ...]
    passed_over: tuple[tuple[str, str], ...] = ()


def requests_of(
    workflow: Workflow,
    pictures: FindPicture | Pictures | None = None,
    served: Served | None = None,
    *,
    only: Collection[str] = (),
) -> list[WorkflowRequest]:
    """The request of each save node, in the order of the nodes; raises WorkflowRefused with all problems.

    ``pictures`` gives the picture for a name, or also makes what a node gives on of it; without it, requests have the
    names in place of pictures, and no size that depends on one. ``served`` is what the daemon has, which names of
    models and LoRAs are compared with. With
    ``only``, ids of save nodes, the others are left alone.
    """
    examined = examine(workflow, pictures, served, only=only)
    if examined.problems:
        raise refused(examined.problems)
    return list(examined.requests)


def examine(
    workflow: Workflow,
    pictures: FindPicture | Pictures | None = None,
    served: Served | None = None,
    *,
    only: Collection[str] = (),
) -> Examined:
    """The same as ``requests_of``, but what can be run and what cannot are told side by side."""
    files = Pictures(pictures) if callable(pictures) else pictures
    requests: list[WorkflowRequest] = []
    problems: list[NodeProblem] = []
    passed: list[tuple[str, str]] = []
    made: list[object] = []
    nodes = list(_ending(workflow, only))
    if len(nodes) > _MOST_SAVES:
        return Examined((), (_too_many(nodes),))
    saving = any(node.class_type in SAVES for node in nodes)
    for node in sorted(nodes, key=lambda node: node.class_type in PREVIEWS):
        shows = node.class_type in PREVIEWS and saving
        evaluation = Evaluation(workflow, RULES, files)
        try:
            found = evaluation.here(node).take("images", v.Result, *_NOTHING_DRAWN)
            if not isinstance(found, v.Result):
                passed.append((node.id, "it shows a picture that no node has changed"))
            elif shows and found in made:
                passed.append((node.id, "it shows what another node saves"))
            else:
                requests.append(Building(node, evaluation, files, served).request(found))
                made.append(found)
        except Refused as error:
            if shows:
                passed.append((node.id, error.problems[0].message))
            else:
                problems += error.problems
        except RecursionError:
            problems.append(_too_long(node))
    if not requests and not problems:
        problems.append(_nothing_saved(workflow, passed))
    return Examined(tuple(requests), tuple(dict.fromkeys(problems)), tuple(passed))


def _ending(workflow: Workflow, only: Collection[str]) -> Iterator[Node]:
    """The nodes that save or show a picture."""
    for node in workflow.nodes.values():
        if node.class_type in (*SAVES, *PREVIEWS) and (not only or node.id in only):
            yield node


def _too_many(nodes: Sequence[Node]) -> NodeProblem:
    first = nodes[_MOST_SAVES]
    return NodeProblem(
        first.id,
        first.class_type,
        f"The workflow has {len(nodes)} nodes that save or show a picture, more than {_MOST_SAVES}.",
        "Run a part of them at a time.",
    )


def _too_long(node: Node) -> NodeProblem:
    return NodeProblem(
        node.id,
        node.class_type,
        f"Node {node.name}: too many nodes are connected one behind the other.",
        "Connect fewer.",
    )


def _nothing_saved(workflow: Workflow, passed: list[tuple[str, str]]) -> NodeProblem:
    used = {link.node for node in workflow.nodes.values() for _, link in node.links()}
    ends = [node for node in [*workflow.nodes.values()][::-1] if node.id not in used]
    last = next((node for node in ends if {"image", "images"} & set(node.inputs)), ends[0] if ends else None)
    node_id, class_type = (passed[0][0], "") if passed else ("", "") if last is None else (last.id, last.class_type)
    reason = f": {passed[0][1]} (node {passed[0][0]})" if passed else ""
    return NodeProblem(
        node_id,
        class_type or (workflow.nodes[node_id].class_type if node_id else ""),
        f"The workflow saves no picture that an edit makes{reason}.",
        "Connect a SaveImage behind VAEDecode, and see that it is not muted.",
        MISSING,
    )
