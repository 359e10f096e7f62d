"""Checks of the model's files, by names, sizes and headers alone."""

from __future__ import annotations

import json
from pathlib import Path

from qied_client.errors import ModelNotFound, ModelUnsupported, QiedError
from qied_client.text import size_text

from qied.checkpoints.hub_cache import PULL
from qied.checkpoints.pipeline_folder import has_vocabulary, missing_parts
from qied.checkpoints.places import find_models, verdict
from qied.doctor.checkup import Check
from qied.doctor.facts import Facts
from qied.doctor.findings import Verdict, error, ok, skipped
from qied.doctor.weight_files import damage, weight_files
from qied.doctor.words import some
from qied.planning.profiles.model_names import called
from qied.planning.profiles.model_profile import shipped_downloads
from qied.serving.model import ServedModel

_NO_MODEL = "There is no model."
_HOW = f"{PULL} (58 GB), or --model PATH; to try qied with its small built-in model: --model builtin."


def found(facts: Facts) -> Verdict:
    """There is a model to serve."""
    if isinstance(facts.model, ServedModel):
        return ok(f"{facts.model.told}, in {facts.model.origin}.")
    if facts.model is None:
        return skipped("No model was looked for.")
    if not isinstance(facts.model, ModelNotFound) or "found" not in facts.model.details:
        raise facts.model
    candidates = find_models(facts.environ, facts.user_home)
    if not candidates:
        return error("No model is configured, and none was found on this machine.", _HOW)
    first = candidates[0]
    if first.layout == "diffusers":
        return error(
            f"{first.path} is incomplete: {some(first.missing)} missing.", f"{PULL} (resumes where it stopped)."
        )
    return error(f"{first.path}: {verdict(first)}.", f"See 'qied models'; the whole model is: {PULL} (58 GB).")


def complete(facts: Facts) -> Verdict:
    """All files that the checkpoint names are there."""
    model = _model(facts)
    if model is None:
        return skipped(_NO_MODEL)
    if not model.origin.is_file() and (missing := missing_parts(model.origin, model.parts.replaced)):
        return error(
            f"{some(missing)} missing in {model.origin}.", f"{_again(model, model.origin)} (resumes where it stopped)."
        )
    try:
        files = model.checkpoint().weight_files
    except QiedError as problem:
        return error(problem.message, problem.remedy)
    return ok(f"{len(files)} weight files, none missing.")


def sound(facts: Facts) -> Verdict:
    """Each weight file is as long as its header says, and together they have the model's tensors."""
    model = _model(facts)
    files = weight_files(model) if model is not None else []
    if model is None or not files:
        return skipped(_NO_MODEL if model is None else "There are no weight files.")
    broken = [(file, problem) for file in files if (problem := damage(file)) is not None]
    if not broken:
        if (unfit := _unfit(model)) is not None:
            return unfit
        return ok(f"{len(files)} weight files of {size_text(sum(file.stat().st_size for file in files))} are complete.")
    file, problem = broken[0]
    more = f" {len(broken) - 1} more files are damaged." if len(broken) > 1 else ""
    return error(
        f"{file} is damaged: {problem}.{more}", f"Remove {file.resolve()}, then: {_again(model, file.parent.parent)}"
    )


def tokenizer(facts: Facts) -> Verdict:
    """The prompt can be turned into tokens."""
    model = _model(facts)
    if model is None:
        return skipped(_NO_MODEL)
    part = model.origin / "tokenizer" if model.assembled is None else Path(model.assembled.tokenizer)
    if model.parts.tokenizer:
        return ok(f"The tokenizer is that of model.tokenizer: {model.parts.tokenizer}.")
    if has_vocabulary(part):
        return ok(f"The tokenizer is there{'' if model.assembled is None else f': {part}'}.")
    return error(f"{part} has no vocabulary.", _again(model, model.origin))


def zero_cond_t(facts: Facts) -> Verdict:
    """The transformer's configuration has what tells the model from others of the same tensors."""
    model = _model(facts)
    if model is None:
        return skipped(_NO_MODEL)
    profile = model.profile
    if model.assembled is not None:
        return ok(f"The transformer is {called(profile.kind)}, {model.evidence.reason(model.parts.version)}.")
    path = model.origin / "transformer" / "config.json"
    try:
        value = json.loads(path.read_text(encoding="utf-8")).get("zero_cond_t", False)
    except (OSError, ValueError, RecursionError, AttributeError):
        return error(f"{path} cannot be read.", _again(model, model.origin))
    if value is profile.zero_cond_t:
        return ok(f"zero_cond_t is {'set' if value else 'not set'}: this is {called(profile.kind)}.")
    return error(
        f"zero_cond_t is {'set' if value else 'not set'} in {path}: this is not {called(profile.kind)}, or was "
        "converted by diffusers before 0.37.",
        f"{PULL}, or name the folder of another model with --model.",
    )


def _unfit(model: ServedModel) -> Verdict | None:
    """That sound files are not those of the model; None too where some are missing, which another check tells."""
    try:
        model.check_weights()
    except ModelUnsupported as problem:
        return error(problem.message, problem.remedy)
    except QiedError:
        return None
    return None


def _model(facts: Facts) -> ServedModel | None:
    return facts.model if isinstance(facts.model, ServedModel) else None


def _again(model: ServedModel | None, folder: Path) -> str:
    """The command that fetches what is missing or damaged in ``folder``."""
    in_cache = any(part.startswith("models--") for part in folder.parts)
    name = model.profile.name if model is not None else ""
    pull = f"qied pull {name}" if name in shipped_downloads() else PULL
    return pull if in_cache else f"{pull} --to '{folder}'"


CHECKS = (
    Check("model.found", "There is nothing to serve without its files.", found, local=True, configured=True),
    Check("model.files", "The worker could not load it.", complete, local=True, configured=True),
    Check("model.weights", "The worker would stop while it loads them.", sound, local=True, configured=True),
    Check("model.tokenizer", "No prompt could be read.", tokenizer, local=True, configured=True),
    Check(
        "model.zero_cond_t",
        "Without it references are modulated as if they were noise, and pictures come out wrong.",
        zero_cond_t,
        local=True,
        configured=True,
    ),
)
