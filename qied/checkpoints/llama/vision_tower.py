"""The vision tower that belongs to a language model's GGUF file: another file next to it, as llama.cpp cuts them."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import takewhile
from pathlib import Path
from typing import Final

from qied.checkpoints.expected import fitting_profiles
from qied.checkpoints.part_file import PartFile, read_part
from qied.checkpoints.small_files import entries, is_file
from qied.planning.profiles.model_profile import ModelProfile, shipped_profiles
from qied.weights.problems import BadFile
from qied.weights.stored import Precision

LANGUAGE_ALONE: Final = (
    "it is only the language half of a text encoder, and its vision tower (a GGUF file with mmproj in its name) does "
    "not lie next to it"
)
GET_TOWER: Final = "Put the mmproj file of Qwen2.5-VL-7B-Instruct into the same folder, in F16 or BF16."
_BEST_FIRST: Final[tuple[Precision, ...]] = ("bf16", "fp32", "fp16", "q8_0")
"""The same tower comes in several precisions; the original is BF16, which FP32 keeps and FP16 does not."""


def files_of_encoder(path: Path) -> tuple[Path, ...]:
    """A text encoder's file, with its vision tower where that lies in another; raises BadFile for half of one."""
    part = read_part(path, "text_encoder")
    if part.half == "vision":
        remedy = "Name the GGUF file of its language model, and leave this one next to it."
        raise BadFile("it is only the vision tower of a text encoder", remedy)
    if part.half is None:
        return (path,)
    tower = tower_of(part)
    if tower is None:
        raise BadFile(LANGUAGE_ALONE, GET_TOWER)
    return (path, tower)


def tower_of(language: PartFile) -> Path | None:
    """The file of a language model's vision tower: of those next to it that fit its model the one that is named alike.

    Of several in different precisions the closest to the original is taken.
    """
    models = {model.name: model for model in fitting_profiles(language, shipped_profiles())}
    found = [part for file in entries(language.path.parent) if (part := _tower(file, models)) is not None]
    return min(found, key=lambda part: _preference(part, language.path.name)).path if found else None


def _tower(file: Path, models: Mapping[str, ModelProfile]) -> PartFile | None:
    if file.suffix.lower() != ".gguf" or not is_file(file):
        return None
    try:
        part = read_part(file, "text_encoder")
    except BadFile:
        return None
    return part if part.half == "vision" and fitting_profiles(part, models) else None


def _preference(tower: PartFile, language: str) -> tuple[int, int, str]:
    """Longest common beginning of the names first ("mmproj-" left out), then precision, then name."""
    name = tower.path.name
    pairs = zip(name.lower().removeprefix("mmproj-"), language.lower(), strict=False)
    alike = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    rank = _BEST_FIRST.index(tower.precision) if tower.precision in _BEST_FIRST else len(_BEST_FIRST)
    return -alike, rank, name
