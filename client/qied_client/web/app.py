"""The gateway as an ASGI application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from qied_client.errors import InternalError, QiedError
from qied_client.web.errors import ApiError, of_qied
from qied_client.web.feed import Feeds
from qied_client.web.http.bodies import Room
from qied_client.web.images_api import ImagesApi
from qied_client.web.jobs_api import JobsApi
from qied_client.web.monitoring import Monitoring
from qied_client.web.openapi.document import openapi
from qied_client.web.pixels.workshop import Workshop
from qied_client.web.security import Guard, Hosts
from qied_client.web.tokens import TokenStore
from qied_client.web.users import MakeClient, Users

PAGE: Final = Path(__file__).parent / "page"


def make_app(make_client: MakeClient, tokens: TokenStore, hosts: Hosts, own_user: str) -> ASGIApp:
    """Build the application. ``make_client`` makes the client that speaks for a user; the key is ``own_user``'s."""
    users = Users(make_client)

    @asynccontextmanager
    async def life(app: Starlette) -> AsyncIterator[None]:
        yield
        await feeds.close()
        await users.close()
        workshop.close()

    room = Room()
    feeds = Feeds(users)
    images = ImagesApi(users, feeds, room)
    workshop = Workshop()
    jobs = JobsApi(users, feeds, room, workshop)
    monitoring = Monitoring(users, own_user)
    app = Starlette(
        routes=[
            Route("/health", _health),
            Route("/ready", monitoring.ready),
            Route("/metrics", monitoring.metrics),
            Route("/openapi.json", openapi),
            Route("/v1/images/edits", images.edits, methods=["POST"]),
            Route("/v1/images/generations", images.generations, methods=["POST"]),
            Route("/v1/models", images.models),
            Route("/v1/models/{model:path}", images.model),
            Route("/api/me", jobs.me),
            Route("/api/loras", jobs.loras),
            Route("/api/upscalers", jobs.upscalers),
            Route("/api/plan", jobs.plan),
            Route("/api/status", jobs.status),
            Route("/api/events", jobs.events),
            Route("/api/quote", jobs.quote, methods=["POST"]),
            Route("/api/control", jobs.control, methods=["POST"]),
            Route("/api/jobs", jobs.jobs, methods=["GET"]),
            Route("/api/jobs", jobs.submit, methods=["POST"]),
            Route("/api/jobs/{job}", jobs.job, methods=["GET"]),
            Route("/api/jobs/{job}", jobs.release, methods=["DELETE"]),
            Route("/api/jobs/{job}/events", jobs.job_events),
            Route("/api/jobs/{job}/preview", jobs.preview),
            Route("/api/jobs/{job}/result", jobs.result),
            Route("/api/jobs/{job}/thumbnail", jobs.thumbnail),
            Route("/api/jobs/{job}/cancel", jobs.cancel, methods=["POST"]),
            Route("/api/pictures", jobs.convert, methods=["POST"]),
            Route("/api/sessions", jobs.sessions, methods=["GET"]),
            Route("/api/sessions", jobs.open, methods=["POST"]),
            Route("/api/sessions/{session}", jobs.session, methods=["GET"]),
            Route("/api/sessions/{session}", jobs.close, methods=["DELETE"]),
            Route("/api/sessions/{session}/turns", jobs.turn, methods=["POST"]),
            Route("/api/sessions/{session}/undo", jobs.undo, methods=["POST"]),
            Route("/api/sessions/{session}/redo", jobs.redo, methods=["POST"]),
            Route("/api/sessions/{session}/turns/{turn}/picture", jobs.turn_picture),
            Route("/api/sessions/{session}/turns/{turn}/thumbnail", jobs.turn_thumbnail),
            Route("/", _page, include_in_schema=False),
            Mount("/page", StaticFiles(directory=PAGE)),
        ],
        exception_handlers={
            ApiError: _api_error,
            QiedError: _qied_error,
            HTTPException: _http_error,
            ClientDisconnect: _left,
            Exception: _defect,
        },
        lifespan=life,
    )
    app.state.tokens = tokens
    app.state.room = room
    app.state.told = set()
    return Guard(app, hosts)


async def _page(request: Request) -> Response:
    """The page itself; everything that it shows needs a token."""
    return FileResponse(PAGE / "index.html", headers={"Cache-Control": "no-cache"})


async def _health(request: Request) -> Response:
    """GET /health: the gateway answers; whether the daemon does is another question, see ``/ready``."""
    return JSONResponse({"status": "ok"})


async def _api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError), "registered for it"
    return error.response()


async def _qied_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, QiedError), "registered for it"
    return of_qied(error).response()


async def _left(request: Request, error: Exception) -> Response:
    """The caller closed the connection, so this answer has no reader."""
    return Response(status_code=499)


async def _defect(request: Request, error: Exception) -> Response:
    """A bug, in the shape of all errors; the server logs it."""
    return of_qied(InternalError("This request failed because of a bug in the web gateway.", "Report it.")).response()


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException), "registered for it"
    kind = "not_found_error" if error.status_code == 404 else "invalid_request_error"
    code = {404: "unknown_route", 405: "method_not_allowed"}.get(error.status_code, "invalid_request")
    answer = ApiError(error.status_code, kind, code, f"{request.method} {request.url.path}: {error.detail}.").response()
    answer.headers.update(error.headers or {})  # which methods are allowed
    return answer
