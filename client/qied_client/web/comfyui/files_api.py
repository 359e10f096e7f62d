"""Routes of pictures: upload them, and see them and results, whole or as a preview, or one channel."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from io import BytesIO
from typing import TYPE_CHECKING, Final

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

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

if TYPE_CHECKING:
    from PIL.Image import Image

_MEDIA: Final = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}
_QUALITY: Final = 90
_UPLOADED_TO: Final = ("input", "temp")


class FilesApi:
    """``/upload/image``, ``/upload/mask`` and ``/view``, each user's own."""

    def __init__(self, spaces: Spaces, runner: Runner, uploads: Uploads, room: Room) -> None:
        self._spaces = spaces
        self._runner = runner
        self._uploads = uploads
        self._room = room
        self._converting = asyncio.Semaphore(1)

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
            masked = await self._converted(lambda: _with_opacity_of(original, data))
            return await self._kept(user, name, masked, overwrite=overwrite)

    async def view(self, request: Request) -> Response:
        """GET /view: a picture that was uploaded, or a result; with preview smaller, with channel a part of it."""
        user = user_of(request)
        query = request.query_params
        name = annotated(query.get("filename", ""), query.get("type", "output"))
        if subfolder := query.get("subfolder", ""):
            name = picture_name(name.folder, subfolder, name.filename)
        data = await self._bytes(user, name)
        preview, channel = query.get("preview"), query.get("channel", "")
        if channel not in ("", "rgba", "rgb", "a"):
            raise ComfyError("invalid_query", "channel must be rgba, rgb or a.")
        if preview is not None:
            kind, quality = _wanted(preview, channel)
            data = await self._converted(lambda: _previewed(data, kind, quality, rgb=channel == "rgb"))
        elif channel in ("rgb", "a"):
            data = await self._converted(lambda: _channel(data, channel))
        named = name.filename.encode("ascii", "replace").decode().replace('"', "?")
        kind = _MEDIA.get(_format(data), "application/octet-stream")
        return picture_response(data, kind, {"Content-Disposition": f'filename="{named}"'}, self._room, user)

    async def _kept(self, user: str, name: PictureName, data: bytes, *, overwrite: bool) -> Response:
        kept = await run_in_threadpool(self._uploads.add, user, name, data, overwrite=overwrite)
        return JSONResponse({"name": kept.filename, "subfolder": kept.subfolder, "type": kept.folder})

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

    async def _converted(self, work: Callable[[], bytes]) -> bytes:
        """Work on pixels, one picture at a time."""
        async with self._converting:
            return await run_in_threadpool(work)


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


def _opened(data: bytes) -> Image:
    """A picture with its pixels, upright; raises ComfyError for one that cannot be decoded, or without Pillow."""
    try:
        from PIL import Image, ImageOps
    except ImportError:
        raise ComfyError(
            "no_pillow", "This server lacks Pillow.", "Install qied-client[pictures].", status=501
        ) from None
    header = read_header(BytesIO(data), PictureLimits())
    try:
        with Image.open(BytesIO(data), formats=[header.format]) as image:
            return ImageOps.exif_transpose(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ComfyError("invalid_image", "The picture cannot be decoded.", str(error)[:200]) from None


def _with_opacity_of(original: bytes, mask: bytes) -> bytes:
    picture, opacity = _opened(original).convert("RGBA"), _opened(mask).convert("RGBA").getchannel("A")
    if opacity.size != picture.size:
        raise ComfyError(
            "invalid_mask",
            f"The mask has {opacity.size[0]} x {opacity.size[1]} pixels, and the picture {picture.size[0]} x "
            f"{picture.size[1]}.",
            "Make them equal.",
        )
    picture.putalpha(opacity)
    return _encoded(picture, "png")


def _wanted(preview: str, channel: str) -> tuple[str, int]:
    """Format and quality of a preview such as ``webp;90``; opacity needs WebP."""
    words = preview.split(";")
    kind = words[0] if words[0] in ("webp", "jpeg") and "a" not in channel else "webp"
    quality = int(words[-1]) if words[-1].isdecimal() and len(words[-1]) < 4 else _QUALITY
    return kind, min(100, max(1, quality))


def _previewed(data: bytes, kind: str, quality: int, *, rgb: bool) -> bytes:
    image = _opened(data)
    if kind == "jpeg" or rgb:
        image = image.convert("RGB")
    return _encoded(image, kind, quality)


def _channel(data: bytes, channel: str) -> bytes:
    """Colours without opacity, or the opacity of a picture that is black otherwise, as PNG."""
    from PIL import Image

    image = _opened(data)
    if channel == "rgb":
        return _encoded(image.convert("RGBA").convert("RGB"), "png")
    opacity = Image.new("RGBA", image.size)
    opacity.putalpha(image.convert("RGBA").getchannel("A"))
    return _encoded(opacity, "png")


def _encoded(image: Image, kind: str, quality: int = _QUALITY) -> bytes:
    buffer = BytesIO()
    if kind == "png":
        image.save(buffer, "PNG", compress_level=4)
    else:
        image.save(buffer, kind.upper(), quality=quality)
    return buffer.getvalue()
