"""The façade as an ASGI application: ComfyUI's routes, each also under ``/api``."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.types import ASGIApp
from starlette.websockets import WebSocket

from qied_client.errors import InternalError, QiedError
from qied_client.web.access import Admission
from qied_client.web.comfyui.errors import ComfyError
from qied_client.web.comfyui.files_api import FilesApi
from qied_client.web.comfyui.info_api import InfoApi
from qied_client.web.comfyui.prompt_api import PromptApi
from qied_client.web.comfyui.running import Runner
from qied_client.web.comfyui.sockets import Socket
from qied_client.web.comfyui.space import SpaceLimits
from qied_client.web.comfyui.spaces import Spaces
from qied_client.web.comfyui.uploads import UploadLimits, Uploads
from qied_client.web.errors import ApiError, of_qied
from qied_client.web.http.bodies import Room
from qied_client.web.pixels.workshop import Workshop
from qied_client.web.security import Guard, Hosts
from qied_client.web.tokens import TokenStore
from qied_client.web.users import MakeClient, Users

_SID_CHARS = 128


def make_comfyui_app(
    make_client: MakeClient,
    tokens: TokenStore,
    hosts: Hosts,
    without_token: str | None = None,
    *,
    uploads: UploadLimits | None = None,
    spaces: SpaceLimits | None = None,
) -> ASGIApp:
    """Build the application; who sends no token is the user ``without_token``, or is refused where that is None.

    ``make_client`` makes the client that speaks for a user. Uploads lie in a temporary folder that ends with it.
    """
    users = Users(make_client)
    folder = tempfile.TemporaryDirectory(prefix="qied-comfyui-")
    kept = Uploads(Path(folder.name), uploads)
    workshop = Workshop()
    runner = Runner(users, kept, workshop)
    views = Spaces(runner.run, spaces)

    @asynccontextmanager
    async def life(app: Starlette) -> AsyncIterator[None]:
        yield
        await views.close()
        await users.close()
        runner.close()
        workshop.close()
        folder.cleanup()

    async def listen(websocket: WebSocket) -> None:
        """GET /ws: what happens to the prompts of a client, as messages and pictures."""
        try:
            admission = Admission(websocket)
            space = views.of(admission.user)
            socket = Socket(websocket.query_params.get("clientId", "")[:_SID_CHARS] or uuid4().hex, space.unread)
            space.listen(socket)
        except (ApiError, ComfyError) as error:
            await websocket.send_denial_response(error.response())
            return
        removed = asyncio.create_task(admission.over(), name="token of a listener")
        removed.add_done_callback(lambda _: socket.close())
        try:
            await websocket.accept()
            await socket.run(websocket)
        finally:
            removed.cancel()
            space.leave(socket)

    room = Room()
    prompts, files, info = PromptApi(views, runner), FilesApi(views, runner, kept, room, workshop), InfoApi(users, kept)
    routes: Sequence[BaseRoute] = [
        WebSocketRoute("/ws", listen),
        Route("/prompt", prompts.queue_info, methods=["GET"]),
        Route("/prompt", prompts.prompt, methods=["POST"]),
        Route("/queue", prompts.queue, methods=["GET"]),
        Route("/queue", prompts.change_queue, methods=["POST"]),
        Route("/interrupt", prompts.interrupt, methods=["POST"]),
        Route("/history", prompts.history, methods=["GET"]),
        Route("/history", prompts.change_history, methods=["POST"]),
        Route("/history/{prompt}", prompts.one_of_history),
        Route("/upload/image", files.upload_image, methods=["POST"]),
        Route("/upload/mask", files.upload_mask, methods=["POST"]),
        Route("/view", files.view),
        Route("/object_info", info.object_info),
        Route("/object_info/{name}", info.one_class),
        Route("/models", info.folders),
        Route("/models/{folder}", info.models),
        Route("/embeddings", info.nothing),
        Route("/extensions", info.nothing),
        Route("/features", info.features),
        Route("/system_stats", info.system_stats),
        Route("/free", info.free, methods=["POST"]),
    ]
    jobs: Sequence[BaseRoute] = [
        Route("/jobs", prompts.jobs),
        Route("/jobs/cancel", prompts.cancel_jobs, methods=["POST"]),
        Route("/jobs/{prompt}", prompts.job),
        Route("/jobs/{prompt}/cancel", prompts.cancel_job, methods=["POST"]),
    ]
    app = Starlette(
        routes=[Mount("/api", routes=[*routes, *jobs]), *routes],
        exception_handlers={
            ComfyError: _refused,
            ApiError: _refused,
            QiedError: _qied_error,
            HTTPException: _http_error,
            ClientDisconnect: _left,
            Exception: _defect,
        },
        lifespan=life,
    )
    app.state.tokens = tokens
    app.state.without_token = without_token
    app.state.room = room
    app.state.told = set()
    return Guard(app, hosts)


async def _refused(request: Request, error: Exception) -> Response:
    if isinstance(error, ApiError):
        answer = ComfyError(error.code, error.message, error.param or "", status=error.status).response()
        answer.headers.update(error.headers())
        return answer
    assert isinstance(error, ComfyError), "registered for it"
    return error.response()


async def _qied_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, QiedError), "registered for it"
    return await _refused(request, of_qied(error))


async def _left(request: Request, error: Exception) -> Response:
    """The caller closed the connection, so this answer has no reader."""
    return Response(status_code=499)


async def _defect(request: Request, error: Exception) -> Response:
    """A bug, in the shape of all errors; the server logs it."""
    return await _qied_error(request, InternalError("This request failed because of a bug.", "Report it."))


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException), "registered for it"
    code = {404: "unknown_route", 405: "method_not_allowed"}.get(error.status_code, "invalid_request")
    answer = ComfyError(
        code, f"{request.method} {request.url.path}: {error.detail}.", status=error.status_code
    ).response()
    answer.headers.update(error.headers or {})
    return answer
