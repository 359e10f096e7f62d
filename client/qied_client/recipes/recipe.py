"""A recipe read and checked, and the options of one edit that it stands for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from qied_client.errors import InvalidRequest
from qied_client.options import edit_request
from qied_client.protocol import limits
from qied_client.protocol.request import AUTO_UPSCALER
from qied_client.recipes.stages import STAGES, check_stage, nearest
from qied_client.recipes.toml import tomllib
from qied_client.system_failures import what_helps

_MOST_BYTES: Final = 64 * 1024
_KEYS: Final = ("title", "about", "stage")
_PROMPT: Final = "{prompt}"


@dataclass(frozen=True)
class Recipe:
    """Stages from first to last. ``title`` and ``about`` are for people; ``name`` is what it is called by."""

    name: str
    title: str
    about: str
    stages: tuple[Mapping[str, Any], ...]

    @property
    def kinds(self) -> tuple[str, ...]:
        """What its stages do, each once, in their order."""
        return tuple(dict.fromkeys(stage["do"] for stage in self.stages))

    @property
    def formats(self) -> tuple[str, ...]:
        """The formats that it saves: png, webp, jpeg; none where it leaves that to the names of the results."""
        return tuple(self._stage("save").get("formats", ()))

    @property
    def quality(self) -> int | None:
        """The quality of a JPEG or WebP, 1 to 100; None for the usual one."""
        quality: int | None = self._stage("save").get("quality")
        return quality

    @property
    def needs_mask(self) -> bool:
        """Whether an edit without a mask is a mistake."""
        in_redraws = any(stage.get("mask", False) for stage in self.stages if stage["do"] == "redraw")
        return in_redraws or bool(self._stage("mask").get("required", False))

    @property
    def has_prompt(self) -> bool:
        """Whether it can do without a prompt of the user's."""
        own = str(self._stage("edit").get("prompt", ""))
        return bool(own) and _PROMPT not in own

    def prompt_for(self, prompt: str) -> str:
        """The prompt of an edit: the recipe's own, with ``prompt`` in place of ``{prompt}``; else ``prompt``.

        Raises InvalidRequest where neither has one.
        """
        own = str(self._stage("edit").get("prompt", ""))
        text = own.replace(_PROMPT, prompt) if own and (not prompt or _PROMPT in own) else prompt
        if not text or (not prompt and _PROMPT in own):
            raise InvalidRequest(f"The recipe {self.name} needs a prompt.", "Say what to change.", field="prompt")
        return text

    def output(self) -> dict[str, Any]:
        """The options for the first format that it saves."""
        if not self.formats:
            return {}
        kind = self.formats[0]
        return {"output_format": kind} | (
            {} if kind == "png" or self.quality is None else {"output_quality": self.quality}
        )

    def options(self) -> dict[str, Any]:
        """The options of one edit: all stages run as one job with one plan."""
        options = _without_kind(self._stage("edit"))
        options.pop("prompt", None)
        if (mode := self._stage("mask").get("mode")) is not None:
            options["mask_mode"] = mode
        if redraws := [_without_kind(stage) for stage in self.stages if stage["do"] == "redraw"]:
            options["redraw"] = redraws
        if "refine" in self.kinds:
            options["refine"] = self._stage("refine").get("strength", True)
        if "upscale" in self.kinds:
            options["upscale"] = _upscaler(self._stage("upscale"))
        return options

    def _stage(self, kind: str) -> Mapping[str, Any]:
        return next((stage for stage in self.stages if stage["do"] == kind), {})


def _without_kind(stage: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in stage.items() if key != "do"}


def _upscaler(stage: Mapping[str, Any]) -> str:
    """The model's name, or its scale; without either, the one that the daemon has for posters."""
    if "factor" in stage:
        return f"{stage['factor']}x"
    return str(stage.get("model", AUTO_UPSCALER))


