"""The options of an edit: their types, what each of them means, and how they are checked."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from numbers import Integral, Real
from typing import Any, Final, Literal, TypedDict, TypeVar

from qied_client.errors import InvalidRequest
from qied_client.inputs import Picture
from qied_client.protocol import limits
from qied_client.protocol.request import EditRequest, LoraChoice
from qied_client.unknown_options import unknown_option

Lora = str | tuple[str, float] | Mapping[str, float] | LoraChoice
"""A LoRA by its name, with its strength as a pair, or one or more of them as a mapping of names to strengths."""
Loras = Lora | Sequence[Lora]


class EditOptions(TypedDict, total=False):
    """Every option of an edit; ``OPTIONS`` says what each means. None leaves the choice to the daemon."""

    negative_prompt: str | None
    seed: int | None
    steps: int | None
    true_cfg_scale: float | None
    width: int | None
    height: int | None
    preset: str | None
    precision: str | None
    loras: Loras | None
    mask: Picture | None
    on_cap: Literal["refuse", "fit"]
    output_format: Literal["png", "webp"]
    previews: bool
    priority: int


@dataclass(frozen=True)
class Option:
    """What one option takes (``values``, with the unit), what it does, and what None means."""

    values: str
    meaning: str
    without: str = ""


_SIDE: Final = f"pixels, {limits.SIDE_MULTIPLE} to {limits.SIDE_PX} in multiples of {limits.SIDE_MULTIPLE}"
_NAME: Final = f"a name of at most {limits.NAME_CHARS} characters"

OPTIONS: Final[Mapping[str, Option]] = {
    "negative_prompt": Option(
        f"text of at most {limits.NEGATIVE_PROMPT_BYTES} bytes of UTF-8",
        "What the result should not show; it counts only if true_cfg_scale is above 1.",
        "the model's own",
    ),
    "seed": Option(
        f"an integer from 0 to {limits.SEED}",
        "The same seed and the same request give the same picture.",
        "made from the job's id",
    ),
    "steps": Option(
        f"an integer from 1 to {limits.STEPS}",
        "Denoising steps (num_inference_steps in diffusers).",
        "the preset's",
    ),
    "true_cfg_scale": Option(
        f"a number from 1 to {limits.CFG_SCALE:g}",
        "How strongly the prompt guides; 1 turns guidance off and halves the time.",
        "the preset's",
    ),
    "width": Option(
        _SIDE, "Width of the result, given together with height.", "the last picture's aspect at the model's own size"
    ),
    "height": Option(
        _SIDE, "Height of the result, given together with width.", "the last picture's aspect at the model's own size"
    ),
    "preset": Option(
        _NAME,
        "Steps, guidance and LoRAs under one name, such as preview, draft or final; Client.welcome.presets lists them.",
        "the model's usual settings",
    ),
    "precision": Option(
        _NAME,
        "Refuse the edit unless the daemon runs this precision, such as fp8, fp8-storage or bf16.",
        "whatever it runs",
    ),
    "loras": Option(
        "a name, a pair (name, strength), a dict {name: strength}, or a list of these; strengths from -4 to 4",
        f"LoRAs in the daemon's folders, at most {limits.LORAS}; a name alone has strength 1.",
    ),
    "mask": Option(
        "a picture, as the first argument takes it",
        "White where to edit, black where the picture stays as it is; stretched to its size.",
        "edit everywhere",
    ),
    "on_cap": Option(
        "'refuse' or 'fit'",
        "What happens above the largest size of the daemon's machine: refuse with AboveCap, or fit the result to it.",
    ),
    "output_format": Option("'png' or 'webp'", "Format of the result; both are lossless."),
    "previews": Option("True or False", "Whether on_progress and events() get small pictures on the way."),
    "priority": Option(
        f"an integer from {-limits.PRIORITY} to {limits.PRIORITY}",
        "Which of your own waiting edits starts first: the one with the highest.",
    ),
}
_INTEGERS: Final = frozenset({"seed", "steps", "width", "height", "priority"})
_PROMPT: Final = f"text of at most {limits.PROMPT_BYTES} bytes of UTF-8 that says what to change"
_DEFAULTS: Final = {
    name: None if field.default is MISSING or name == "mask" else field.default
    for field in fields(EditRequest)
    if (name := field.name) in OPTIONS
}

AnyFunction = TypeVar("AnyFunction", bound=Callable[..., Any])


def shows_options(function: AnyFunction) -> AnyFunction:
    """Have ``help``, ``inspect`` and completion show every option of a function that takes ``**options``."""
    signature = inspect.signature(function)
    parameters = [each for each in signature.parameters.values() if each.kind is not inspect.Parameter.VAR_KEYWORD]
    shown = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=_DEFAULTS[name], annotation=annotation(name))
        for name in OPTIONS
        if name not in signature.parameters
    ]
    function.__signature__ = signature.replace(parameters=[*parameters, *shown])  # type: ignore[attr-defined]
    if function.__doc__ is not None:
        function.__doc__ = f"{inspect.cleandoc(function.__doc__)}\n\n{options_table()}"
    return function


def annotation(name: str) -> str:
    """The type of an option as it is written in ``EditOptions``."""
    return str(EditOptions.__annotations__[name].__forward_arg__)


def options_table() -> str:
    """Name, type, values, default and meaning of every option, as text."""
    return "Options:\n\n" + "\n".join(_entry(name) for name in OPTIONS)


def _entry(name: str) -> str:
    option = OPTIONS[name]
    without = f" ({option.without})" if option.without else ""
    text = f"{option.values}; default {_DEFAULTS[name]!r}{without}. {option.meaning}"
    return f"{name} : {annotation(name)}\n{textwrap.indent(textwrap.fill(text, 96), '    ')}"


def edit_request(prompt: str, seed: int, options: Mapping[str, object]) -> EditRequest:
    """Build a checked request without its pictures, for which hashes are needed; ``seed`` where the options have none.

    Raises UnknownOption, and InvalidRequest that names the option, its value and what is allowed.
    """
    for name in options:
        if name not in OPTIONS:
            raise unknown_option(name, OPTIONS)
    given = {name: _plain(name, value) for name, value in options.items() if name not in ("mask", "loras")}
    if given.get("seed") is None:
        given["seed"] = seed
    request = EditRequest((), prompt, loras=lora_choices(options.get("loras")), **given)
    try:
        return request.validated()
    except InvalidRequest as error:
        raise _with_what_is_allowed(error, request) from None


def lora_choices(loras: object) -> tuple[LoraChoice, ...]:
    """LoRAs with their strengths, however they are given; see ``Loras``. Raises InvalidRequest."""
    if loras is None:
        return ()
    if isinstance(loras, (str, Mapping, LoraChoice)) or (isinstance(loras, tuple) and _is_pair(loras)):
        return _choices_of(loras, "loras")
    if not isinstance(loras, (list, tuple)):
        raise _not_loras("loras", loras)
    return tuple(choice for index, item in enumerate(loras) for choice in _choices_of(item, f"loras[{index}]"))


def _choices_of(item: object, place: str) -> tuple[LoraChoice, ...]:
    if isinstance(item, str):
        return (LoraChoice(item),)
    if isinstance(item, LoraChoice):
        return (item,)
    if isinstance(item, (list, tuple)) and _is_pair(item):
        return (LoraChoice(item[0], _number(item[1])),)
    if isinstance(item, Mapping):
        wrong = next((pair for pair in item.items() if not _is_pair(pair)), None)
        if wrong is not None:
            raise _not_loras(place, {wrong[0]: wrong[1]})
        return tuple(LoraChoice(name, _number(strength)) for name, strength in item.items())
    raise _not_loras(place, item)


def _is_pair(item: Sequence[object]) -> bool:
    return len(item) == 2 and isinstance(item[0], str) and isinstance(item[1], Real) and not isinstance(item[1], bool)


def _number(value: Any) -> float:
    return value if type(value) is int else float(value)


def _not_loras(place: str, value: object) -> InvalidRequest:
    return InvalidRequest(f"{place}: {_shown(value)} is not a LoRA.", _give(OPTIONS["loras"].values), field="loras")


def _plain(name: str, value: Any) -> Any:
    """Numbers of numpy as Python's own, which the checks ask for."""
    if isinstance(value, bool):
        return value
    if name in _INTEGERS and isinstance(value, Integral):
        return int(value)
    if name == "true_cfg_scale" and isinstance(value, Real):
        return _number(value)
    return value


def _with_what_is_allowed(error: InvalidRequest, request: EditRequest) -> InvalidRequest:
    path = str(error.details.get("field", ""))
    name = re.split(r"[.\[]", path)[0]
    if name == "prompt":
        return InvalidRequest(error.message, _give(_PROMPT), field=name)
    if error.message.startswith("width and height"):
        return error
    value = getattr(request, name)
    if name in ("width", "height") and type(value) is int and value > limits.SIDE_MULTIPLE:
        below = value // limits.SIDE_MULTIPLE * limits.SIDE_MULTIPLE
        above = below + limits.SIDE_MULTIPLE
        if above <= limits.SIDE_PX:
            return InvalidRequest(error.message, f"Give {below} or {above}.", field=path)
    return InvalidRequest(error.message, _give(OPTIONS[name].values), field=path)


def _give(values: str) -> str:
    return f"Give {values}."


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
