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
from qied_client.protocol.fields import Flag, Int, OneOf, Real, Text
from qied_client.protocol.request import BACKGROUNDS, MASK_MODES, TASKS
from qied_client.web.errors import ApiError, bad_request

_FILES: Final = limits.IMAGES + 1
_FIELDS: Final = 64
_FIELD_BYTES: Final = 64 * 1024
MOST_RESULTS: Final = 10

_IMAGES: Final = frozenset({"image", "image[]"})
_MASKS: Final = ("mask", "mask_image")
ALIASES: Final = {
    "num_inference_steps": "steps",
    "guidance_scale": "true_cfg_scale",
    "cfg": "true_cfg_scale",
    "cfg_scale": "true_cfg_scale",
    "loras": "lora",
    "image_prompt": "prompt",
    "enhance_prompt": "rewrite_prompt",
}
WITHOUT_EFFECT: Final = frozenset(
    {"user", "safety_identifier", "moderation", "input_fidelity", "complexity", "style", "generator_device"}
)
"""Taken, since callers send them unasked, and without effect on this model."""
PRESETS: Final = {"low": "preview", "medium": "draft", "high": "final", "xhigh": "final", "max": "final"}
"""The preset that stands for each quality; auto, standard and none: the model's own default."""


@dataclass(frozen=True)
class FormField:
    """A field of an edit's form: the values that it may have, what it means, and its default for people."""

    check: Int | Real | Text | OneOf | Flag
    about: str
    default: str = ""


FIELDS: Final[Mapping[str, FormField]] = {
    "prompt": FormField(Text(limits.PROMPT_BYTES), "What to change."),
    "model": FormField(Text(limits.NAME_CHARS, empty=True), "The served model; another one is refused."),
    "n": FormField(Int(1, MOST_RESULTS), "Results, with seeds that follow each other.", "1"),
    "size": FormField(
        Text(16, empty=True),
        "auto: the aspect of the last picture at the model's own size; same: its own size; or WIDTHxHEIGHT, "
        f"multiples of {limits.SIDE_MULTIPLE} up to {limits.SIDE_PX}.",
        "auto",
    ),
    "quality": FormField(
        Text(limits.NAME_CHARS, empty=True), f"{', '.join(PRESETS)}, auto, or the name of a preset.", "auto"
    ),
    "background": FormField(
        OneOf(BACKGROUNDS),
        "auto, transparent: PNG and WebP are transparent where the first picture is and no mask marks; opaque: not.",
        "auto",
    ),
    "upscale": FormField(
        Text(limits.NAME_CHARS, empty=True), "An upscaling model of this server, or its scale such as 2x."
    ),
    "task": FormField(OneOf(TASKS), "upscale: only enlarge the picture; prompt and settings are not used.", "edit"),
    "rewrite_prompt": FormField(Flag(), "Have the daemon's prompt rewriter improve the prompt.", "false"),
    "output_format": FormField(OneOf(("png", "webp", "jpeg", "jpg")), "Format of the results.", "png"),
    "output_compression": FormField(Int(0, 100), "Percent of quality; a WebP of 100 is lossless.", "100"),
    "stream": FormField(Flag(), "Answer with server-sent events.", "false"),
    "partial_images": FormField(Int(0, 3), "Pictures that a stream shows on the way.", "0"),
    "response_format": FormField(OneOf(("b64_json", "url")), "The answer always has b64_json.", "b64_json"),
    "seed": FormField(Int(0, limits.SEED), "Seed of the first result; without one, of the job's id."),
    "steps": FormField(Int(1, limits.STEPS), "Denoising steps; without them, the preset's."),
    "true_cfg_scale": FormField(Real(1.0, limits.CFG_SCALE), "Strength of guidance; without it, the preset's."),
    "negative_prompt": FormField(Text(limits.NEGATIVE_PROMPT_BYTES, empty=True), "What to avoid."),
    "lora": FormField(
        Text(limits.HEADER_BYTES, empty=True),
        'A name, or JSON: a name, a list of names or of {"name", "scale"}, or an object of strengths.',
    ),
    "preset": FormField(Text(limits.ID_CHARS, empty=True), "Named settings; GET /api/me lists them."),
    "precision": FormField(Text(limits.NAME_CHARS, empty=True), "Refuse the edit unless the model runs in this one."),
    "priority": FormField(Int(-limits.PRIORITY, limits.PRIORITY), "Order among one's own waiting jobs.", "0"),
    "width": FormField(Int(limits.SIDE_MULTIPLE, limits.SIDE_PX, limits.SIDE_MULTIPLE), "Width in pixels."),
    "height": FormField(Int(limits.SIDE_MULTIPLE, limits.SIDE_PX, limits.SIDE_MULTIPLE), "Height in pixels."),
    "on_cap": FormField(OneOf(("refuse", "fit")), "What to do with a size above this machine's cap.", "refuse"),
    "mask_mode": FormField(OneOf(MASK_MODES), "Which part of the mask is edited."),
    "base": FormField(Int(0, 2**31 - 1), "The turn of a session that is edited; without it, the latest."),
}
"""Every field that counts, by its own name; ``ALIASES`` are other names for some. Numbers and flags come as text."""


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
    except HTTPException as error:  # what Starlette makes of a fault of a form
        raise bad_request(f"The form cannot be read: {error.detail}", code="invalid_form") from error
    except UnicodeError as error:  # of a character set that knows no replacement
        raise bad_request("The form's text cannot be decoded. Send UTF-8.", code="invalid_form") from error


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
    pictures = tuple([await read_file(image, "image") for image in images])
    mask = await read_file(masks[0], "mask") if masks else None
    if "base" in texts and not of_turn:
        raise bad_request("base is for turns of a session.", "base", "unknown_parameter")
    options = _options(texts)
    notes: list[str] = []
    if mask is not None:
        first = None if of_turn else pictures[0]
        notes += check_mask(mask, first)
        meant = "white" if notes else "transparent"
        options["mask_mode"] = _one_of(texts, "mask_mode", meant)
        if "mask_mode" in texts:
            notes = []
    return EditForm(
        images=pictures,
        prompt=texts["prompt"],
        n=_integer(texts, "n", 1),
        mask=mask,
        model=texts.get("model"),
        quality=texts.get("quality", "auto"),
        output_format=_one_of(texts, "output_format", "png").replace("jpg", "jpeg"),
        output_quality=max(1, _integer(texts, "output_compression", 100)),
        stream=_flag(texts, "stream"),
        partial_images=_integer(texts, "partial_images", 0),
        options=options,
        base=_integer(texts, "base", 0) if "base" in texts else None,
        notes=tuple(notes),
    )


