"""An edit as it comes in a form, turned into the options of a client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from io import BytesIO
from typing import Any, Final

from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from qied_client.errors import QiedError
from qied_client.picture_header import PictureLimits, read_header
from qied_client.protocol import limits
from qied_client.protocol.request import UPSCALING
from qied_client.recipes import Recipe, require_mask, shipped_recipes
from qied_client.web.errors import ApiError, bad_request
from qied_client.web.forms.fields import ALIASES, FIELDS, PRESETS, WITHOUT_EFFECT
from qied_client.web.forms.loras import is_part, joined, lora_choices
from qied_client.web.forms.passes import pass_options
from qied_client.web.forms.values import flag, integer, one_of, real, size
from qied_client.web.http.json_bodies import as_texts, json_object

_FILES: Final = limits.IMAGES + 3
_FIELDS: Final = 64
_FIELD_BYTES: Final = 64 * 1024
_IMAGES: Final = frozenset({"image", "image[]"})
_MASKS: Final = ("mask", "mask_image")
_ONE_FILE: Final = ("canvas", "redraw_mask")
_TRUE_SCALE: Final = frozenset({"true_cfg_scale", "cfg", "cfg_scale"})


@dataclass(frozen=True)
class EditForm:
    """One request for edits, or for pictures from text alone, checked.

    ``output_format`` is png, webp or jpeg, ``output_quality`` its percent. ``partial_images`` is how many pictures a
    stream shows on the way. ``base`` is the turn that is edited. ``options`` are those of ``AsyncClient.submit``.
    ``notes`` say how the form was read, where that may not be meant. ``events`` is what names of a stream's events
    begin with.
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
    recipe: Recipe | None = None
    notes: tuple[str, ...] = ()
    events: str = "image_edit"


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


async def generation_form(request: Request) -> EditForm:
    """Check a request for pictures from text alone: JSON as OpenAI's clients send it, or a form of the same fields."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in ("multipart/form-data", "application/x-www-form-urlencoded"):
        async with form_of(request) as form:
            checked = await edit_form(form, from_text=True)
    else:
        checked = await edit_form(FormData([*as_texts(await json_object(request))]), from_text=True)
    if checked.images or checked.mask:
        raise bad_request("Pictures are edited by /v1/images/edits. Send none here.", "image", "unknown_parameter")
    return replace(checked, events="image_generation")


async def edit_form(form: FormData, *, of_turn: bool = False, from_text: bool = False) -> EditForm:
    """Check every field; raises ApiError that names the first one that is wrong. Unknown fields are errors.

    ``of_turn``: its first picture is the one of the session, so that those of the form are optional; ``base`` is known.
    ``from_text``: the model makes pictures from text alone, so that the form need not have any.
    """
    images: list[UploadFile] = []
    masks: list[UploadFile] = []
    singles: dict[str, UploadFile] = {}
    texts: dict[str, str] = {}
    parts: list[tuple[str, str]] = []
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            _file_into(images, masks, singles, name, value)
        elif is_part(name):
            parts.append((name, value))
        elif (
            name != "guidance_scale" or not _TRUE_SCALE & form.keys()
        ):  # it is for distilled models where both are given
            _text_into(texts, name, value)
    if parts:
        _text_into(texts, "lora", joined(parts))
    if not images and not (of_turn or from_text):
        raise no_picture()
    if texts.get("task") == "upscale":
        texts.setdefault("prompt", UPSCALING)
    if "prompt" not in texts:
        raise bad_request(
            f"Say in `prompt` what to {'show' if from_text else 'change'}.", "prompt", "missing_required_parameter"
        )
    pictures = tuple([await read_file(image, "image") for image in images])
    mask = await read_file(masks[0], "mask") if masks else None
    if "base" in texts and not of_turn:
        raise bad_request("base is for turns of a session.", "base", "unknown_parameter")
    recipe = _recipe(texts, mask)
    own = {} if recipe is None else recipe.output()
    options = {**({} if recipe is None else recipe.options()), **_options(texts)}
    others = {name: await read_file(file, name) for name, file in singles.items()}
    options |= pass_options(texts, others.get("redraw_mask"))
    if "canvas" in others:
        options["canvas"] = others["canvas"]
    notes: list[str] = []
    if mask is not None:
        first = pictures[0] if pictures and not of_turn else None
        notes += check_mask(mask, first)
        meant = "white" if notes else "transparent"
        options["mask_mode"] = one_of(texts, "mask_mode", options.get("mask_mode", meant))
        if "mask_mode" in texts:
            notes = []
    return EditForm(
        images=pictures,
        prompt=texts["prompt"] if recipe is None else recipe.prompt_for(texts["prompt"]),
        n=integer(texts, "n", 1),
        mask=mask,
        model=texts.get("model"),
        quality=texts.get("quality", "auto"),
        output_format=one_of(texts, "output_format", own.get("output_format", "png")).replace("jpg", "jpeg"),
        output_quality=max(1, integer(texts, "output_compression", own.get("output_quality", 100))),
        stream=flag(texts, "stream"),
        partial_images=integer(texts, "partial_images", 0),
        options=options,
        base=integer(texts, "base", 0) if "base" in texts else None,
        notes=tuple(notes),
        recipe=recipe,
    )


def _recipe(texts: Mapping[str, str], mask: bytes | None) -> Recipe | None:
    """The shipped recipe that a form names: files of the gateway's machine are not for its callers."""
    name = texts.get("recipe")
    if not name:
        return None
    known = {recipe.name: recipe for recipe in shipped_recipes()}
    if name not in known:
        raise bad_request(f"There is no recipe {name!r}. Recipes are {', '.join(known)}.", "recipe")
    try:
        require_mask(known[name], mask)
    except QiedError as error:
        raise bad_request(str(error), "mask") from error
    return known[name]


