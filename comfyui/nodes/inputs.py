"""Inputs that several nodes have, with the names of the client's options, and how their values become options.

A widget that is left at 0 or empty leaves the choice to the daemon: to the preset, or to the model's own settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from comfy_api.latest import io
from qied_client.protocol import limits

from ..daemon.choices import presets
from ..daemon.connections import Server

CATEGORY: Final = "image/qied"
ServerSocket: Final = io.Custom("QIED_SERVER")
LorasSocket: Final = io.Custom("QIED_LORAS")
RegionsSocket: Final = io.Custom("QIED_REGIONS")
SessionSocket: Final = io.Custom("QIED_SESSION")

Loras = tuple[tuple[str, float], ...]
"""The value of the type QIED_LORAS: names with strengths, in the order of the nodes."""


def advanced(widget: io.Input) -> io.Input:
    """Fold a widget away below the others, in a ComfyUI that does so; older ones show it."""
    widget.extra_dict["advanced"] = True
    return widget


def prompt(what: str) -> io.Input:
    """The prompt; ``what`` says what it is of."""
    return io.String.Input("prompt", multiline=True, dynamic_prompts=True, default="", tooltip=what)


def seed() -> io.Input:
    """The seed, which ComfyUI changes after a run as the widget below it says."""
    return io.Int.Input(
        "seed",
        optional=True,
        default=0,
        min=0,
        max=limits.SEED,
        control_after_generate=True,
        tooltip="The same seed and the same settings give the same picture. "
        "The pictures of a batch have this seed, the next one, and so on.",
    )


def settings() -> list[io.Input]:
    """Steps, guidance, preset and negative prompt."""
    return [
        io.Int.Input(
            "steps",
            optional=True,
            default=0,
            min=0,
            max=limits.STEPS,
            tooltip="Denoising steps. 0: as many as the preset has.",
        ),
        io.Float.Input(
            "true_cfg_scale",
            optional=True,
            default=0.0,
            min=0.0,
            max=limits.CFG_SCALE,
            step=0.1,
            tooltip="How strongly the prompt guides (cfg). 1 turns guidance off and halves the time. 0: as the preset.",
        ),
        io.Combo.Input(
            "preset",
            optional=True,
            options=presets(),
            default="",
            tooltip="Steps, guidance and LoRAs under one name. Empty: the model's usual settings.",
        ),
        io.String.Input(
            "negative_prompt",
            optional=True,
            multiline=True,
            dynamic_prompts=True,
            default="",
            tooltip="What the picture should not show. It counts only if cfg is above 1. Empty: the model's own.",
        ),
    ]


def server() -> io.Input:
    """The daemon, for every node that asks one."""
    return ServerSocket.Input(
        "server",
        optional=True,
        tooltip="A Qied Server. Without it, the daemon of this machine, or the one that 'qied-client login' named.",
    )


def given_settings(values: Mapping[str, Any], loras: Loras | None) -> dict[str, Any]:
    """The options of an edit that the values of ``settings`` and a chain of LoRAs ask for."""
    names = ("steps", "true_cfg_scale", "preset", "negative_prompt")
    options = {name: values[name] for name in names if values.get(name)}
    return {**options, "loras": loras} if loras else options


def server_of(server: Server | None) -> Server:
    """The daemon that is connected, or the usual one."""
    return Server() if server is None else server


def next_seed(first: int, number: int) -> int:
    """The seed of a picture of a batch."""
    return (first + number) % (limits.SEED + 1)
