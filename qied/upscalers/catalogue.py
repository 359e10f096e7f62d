"""The upscaling models of configured folders, by the names that edits call them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from qied_client.errors import ModelUnsupported
from qied_client.protocol import limits
from qied_client.protocol.fields import FieldError, NameInFolder

from qied.planning.upscaling import UpscalerFacts
from qied.upscalers.contents import PICKLED, read_facts

_SUFFIXES: Final = (".safetensors", ".sft", *PICKLED)
_SCALES: Final = (1, 2, 4, 8)


@dataclass(frozen=True)
class Upscalers:
    """Files and facts of those that can be used, by name (the path below its folder, without the suffix).

    ``problems`` says of the other files why not.
    """

    files: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, UpscalerFacts] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)


def find_upscalers(folders: Sequence[Path]) -> Upscalers:
    """Look for models in folders and below; of two with the same name the first counts. Folders may be missing."""
    files: dict[str, str] = {}
    facts: dict[str, UpscalerFacts] = {}
    problems: dict[str, str] = {}
    for folder in folders:
        for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
            if path.suffix.lower() not in _SUFFIXES or not path.is_file():
                continue
            name = path.relative_to(folder).with_suffix("").as_posix()
            if name in files:
                continue
            try:
                NameInFolder(limits.NAME_CHARS)(name)
                found = read_facts(path)
                if found.scale not in _SCALES:
                    raise ModelUnsupported(f"{path.name} scales by {found.scale}.", "Take another.")
            except (ModelUnsupported, OSError, FieldError) as error:
                problems[str(path)] = str(error)
                continue
            files[name], facts[name] = str(path), found
    return Upscalers(files, facts, problems)