async def read_file(file: UploadFile, name: str) -> bytes:
    """A picture of a form; raises ApiError for one that is larger than pictures may be."""
    if file.size is not None and file.size > limits.BLOB_BYTES:
        raise ApiError(
            413,
            "invalid_request_error",
            "blob_too_large",
            f"{name} has {file.size} bytes; the limit is {limits.BLOB_BYTES}. Send a smaller file.",
            name,
        )
    return await file.read()


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
    known = ALIASES.get(name, name)
    if known in WITHOUT_EFFECT:
        return
    if known in _IMAGES or known in _MASKS:
        raise bad_request(f"{name} must be a file.", name)
    if known in ("url", "url[]"):
        raise bad_request(
            "This server fetches no addresses. Send the picture itself as `image`.", name, "url_not_allowed"
        )
    if known not in FIELDS:
        raise bad_request(f"{name} is not a parameter of an edit.", name, "unknown_parameter")
    if known in texts:
        raise bad_request(f"{name} was sent twice.", name)
    texts[known] = value


def _options(texts: Mapping[str, str]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for name in ("negative_prompt", "preset", "precision", "upscale"):
        if texts.get(name):
            options[name] = texts[name]
    for name in ("seed", "steps", "width", "height", "priority"):
        if texts.get(name):
            options[name] = _integer(texts, name, 0)
    if texts.get("true_cfg_scale"):
        options["true_cfg_scale"] = _real(texts, "true_cfg_scale")
    if texts.get("lora"):
        options["loras"] = lora_choices(texts["lora"])
    if texts.get("on_cap"):
        options["on_cap"] = _one_of(texts, "on_cap", "refuse")
    options.update(_size(texts.get("size", "auto")))
    if texts.get("background"):
        options["background"] = _one_of(texts, "background", "auto")
    if texts.get("task"):
        options["task"] = _one_of(texts, "task", "edit")
    if _flag(texts, "rewrite_prompt"):
        options["rewrite_prompt"] = True
    _one_of(texts, "response_format", "b64_json")
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


def _integer(texts: Mapping[str, str], name: str, default: int) -> int:
    check = FIELDS[name].check
    assert isinstance(check, Int), f"{name} is a field of integers"
    text = texts.get(name, "").strip()
    if not text:
        return default
    try:
        value = int(text) if len(text) <= 20 else check.high + 1
    except ValueError:
        raise bad_request(f"{name} must be an integer, not {text[:40]!r}.", name) from None
    if not check.low <= value <= check.high:
        raise bad_request(f"{name} must be {check.low} to {check.high}, not {text[:40]}.", name)
    return value


def _real(texts: Mapping[str, str], name: str) -> float:
    check = FIELDS[name].check
    assert isinstance(check, Real), f"{name} is a field of numbers"
    text = texts[name].strip()
    try:
        value = float(text)
    except ValueError:
        raise bad_request(f"{name} must be a number, not {text[:40]!r}.", name) from None
    if not check.low <= value <= check.high:
        raise bad_request(f"{name} must be {check.low:g} to {check.high:g}, not {text[:40]}.", name)
    return value


def _flag(texts: Mapping[str, str], name: str) -> bool:
    text = texts.get(name, "false").strip().lower()
    if text not in ("true", "false", "1", "0", ""):
        raise bad_request(f"{name} must be true or false, not {text[:40]!r}.", name)
    return text in ("true", "1")


def _one_of(texts: Mapping[str, str], name: str, default: str, why: str = "") -> str:
    check = FIELDS[name].check
    assert isinstance(check, OneOf), f"{name} is a field of a few words"
    text = texts.get(name, "").strip() or default
    if text not in check.allowed:
        reason = f"{why} " if why else ""
        raise bad_request(f"{reason}{name} must be one of {', '.join(check.allowed)}, not {text[:40]!r}.", name)
    return text
