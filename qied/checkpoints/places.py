"""Where models may be on this machine, which are complete, and what to say if none is."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from qied_client.errors import ModelNotFound, ModelUnsupported

from qied.checkpoints.assembly import NamedParts, Places, missing_for
from qied.checkpoints.comfyui import Installation, installations
from qied.checkpoints.hub_cache import PULL, REPOSITORY, snapshots
from qied.checkpoints.inspect import inspect
from qied.checkpoints.pipeline_folder import SHARD, missing_parts, pipeline_checkpoint
from qied.checkpoints.report import Report
from qied.checkpoints.small_files import is_file, is_folder
from qied.checkpoints.versions import UNKNOWN, Evidence

_COLUMNS: Final = 80
_SHOWN: Final = 3
_CHOICES: Final = 8
MODEL: Final = REPOSITORY.partition("/")[2].lower()


@dataclass(frozen=True)
class FoundModel:
    """One model on disk: a pipeline folder, or the single file of a transformer.

    ``missing`` names files of the folder, or parts that no other folder has. ``problems`` are
    sentences: with any, it is not served. ``loras`` are the folders that its LoRAs may lie in. ``evidence`` shows which
    model of the same tensors it is.
    """

    path: Path
    layout: Literal["diffusers", "comfyui"]
    name: str
    missing: tuple[str, ...] = ()
    loras: tuple[Path, ...] = field(default=(), compare=False)
    problems: tuple[str, ...] = ()
    evidence: Evidence = field(default=UNKNOWN, compare=False)

    @property
    def complete(self) -> bool:
        """Whether all parts are there and nothing is wrong with them, by their headers."""
        return not self.missing and not self.problems


def places(environ: Mapping[str, str], home: Path) -> Places:
    """Where parts of models may lie."""
    return Places(snapshots(environ, home), installations(environ, home))


def find_models(environ: Mapping[str, str], home: Path, named: NamedParts | None = None) -> list[FoundModel]:
    """Look in the Hugging Face cache, then in ComfyUI's folders; reads names and headers, never weights.

    Parts that are ``named`` need not lie there. Folders that are not there or may not be read count as empty, and files
    of other models are passed over, as are snapshots of some files only.
    """
    where, named = places(environ, home), named or NamedParts()
    found = [
        FoundModel(
            folder, "diffusers", MODEL, missing_parts(folder, named.replaced), (), _problems_of(folder, named.replaced)
        )
        for folder in where.pipelines
        if not _is_tokenizer_alone(folder)
    ]
    for one in where.installations:
        found += in_comfyui(one, where, named)
    return list({model.path: model for model in found}.values())


def best_models(found: Sequence[FoundModel]) -> list[FoundModel]:
    """Those among which there is no order of merit; empty where none is complete.

    A pipeline folder goes before single files, the first folder before the others. Of single files, those go first
    that prove to be 2511, then those that are named so.
    """
    complete = [model for model in found if model.complete]
    folder = next((model for model in complete if model.layout == "diffusers"), None)
    if folder is not None:
        return [folder]
    merit = min((model.evidence.merit for model in complete), default=0)
    return [model for model in complete if model.evidence.merit == merit]


def choose_model(found: Sequence[FoundModel]) -> FoundModel | None:
    """The one that is served where none is named; None where none is complete.

    Raises ModelNotFound, with their names, where several are as good: which one is wanted only a person can say.
    """
    best = best_models(found)
    if len(best) > 1:
        shown = "".join(f"\n  --model {model.path}" for model in best[:_CHOICES])
        more = f"\n  and {len(best) - _CHOICES} more: see `qied models`" if len(best) > _CHOICES else ""
        raise ModelNotFound(f"{len(best)} models can be served, and none is named.", f"Name one of them:{shown}{more}")
    return best[0] if best else None


def most_likely_first(found: Sequence[FoundModel]) -> list[FoundModel]:
    """Models in their order, but those with the name of another model last."""
    return sorted(found, key=lambda model: model.evidence.contradicts)


def _problems_of(folder: Path, without: Collection[str]) -> tuple[str, ...]:
    """What keeps a pipeline folder from being served, besides what it lacks."""
    try:
        pipeline_checkpoint(folder, without)
    except ModelNotFound:
        return ()
    except ModelUnsupported as problem:
        return (problem.message,)
    return ()


def _is_tokenizer_alone(folder: Path) -> bool:
    """Whether a snapshot was pulled for no more than its vocabulary."""
    whole = is_file(folder / "model_index.json") or is_folder(folder / "transformer")
    return is_folder(folder / "tokenizer") and not whole


def in_comfyui(installation: Installation, where: Places, named: NamedParts) -> Iterator[FoundModel]:
    """The transformers of one ComfyUI, and files that are named as if they were some."""
    for file in installation.files("transformer"):
        report = inspect(file, named.version)
        if not _is_ours(report) or SHARD.search(file.name):
            continue
        yield FoundModel(
            file,
            "comfyui",
            report.model or "qwen-image-edit",
            missing_for(file, named, where),
            installation.folders["lora"],
            report.problems,
            Evidence(report.version, report.shown_by),
        )


def _is_ours(report: Report) -> bool:
    """Whether a file is a transformer of this family, or by its name would be if it could be read."""
    return report.has_transformer or (report.role is None and "qwen" in report.path.name.lower())


def explain_missing(found: Sequence[FoundModel]) -> str:
    """Explain what was found although no model was named, why it cannot be used, and what to do; 80 columns wide."""
    lines = ["No model is configured" + (", and none was found." if not found else ". Found on this machine:")]
    for model in most_likely_first(found)[:_SHOWN]:
        lines.append(f"  {_shortened(str(model.path), _COLUMNS - 2)}")
        lines += textwrap.wrap(verdict(model), _COLUMNS, initial_indent="    ", subsequent_indent="    ")
    if len(found) > _SHOWN:
        lines.append(f"  and {len(found) - _SHOWN} more: see `qied models`")
    lines += [
        "To get the model (58 GB; an interrupted download resumes):",
        f"  {PULL}",
        "then run `qied serve` again, or name a folder: `qied serve --model PATH`.",
        "To try qied now with the small built-in model:",
        "  qied serve --model builtin",
    ]
    return "\n".join(lines)


def verdict(model: FoundModel) -> str:
    """What keeps a model from being served, or that nothing does."""
    if model.problems:
        more = f" (and {len(model.problems) - 1} more)" if len(model.problems) > 1 else ""
        return model.problems[0] + more
    if model.complete:
        return "complete: serve it with `qied serve --model` and this path"
    more = f" and {len(model.missing) - 1} more" if len(model.missing) > 1 else ""
    return f"incomplete: {model.missing[0]}{more} missing"


def _shortened(text: str, columns: int) -> str:
    """``text`` with its middle left out where it is wider than ``columns``."""
    if len(text) <= columns:
        return text
    tail = (columns - 3) * 2 // 3
    return f"{text[: columns - 3 - tail]}...{text[-tail:]}"
