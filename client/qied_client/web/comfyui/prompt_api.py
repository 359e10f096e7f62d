"""Routes of prompts: queue them, see them wait, run and end, and stop them."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from qied_client.errors import InvalidRequest
from qied_client.web.access import user_of
from qied_client.web.comfyui.errors import ComfyError, node_errors, refused_graph
from qied_client.web.comfyui.prompt import Prompt
from qied_client.web.comfyui.running import Runner
from qied_client.web.comfyui.space import Space
from qied_client.web.comfyui.spaces import Spaces
from qied_client.web.http.bodies import taken_in
from qied_client.workflows import read_workflow

_GRAPH_BYTES: Final = 4 * 1024 * 1024
_SORTED_BY: Final = ("created_at", "execution_duration")


class PromptApi:
    """``/prompt``, ``/queue``, ``/interrupt``, ``/history`` and ``/api/jobs``, each user's own."""

    def __init__(self, spaces: Spaces, runner: Runner) -> None:
        self._spaces = spaces
        self._runner = runner

    def _space(self, request: Request) -> Space:
        return self._spaces.of(user_of(request))

    async def queue_info(self, request: Request) -> Response:
        """GET /prompt: how many prompts are left."""
        return JSONResponse(self._space(request).queue_info)

    async def prompt(self, request: Request) -> Response:
        """POST /prompt: queue a graph in the format of the API."""
        user = user_of(request)
        space = self._spaces.of(user)
        with taken_in(request, user):
            body, size = await _object(request)
        graph = body.get("prompt")
        if not isinstance(graph, dict) or not graph:
            raise ComfyError("no_prompt", "No prompt provided", "Send a graph as `prompt`.")
        prompt_id = _prompt_id(body.get("prompt_id"))
        targets = body.get("partial_execution_targets") or []
        if not isinstance(targets, list) or not all(isinstance(each, str) for each in targets):
            raise ComfyError("invalid_prompt", "partial_execution_targets must be a list of ids of nodes.")
        try:
            workflow = read_workflow(graph)
        except InvalidRequest as error:
            raise ComfyError("invalid_prompt", error.message, error.remedy) from None
        found = await self._runner.examined(space, workflow, targets)
        if not found.requests:
            raise refused_graph(workflow, found.problems)
        extra = body.get("extra_data")
        client_id = body.get("client_id")
        prompt = Prompt(
            prompt_id,
            space.next_number(body.get("number"), front=body.get("front") is True),
            graph,
            workflow,
            dict(extra) if isinstance(extra, dict) else {},
            tuple(each.node_id for each in found.requests),
            size,
            client_id if isinstance(client_id, str) and client_id else None,
        )
        prompt.extra["create_time"] = prompt.created_at
        if prompt.client_id is not None:
            prompt.extra["client_id"] = prompt.client_id
        space.queue(prompt)
        errors = node_errors(workflow, found.problems)
        return JSONResponse({"prompt_id": prompt.id, "number": prompt.number, "node_errors": errors})

    async def queue(self, request: Request) -> Response:
        """GET /queue: the prompts that run and that wait."""
        space = self._space(request)
        return JSONResponse(
            {
                "queue_running": [each.in_queue for each in space.running],
                "queue_pending": [each.in_queue for each in space.pending],
            }
        )

    async def change_queue(self, request: Request) -> Response:
        """POST /queue: take out prompts that wait, by their ids or all."""
        space = self._space(request)
        body, _ = await _object(request)
        wanted = _ids(body)
        space.stop([each for each in space.pending if body.get("clear") is True or each.id in wanted])
        return Response()

    async def interrupt(self, request: Request) -> Response:
        """POST /interrupt: stop what runs, or the prompt that is named if it runs."""
        space = self._space(request)
        body, _ = await _object(request, empty=True)
        named = body.get("prompt_id")
        space.stop([each for each in space.running if named is None or each.id == named])
        return Response()

    async def history(self, request: Request) -> Response:
        """GET /history: prompts that have ended, the oldest first; with max_items, the newest so many."""
        found = self._space(request).history()
        most, offset = _count(request, "max_items"), _count(request, "offset")
        if offset is None:
            offset = 0 if most is None else max(0, len(found) - most)
        found = found[offset:] if most is None else found[offset : offset + most]
        return JSONResponse({each.id: each.in_history for each in found})

    async def one_of_history(self, request: Request) -> Response:
        """GET /history/{prompt}: one that has ended, or an empty object."""
        wanted = request.path_params["prompt"]
        found = [each for each in self._space(request).history() if each.id == wanted]
        return JSONResponse({each.id: each.in_history for each in found})

    async def change_history(self, request: Request) -> Response:
        """POST /history: forget prompts, by their ids or all."""
        space = self._space(request)
        body, _ = await _object(request)
        space.forget([each.id for each in space.history()] if body.get("clear") is True else _ids(body))
        return Response()

    async def jobs(self, request: Request) -> Response:
        """GET /api/jobs: all prompts, filtered, sorted and by pages."""
        query = request.query_params
        rows = [each.as_job for each in self._space(request).prompts()]
        if wanted := query.get("status"):
            rows = [row for row in rows if row["status"] in wanted.split(",")]
        if workflow := query.get("workflow_id"):
            rows = [row for row in rows if row.get("workflow_id") == workflow]
        by = query.get("sort_by", _SORTED_BY[0])
        if by not in _SORTED_BY:
            raise ComfyError("invalid_query", f"sort_by must be one of {', '.join(_SORTED_BY)}.")
        rows.sort(key=_created if by == _SORTED_BY[0] else _duration, reverse=query.get("sort_order") != "asc")
        offset, most = _count(request, "offset") or 0, _count(request, "limit")
        shown = rows[offset:] if most is None else rows[offset : offset + most]
        more = offset + len(shown) < len(rows)
        pages = {"offset": offset, "limit": most, "total": len(rows), "has_more": more}
        return JSONResponse({"jobs": shown, "pagination": pages})

    async def job(self, request: Request) -> Response:
        """GET /api/jobs/{prompt}: one with its graph and what came of it."""
        found = self._space(request).prompt(request.path_params["prompt"])
        if found is None:
            raise _no_job()
        entry = found.in_history
        more = {"outputs": entry["outputs"], "execution_status": entry["status"], "execution_meta": entry["meta"]}
        return JSONResponse({**found.as_job, **more, "workflow": {"prompt": found.graph, "extra_data": found.extra}})

    async def cancel_job(self, request: Request) -> Response:
        """POST /api/jobs/{prompt}/cancel: stop it, whether it runs or waits."""
        space = self._space(request)
        found = space.prompt(request.path_params["prompt"])
        if found is None:
            raise _no_job()
        return JSONResponse({"cancelled": bool(_stopped(space, [found]))})

    async def cancel_jobs(self, request: Request) -> Response:
        """POST /api/jobs/cancel: stop those of these ids that have not ended."""
        space = self._space(request)
        body, _ = await _object(request)
        wanted = body.get("job_ids")
        ids = set(map(str, wanted)) if isinstance(wanted, list) else set()
        stopped = _stopped(space, [each for each in space.prompts() if each.id in ids])
        return JSONResponse({"cancelled": [each.id for each in stopped]})


