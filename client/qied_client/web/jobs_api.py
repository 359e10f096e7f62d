"""The jobs API: what the page and scripts use beyond OpenAI's. JSON in and out, pictures as they are."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from dataclasses import asdict, is_dataclass
from datetime import datetime
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from qied_client.aio import AsyncJob, AsyncSession
from qied_client.aio.client import new_id
from qied_client.errors import UnknownTurn
from qied_client.protocol import messages as m
from qied_client.protocol.fields import body_field
from qied_client.results import Result
from qied_client.web.access import Admission, user_of
from qied_client.web.errors import bad_request
from qied_client.web.feed import Feeds, job_events
from qied_client.web.forms import edit_form, form_of, no_picture, read_file
from qied_client.web.http.answers import picture_response
from qied_client.web.http.bodies import Room, taken_in
from qied_client.web.http.events import events_response
from qied_client.web.http.json_bodies import json_object
from qied_client.web.pixels.workshop import Workshop
from qied_client.web.streams import while_connected
from qied_client.web.submitting import Submitted, durable_id, submit, takes_no_picture
from qied_client.web.users import Users

OWNER: Final = "local"
"""The user to whom the machine belongs."""
_FORMATS: Final = {"png": "image/png", "webp": "image/webp", "jpeg": "image/jpeg"}
_PILLOW: Final = {"png": "PNG", "webp": "WEBP", "jpeg": "JPEG"}
_PLAN: Final = (
    "model",
    "title",
    "precision",
    "max_pixels",
    "max_images",
    "side_multiple",
    "picture_formats",
    "presets",
    "warnings",
)


class JobsApi:
    """``/api`` for the users of a gateway. Every method is one route; its first line says which."""

    def __init__(self, users: Users, feeds: Feeds, room: Room, workshop: Workshop) -> None:
        self._users = users
        self._feeds = feeds
        self._room = room
        self._workshop = workshop

    # The server and its user

    async def me(self, request: Request) -> Response:
        """GET /api/me: who asks, and what this server can do."""
        user = user_of(request)
        async with self._users.client(user) as client:
            facts = _plain(await client.describe())
        return JSONResponse({"user": user, "owner": user == OWNER, **facts})

    async def loras(self, request: Request) -> Response:
        """GET /api/loras: the names that `lora` takes."""
        async with self._users.client(user_of(request)) as client:
            return JSONResponse({"loras": _plain(await client.loras())})

    async def upscalers(self, request: Request) -> Response:
        """GET /api/upscalers: the names that `upscale` takes, and their scales."""
        async with self._users.client(user_of(request)) as client:
            return JSONResponse({"upscalers": _plain(await client.upscalers())})

    async def plan(self, request: Request) -> Response:
        """GET /api/plan: what is served, its presets' seconds and caps; for the owner, also how it is run."""
        user = user_of(request)
        async with self._users.client(user) as client:
            facts = _plain(await client.describe())
            answer = {name: facts[name] for name in _PLAN}
            if user == OWNER:
                answer["plans"] = await client.plans()
                answer["workers"] = _plain((await client.status()).workers)
        return JSONResponse(answer)

    async def status(self, request: Request) -> Response:
        """GET /api/status: workers and their memory, jobs, queue; of others neither ids nor prompts."""
        async with self._users.client(user_of(request)) as client:
            return JSONResponse(_plain(await client.status()))

    async def control(self, request: Request) -> Response:
        """POST /api/control: an order of the owner, as JSON {"action": "pause"}."""
        user = user_of(request)
        action = (await json_object(request)).get("action")
        if action not in m.CONTROLS:
            raise bad_request(f"action must be one of {', '.join(m.CONTROLS)}.", "action")
        async with self._users.client(user) as client:
            return JSONResponse(_plain(await client.control(action)))

    async def events(self, request: Request) -> Response:
        """GET /api/events: the state of the server each second and the events of all own jobs, as a stream."""
        admission = Admission(request)
        return events_response(self._feeds.events(admission.user), self._room, admission, lively=True)

    async def quote(self, request: Request) -> Response:
        """POST /api/quote: what an edit would cost, as JSON {"sizes": [[width, height]], ...options}."""
        user = user_of(request)
        body = await json_object(request)
        sizes = body.pop("sizes", None)
        if not isinstance(sizes, list) or not all(_is_size(size) for size in sizes):
            raise bad_request("sizes must be a list of [width, height].", "sizes")
        if (canvas := body.get("canvas_size")) is not None and not _is_size(canvas):
            raise bad_request("canvas_size must be [width, height].", "canvas_size")
        if "self" in body:  # the one name that no function in Python can be given
            raise bad_request("self is not an option of an edit.", "self", "unknown_parameter")
        async with self._users.client(user) as client:
            quoted = await client.quote_sizes([(width, height) for width, height in sizes], **body)
        return JSONResponse(_plain(quoted))

    # Jobs

    async def submit(self, request: Request) -> Response:
        """POST /api/jobs: the form of /v1/images/edits, or of text alone; answers at once with the ids of the jobs."""
        user = user_of(request)
        with taken_in(request, user):
            async with form_of(request) as form:
                checked = await edit_form(form, from_text=True)
            async with self._users.client(user) as client:
                if not checked.images and not takes_no_picture(client):
                    raise no_picture()
                submitted = await submit(client, checked, _names(request, user, checked.n), durable=True)
        self._feeds.watch(user, submitted.jobs)
        return JSONResponse(_jobs(submitted), 202)

    async def jobs(self, request: Request) -> Response:
        """GET /api/jobs?before=NUMBER: own jobs that are kept, the newest first."""
        before = request.query_params.get("before")
        if before is not None and not before.isdecimal():
            raise bad_request("before must be the number of a job.", "before")
        async with self._users.client(user_of(request)) as client:
            found = await client.jobs(limit=50, before=None if before is None else int(before))
        return JSONResponse({"jobs": _plain(found)})

    async def job(self, request: Request) -> Response:
        """GET /api/jobs/{job}: everything about one job."""
        async with self._users.client(user_of(request)) as client:
            return JSONResponse(_plain(await (await self._job(client, request)).status()))

    async def job_events(self, request: Request) -> Response:
        """GET /api/jobs/{job}/events: where the job stands, and what happens until its outcome, as a stream."""
        admission = Admission(request)
        async with AsyncExitStack() as held:
            client = await held.enter_async_context(self._users.client(admission.user))
            job = await self._job(client, request)
            if request.method == "HEAD":  # no stream would begin, nor give the client back
                return Response(media_type="text/event-stream")
            return events_response(_held(job_events(job), held.pop_all()), self._room, admission)

    async def preview(self, request: Request) -> Response:
        """GET /api/jobs/{job}/preview: the newest picture on the way, as a small JPEG; 204 where there is none."""
        user = user_of(request)
        async with self._users.client(user) as client:
            found = (await self._job(client, request)).latest_preview
        if found is None:
            return Response(status_code=204)
        headers = {"ETag": f'"{found.done}"', "Cache-Control": "private, no-cache"}
        if headers["ETag"] in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(found.preview, media_type="image/jpeg", headers=headers)

    async def result(self, request: Request) -> Response:
        """GET /api/jobs/{job}/result?format=png|webp|jpeg: the picture; waits until it is there."""
        user = user_of(request)
        async with self._users.client(user) as client:
            result = await (await self._job(client, request)).result()
        return await self._picture(request, user, result)

    async def thumbnail(self, request: Request) -> Response:
        """GET /api/jobs/{job}/thumbnail: a JPEG of at most 256 pixels a side."""
        async with self._users.client(user_of(request)) as client:
            data = await (await self._job(client, request)).thumbnail()
        return Response(data, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=86400"})

    async def cancel(self, request: Request) -> Response:
        """POST /api/jobs/{job}/cancel: stop it."""
        async with self._users.client(user_of(request)) as client:
            return JSONResponse({"answer": await client.cancel(request.path_params["job"])})

    async def release(self, request: Request) -> Response:
        """DELETE /api/jobs/{job}: its picture is deleted."""
        async with self._users.client(user_of(request)) as client:
            await client.release(request.path_params["job"])
        return Response(status_code=204)

    async def convert(self, request: Request) -> Response:
        """POST /api/pictures?format=png|webp|jpeg: a picture, as form with `image`, in another format; none is kept."""
        user = user_of(request)
        wanted = request.query_params.get("format", "png")
        if wanted not in _FORMATS:
            raise bad_request(f"format must be one of {', '.join(_FORMATS)}.", "format")
        with taken_in(request, user):
            async with form_of(request) as form:
                image = form.get("image")
                if image is None or isinstance(image, str):
                    raise bad_request("Send the picture as `image`.", "image", "missing_required_parameter")
                data = await read_file(image, "image")
            made = await while_connected(request, self._workshop.do(user, "convert", data, to=_PILLOW[wanted]))
        return picture_response(made, _FORMATS[wanted], {}, self._room, user)

    # Sessions

    async def open(self, request: Request) -> Response:
        """POST /api/sessions: a session on one picture, as form with `image` and perhaps `name`."""
        user = user_of(request)
        with taken_in(request, user):
            async with form_of(request) as form:
                image, name = form.get("image"), form.get("name")
                if image is None or isinstance(image, str):
                    raise bad_request("Send the picture as `image`.", "image", "missing_required_parameter")
                if name is not None and not isinstance(name, str):
                    raise bad_request("name must be text.", "name")
                data = await read_file(image, "image")
            async with self._users.client(user) as client:
                session = await client.session(data, name=name or None)
                return JSONResponse(await _session(session), 201)

    async def sessions(self, request: Request) -> Response:
        """GET /api/sessions: own sessions, the last used one first."""
        async with self._users.client(user_of(request)) as client:
            return JSONResponse({"sessions": _plain(await client.sessions())})

    async def session(self, request: Request) -> Response:
        """GET /api/sessions/{session}: its turns with prompts and seeds, and which is the latest picture."""
        async with self._users.client(user_of(request)) as client:
            return JSONResponse(await _session(await self._session(client, request)))

    async def turn(self, request: Request) -> Response:
        """POST /api/sessions/{session}/turns: the form of /v1/images/edits, its pictures optional, and `base`."""
        user = user_of(request)
        with taken_in(request, user):
            async with form_of(request) as form:
                checked = await edit_form(form, of_turn=True)
            async with self._users.client(user) as client:
                session = await self._session(client, request)
                names = _names(request, user, checked.n)
                base = session.head if checked.base is None else checked.base
                submitted = await submit(client, checked, names, durable=True, session=session, base=base)
        self._feeds.watch(user, submitted.jobs)
        return JSONResponse(_jobs(submitted), 202)

    async def undo(self, request: Request) -> Response:
        """POST /api/sessions/{session}/undo: make the picture before the latest one the latest."""
        async with self._users.client(user_of(request)) as client:
            return JSONResponse({"head": await (await self._session(client, request)).undo()})

    async def redo(self, request: Request) -> Response:
        """POST /api/sessions/{session}/redo: take an undo back."""
        async with self._users.client(user_of(request)) as client:
            return JSONResponse({"head": await (await self._session(client, request)).redo()})

    async def close(self, request: Request) -> Response:
        """DELETE /api/sessions/{session}: close it; its pictures are deleted."""
        async with self._users.client(user_of(request)) as client:
            await (await self._session(client, request)).close()
        return Response(status_code=204)

    async def turn_picture(self, request: Request) -> Response:
        """GET /api/sessions/{session}/turns/{turn}/picture?format=png|webp|jpeg: its picture; turn 0 is the first."""
        user = user_of(request)
        async with self._users.client(user) as client:
            result = await (await self._session(client, request)).result(_turn(request))
        return await self._picture(request, user, result)

    async def turn_thumbnail(self, request: Request) -> Response:
        """GET /api/sessions/{session}/turns/{turn}/thumbnail: a JPEG of at most 256 pixels a side."""
        async with self._users.client(user_of(request)) as client:
            data = await (await self._session(client, request)).thumbnail(_turn(request))
        return Response(data, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=86400"})

    async def _job(self, client: Any, request: Request) -> AsyncJob:
        job: AsyncJob = await client.job(request.path_params["job"])
        return job

    async def _session(self, client: Any, request: Request) -> AsyncSession:
        session: AsyncSession = await client.take_up_session(request.path_params["session"])
        return session

    async def _picture(self, request: Request, user: str, result: Result) -> Response:
        """A result as it came, or converted to the format that is asked for: one at a time, as each takes memory."""
        wanted = request.query_params.get("format")
        if wanted is None or _FORMATS.get(wanted) == result.media_type:
            data, media_type = result.bytes, result.media_type
        elif wanted not in _FORMATS:
            raise bad_request(f"format must be one of {', '.join(_FORMATS)}.", "format")
        else:
            with self._room.taken(user, len(result.bytes)):  # it waits in line, as others of its user may
                work = self._workshop.do(user, "convert", result.bytes, to=_PILLOW[wanted])
                data = await while_connected(request, work)
            media_type = _FORMATS[wanted]
        name = f"{result.job or 'picture'}.{media_type.removeprefix('image/')}"
        headers = {"Content-Disposition": f'inline; filename="{name}"', "Cache-Control": "private, max-age=86400"}
        return picture_response(data, media_type, headers, self._room, user)


async def _held(events: AsyncGenerator[bytes, None], held: AsyncExitStack) -> AsyncGenerator[bytes, None]:
    async with held, aclosing(events):
        async for event in events:
            yield event


async def _session(session: AsyncSession) -> dict[str, Any]:
    turns = await session.history()
    return {"name": session.name, "head": session.head, "turns": _plain(turns)}


def _names(request: Request, user: str, n: int) -> list[str]:
    key = request.headers.get("idempotency-key")
    return [new_id("web") if key is None else durable_id(user, key, number) for number in range(n)]


def _jobs(submitted: Submitted) -> dict[str, Any]:
    rows = [
        {"job": job.id, "turn": job.turn, "seed": seed}
        for job, seed in zip(submitted.jobs, submitted.seeds, strict=True)
    ]
    return {"jobs": rows, "notes": list(submitted.form.notes)}


def _turn(request: Request) -> int:
    text = request.path_params["turn"]
    if not text.isdecimal() or len(text) > 9:
        raise UnknownTurn(f"{text[:40]!r} is not the number of a turn.", "0 is the first picture.")
    return int(text)


def _is_size(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(type(side) is int for side in value)


def _plain(value: Any) -> Any:
    """A value as JSON has it: dataclasses as objects, times as ISO 8601; messages without number and body."""
    if is_dataclass(value) and not isinstance(value, type):
        left_out = ("re", *(body_field(type(value)) or ())[:1]) if isinstance(value, m.Message) else ()
        return _plain({name: item for name, item in asdict(value).items() if name not in left_out})
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value.isoformat() if isinstance(value, datetime) else value
