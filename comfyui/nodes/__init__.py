"""The nodes, a module each, and the inputs that several of them have."""

from __future__ import annotations

from typing import Final

from comfy_api.latest import io

from .edit import QiedEdit
from .lora import QiedLora
from .picture import QiedPicture
from .redraw import QiedRedraw
from .region import QiedRegion
from .server import QiedServer
from .session import QiedSession
from .upscale import QiedUpscale

NODES: Final[tuple[type[io.ComfyNode], ...]] = (
    QiedServer,
    QiedEdit,
    QiedLora,
    QiedPicture,
    QiedRedraw,
    QiedRegion,
    QiedSession,
    QiedUpscale,
)