def no_picture() -> ApiError:
    """The answer to an edit without a picture."""
    return bad_request("Send at least one picture as `image`.", "image", "missing_required_parameter")


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


def _file_into(
    images: list[UploadFile], masks: list[UploadFile], singles: dict[str, UploadFile], name: str, value: UploadFile
) -> None:
    if name in _IMAGES:
        images.append(value)
    elif name in _ONE_FILE and name not in singles:
        singles[name] = value
    elif name in _MASKS and not masks:
        masks.append(value)
    else:
        problem = "was sent twice" if name in (*_MASKS, *_ONE_FILE) else "is not a file that an edit takes"
        raise bad_request(
            f"{name} {problem}. Send pictures as `image` or `image[]` and one `mask`.", name, "unknown_parameter"
        )


def _text_into(texts: dict[str, str], name: str, value: str) -> None:
    known = ALIASES.get(name, name)
    if known in WITHOUT_EFFECT:
        return
    if known in _IMAGES or known in _MASKS or known in _ONE_FILE:
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
    for name in ("negative_prompt", "preset", "precision", "upscale", "compat"):
        if texts.get(name):
            options[name] = texts[name]
    for name in ("seed", "steps", "width", "height", "priority"):
        if texts.get(name):
            options[name] = integer(texts, name, 0)
    if texts.get("true_cfg_scale"):
        options["true_cfg_scale"] = real(texts, "true_cfg_scale")
    if texts.get("lora"):
        options["loras"] = lora_choices(texts["lora"])
    if texts.get("on_cap"):
        options["on_cap"] = one_of(texts, "on_cap", "refuse")
    if flag(texts, "preemptible"):
        options["preemptible"] = True
    options.update(size(texts.get("size", "auto")))
    if texts.get("background"):
        options["background"] = one_of(texts, "background", "auto")
    if texts.get("task"):
        options["task"] = one_of(texts, "task", "edit")
    if flag(texts, "rewrite_prompt"):
        options["rewrite_prompt"] = True
    one_of(texts, "response_format", "b64_json")
    return options