def _stopped(space: Space, prompts: list[Prompt]) -> list[Prompt]:
    found = [each for each in prompts if each.state in ("pending", "running")]
    space.stop(found)
    return found


async def _object(request: Request, *, empty: bool = False) -> tuple[dict[str, Any], int]:
    """The object that a body is, and its bytes; raises ComfyError for anything else. ``empty``: there may be none."""
    data = await request.body()
    if empty and not data.strip():
        return {}, 0
    if len(data) > _GRAPH_BYTES:
        raise ComfyError("too_large", f"The body has {len(data)} bytes, more than {_GRAPH_BYTES}.", status=413)
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        raise ComfyError("invalid_json", "The body is not JSON.") from None
    if not isinstance(body, dict):
        raise ComfyError("invalid_json", "The body must be a JSON object.")
    return body, len(data)


def _prompt_id(given: object) -> str:
    """The id of a new prompt: the one that was given, if it is a UUID as it is usually written."""
    if given is None:
        return str(uuid.uuid4())
    try:
        if isinstance(given, str) and str(uuid.UUID(given)) == given:
            return given
    except ValueError:
        pass
    raise ComfyError("invalid_prompt_id", "prompt_id must be a UUID in lower case.", "Send one, or leave it out.")


def _ids(body: Mapping[str, Any]) -> list[str]:
    wanted = body.get("delete")
    return [each for each in wanted if isinstance(each, str)] if isinstance(wanted, list) else []


def _count(request: Request, name: str) -> int | None:
    """A number of the query; None where there is none, or a negative one, which stands for none."""
    text = request.query_params.get(name, "")
    if not text or (text.startswith("-") and text[1:].isdecimal()):
        return None
    if not text.isdecimal() or len(text) > 9:
        raise ComfyError("invalid_query", f"{name} must be a whole number, not {text[:40]!r}.")
    return int(text)


def _created(row: Mapping[str, Any]) -> float:
    return float(row["create_time"])


def _duration(row: Mapping[str, Any]) -> float:
    started, ended = row.get("execution_start_time"), row.get("execution_end_time")
    return 0.0 if started is None or ended is None else float(ended - started)


def _no_job() -> ComfyError:
    return ComfyError("not_found", "Job not found", "It may be too old.", status=404)
