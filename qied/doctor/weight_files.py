"""What weight files show without being loaded: whether they are complete, and the hash they should have."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from qied_client.errors import QiedError

from qied.checkpoints.pipeline_folder import STEMS
from qied.serving.model import ServedModel
from qied.weights.header import read_header
from qied.weights.problems import BadFile

_SHA256: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)


def weight_files(model: ServedModel) -> list[Path]:
    """The weight files of a model; of one that is not whole, those of its folder."""
    try:
        return list(model.checkpoint().weight_files)
    except QiedError:
        return sorted(file for part in STEMS for file in (model.origin / part).glob("*.safetensors"))


def damage(file: Path) -> str | None:
    """What is wrong with a weight file by its header and length; None for a sound one."""
    try:
        read_header(file)
    except BadFile as problem:
        return problem.what
    return None


def known_hash(file: Path, model: Path) -> str | None:
    """The SHA-256 that a file should have, as Hugging Face's downloads note it; None where nothing tells.

    In their cache a file is a link to one that has its hash as name; next to ``hf download --local-dir`` there is a
    metadata file with the commit, the hash and the time in three lines.
    """
    stored = file.resolve().name
    if _SHA256.fullmatch(stored):
        return stored
    if not file.is_relative_to(model):
        return None
    note = model / ".cache" / "huggingface" / "download" / f"{file.relative_to(model).as_posix()}.metadata"
    try:
        lines = note.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    return lines[1] if len(lines) > 1 and _SHA256.fullmatch(lines[1]) else None
