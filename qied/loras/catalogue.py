"""The LoRAs of configured folders: their names, their files, and what each of them takes."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from qied_client.errors import ModelUnsupported
from qied_client.protocol import limits
from qied_client.protocol.fields import FieldError, NameInFolder

from qied.loras.contents import read_contents
from qied.loras.refusals import unusable
from qied.planning.edits.loras import LoraFacts
from qied.planning.profiles.model_profile import Architecture

SUFFIX: Final = ".safetensors"
_SUFFIXES: Final = (SUFFIX, ".sft")


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

    Links lead to files and folders within these folders only: others say why they cannot be used, and leave their name
    to a file of a later folder.
    Folders that are not there or may not be read count as empty. Only the headers of files are read.
    """
    files: dict[str, LoraFile] = {}
    facts: dict[str, LoraFacts] = {}
    left_out: list[Path] = []
    refused: set[str] = set()
    for found in lora_files(folders):
        if not _can_be_named(found.name):
            left_out.append(found.path)
            continue
        if found.name in facts and (found.file is None or found.name not in refused):
            continue
        if found.file is None:
            refused.add(found.name)
            facts[found.name] = LoraFacts(problem=found.problem.message, remedy=found.problem.remedy)
            continue
        refused.discard(found.name)
        facts[found.name] = _facts(found.file, found.name, architecture)
        if facts[found.name].problem is None:
            files[found.name] = found.file
    return Catalogue(files, facts, tuple(left_out))


@dataclass(frozen=True)
class FoundLora:
    """A file below a LoRA folder, by its name there; ``file`` is None where it may not be used, as ``problem`` says.

    A folder that is a link out of all LoRA folders is one too: what lies in it is not looked at.
    """

    name: str
    path: Path
    file: LoraFile | None

    @property
    def problem(self) -> ModelUnsupported:
        """Why it may not be used."""
        if self.path.is_dir():
            return ModelUnsupported(
                f"The folder {self.name} cannot be used: it is a link to a folder that is not one of the LoRA folders.",
                "Add the folder that the link points to to model.loras, and restart the daemon.",
            )
        return unusable(
            file_of(self.name),
            "it is a link that points out of the LoRA folders, or to nothing",
            "Add the folder of the file that it points to to model.loras, or put the file itself there, and restart "
            "the daemon.",
        )


def lora_files(folders: Sequence[Path]) -> Iterator[FoundLora]:
    """All files in folders and below, sorted, and links out of them, in the order of the folders."""
    homes = [home for folder in folders for home in _homes(folder.resolve())]
    for folder in folders:
        for path in _in_folder(folder, homes):
            name = path.relative_to(folder).as_posix()
            if path.is_dir():
                yield FoundLora(name, path, None)
            else:
                yield FoundLora(name[: -len(path.suffix)], path, _file(path, homes))


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
        note=contents.note,
    )


def _in_folder(folder: Path, homes: Sequence[Path]) -> Iterator[Path]:
    """Every file by its own path, then by those through linked folders; and links to folders that are not in ``homes``.

    Through each link a folder counts once, so that links in a circle end.
    """
    links = yield from _files(folder, homes, set())
    for link in links:
        seen: set[str] = set()
        through = [link]
        while through:
            through += yield from _files(through.pop(0), homes, seen)


def _files(folder: Path, homes: Sequence[Path], seen: set[str]) -> Generator[Path, None, list[Path]]:
    """Files of a folder and below, and links out of ``homes``, sorted; returns the linked folders in them."""
    links: list[Path] = []
    for parent, folders, files in os.walk(folder):
        real = os.path.realpath(parent)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        yield from (Path(parent, file) for file in sorted(files) if file.lower().endswith(_SUFFIXES))
        folders.sort()
        for path in (Path(parent, name) for name in folders):
            if path.is_symlink() and _is_within(path, homes):
                links.append(path)
            elif path.is_symlink():
                yield path
    return links


def _is_within(path: Path, homes: Sequence[Path]) -> bool:
    real = Path(os.path.realpath(path))
    return any(real.is_relative_to(home) for home in homes)


def _file(path: Path, homes: Sequence[Path]) -> LoraFile | None:
    """The file behind a path, links resolved; None where it lies outside ``homes`` or cannot be read."""
    try:
        real = path.resolve(strict=True)
        if not real.is_file() or not _is_within(real, homes):
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
