"""Which tiny autoencoder decodes a model's previews: the one that is named, or one that lies where people keep them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from qied_client.errors import ConfigError

from qied.checkpoints.assembly import expanded_path
from qied.checkpoints.comfyui import KINDS, SUFFIXES, Installation
from qied.checkpoints.small_files import files_below, is_file
from qied.planning.layout.preview_decoder import preview_decoder
from qied.planning.plan import PreviewDecoder
from qied.weights.problems import BadFile
from qied.weights.tiny_autoencoder import read_tiny_autoencoder

AUTO, OFF = "auto", "off"
_FOLDER = KINDS["tiny_autoencoder"][0]
_FITTING = re.compile(r"w(an)?[ ._-]?2[._]?1(?!\d)|qwen", re.IGNORECASE)
"""Names of those for the latents of Wan 2.1, which Qwen-Image has too; others of the same structure are not tried."""
_BETTER = "lighttae"
"""In the names of those that lose less."""


@dataclass(frozen=True)
class TinyAutoencoder:
    """The file, and what its decoder costs; ``path`` is None for the linear map. ``warnings`` say what was not used."""

    path: Path | None = None
    decoder: PreviewDecoder | None = None
    warnings: tuple[str, ...] = ()


def tiny_autoencoder_of(
    named: str, folder: Path | None, installations: Sequence[Installation], channels: int
) -> TinyAutoencoder:
    """Find one for latents of so many ``channels``: the ``named`` one, or with "auto" one that is found.

    That is one in the model's own ``folder``, else in ComfyUI's. A file that cannot be used makes no difference but a
    warning. Raises ConfigError for a named one that is not there.
    """
    if named == OFF:
        return TinyAutoencoder()
    warnings: list[str] = []
    for path in [_named(named)] if named != AUTO else _candidates(folder, installations):
        try:
            shape = read_tiny_autoencoder(path, channels)
        except BadFile as problem:
            why = f"{path} does not decode previews: {problem.what}"
            warnings.append(f"{why}. {problem.remedy} model.tiny_autoencoder names one, or off.")
        else:
            return TinyAutoencoder(path, preview_decoder(path.name, shape), tuple(warnings))
    return TinyAutoencoder(warnings=tuple(warnings))


def _named(named: str) -> Path:
    path = expanded_path("model.tiny_autoencoder", named)
    if not is_file(path):
        raise ConfigError(
            f"model.tiny_autoencoder: {path} is not a file.", f"Correct the path, or write {AUTO} or {OFF}."
        )
    return path


def _candidates(folder: Path | None, installations: Sequence[Installation]) -> Iterator[Path]:
    """Files of the model's own folder, then those of ComfyUI's with a fitting name, the better kind first."""
    if folder is not None:
        yield from sorted(files_below(folder / _FOLDER, SUFFIXES))
    found = (file for one in installations for file in one.files("tiny_autoencoder") if _FITTING.search(file.name))
    yield from sorted(found, key=lambda file: _BETTER not in file.name.lower())
