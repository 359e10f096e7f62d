"""Every model, part and LoRA in the folders that qied searches: `qied models`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from qied.checkpoints.comfyui import Installation, Kind
from qied.checkpoints.inspect import inspect
from qied.checkpoints.places import places
from qied.checkpoints.report import Report
from qied.loras.catalogue import FoundLora, lora_files

_PARTS: Final[tuple[Kind, ...]] = ("transformer", "text_encoder", "vae")


@dataclass(frozen=True)
class Listed:
    """A file or pipeline folder, and the place that it was found in: "Hugging Face", "ComfyUI" or "configured"."""

    place: str
    report: Report


def listing(
    environ: Mapping[str, str], home: Path, loras: Sequence[Path], named: Sequence[Path], version: str = ""
) -> Iterator[Listed]:
    """Pipeline folders of the Hugging Face cache, ComfyUI's files, configured LoRA folders, and models named there.

    ``version`` is model.version: what transformers are that say nothing themselves.

    Of ComfyUI's files those that are of no use here are left out: every part of another model lies in its folders.
    """
    where = places(environ, home)
    seen: set[Path] = set()
    for path in named:
        if path not in seen and path.exists():
            seen.add(path)
            yield Listed("configured", inspect(path, version))
    for folder in where.pipelines:
        if folder not in seen:
            yield Listed("Hugging Face", inspect(folder))
    for installation in where.installations:
        yield from _in_comfyui(installation, seen, version)
    of_comfyui = [folder for installation in where.installations for folder in installation.folders["lora"]]
    for found in lora_files([*loras, *of_comfyui]):
        if found.path in seen:
            continue
        seen.add(found.path)
        report = _lora(found)
        if any(found.path.is_relative_to(folder) for folder in loras):
            yield Listed("configured", report)
        elif _is_ours(report):
            yield Listed("ComfyUI", report)


def _lora(found: FoundLora) -> Report:
    """What a LoRA is, or why the daemon would not use it, whatever it is."""
    if found.file is not None:
        return inspect(found.path)
    return Report(found.path, "lora", problems=(str(found.problem),))


def _in_comfyui(installation: Installation, seen: set[Path], version: str) -> Iterator[Listed]:
    if installation.problem is not None:
        yield Listed("ComfyUI", Report(installation.root, problems=(installation.problem,)))
    for kind in _PARTS:
        for file in installation.files(kind):
            if file in seen:
                continue
            seen.add(file)
            report = inspect(file, version)
            if _is_ours(report):
                yield Listed("ComfyUI", report)


def _is_ours(report: Report) -> bool:
    """Whether a file is of this family, or by its name would be."""
    return report.model is not None or report.has_transformer or "qwen" in report.path.name.lower()
