"""OpenAI's images API: edits of pictures and pictures from text, whole or as a stream of pictures that form."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict
from io import BytesIO
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from qied_client.aio import AsyncClient, AsyncJob
from qied_client.aio.client import new_id
from qied_client.errors import QiedError
from qied_client.picture_header import PictureLimits, read_header
from qied_client.results import Progress, Result
from qied_client.web.access import Admission, user_of
from qied_client.web.errors import ApiError, of_qied
from qied_client.web.feed import Feeds
from qied_client.web.forms import PRESETS, EditForm, edit_form, form_of, generation_form
from qied_client.web.http.answers import WithPictures, json_with_pictures
from qied_client.web.http.bodies import Room, taken_in
from qied_client.web.http.events import Event, comment, event, events_response
from qied_client.web.streams import merged, while_connected
from qied_client.web.submitting import Submitted, durable_id, submit, takes_no_picture
from qied_client.web.users import Users

_NO_USAGE: Final = {
    "input_tokens": 0,
    "input_tokens_details": {"image_tokens": 0, "text_tokens": 0},
    "output_tokens": 0,
    "total_tokens": 0,
}
"""OpenAI's price in tokens, which does not exist here; its streams require the field."""


class ImagesApi:
    """``/v1/images`` and ``/v1/models`` for the users of a gateway."""

    def __init__(self, users: Users, feeds: Feeds, room: Room) -> None:
        self._users = users
        self._feeds = feeds
        self._room = room

    async def edits(self, request: Request) -> Response:
        """POST /v1/images/edits: edit pictures, and answer with the results or a stream of them."""
        admission = Admission(request)
        user = admission.user
        async with AsyncExitStack() as held:
            client = await held.enter_async_context(self._users.client(user))
            with taken_in(request, user):
                async with form_of(request) as form:
                    checked = await edit_form(form)
                edits = await self._submit(request, client, user, checked)
            return await self._answered(request, edits, held, admission)

    async def generations(self, request: Request) -> Response:
        """POST /v1/images/generations: make pictures from text alone, where a model is served that does."""
        admission = Admission(request)
        async with AsyncExitStack() as held:
            client = await held.enter_async_context(self._users.client(admission.user))
            checked = await generation_form(request)
            _check_makes_from_text(client)
            pictures = await self._submit(request, client, admission.user, checked)
            return await self._answered(request, pictures, held, admission)

    async def _answered(
        self, request: Request, edits: Submitted, held: AsyncExitStack, admission: Admission
    ) -> Response:
        if edits.form.stream:
            # What has been refused until here was refused by its status; the stream holds the client from now on.
            return events_response(_stream(edits, held.pop_all()), self._room, admission)
        try:
            results = await while_connected(request, _results(edits.jobs))
        except BaseException:
            await edits.abandon()
            raise
        user = admission.user
        return json_with_pictures(lambda stand_in: _answer(edits.form, results, stand_in), self._room, user)

    async def _submit(self, request: Request, client: AsyncClient, user: str, checked: EditForm) -> Submitted:
        _check_model(client, checked.model)
        key = request.headers.get("idempotency-key")
        names = [new_id("web") if key is None else durable_id(user, key, number) for number in range(checked.n)]
        previews = checked.stream and checked.partial_images > 0
        submitted = await submit(client, checked, names, durable=key is not None, previews=previews)
        await self._feeds.take_up(user, client, submitted.jobs)
        return submitted

    async def models(self, request: Request) -> Response:
        """GET /v1/models: the served model, as a list."""
        async with self._users.client(user_of(request)) as client:
            return JSONResponse({"object": "list", "data": [_model(client)]})

    async def model(self, request: Request) -> Response:
        """GET /v1/models/{model}: the served model."""
        async with self._users.client(user_of(request)) as client:
            _check_model(client, request.path_params["model"])
            return JSONResponse(_model(client))


async def _stream(edits: Submitted, held: AsyncExitStack) -> AsyncGenerator[Event, None]:
    """Events of all jobs as they come; a job that fails ends the stream with an event of its own."""
    async with held:
        try:
            async for each in merged([_events(edits.form, job) for job in edits.jobs]):
                # Fetched when its turn to be sent has come: a slow reader holds one picture here, and not all.
                yield _completed(edits.form, await each.result()) if isinstance(each, AsyncJob) else each
        except QiedError as error:
            await edits.abandon()
            yield event("error", of_qied(error).body())
        except BaseException:
            await edits.abandon()
            raise


