"""Edits as they come in forms: OpenAI's fields and those of local servers, turned into the options of a client."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any, Final

from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from qied_client.errors import QiedError
from qied_client.picture_header import PictureLimits, read_header
from qied_client.protocol import limits
from qied_client.protocol.request import MASK_MODES
from qied_client.web.errors import bad_request

_FILES: Final = limits.IMAGES + 1
_FIELDS: Final = 64
_FIELD_BYTES: Final = 64 * 1024
MOST_RESULTS: Final = 10

_IMAGES: Final = frozenset({"image", "image[]"})
_MASKS: Final = ("mask", "mask_image")
_ALIASES: Final = {
    "num_inference_steps": "steps",
    "guidance_scale": "true_cfg_scale",
    "cfg": "true_cfg_scale",
    "cfg_scale": "true_cfg_scale",
    "loras": "lora",
    "image_prompt": "prompt",
}
_WITHOUT_EFFECT: Final = frozenset(
    {"user", "safety_identifier", "moderation", "input_fidelity", "complexity", "style", "generator_device"}
)
"""Taken, since callers send them unasked, and without effect on this model."""
_KNOWN: Final = frozenset(
    {
        "prompt",
        "model",
        "n",
        "size",
        "quality",
        "background",
        "output_format",
        "output_compression",
        "stream",
        "partial_images",
        "response_format",
        "seed",
        "steps",
        "true_cfg_scale",
        "negative_prompt",
        "lora",
        "preset",
        "precision",
        "priority",
        "width",
        "height",
        "on_cap",
        "mask_mode",
        "base",
    }
)
PRESETS: Final = {"low": "preview", "medium": "draft", "high": "final", "xhigh": "final", "max": "final"}
"""The preset that stands for each quality; auto, standard and none: the model's own default."""


@dataclass(frozen=True)
class EditForm:
    """One request for edits, checked.

    ``output_format`` is png, webp or jpeg, ``output_quality`` its percent. ``partial_images`` is how many pictures a
    stream shows on the way. ``base`` is the turn that is edited. ``options`` are those of ``AsyncClient.submit``.
    ``notes`` say how the form was read, where that may not be meant.
    """

    images: tuple[bytes, ...]
    prompt: str
    n: int = 1
    mask: bytes | None = None
    model: str | None = None
    quality: str = "auto"
    output_format: str = "png"
    output_quality: int = 100
    stream: bool = False
    partial_images: int = 0
    options: dict[str, Any] = field(default_factory=dict)
    base: int | None = None
    notes: tuple[str, ...] = ()


