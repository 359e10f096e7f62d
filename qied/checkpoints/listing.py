"""Every model, part and LoRA in the folders that qied searches: `qied models`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from qied.checkpoints.comfyui import KINDS, Installation
from qied.checkpoints.inspect import inspect
from qied.checkpoints.places import places
from qied.checkpoints.report import Report


@dataclass(frozen=True)
class Listed:
    """A file or pipeline folder, and the place that it was found in: "Hugging Face", "ComfyUI" or "configured"."""

    place: str
    report: Report


def listing(environ: Mapping[str, str], home: Path, loras: Sequence[Path], named: Sequence[Path]) -> Iterator[Listed]:
    """Pipeline folders of the Hugging Face cache, ComfyUI's files, configured LoRA folders, and models named there.

    Of ComfyUI's files those that are of no use here are left out: every part of another model lies in its folders.
    """
    where = places(environ, home)
    seen: set[Path] = set()
    for path in named:
        if path not in seen and path.exists():
            seen.add(path)
            yield Listed("configured", inspect(path))
    for folder in where.pipelines:
        if folder not in seen:
            yield Listed("Hugging Face", inspect(folder))
    for installation in where.installations:
        yield from _in_comfyui(installation, seen)
    for folder in loras:
        for file in sorted(folder.rglob("*.safetensors")):
            if file not in seen:
                seen.add(file)
                yield Listed("configured", inspect(file))


def _in_comfyui(installation: Installation, seen: set[Path]) -> Iterator[Listed]:
    for kind in KINDS:
        for file in installation.files(kind):
            if file in seen:
                continue
            seen.add(file)
            report = inspect(file)
            if report.model is not None or report.has_transformer or "qwen" in file.name.lower():
                yield Listed("ComfyUI", report)
