"""Checks of the model's files, by names, sizes and headers alone."""

from __future__ import annotations

import json
from pathlib import Path

from qied_client.errors import ModelNotFound

from qied.discovery import PULL, find_models, missing_parts
from qied.doctor.checkup import Check
from qied.doctor.facts import Facts
from qied.doctor.findings import Verdict, error, ok, skipped
from qied.doctor.weight_files import damage, weight_files
from qied.doctor.words import size, some
from qied.served_model import ServedModel

_NO_MODEL = "There is no model."
_VOCABULARIES = (("tokenizer.json",), ("vocab.json", "merges.txt"))


def found(facts: Facts) -> Verdict:
    """There is a model to serve."""
    if isinstance(facts.model, ServedModel):
        return ok(f"{facts.model.profile.title} in {facts.model.folder}.")
    if facts.model is None:
        return skipped("No model was looked for.")
    if not isinstance(facts.model, ModelNotFound) or facts.model.remedy:
        raise facts.model
    candidates = find_models(facts.environ, facts.user_home)
    if not candidates:
        return error("No model is configured, and none was found on this machine.", f"{PULL} (58 GB), or --model PATH.")
    first = candidates[0]
    if first.layout == "diffusers":
        return error(
            f"{first.path} is incomplete: {some(first.missing)} missing.", f"{PULL} (goes on where it was broken off)."
        )
    return error(
        f"Only ComfyUI's single file was found: {first.path}.", f"{PULL} (58 GB), which has all parts in one folder."
    )


def complete(facts: Facts) -> Verdict:
    """All files that the checkpoint names are there."""
    folder = _folder(facts)
    if folder is None:
        return skipped(_NO_MODEL)
    if folder.is_file():
        return ok(f"One file of {size(folder.stat().st_size)}.")
    if missing := missing_parts(folder):
        return error(f"{some(missing)} missing in {folder}.", f"{_again(folder)} (goes on where it was broken off).")
    return ok(f"{len(weight_files(folder))} weight files, none missing.")


def sound(facts: Facts) -> Verdict:
    """Each weight file is as long as its header says."""
    folder = _folder(facts)
    files = weight_files(folder) if folder is not None else []
    if not files:
        return skipped(_NO_MODEL if folder is None else "There are no weight files.")
    broken = [(file, problem) for file in files if (problem := damage(file)) is not None]
    if not broken:
        return ok(f"{len(files)} weight files of {size(sum(file.stat().st_size for file in files))} are whole.")
    file, problem = broken[0]
    more = f" {len(broken) - 1} more files are damaged, too." if len(broken) > 1 else ""
    return error(f"{file} is damaged: {problem}.{more}", f"Remove {file.resolve()}, then: {_again(file.parent.parent)}")


def tokenizer(facts: Facts) -> Verdict:
    """The prompt can be turned into tokens."""
    folder = _folder(facts)
    if folder is None or folder.is_file():
        return skipped(_NO_MODEL if folder is None else "A single file comes without a tokenizer.")
    part = folder / "tokenizer"
    if any(all((part / name).is_file() for name in names) for names in _VOCABULARIES):
        return ok("The tokenizer is there.")
    return error(f"{part} holds no vocabulary.", _again(folder))


def zero_cond_t(facts: Facts) -> Verdict:
    """The transformer's configuration has what makes 2511 different from 2509."""
    folder = _folder(facts)
    if folder is None or folder.is_file():
        return skipped(_NO_MODEL if folder is None else "A single file comes without a configuration.")
    path = folder / "transformer" / "config.json"
    try:
        value = json.loads(path.read_text(encoding="utf-8")).get("zero_cond_t")
    except (OSError, ValueError, AttributeError):
        return error(f"{path} cannot be read.", _again(folder))
    if value is True:
        return ok("zero_cond_t is set: this is 2511.")
    return error(
        f"zero_cond_t is not set in {path}: this is 2509, or was converted by diffusers before 0.37.",
        f"{PULL}, or name the folder of 2511 with --model.",
    )


def _folder(facts: Facts) -> Path | None:
    return facts.model.folder if isinstance(facts.model, ServedModel) else None


def _again(folder: Path) -> str:
    """The command that fetches what is missing or damaged in ``folder``."""
    in_cache = any(part.startswith("models--") for part in folder.parts)
    return PULL if in_cache else f"{PULL} --to '{folder}'"


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
