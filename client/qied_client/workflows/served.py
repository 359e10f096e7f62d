"""What a daemon serves, compared with what a workflow names: models by their versions, LoRAs by their names."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from qied_client.protocol import messages as m
from qied_client.workflows import values as v
from qied_client.workflows.rules.loaders import stem
from qied_client.workflows.workflow import Node, NodeProblem

_SHOWN: Final = 3
_MARKS: Final = re.compile(r"[^a-z0-9]+")
_VERSIONS: Final = (
    ("2511", r"2511"),
    ("2509", r"2509"),
    ("2512", r"2512"),
    ("FireRed", r"fire_?red"),
    ("Qwen-Image-2.1", r"qwen_image_2_1"),
    ("Qwen-Image-Layered", r"layered"),
    ("Qwen-Image-Edit", r"qwen_?image_?edit"),
    ("Qwen-Image", r"qwen_?image"),
)
"""Names of versions, and what names of files and models have of them; the first that fits counts."""


@dataclass(frozen=True)
class Served:
    """The daemon's model, precision, LoRAs by name, and how many pictures an edit takes (0: from text alone)."""

    model: str
    title: str
    precision: str
    loras: tuple[str, ...]
    max_images: int

    @classmethod
    def of(cls, described: m.Description, loras: tuple[m.LoraInfo, ...]) -> Served:
        """What a daemon says of itself."""
        names = tuple(lora.name for lora in loras if not lora.problem)
        return cls(described.model, described.title, described.precision, names, described.max_images)


def other_model(file: str, served: Served) -> str:
    """A warning where a workflow's file is of another version than the model that is served; else nothing."""
    wanted, given = _version(stem(file)), _version(served.model)
    if wanted is None or given is None or wanted == given:
        return ""
    return (
        f"The workflow loads {file}, of {wanted}, but this daemon serves {served.title}: the picture is that of "
        "another model. Ask the daemon's owner for the other one, or go on."
    )


def _version(name: str) -> str | None:
    plain = _MARKS.sub("_", name.lower())
    return next((version for version, pattern in _VERSIONS if re.search(pattern, plain)), None)


def comfyui_files(model: str) -> tuple[str, ...]:
    """Names without suffix of the files that ComfyUI's own workflows load for a model of this name; none for others."""
    return _FILES.get(_version(model) or "", ())


_FILES: Final[Mapping[str, tuple[str, ...]]] = {
    "2511": tuple(f"qwen_image_edit_2511_{kind}" for kind in ("bf16", "fp8mixed", "int8_convrot")),
    "2509": tuple(f"qwen_image_edit_2509_{kind}" for kind in ("bf16", "fp8_e4m3fn", "int8_convrot")),
    "2512": tuple(f"qwen_image_2512_{kind}" for kind in ("bf16", "fp8_e4m3fn")),
    "Qwen-Image-Edit": tuple(f"qwen_image_edit_{kind}" for kind in ("bf16", "fp8_e4m3fn")),
    "Qwen-Image": tuple(f"qwen_image_{kind}" for kind in ("bf16", "fp8_e4m3fn")),
}


def lora_name(lora: v.Lora, loader: Node, served: Served | None) -> str | NodeProblem:
    """The daemon's name of a LoRA's file, or the problem that it has none; without a daemon, the file's own name."""
    name = stem(lora.file)
    if served is None:
        return name
    if name in served.loras:
        return name
    wanted = _plain(name)
    found = [known for known in served.loras if _plain(known.rpartition("/")[2]) == wanted]
    if found:
        return found[0]
    by_name = {_plain(known.rpartition("/")[2]): known for known in served.loras}
    near = [by_name[each] for each in difflib.get_close_matches(wanted, by_name, n=_SHOWN, cutoff=0.6)]
    shown = near or list(served.loras[:_SHOWN])
    there = f"There are: {', '.join(shown)}." if shown else "It has none."
    return NodeProblem(
        lora.node,
        loader.class_type,
        f"Node {loader.name}: the daemon has no LoRA {name}.",
        f"{there} Name one with --set {lora.node}.lora_name=NAME, or put the file into the daemon's folder of LoRAs.",
        input="lora_name",
    )


def _plain(name: str) -> str:
    return _MARKS.sub("", stem(name).lower())
