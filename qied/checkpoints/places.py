"""Where models may be on this machine, which are complete, and what to say if none is."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from qied_client.errors import ModelNotFound, ModelUnsupported

from qied.checkpoints.assembly import NamedParts, Places, missing_for
from qied.checkpoints.comfyui import Installation, installations
from qied.checkpoints.hub_cache import PULL, snapshots
from qied.checkpoints.inspect import inspect
from qied.checkpoints.pipeline_folder import SHARD, missing_parts, pipeline_checkpoint, pipeline_evidence
from qied.checkpoints.report import Report
from qied.checkpoints.small_files import is_file, is_folder
from qied.checkpoints.versions import MARKED, UNKNOWN, Evidence
from qied.planning.profiles.model_profile import DEFAULT_MODEL, versions

_COLUMNS: Final = 80
_SHOWN: Final = 3
_CHOICES: Final = 8


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
    pipelines = [folder for profile in versions().values() for folder in snapshots(environ, home, profile.repository)]
    return Places(pipelines, installations(environ, home))


def find_models(environ: Mapping[str, str], home: Path, named: NamedParts | None = None) -> list[FoundModel]:
    """Look in the Hugging Face cache, then in ComfyUI's folders; reads names and headers, never weights.

    Parts that are ``named`` need not lie there. Folders that are not there or may not be read count as empty, and files
    of other models are passed over, as are snapshots of some files only.
    """
    where, named = places(environ, home), named or NamedParts()
    found = [_in_folder(folder, named) for folder in where.pipelines if not _is_tokenizer_alone(folder)]
    for one in where.installations:
        found += in_comfyui(one, where, named)
    return list({model.path: model for model in found}.values())


def best_models(found: Sequence[FoundModel], said: str = "") -> list[FoundModel]:
    """Those among which there is no order of merit; empty where none is complete. ``said`` is model.version.

    What proves to be the model that was said, or else 2511, goes before what is named so, and that before files that
    say nothing; then come other models. Of one model a pipeline folder goes before single files, the first before
    the others.
    """
    complete = [model for model in found if model.complete]
    merits = [model.evidence.merit(said or MARKED) for model in complete]
    best = [model for model, merit in zip(complete, merits, strict=True) if merit == min(merits)]
    folders = {model.evidence.version: model for model in reversed(best) if model.layout == "diffusers"}
    return [model for model in best if folders.get(model.evidence.version, model) is model]


def choose_model(found: Sequence[FoundModel], said: str = "") -> FoundModel | None:
    """The one that is served where none is named; None where none is complete.

    Raises ModelNotFound, with their names, where several are as good, or where another model than 2511 is the best of
    several: which one is wanted only a person can say.
    """
    best = best_models(found, said)
    if not best:
        return None
    unasked = best[0].evidence.version in (None, said or MARKED) or len(found) == 1
    if len(best) > 1 or not unasked:
        shown = "".join(f"\n  --model {shlex.quote(str(model.path))}{_which(model)}" for model in best[:_CHOICES])
        more = f"\n  and {len(best) - _CHOICES} more: see 'qied models'" if len(best) > _CHOICES else ""
        count = f"{len(best)} models" if len(best) > 1 else "1 model"
        raise ModelNotFound(f"{count} can be served, and none is named.", f"Name one of them:{shown}{more}")
    return best[0]


def _which(model: FoundModel) -> str:
    return f"  ({model.name}, {model.evidence.reason('')})" if model.evidence.version not in (None, MARKED) else ""


def most_likely_first(found: Sequence[FoundModel]) -> list[FoundModel]:
    """Models in their order, but those with the name of another model last."""
    return sorted(found, key=lambda model: model.evidence.version not in (None, MARKED))


def _in_folder(folder: Path, named: NamedParts) -> FoundModel:
    evidence = pipeline_evidence(folder)
    profile = versions().get(evidence.version or "")
    missing, problems = missing_parts(folder, named.replaced), _problems_of(folder, named.replaced)
    name = profile.name if profile is not None else DEFAULT_MODEL
    return FoundModel(folder, "diffusers", name, missing, (), problems, evidence)


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


def nothing_to_serve(found: Sequence[FoundModel]) -> ModelNotFound:
    """The error where no model is named: what was found, why it cannot be used, and what to do; 80 columns wide.

    Its detail ``found`` is the number of models that were found.
    """
    lines = ["No model is configured" + (", and none was found." if not found else ". Found on this machine:")]
    for model in most_likely_first(found)[:_SHOWN]:
        lines.append(f"  {_shortened(str(model.path), _COLUMNS - 2)}")
        lines += textwrap.wrap(verdict(model), _COLUMNS, initial_indent="    ", subsequent_indent="    ")
    if len(found) > _SHOWN:
        lines.append(f"  and {len(found) - _SHOWN} more: see 'qied models'")
    remedies = (
        f"Get the model, 58 GB: {PULL}",
        "Or name one that you have: qied serve --model PATH",
        "Or try qied with its small built-in model: qied serve --model builtin",
    )
    return ModelNotFound("\n".join(lines), "\n".join(remedies), found=len(found))


def verdict(model: FoundModel) -> str:
    """What keeps a model from being served, or that nothing does."""
    if model.problems:
        more = f" (and {len(model.problems) - 1} more)" if len(model.problems) > 1 else ""
        return model.problems[0] + more
    if model.complete:
        return "complete: serve it with 'qied serve --model' and this path"
    more = f" and {len(model.missing) - 1} more" if len(model.missing) > 1 else ""
    return f"incomplete: {model.missing[0]}{more} missing"


def _shortened(text: str, columns: int) -> str:
    """``text`` with its middle left out where it is wider than ``columns``."""
    if len(text) <= columns:
        return text
    tail = (columns - 3) * 2 // 3
    return f"{text[: columns - 3 - tail]}...{text[-tail:]}"