def read_recipe(path: Path) -> Recipe:
    """Read a recipe from a .toml or .json file; raises InvalidRequest that names the stage and the key."""
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise InvalidRequest(f"{path}: {error.strerror}.", what_helps(error), field="recipe") from error
    if len(data) > _MOST_BYTES:
        raise InvalidRequest(f"{path} has more than {_MOST_BYTES} bytes.", "A recipe is a short file.", field="recipe")
    try:
        value = json.loads(data) if path.suffix.lower() == ".json" else tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:  # also of TOML, JSON and UTF-8
        raise InvalidRequest(f"{path}: {error}.", "Correct the file.", field="recipe") from error
    return recipe_of(value, path.stem, str(path))


def recipe_of(value: Any, name: str, where: str) -> Recipe:
    """Check the content of a recipe's file; raises InvalidRequest."""
    if not isinstance(value, Mapping):
        raise InvalidRequest(f"{where}: it is not a table.", 'Write {"stage": [{"do": "edit"}]}.', field="recipe")
    for key in value:
        if key not in _KEYS:
            raise InvalidRequest(f"{where}: a recipe has no {key!r}.", nearest(key, _KEYS, "Its keys"), field="recipe")
    for key in ("title", "about"):
        if not isinstance(value.get(key, ""), str):
            raise InvalidRequest(f"{where}: {key} must be a text.", "Correct it.", field="recipe")
    stages = value.get("stage", [])
    if not isinstance(stages, Sequence) or isinstance(stages, str) or not stages:
        raise InvalidRequest(f"{where}: it has no stages.", 'Write [[stage]] and do = "edit".', field="recipe")
    kinds = [check_stage(stage, f"{where}, stage {number}") for number, stage in enumerate(stages, 1)]
    _check_order(kinds, where)
    for number, stage in enumerate(stages, 1):
        if {"model", "factor"} <= set(stage):
            raise InvalidRequest(
                f"{where}, stage {number}: it has a model and a factor, and a model has its own.",
                "Leave one of them out.",
                field="recipe",
            )
    if (passes := kinds.count("redraw") + kinds.count("refine")) > limits.PASSES:
        raise InvalidRequest(
            f"{where}: it has {passes} stages of redraw and refine; an edit has at most {limits.PASSES}.",
            "Leave some out.",
            field="recipe",
        )
    recipe = Recipe(name, value.get("title", name), value.get("about", ""), tuple(dict(stage) for stage in stages))
    try:
        edit_request("a prompt", 0, {**recipe.options(), **recipe.output()})
    except InvalidRequest as error:  # what is wrong with several keys together
        raise InvalidRequest(f"{where}: {error.message}", error.remedy, field="recipe") from None
    return recipe


def _check_order(kinds: Sequence[str], where: str) -> None:
    order = list(STAGES)
    if "edit" not in kinds:
        raise InvalidRequest(f"{where}: it has no stage 'edit'.", 'Add one: do = "edit"', field="recipe")
    for before, after in pairwise(kinds):
        if order.index(before) > order.index(after):
            raise InvalidRequest(
                f"{where}: {after!r} cannot come after {before!r}.",
                f"Stages come as {', '.join(order)}.",
                field="recipe",
            )
        if before == after and before != "redraw":
            raise InvalidRequest(f"{where}: it has two stages {after!r}.", "Join them.", field="recipe")


def require_mask(recipe: Recipe, mask: object) -> None:
    """Raise InvalidRequest where the recipe needs a mask, and there is none."""
    if recipe.needs_mask and mask is None:
        raise InvalidRequest(f"The recipe {recipe.name} needs a mask.", "Give the mask's file.", field="mask")


def require_stages(recipe: Recipe, offered: Sequence[str]) -> None:
    """Raise InvalidRequest for a stage that the daemon, which has ``offered``, cannot carry out."""
    for kind in recipe.kinds:
        if kind not in offered:
            update = "Put an upscaling model into its folders" if kind == "upscale" else "Update the daemon"
            raise InvalidRequest(
                f"The recipe {recipe.name} has a stage {kind!r}, which this daemon does not have.",
                f"{update}, or use a recipe of {', '.join(offered)}.",
                field="recipe",
            )