async def _events(form: EditForm, job: AsyncJob) -> AsyncGenerator[Event | AsyncJob, None]:
    """Queue places as comments, up to ``partial_images`` pictures on the way, and the job itself when it has ended."""
    shown, place = 0, None
    async for progress in job.events():
        if progress.kind == "queued" and progress.place != place:
            place = progress.place
            yield comment(f"queued {place}" if progress.note == "" else f"queued: {progress.note}")
        elif progress.preview and shown < _due(progress, form.partial_images):
            yield _partial(form, progress, shown)
            shown += 1
    yield job


def _due(progress: Progress, wanted: int) -> int:
    """How many of the ``wanted`` pictures are due at a step, spread evenly over the edit."""
    return min(wanted, progress.done * (wanted + 1) // max(progress.total, 1) + 1)


def _partial(form: EditForm, progress: Progress, index: int) -> bytes:
    facts = {
        "type": f"{form.events}.partial_image",
        "partial_image_index": index,
        "b64_json": base64.b64encode(progress.preview).decode(),
        "created_at": int(time.time()),
        "size": "auto",
        "quality": _told_quality(form),
        "background": "opaque",
        "output_format": "jpeg",
    }
    return event(f"{form.events}.partial_image", facts)


def _completed(form: EditForm, result: Result) -> WithPictures:
    def make(stand_in: Callable[[bytes], str]) -> bytes:
        facts = {
            "type": f"{form.events}.completed",
            "created_at": int(time.time()),
            **_picture(form, result, stand_in),
            "size": f"{result.width}x{result.height}",
            "quality": _told_quality(form),
            "background": _background(result),
            "output_format": form.output_format,
            "usage": _NO_USAGE,
        }
        return event(f"{form.events}.completed", facts)

    return WithPictures(make)


async def _results(jobs: Sequence[AsyncJob]) -> list[Result]:
    # None is fetched before all have ended: many callers may wait for the same jobs, and each would hold pictures.
    await asyncio.gather(*(_succeeded(job) for job in jobs))
    return await asyncio.gather(*(job.result() for job in jobs))


async def _succeeded(job: AsyncJob) -> None:
    """Wait until a job has a picture; raises its typed error where it gets none."""
    if (await job.outcome()).error() is not None:
        await job.result()


def _answer(form: EditForm, results: Sequence[Result], stand_in: Callable[[bytes], str]) -> dict[str, Any]:
    first = results[0]
    quality = {"quality": form.quality} if form.quality in PRESETS else {}  # OpenAI's answers have no others
    return {
        "created": int(time.time()),
        "data": [_picture(form, result, stand_in) for result in results],
        "background": _background(first),
        "output_format": form.output_format,
        **quality,
        "size": f"{first.width}x{first.height}",
        "usage": _NO_USAGE,
    }


def _background(result: Result) -> str:
    """Whether a result can be transparent somewhere, in OpenAI's words."""
    return "transparent" if read_header(BytesIO(result.bytes), PictureLimits()).alpha else "opaque"


def _told_quality(form: EditForm) -> str:
    """The quality as events have it: OpenAI's clients know no others."""
    return form.quality if form.quality in PRESETS else "auto"


def _picture(form: EditForm, result: Result, stand_in: Callable[[bytes], str]) -> dict[str, Any]:
    """A picture and how it was made; what OpenAI does not have are further members, which clients keep."""
    return {
        "b64_json": stand_in(result.bytes),
        "seed": result.seed,
        "id": result.job,
        "warnings": list(dict.fromkeys((*form.notes, *result.warnings))),
        "drift": None if result.drift is None else asdict(result.drift),
    }


def _check_makes_from_text(client: AsyncClient) -> None:
    if not takes_no_picture(client):
        raise ApiError(
            400,
            "invalid_request_error",
            "model_not_supported",
            "The model of this server edits pictures and makes none from text alone. Use /v1/images/edits.",
            "model",
        )


def _check_model(client: AsyncClient, name: str | None) -> None:
    assert client.welcome is not None, "a client of the gateway is connected"
    if name not in (None, "", client.welcome.model):
        raise ApiError(
            404,
            "not_found_error",
            "model_not_found",
            f"There is no model {name[:80]!r} here. This server has {client.welcome.model!r}.",
            "model",
        )


def _model(client: AsyncClient) -> dict[str, Any]:
    assert client.welcome is not None, "a client of the gateway is connected"
    return {"id": client.welcome.model, "object": "model", "created": 0, "owned_by": "qied"}
