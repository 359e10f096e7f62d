"""The upscaling models of configured folders, by the names that edits call them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from qied_client.errors import ModelUnsupported
from qied_client.protocol import limits
from qied_client.protocol.fields import FieldError, NameInFolder

from qied.planning.edits.upscaling import UpscalerFacts, UpscalerPrecision
from qied.upscalers.contents import PICKLED, read_facts

_SUFFIXES: Final = (".safetensors", ".sft", *PICKLED)
SCALES: Final = (1, 2, 4, 8)


@dataclass(frozen=True)
class UpscalerFile:
    """One file as it was when the daemon started, and the precision in which it runs on a worker's device."""

    path: str
    facts: UpscalerFacts
    precision: UpscalerPrecision = "fp32"


@dataclass(frozen=True)
class ProvenPrecision:
    """What a card showed of a model: the ``precision`` to run it in, and by how much each was off, of 1."""

    precision: UpscalerPrecision = "fp32"
    errors: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Upscalers:
    """Files and facts of those that can be used, by name (the path below its folder, without the suffix).

    ``problems`` says of the other files why not, by their paths. ``others`` are those of architectures that only
    spandrel may know: see ``examined``. ``proven`` is what cards showed, by the card's name and the model's.
    """

    files: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, UpscalerFacts] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)
    others: Mapping[str, str] = field(default_factory=dict)
    proven: Mapping[str, Mapping[str, ProvenPrecision]] = field(default_factory=dict)

    def on(self, card: str) -> dict[str, UpscalerFile]:
        """The files for a worker on the card of this name; "" for the CPU, which runs FP32."""
        proven = self.proven.get(card, {})
        return {
            name: UpscalerFile(path, self.facts[name], proven.get(name, ProvenPrecision()).precision)
            for name, path in self.files.items()
        }


def find_upscalers(folders: Sequence[Path]) -> Upscalers:
    """Look for models in folders and below; of two with the same name the first counts. Folders may be missing."""
    files: dict[str, str] = {}
    facts: dict[str, UpscalerFacts] = {}
    problems: dict[str, str] = {}
    others: dict[str, str] = {}
    for folder in folders:
        for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
            if path.suffix.lower() not in _SUFFIXES or not path.is_file():
                continue
            name = path.relative_to(folder).with_suffix("").as_posix()
            if name in files or name in others:
                continue
            try:
                NameInFolder(limits.NAME_CHARS)(name)
                found = read_facts(path)
                if found is not None:
                    check_scale(found.scale, path.name)
            except (ModelUnsupported, OSError, FieldError) as error:
                problems[str(path)] = str(error)
                continue
            if found is None:
                others[name] = str(path)
            else:
                files[name], facts[name] = str(path), found
    return Upscalers(files, facts, problems, others)


def check_scale(scale: int, file: str) -> None:
    """Raise ModelUnsupported for a scale that results cannot have."""
    if scale not in SCALES:
        raise ModelUnsupported(
            f"{file} cannot be used as an upscaler: it scales by {scale}, and 1, 2, 4 and 8 are run.", "Take another."
        )
