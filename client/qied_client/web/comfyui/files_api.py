"""Routes of pictures: upload them, and see them and results, whole or as a preview, or one channel."""

from __future__ import annotations

import json
from io import BytesIO
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.responses import Response

from qied_client.errors import PictureError, QiedError
from qied_client.picture_header import PictureLimits, read_header
from qied_client.web.access import user_of
from qied_client.web.comfyui.errors import ComfyError
from qied_client.web.comfyui.names import PictureName, annotated, picture_name
from qied_client.web.comfyui.running import Runner
from qied_client.web.comfyui.spaces import Spaces
from qied_client.web.comfyui.uploads import Uploads
from qied_client.web.forms import form_of, read_file
from qied_client.web.http.answers import picture_response
from qied_client.web.http.bodies import Room, taken_in
from qied_client.web.http.json_answers import Json
from qied_client.web.pixels.workshop import Workshop
from qied_client.web.streams import while_connected

_MEDIA: Final = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}
_QUALITY: Final = 90
_UPLOADED_TO: Final = ("input", "temp")


class FilesApi:
    """``/upload/image``, ``/upload/mask`` and ``/view``, each user's own."""

    def __init__(self, spaces: Spaces, runner: Runner, uploads: Uploads, room: Room, workshop: Workshop) -> None:
        self._spaces = spaces
        self._runner = runner
        self._uploads = uploads
        self._room = room
        self._workshop = workshop

    async def upload_image(self, request: Request) -> Response:
        """POST /upload/image: keep a picture under a name."""
        user = user_of(request)
        with taken_in(request, user):
            async with form_of(request) as form:
                name, data, overwrite = await _upload(form)
            return await self._kept(user, name, data, overwrite=overwrite)

    async def upload_mask(self, request: Request) -> Response:
        """POST /upload/mask: keep a picture that has the opacity of another one, which is the mask."""
        user = user_of(request)
        with taken_in(request, user):
            async with form_of(request) as form:
                name, data, overwrite = await _upload(form)
                original = await self._bytes(user, _original(form))
            masked = await self._workshop.do(user, "opacity", original, data)
            return await self._kept(user, name, masked, overwrite=overwrite)

    async def view(self, request: Request) -> Response:
        """GET /view: a picture that was uploaded, or a result; with preview smaller, with channel a part of it."""
        user = user_of(request)
        query = request.query_params
        name = annotated(query.get("filename", ""), query.get("type", "output"))
        if subfolder := query.get("subfolder", ""):
            name = picture_name(name.folder, subfolder, name.filename)
        preview, channel = query.get("preview"), query.get("channel", "")
        if channel not in ("", "rgba", "rgb", "a"):
            raise ComfyError("invalid_query", "channel must be rgba, rgb or a.")
        data = await while_connected(request, self._viewed(user, name, preview, channel))
        named = name.filename.encode("ascii", "replace").decode().replace('"', "?")
        kind = _MEDIA.get(_format(data), "application/octet-stream")
        return picture_response(data, kind, {"Content-Disposition": f'filename="{named}"'}, self._room, user)

    async def _viewed(self, user: str, name: PictureName, preview: str | None, channel: str) -> bytes:
        async with self._spaces.of(user).viewing:
            data = await self._bytes(user, name)
            if preview is not None:
                kind, quality = _wanted(preview, channel)
                rgb = channel == "rgb"
                return await self._workshop.do(user, "preview", data, kind=kind, quality=quality, rgb=rgb)
            if channel in ("rgb", "a"):
                return await self._workshop.do(user, "channel", data, channel=channel)
            return data

    async def _kept(self, user: str, name: PictureName, data: bytes, *, overwrite: bool) -> Response:
        kept = await run_in_threadpool(self._uploads.add, user, name, data, overwrite=overwrite)
        return Json({"name": kept.filename, "subfolder": kept.subfolder, "type": kept.folder})

    async def _bytes(self, user: str, name: PictureName) -> bytes:
        """A picture; raises ComfyError where this user has none of that name."""
        space = self._spaces.of(user)
        if (job := space.job_of(name)) is not None:
            try:
                return await self._runner.result(space, job)
            except QiedError as error:
                raise ComfyError("not_found", error.message, error.remedy, status=404) from error
        data = await run_in_threadpool(self._uploads.read, user, name)
        if data is None:
            raise ComfyError("not_found", f"There is no picture {name.in_graphs[:80]!r}.", status=404)
        return data


async def _upload(form: FormData) -> tuple[PictureName, bytes, bool]:
    """Name and bytes of what a form uploads, and whether it takes the place of what has the name."""
    image = form.get("image")
    if not isinstance(image, UploadFile) or not image.filename:
        raise ComfyError("no_image", "Send a picture with a name as `image`.")
    folder = _text(form, "type") or "input"
    if folder not in _UPLOADED_TO:
        raise ComfyError("invalid_name", f"Pictures are uploaded to input or temp, not to {folder[:40]!r}.")
    name = picture_name(folder, _text(form, "subfolder"), image.filename.replace("\\", "/").rpartition("/")[2])
    data = await read_file(image, "image")
    if not _format(data):
        raise ComfyError("invalid_image", f"{name.filename} is not a picture that can be edited.")
    return name, data, _text(form, "overwrite").lower() in ("true", "1")


def _text(form: FormData, name: str) -> str:
    value = form.get(name, "")
    return value if isinstance(value, str) else ""


def _original(form: FormData) -> PictureName:
    try:
        reference = json.loads(_text(form, "original_ref"))
        filename, folder = reference["filename"], reference.get("type") or "output"
        subfolder = reference.get("subfolder") or ""
        if not all(isinstance(each, str) for each in (filename, folder, subfolder)):
            raise TypeError
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ComfyError(
            "invalid_original_ref",
            "original_ref must say which picture the mask is of.",
            'Send JSON such as {"filename": "cat.png", "type": "input"}.',
        ) from None
    name = annotated(filename, folder)
    return picture_name(name.folder, subfolder, name.filename) if subfolder else name


def _format(data: bytes) -> str:
    """The format of a picture that is read here; empty for anything else."""
    try:
        return read_header(BytesIO(data), PictureLimits()).format
    except PictureError:
        return ""


def _wanted(preview: str, channel: str) -> tuple[str, int]:
    """Format and quality of a preview such as ``webp;90``; opacity needs WebP."""
    words = preview.split(";")
    kind = words[0] if words[0] in ("webp", "jpeg") and "a" not in channel else "webp"
    quality = int(words[-1]) if words[-1].isdecimal() and len(words[-1]) < 4 else _QUALITY
    return kind, min(100, max(1, quality))
