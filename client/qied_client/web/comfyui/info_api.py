"""Routes that say what this server has: nodes, models, memory, features."""

from __future__ import annotations

import asyncio
import platform
import sys
from collections.abc import Mapping
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from qied_client.aio import AsyncClient
from qied_client.errors import VersionMismatch
from qied_client.protocol.limits import BLOB_BYTES
from qied_client.version import __version__
from qied_client.web.access import user_of
from qied_client.web.comfyui import nodes as n
from qied_client.web.comfyui.errors import ComfyError
from qied_client.web.comfyui.sockets import FEATURES
from qied_client.web.comfyui.uploads import Uploads
from qied_client.web.http.json_answers import Json
from qied_client.web.users import Users
from qied_client.workflows import comfyui_files

SPOKEN: Final = "0.33.0"
"""The version of ComfyUI whose API this is."""
_SUFFIX: Final = ".safetensors"
_TEXT_ENCODERS: Final = ("qwen_2.5_vl_7b", "qwen_2.5_vl_7b_fp8_scaled")
_AUTOENCODER: Final = "qwen_image_vae"
_FOLDERS: Final[Mapping[str, str]] = {
    "checkpoints": n.MODELS,
    "diffusion_models": n.MODELS,
    "unet": n.MODELS,
    "loras": n.LORAS,
    "text_encoders": n.TEXT_ENCODERS,
    "clip": n.TEXT_ENCODERS,
    "upscale_models": n.UPSCALERS,
    "vae": n.AUTOENCODERS,
}
"""ComfyUI's folders of models, and the list that each stands for."""


class InfoApi:
    """``/object_info``, ``/models``, ``/system_stats``, ``/features`` and what else clients ask."""

    def __init__(self, users: Users, uploads: Uploads) -> None:
        self._users = users
        self._uploads = uploads

    async def object_info(self, request: Request) -> Response:
        """GET /object_info: every class of nodes that clients are told of."""
        lists = await self._lists(user_of(request))
        return Json({name: _told(name, node, lists) for name, node in n.NODES.items()})

    async def one_class(self, request: Request) -> Response:
        """GET /object_info/{class}: one of them, or an empty object."""
        lists, name = await self._lists(user_of(request)), request.path_params["name"]
        return Json({name: _told(name, n.NODES[name], lists)} if name in n.NODES else {})

    async def folders(self, request: Request) -> Response:
        """GET /models: the folders that models are in."""
        user_of(request)
        return Json([*_FOLDERS])

    async def models(self, request: Request) -> Response:
        """GET /models/{folder}: the names in one."""
        lists, folder = await self._lists(user_of(request)), request.path_params["folder"]
        if folder not in _FOLDERS:
            raise ComfyError("not_found", f"There is no folder {folder[:40]!r}.", status=404)
        return Json(lists[_FOLDERS[folder]])

    async def nothing(self, request: Request) -> Response:
        """GET /embeddings, /extensions: none."""
        user_of(request)
        return Json([])

    async def features(self, request: Request) -> Response:
        """GET /features: what clients may use."""
        user_of(request)
        return Json({**FEATURES, "max_upload_size": BLOB_BYTES})

    async def free(self, request: Request) -> Response:
        """POST /free: nothing happens, since the daemon's memory is everybody's, and its own to plan."""
        user_of(request)
        return Response()

    async def system_stats(self, request: Request) -> Response:
        """GET /system_stats: this program, and the memory of the daemon's workers in bytes."""
        async with self._users.client(user_of(request)) as client:
            report = await client.status()
        devices = [
            {
                "name": worker.device or worker.worker,
                "type": "cuda",
                "index": index,
                "vram_total": worker.budget,
                "vram_free": worker.free,
                "torch_vram_total": worker.budget,
                "torch_vram_free": worker.free,
            }
            for index, worker in enumerate(report.workers)
        ]
        system = {
            "os": platform.system().lower(),
            "ram_total": 0,
            "ram_free": 0,
            "comfyui_version": SPOKEN,
            "required_frontend_version": "",
            "installed_templates_version": "",
            "required_templates_version": "",
            "python_version": sys.version,
            "pytorch_version": "",
            "embedded_python": False,
            "argv": [],
            "qied_version": __version__,
            "model": report.model,
        }
        return Json({"system": system, "devices": devices})

    async def _lists(self, user: str) -> dict[str, list[str]]:
        async with self._users.client(user) as client:
            lists = await _of_daemon(client)
        found = await asyncio.to_thread(self._uploads.names, user)
        return {**lists, n.PICTURES: [name.in_graphs for name in found]}


async def _of_daemon(client: AsyncClient) -> dict[str, list[str]]:
    described, loras = await client.describe(), await client.loras()
    try:
        upscalers = await client.upscalers()
    except VersionMismatch:  # an older daemon does not list them, and has all else
        upscalers = ()
    return {
        # Clients refuse a graph whose files are not among these, so the model has its names in ComfyUI's files too.
        n.MODELS: [f"{name}{_SUFFIX}" for name in (described.model, *comfyui_files(described.model))],
        n.LORAS: [f"{lora.name}{_SUFFIX}" for lora in loras if not lora.problem],
        n.UPSCALERS: [f"{upscaler.name}{_SUFFIX}" for upscaler in upscalers],
        n.TEXT_ENCODERS: [f"{name}{_SUFFIX}" for name in _TEXT_ENCODERS],
        n.AUTOENCODERS: [f"{_AUTOENCODER}{_SUFFIX}"],
    }


def _told(name: str, node: n.NodeClass, lists: Mapping[str, list[str]]) -> dict[str, Any]:
    """A class in the form that has lists in place of types, which all clients read."""
    required, optional = (_filled(inputs, lists) for inputs in (node.required, node.optional))
    return {
        "input": {"required": required, **({"optional": optional} if optional else {})},
        "input_order": {"required": [*required], **({"optional": [*optional]} if optional else {})},
        "output": [kind.strip() for kind in node.outputs],
        "output_is_list": [False] * len(node.outputs),
        "output_name": [*node.outputs.values()],
        "name": name,
        "display_name": name,
        "description": "",
        "python_module": "nodes",
        "category": node.category,
        "output_node": node.saves,
    }


def _filled(inputs: Mapping[str, Any], lists: Mapping[str, list[str]]) -> dict[str, Any]:
    return {
        name: [lists[value.what], dict(value.options)] if isinstance(value, n.Listed) else list(value)
        for name, value in inputs.items()
    }
