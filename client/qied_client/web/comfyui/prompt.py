"""One prompt: a graph that was queued, where it stands, and what came of it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from qied_client.workflows import Workflow

State = Literal["pending", "running", "success", "error", "interrupted"]
ENDED: Final = frozenset({"success", "error", "interrupted"})
_OF_JOBS: Final[Mapping[State, str]] = {
    "pending": "pending",
    "running": "in_progress",
    "success": "completed",
    "error": "failed",
    "interrupted": "cancelled",
}
"""What ``/api/jobs`` calls the states."""

_PREVIEW_METHODS: Final = ("auto", "latent2rgb", "taesd")


def now_ms() -> int:
    """Milliseconds since the epoch."""
    return int(time.time() * 1000)


@dataclass(eq=False)
class Prompt:
    """A graph under way. ``outputs`` are by node what it saved, ``messages`` what a listener was told of the whole.

    ``jobs`` are the ids of its jobs, also of one that is being handed in. ``targets`` are the nodes that save or show
    something. Times are milliseconds since the epoch.
    """

    id: str
    number: float
    graph: Mapping[str, Any]
    workflow: Workflow
    extra: dict[str, Any]
    targets: tuple[str, ...]
    size: int
    client_id: str | None = None
    state: State = "pending"
    outputs: dict[str, Any] = field(default_factory=dict)
    messages: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    jobs: list[str] = field(default_factory=list)
    failure: dict[str, Any] | None = None
    stopping: bool = False
    created_at: int = field(default_factory=now_ms)
    started_at: int | None = None
    ended_at: int | None = None

    def class_of(self, node: str) -> str:
        """The class of one of its nodes; empty for none."""
        found = self.workflow.nodes.get(node)
        return found.class_type if found is not None else ""

    def previews_for(self, *, knowing: bool) -> bool:
        """Whether a listener gets pictures on the way. As in ComfyUI, whose server makes none by itself, a script has
        to ask for them, by a ``preview_method``; one that is ``knowing`` by its feature flags gets them anyway.

        Scripts take whatever binary message comes for a result.
        """
        method = self.extra.get("preview_method")
        return method in _PREVIEW_METHODS or (knowing and method != "none")

    @property
    def in_queue(self) -> list[Any]:
        """It as a row of ``/queue``."""
        return [self.number, self.id, self.graph, self.extra, list(self.targets)]

    @property
    def in_history(self) -> dict[str, Any]:
        """It as an entry of ``/history``."""
        succeeded = self.state == "success"
        return {
            "prompt": self.in_queue,
            "outputs": self.outputs,
            "status": {
                "status_str": "success" if succeeded else "error",
                "completed": succeeded,
                "messages": [[event, data] for event, data in self.messages],
            },
            "meta": {
                node: {"node_id": node, "display_node": node, "parent_node": None, "real_node_id": node}
                for node in self.outputs
            },
        }

    @property
    def as_job(self) -> dict[str, Any]:
        """It as a row of ``/api/jobs``."""
        pictures = [image for output in self.outputs.values() for image in output.get("images", ())]
        facts: dict[str, Any] = {
            "id": self.id,
            "status": _OF_JOBS[self.state],
            "priority": self.number,
            "create_time": self.created_at,
            "execution_start_time": self.started_at,
            "execution_end_time": self.ended_at,
            "execution_error": self.failure,
            "outputs_count": len(pictures),
            "previewable_outputs_count": len(pictures),
            "preview_output": {**pictures[0], "mediaType": "images"} if pictures else None,
            "workflow_id": self.workflow_id,
        }
        return {name: value for name, value in facts.items() if value is not None}

    @property
    def workflow_id(self) -> str | None:
        """The id of the page's workflow that the graph came from."""
        page = self.extra.get("extra_pnginfo")
        workflow = page.get("workflow") if isinstance(page, dict) else None
        found = workflow.get("id") if isinstance(workflow, dict) else None
        return found if isinstance(found, str) else None
