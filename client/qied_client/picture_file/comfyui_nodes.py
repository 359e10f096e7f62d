"""The nodes of ComfyUI that graphs of results have: those of the package qied-nodes, and ComfyUI's own Save Image.

ComfyUI's page finds links by the places of sockets, and the values of widgets by their order, so both are written down
here in the order that they have there: required ones first, then the others as the package declares them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

Value = str | int | float | bool


@dataclass(frozen=True)
class NodeKind:
    """A class of nodes: inputs that are linked, with their types; widgets, with their defaults; outputs; pixels."""

    sockets: Mapping[str, str]
    widgets: Mapping[str, Value]
    outputs: Mapping[str, str]
    size: tuple[int, int]


SEED: Final = "seed"
"""The widget that ComfyUI has one more for, which says what becomes of it after a run."""
_SETTINGS: Final[Mapping[str, Value]] = {"steps": 0, "true_cfg_scale": 0.0, "preset": "", "negative_prompt": ""}
_BOX: Final[Mapping[str, Value]] = {
    "x": 0,
    "y": 0,
    "width": 0,
    "height": 0,
    "strength": 0.5,
    "padding": -1,
    "feather": 8,
    "scale": 0.0,
}
_SERVER: Final = {"server": "QIED_SERVER"}
_RESULT: Final = {"image": "IMAGE", "info": "STRING"}

KINDS: Final[Mapping[str, NodeKind]] = {
    "QiedServer": NodeKind({}, {"key": "", "address": ""}, {"server": "QIED_SERVER", "info": "STRING"}, (320, 110)),
    "QiedPicture": NodeKind(
        _SERVER, {"picture": "", "mask_mode": "auto"}, {"image": "IMAGE", "mask": "MASK"}, (320, 340)
    ),
    "QiedEdit": NodeKind(
        {
            **{"image1": "IMAGE", "image2": "IMAGE", "image3": "IMAGE", "mask": "MASK", "loras": "QIED_LORAS"},
            **{"session": "QIED_SESSION", "redraw": "QIED_REGIONS", "canvas": "IMAGE", **_SERVER},
        },
        {
            **{"prompt": "", SEED: 0, **_SETTINGS, "size": "default", "width": 0, "height": 0, "upscale": ""},
            **{"background": "auto", "align": True, "on_cap": "refuse", "rewrite_prompt": False, "precision": ""},
            **{"compat": "", "preemptible": False},
        },
        {**_RESULT, "session": "QIED_SESSION"},
        (400, 720),
    ),
    "QiedLora": NodeKind({"loras": "QIED_LORAS"}, {"name": "", "strength": 1.0}, {"loras": "QIED_LORAS"}, (320, 110)),
    "QiedRegion": NodeKind(
        {"mask": "MASK", "regions": "QIED_REGIONS"}, {**_BOX, "steps": 0}, {"regions": "QIED_REGIONS"}, (320, 300)
    ),
    "QiedRedraw": NodeKind(
        {
            **{"image": "IMAGE", "mask": "MASK", "reference1": "IMAGE", "reference2": "IMAGE", "reference3": "IMAGE"},
            **{"loras": "QIED_LORAS", **_SERVER},
        },
        {"prompt": "", **_BOX, SEED: 0, **_SETTINGS, "refine": 0.0},
        _RESULT,
        (400, 640),
    ),
    "QiedSession": NodeKind(
        {"image": "IMAGE", **_SERVER},
        {"name": "", "turn": -1, "undo": 0},
        {"session": "QIED_SESSION", "image": "IMAGE", "info": "STRING"},
        (320, 180),
    ),
    "QiedUpscale": NodeKind({"image": "IMAGE", **_SERVER}, {"upscaler": "auto"}, _RESULT, (320, 130)),
    "LoadImage": NodeKind({}, {"image": "", "upload": "image"}, {"IMAGE": "IMAGE", "MASK": "MASK"}, (280, 320)),
    "SaveImage": NodeKind({"images": "IMAGE"}, {"filename_prefix": "qied"}, {}, (320, 320)),
    "PreviewImage": NodeKind({"images": "IMAGE"}, {}, {}, (320, 320)),
    "PreviewAny": NodeKind({"source": "*"}, {}, {"STRING": "STRING"}, (320, 160)),
}
