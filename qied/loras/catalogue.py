"""The LoRAs of configured folders: their names, their files, and what each of them takes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from qied_client.errors import ModelUnsupported
from qied_client.protocol import limits
from qied_client.protocol.fields import FieldError, NameInFolder

from qied.loras.contents import read_contents, unusable
from qied.planning.loras import LoraFacts
from qied.planning.model_profile import Architecture

SUFFIX: Final = ".safetensors"


@dataclass(frozen=True)
class LoraFile:
    """One file as it was when the daemon started: where it lies, its bytes, and its time of change in nanoseconds.

    ``beside`` is the folder that its neighbours lie in, where that is another one than its own.
    """

    path: str
    bytes: int
    changed_ns: int
    beside: str = ""

    @classmethod
    def at(cls, path: Path) -> LoraFile:
        """Look at a file; raises OSError."""
        found = path.stat()
        return cls(str(path), found.st_size, found.st_mtime_ns)

    @property
    def real_path(self) -> Path:
        """Where the file lies, links resolved."""
        return Path(self.path)

    @property
    def neighbours(self) -> Path:
        """The folder that may hold what belongs to the file."""
        return Path(self.beside) if self.beside else self.real_path.parent

    @property
    def unchanged(self) -> bool:
        """Whether the file is still the one that was looked at."""
        try:
            return replace(LoraFile.at(self.real_path), beside=self.beside) == self
        except OSError:
            return False


@dataclass(frozen=True)
class Catalogue:
    """LoRAs by name: the file's name without ``.safetensors``, with the folders between it and the configured one.

    ``facts`` has all of them, ``files`` those that can be used. ``left_out`` are files that cannot be named.
    """

    files: Mapping[str, LoraFile] = field(default_factory=dict)
    facts: Mapping[str, LoraFacts] = field(default_factory=dict)
    left_out: tuple[Path, ...] = ()


def find_loras(folders: Sequence[Path], architecture: Architecture) -> Catalogue:
    """Look for ``*.safetensors`` in folders and below; of two with the same name the one in the first folder counts.

    Folders that are not there or may not be read count as empty. Only the headers of files are read.
    """
    files: dict[str, LoraFile] = {}
    facts: dict[str, LoraFacts] = {}
    left_out: list[Path] = []
    for folder in folders:
        for name, path in _in_folder(folder):
            if not _can_be_named(name):
                left_out.append(path)
                continue
            if name in facts:
                continue
            file = _file(path, folder)
            if file is None:
                facts[name] = _outside(name)
                continue
            facts[name] = _facts(file, name, architecture)
            if facts[name].problem is None:
                files[name] = file
    return Catalogue(files, facts, tuple(left_out))


def _outside(name: str) -> LoraFacts:
    error = unusable(
        file_of(name),
        "it is a link that points out of its folder, or to nothing",
        "Put the file itself there, or add its folder to model.loras.",
    )
    return LoraFacts(problem=error.message, remedy=error.remedy)


def file_of(name: str) -> str:
    """The file of a LoRA as errors name it, relative to its folder."""
    return f"{name}{SUFFIX}"


def _facts(file: LoraFile, name: str, architecture: Architecture) -> LoraFacts:
    try:
        contents = read_contents(file.real_path, file_of(name), architecture, file.neighbours)
    except ModelUnsupported as error:
        return LoraFacts(problem=error.message, remedy=error.remedy, bytes=file.bytes)
    return LoraFacts(
        contents.parameters,
        contents.width,
        contents.steps,
        contents.version,
        rank=contents.rank,
        bytes=file.bytes,
    )


def _in_folder(folder: Path) -> Iterator[tuple[str, Path]]:
    """(Name, path) of every file, sorted; links to folders are not followed."""
    for parent, folders, files in os.walk(folder):
        folders.sort()
        for file in sorted(_safetensors(files)):
            path = Path(parent, file)
            yield path.relative_to(folder).as_posix().removesuffix(SUFFIX), path


def _safetensors(files: Iterable[str]) -> Iterator[str]:
    return (file for file in files if file.endswith(SUFFIX))


def _file(path: Path, folder: Path) -> LoraFile | None:
    """The file behind a path, links resolved; None where it lies outside the folder or cannot be read."""
    try:
        real = path.resolve(strict=True)
        inside = any(real.is_relative_to(home) for home in _homes(folder.resolve()))
        if not real.is_file() or not inside:
            return None
        return replace(LoraFile.at(real), beside="" if real.parent == path.parent.resolve() else str(path.parent))
    except (OSError, RuntimeError):
        return None


def _homes(folder: Path) -> Iterator[Path]:
    """Where the files of a folder may lie: in it; for a snapshot in the Hugging Face cache, among its repository's."""
    yield folder
    repository = folder.parent.parent
    if folder.parent.name == "snapshots" and repository.name.startswith("models--"):
        yield repository / "blobs"


def _can_be_named(name: str) -> bool:
    try:
        NameInFolder(limits.NAME_CHARS)(name)
    except FieldError:
        return False
    return True
