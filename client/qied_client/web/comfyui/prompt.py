"""One prompt: a graph that was queued, where it stands, and what came of it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from qied_client.web.http.json_answers import as_json
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
_ID_CHARS: Final = 128

_PREVIEW_METHODS: Final = ("auto", "latent2rgb", "taesd")


def now_ms() -> int:
    """Milliseconds since the epoch."""
    return int(time.time() * 1000)


@dataclass(eq=False)
class Prompt:
    """A graph under way. ``outputs`` are by node what it saved, ``messages`` what a listener was told of the whole.

    ``graph`` and ``extra`` are objects of JSON, kept as text: read, they would take many times the memory. What the
    graph says is in ``workflow`` while the prompt runs. ``jobs`` are the ids of its jobs, also of one that is being
    handed in. ``targets`` are the nodes that save or show something. Times are milliseconds since the epoch.
    """

    id: str
    number: float
    graph: bytes
    extra: bytes
    targets: tuple[str, ...]
    client_id: str | None = None
    workflow_id: str | None = None
    preview_method: str | None = None
    workflow: Workflow | None = None
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
        found = self.workflow.nodes.get(node) if self.workflow is not None else None
        return found.class_type if found is not None else ""

    def previews_for(self, *, knowing: bool) -> bool:
        """Whether a listener gets pictures on the way. As in ComfyUI, whose server makes none by itself, a script has
        to ask for them, by a ``preview_method``; one that is ``knowing`` by its feature flags gets them anyway.

        Scripts take whatever binary message comes for a result.
        """
        return self.preview_method in _PREVIEW_METHODS or (knowing and self.preview_method != "none")

    @property
    def size(self) -> int:
        """Bytes of what was sent."""
        return len(self.graph) + len(self.extra)

    @property
    def in_queue(self) -> list[bytes]:
        """It as a row of ``/queue``: JSON in pieces."""
        head = f"[{as_json(self.number).decode()},{as_json(self.id).decode()},".encode()
        return [head, self.graph, b",", self.extra, b"," + as_json(self.targets) + b"]"]

    @property
    def in_history(self) -> list[bytes]:
        """It as an entry of ``/history``: JSON in pieces."""
        return [b'{"prompt":', *self.in_queue, b"," + as_json(self.ending)[1:]]

    @property
    def ending(self) -> dict[str, Any]:
        """What came of it, as ``/history`` has that."""
        succeeded = self.state == "success"
        return {
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


def workflow_id(extra: Mapping[str, Any]) -> str | None:
    """The id of the page's workflow that a graph with this extra data came from."""
    page = extra.get("extra_pnginfo")
    workflow = page.get("workflow") if isinstance(page, dict) else None
    found = workflow.get("id") if isinstance(workflow, dict) else None
    return found[:_ID_CHARS] if isinstance(found, str) else None