@asynccontextmanager
async def form_of(request: Request) -> AsyncIterator[FormData]:
    """A request's multipart form within its limits; raises ApiError for anything else."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in ("multipart/form-data", "application/x-www-form-urlencoded"):
        raise bad_request(
            f"Send multipart/form-data, not {kind or 'a body without a type'}.", code="wrong_content_type"
        )
    try:
        async with request.form(max_files=_FILES, max_fields=_FIELDS, max_part_size=_FIELD_BYTES) as form:
            yield form
    except HTTPException as error:  # what Starlette makes of every fault of a form
        raise bad_request(f"The form cannot be read: {error.detail}", code="invalid_form") from error


async def edit_form(form: FormData, *, of_turn: bool = False) -> EditForm:
    """Check every field; raises ApiError that names the first one that is wrong. Unknown fields are errors.

    ``of_turn``: its first picture is the one of the session, so that those of the form are optional; ``base`` is known.
    """
    images: list[UploadFile] = []
    masks: list[UploadFile] = []
    texts: dict[str, str] = {}
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            _file_into(images, masks, name, value)
        else:
            _text_into(texts, name, value)
    if not images and not of_turn:
        raise bad_request("Send at least one picture as `image`.", "image", "missing_required_parameter")
    if "prompt" not in texts:
        raise bad_request("Say in `prompt` what to change.", "prompt", "missing_required_parameter")
    pictures = tuple([await image.read() for image in images])
    mask = await masks[0].read() if masks else None
    if "base" in texts and not of_turn:
        raise bad_request("base is for turns of a session.", "base", "unknown_parameter")
    options = _options(texts)
    notes: list[str] = []
    if mask is not None:
        first = None if of_turn else pictures[0]
        notes += check_mask(mask, first)
        meant = "white" if notes else "transparent"
        options["mask_mode"] = _one_of(texts, "mask_mode", MASK_MODES, meant)
        if "mask_mode" in texts:
            notes = []
    return EditForm(
        images=pictures,
        prompt=texts["prompt"],
        n=_integer(texts, "n", 1, 1, MOST_RESULTS),
        mask=mask,
        model=texts.get("model"),
        quality=texts.get("quality", "auto"),
        output_format=_one_of(texts, "output_format", ("png", "webp", "jpeg", "jpg"), "png").replace("jpg", "jpeg"),
        output_quality=_integer(texts, "output_compression", 100, 0, 100),
        stream=_flag(texts, "stream"),
        partial_images=_integer(texts, "partial_images", 0, 0, 3),
        options=options,
        base=_integer(texts, "base", 0, 0, 2**31 - 1) if "base" in texts else None,
        notes=tuple(notes),
    )


def check_mask(mask: bytes, first: bytes | None) -> list[str]:
    """See that a mask has the displayed size of the first picture, where that is here; raises ApiError.

    OpenAI's masks are transparent where to edit. One that cannot be transparent is read by its brightness, white where
    to edit, as many programs make them; then there is a note to tell the caller.
    """
    headers = []
    for data, name in ((mask, "mask"), (first or mask, "image")):
        try:
            headers.append(read_header(BytesIO(data), PictureLimits()))
        except QiedError as error:
            raise bad_request(f"{name}: {error}", name) from error
    (width, height), (wanted_width, wanted_height) = (header.displayed_size for header in headers)
    if (width, height) != (wanted_width, wanted_height):
        raise bad_request(
            f"The mask has {width} x {height} pixels and the first picture {wanted_width} x {wanted_height}. "
            "Make them equal.",
            "mask",
            "invalid_mask_size",
        )
    if headers[0].alpha:
        return []
    return ["The mask cannot be transparent, so its white part is edited. Make transparent what to edit."]


def preset_for(quality: str, presets: tuple[str, ...]) -> str | None:
    """The preset of a quality, where the model has it; raises ApiError for a quality that is not one."""
    if quality in ("auto", "standard", "hd", ""):
        return None
    if quality in presets:
        return quality
    if quality not in PRESETS:
        raise bad_request(f"quality must be one of {', '.join((*PRESETS, 'auto', *presets))}.", "quality")
    name = PRESETS[quality]
    return name if name in presets else None


def _file_into(images: list[UploadFile], masks: list[UploadFile], name: str, value: UploadFile) -> None:
    if name in _IMAGES:
        images.append(value)
    elif name in _MASKS and not masks:
        masks.append(value)
    else:
        problem = "was sent twice" if name in _MASKS else "is not a file that an edit takes"
        raise bad_request(
            f"{name} {problem}. Send pictures as `image` or `image[]` and one `mask`.", name, "unknown_parameter"
        )


def _text_into(texts: dict[str, str], name: str, value: str) -> None:
    known = _ALIASES.get(name, name)
    if known in _WITHOUT_EFFECT:
        return
    if known in _IMAGES or known in _MASKS:
        raise bad_request(f"{name} must be a file.", name)
    if known in ("url", "url[]"):
        raise bad_request(
            "This server fetches no addresses. Send the picture itself as `image`.", name, "url_not_allowed"
        )
    if known not in _KNOWN:
        raise bad_request(f"{name} is not a parameter of an edit.", name, "unknown_parameter")
    if known in texts:
        raise bad_request(f"{name} was sent twice.", name)
    texts[known] = value


def _options(texts: Mapping[str, str]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for name in ("negative_prompt", "preset", "precision"):
        if texts.get(name):
            options[name] = texts[name]
    for name, least, most in (
        ("seed", 0, limits.SEED),
        ("steps", 1, limits.STEPS),
        ("width", limits.SIDE_MULTIPLE, limits.SIDE_PX),
        ("height", limits.SIDE_MULTIPLE, limits.SIDE_PX),
        ("priority", -limits.PRIORITY, limits.PRIORITY),
    ):
        if texts.get(name):
            options[name] = _integer(texts, name, 0, least, most)
    if texts.get("true_cfg_scale"):
        options["true_cfg_scale"] = _real(texts, "true_cfg_scale", 1.0, limits.CFG_SCALE)
    if texts.get("lora"):
        options["loras"] = lora_choices(texts["lora"])
    if texts.get("on_cap"):
        options["on_cap"] = _one_of(texts, "on_cap", ("refuse", "fit"), "refuse")
    options.update(_size(texts.get("size", "auto")))
    _one_of(texts, "background", ("auto", "opaque"), "auto", "This model makes opaque pictures only.")
    _one_of(texts, "response_format", ("b64_json", "url"), "b64_json")
    return options


def lora_choices(text: str) -> list[tuple[str, float]]:
    """LoRAs from a form: a name, or JSON: a name, a list of names or of {name, scale}, or a mapping to strengths."""
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    if isinstance(value, str):
        value = [value]
    elif isinstance(value, dict):
        value = [value] if "name" in value else [{"name": name, "scale": scale} for name, scale in value.items()]
    if not isinstance(value, list):
        raise bad_request("lora must be a name, or JSON with names and scales.", "lora")
    choices = []
    for item in value:
        entry = {"name": item} if isinstance(item, str) else item
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
            raise bad_request("lora: each needs a name.", "lora")
        scale = entry.get("scale", entry.get("strength", entry.get("weight", 1.0)))
        if isinstance(scale, bool) or not isinstance(scale, (int, float)):
            raise bad_request(f"lora {entry['name']}: its scale must be a number.", "lora")
        choices.append((entry["name"], float(scale)))
    return choices


def _size(text: str) -> dict[str, int | str]:
    if text in ("auto", ""):
        return {}
    if text == "same":
        return {"size": text}
    width, cross, height = text.lower().partition("x")
    if not (cross and width.isdecimal() and height.isdecimal()):
        raise bad_request(f"size must be auto, same or WIDTHxHEIGHT, not {text[:40]!r}.", "size", "invalid_size")
    sides = int(width[:6]), int(height[:6])
    step = limits.SIDE_MULTIPLE
    if any(side % step or not step <= side <= limits.SIDE_PX for side in sides):
        near = "x".join(str(min(limits.SIDE_PX, max(step, round(side / step) * step))) for side in sides)
        raise bad_request(
            f"size: width and height must be multiples of {step} up to {limits.SIDE_PX}. The nearest is {near}.",
            "size",
            "invalid_size",
        )
    return {"width": sides[0], "height": sides[1]}


def _integer(texts: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    text = texts.get(name, "").strip()
    if not text:
        return default
    try:
        value = int(text) if len(text) <= 20 else most + 1
    except ValueError:
        raise bad_request(f"{name} must be an integer, not {text[:40]!r}.", name) from None
    if not least <= value <= most:
        raise bad_request(f"{name} must be {least} to {most}, not {text[:40]}.", name)
    return value


def _real(texts: Mapping[str, str], name: str, least: float, most: float) -> float:
    text = texts[name].strip()
    try:
        value = float(text)
    except ValueError:
        raise bad_request(f"{name} must be a number, not {text[:40]!r}.", name) from None
    if not least <= value <= most:
        raise bad_request(f"{name} must be {least:g} to {most:g}, not {text[:40]}.", name)
    return value


def _flag(texts: Mapping[str, str], name: str) -> bool:
    text = texts.get(name, "false").strip().lower()
    if text not in ("true", "false", "1", "0", ""):
        raise bad_request(f"{name} must be true or false, not {text[:40]!r}.", name)
    return text in ("true", "1")


def _one_of(texts: Mapping[str, str], name: str, allowed: tuple[str, ...], default: str, why: str = "") -> str:
    text = texts.get(name, "").strip() or default
    if text not in allowed:
        reason = f"{why} " if why else ""
        raise bad_request(f"{reason}{name} must be one of {', '.join(allowed)}, not {text[:40]!r}.", name)
    return text
