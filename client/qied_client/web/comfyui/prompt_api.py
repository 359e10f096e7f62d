"""Routes of prompts: queue them, see them wait, run and end, and stop them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from qied_client.errors import InvalidRequest
from qied_client.web.access import user_of
from qied_client.web.comfyui.errors import ComfyError
from qied_client.web.comfyui.prompt import Prompt, now_ms, workflow_id
from qied_client.web.comfyui.running import Runner
from qied_client.web.comfyui.space import Space
from qied_client.web.comfyui.spaces import Spaces
from qied_client.web.http.bodies import taken_in
from qied_client.web.http.json_answers import Json, as_json, json_in_pieces
from qied_client.web.http.json_bodies import read_json

_BODY_BYTES: Final = 4 * 1024 * 1024
"""Most bytes of a prompt: the graph, and the page's workflow that it came from."""
_GRAPH_BYTES: Final = 1024 * 1024
"""Most bytes of a graph, which takes some ten times that while it is read. One of a hundred nodes has 20 KB."""
_ID_CHARS: Final = 128
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
        return Json(self._space(request).queue_info)

    async def prompt(self, request: Request) -> Response:
        """POST /prompt: queue a graph in the format of the API."""
        user = user_of(request)
        space = self._spaces.of(user)
        async with space.reading:
            with taken_in(request, user, _BODY_BYTES):
                prompt, errors = await self._read(space, await _object(request))
            space.queue(prompt)
        return Json({"prompt_id": prompt.id, "number": prompt.number, "node_errors": errors})

    async def _read(self, space: Space, body: Mapping[str, Any]) -> tuple[Prompt, dict[str, Any]]:
        """A prompt, and what is wrong with nodes of it that are left out; raises ComfyError where nothing can run."""
        graph = body.get("prompt")
        if not isinstance(graph, dict) or not graph:
            raise ComfyError("no_prompt", "No prompt provided", "Send a graph as `prompt`.")
        prompt_id = _prompt_id(body.get("prompt_id"))
        targets = body.get("partial_execution_targets") or []
        if not isinstance(targets, list) or not all(isinstance(each, str) for each in targets):
            raise ComfyError("invalid_prompt", "partial_execution_targets must be a list of ids of nodes.")
        text = as_json(graph)
        if len(text) > _GRAPH_BYTES:
            raise ComfyError(
                "too_large", f"The graph has {len(text)} bytes, more than {_GRAPH_BYTES}.", "Send less.", status=413
            )
        try:
            outputs, errors = await self._runner.examined(space, graph, targets)
        except InvalidRequest as error:
            raise ComfyError("invalid_prompt", error.message, error.remedy) from None
        extra, created_at = body.get("extra_data"), now_ms()
        extra = {**(extra if isinstance(extra, dict) else {}), "create_time": created_at}
        client_id = body.get("client_id")
        client_id = client_id[:_ID_CHARS] if isinstance(client_id, str) and client_id else None
        if client_id is not None:
            extra["client_id"] = client_id
        number = space.next_number(body.get("number"), front=body.get("front") is True)
        method = extra.get("preview_method")
        about = as_json(extra), outputs, client_id, workflow_id(extra), method if isinstance(method, str) else None
        return Prompt(prompt_id, number, text, *about, created_at=created_at), errors

    async def queue(self, request: Request) -> Response:
        """GET /queue: the prompts that run and that wait."""
        space = self._space(request)
        running, pending = ([each.in_queue for each in prompts] for prompts in (space.running, space.pending))
        rows = [b'{"queue_running":[', *_listed(running), b'],"queue_pending":[', *_listed(pending), b"]}"]
        return json_in_pieces(rows)

    async def change_queue(self, request: Request) -> Response:
        """POST /queue: take out prompts that wait, by their ids or all."""
        space = self._space(request)
        body = await _object(request)
        wanted = _ids(body)
        space.stop([each for each in space.pending if body.get("clear") is True or each.id in wanted])
        return Response()

    async def interrupt(self, request: Request) -> Response:
        """POST /interrupt: stop what runs, or the prompt that is named if it runs."""
        space = self._space(request)
        body = await _object(request, empty=True)
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
        return _entries(found)

    async def one_of_history(self, request: Request) -> Response:
        """GET /history/{prompt}: one that has ended, or an empty object."""
        wanted = request.path_params["prompt"]
        found = [each for each in self._space(request).history() if each.id == wanted]
        return _entries(found)

    async def change_history(self, request: Request) -> Response:
        """POST /history: forget prompts, by their ids or all."""
        space = self._space(request)
        body = await _object(request)
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
        return Json({"jobs": shown, "pagination": pages})

    async def job(self, request: Request) -> Response:
        """GET /api/jobs/{prompt}: one with its graph and what came of it."""
        found = self._space(request).prompt(request.path_params["prompt"])
        if found is None:
            raise _no_job()
        entry = found.ending
        more = {"outputs": entry["outputs"], "execution_status": entry["status"], "execution_meta": entry["meta"]}
        head = as_json({**found.as_job, **more})[:-1]
        pieces = [head + b',"workflow":{"prompt":', found.graph, b',"extra_data":', found.extra, b"}}"]
        return json_in_pieces(pieces)

    async def cancel_job(self, request: Request) -> Response:
        """POST /api/jobs/{prompt}/cancel: stop it, whether it runs or waits."""
        space = self._space(request)
        found = space.prompt(request.path_params["prompt"])
        if found is None:
            raise _no_job()
        return Json({"cancelled": bool(_stopped(space, [found]))})

    async def cancel_jobs(self, request: Request) -> Response:
        """POST /api/jobs/cancel: stop those of these ids that have not ended."""
        space = self._space(request)
        body = await _object(request)
        wanted = body.get("job_ids")
        ids = set(map(str, wanted)) if isinstance(wanted, list) else set()
        stopped = _stopped(space, [each for each in space.prompts() if each.id in ids])
        return Json({"cancelled": [each.id for each in stopped]})


def _stopped(space: Space, prompts: list[Prompt]) -> list[Prompt]:
    found = [each for each in prompts if each.state in ("pending", "running")]
    space.stop(found)
    return found


def _listed(items: list[list[bytes]]) -> Iterator[bytes]:
    """Items of a list of JSON, with what stands between them."""
    for number, pieces in enumerate(items):
        if number:
            yield b","
        yield from pieces


def _entries(prompts: list[Prompt]) -> Response:
    """The answer of ``/history`` with these."""
    entries = [[as_json(each.id) + b":", *each.in_history] for each in prompts]
    return json_in_pieces([b"{", *_listed(entries), b"}"])


async def _object(request: Request, *, empty: bool = False) -> dict[str, Any]:
    """The object that a body is; raises ComfyError for anything else. ``empty``: there may be none."""
    data = await request.body()
    if empty and not data.strip():
        return {}
    try:
        body = read_json(data)
    except (ValueError, RecursionError):
        raise ComfyError("invalid_json", "The body is not JSON.") from None
    if not isinstance(body, dict):
        raise ComfyError("invalid_json", "The body must be a JSON object.")
    return body


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
