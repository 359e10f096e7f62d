"""Looks through a whole batch before anything runs: every problem is told at once, and what the edits will cost."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from qied_client.batch.edits import BatchEdit
from qied_client.batch.places import whole
from qied_client.batch.problems import Problems
from qied_client.errors import InvalidRequest, QiedError
from qied_client.inputs import Picture
from qied_client.options import edit_request
from qied_client.picture_header import PictureLimits, read_header

_FIRST: Final = 10
_KINDS: Final = 200
"""Kinds of edits that are priced; what comes after them counts as their average."""


@dataclass
class Kind:
    """Edits that cost the same: options without seed and mask, sizes of the pictures in pixels."""

    options: dict[str, Any]
    sizes: list[tuple[int, int]]
    where: str
    count: int = 0


@dataclass
class Checked:
    """What a batch consists of."""

    edits: int = 0
    rows: int = 0
    kinds: dict[str, Kind] = field(default_factory=dict)
    first: list[BatchEdit] = field(default_factory=list)
    last: Kind | None = None

    def count(self, edit: BatchEdit) -> None:
        """Count one edit."""
        self.edits += 1
        self.rows = edit.row.index
        if len(self.first) < _FIRST:
            self.first.append(edit)

    def price(self, edit: BatchEdit, sizes: list[tuple[int, int]] | None) -> None:
        """Count an edit to those that cost the same; ``sizes`` are None where they are not known."""
        self.last = None
        if sizes is None:
            return
        options = {name: value for name, value in _without_files(edit.row.options).items() if name != "seed"}
        name = repr((sorted(options.items(), key=lambda item: item[0]), sizes))
        if name in self.kinds or len(self.kinds) < _KINDS:
            self.last = self.kinds.setdefault(name, Kind(options, sizes, edit.row.where))
            self.last.count += 1


def checked(edits: Iterable[BatchEdit], problems: Problems) -> Checked:
    """Look at every edit; raises InvalidRequest that names all problems, with their rows."""
    found = Checked()
    outputs: dict[bytes, int] = {}
    inputs: set[bytes] = set()
    for edit in edits:
        found.count(edit)
        if edit.number == 1:
            inputs |= {_mark(os.fspath(file)) for file in edit.row.files if isinstance(file, (str, os.PathLike))}
            _check_options(edit, problems)
            found.price(edit, _sizes(edit, problems))
        elif found.last is not None:
            found.last.count += 1
        if len({*edit.paths}) < len(edit.paths):
            problems.add(edit.row.where, f"{edit.paths[0]} is the name of two results of one edit.", _TWICE)
        for path in {*edit.paths}:
            first = outputs.setdefault(_mark(path), edit.row.index)
            if first != edit.row.index:
                problems.add(edit.row.where, f"{path} is also the result of row {first}.", _APART)
                break
    if inputs & outputs.keys():
        problems.add("", "A result would be written over a picture that is read.", _OTHER)
    problems.raise_if_any()
    if not found.edits:
        raise InvalidRequest("The batch has no rows.", "Give pictures, or a manifest with rows.", field="sources")
    return found


_OTHER: Final = "Write the results to another folder."
_APART: Final = "Put {stem}, {name} or {index} into the name, or give the rows names of their own."
_TWICE: Final = "Give each -o a name or suffix of its own."


def _mark(path: str | Path) -> bytes:
    """A few bytes that stand for a path: there may be many thousands."""
    return hashlib.blake2b(os.path.normcase(whole(path)).encode(), digest_size=12).digest()


def _check_options(edit: BatchEdit, problems: Problems) -> None:
    try:
        edit_request(edit.row.prompt, edit.seed, _without_files(edit.options))
    except InvalidRequest as error:
        column = str(error.details.get("field") or "")
        where = f"{edit.row.where}, column {column}" if column else edit.row.where
        problems.add(where, error.message.removeprefix(f"{column}: "), error.remedy)


def _without_files(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name != "mask"}


def _sizes(edit: BatchEdit, problems: Problems) -> list[tuple[int, int]] | None:
    """The sizes of the pictures, from their headers; what cannot be read is a problem."""
    sizes = [_size(picture, "picture", edit, problems) for picture in edit.row.pictures]
    if edit.row.mask is not None:
        _size(edit.row.mask, "mask", edit, problems)
    return None if None in sizes else [size for size in sizes if size is not None]


def _size(picture: Picture, column: str, edit: BatchEdit, problems: Problems) -> tuple[int, int] | None:
    if not isinstance(picture, (str, os.PathLike)):
        return None
    path = Path(picture)
    named = edit.row.where == str(picture)  # a row of a folder is its file
    where = edit.row.where if named else f"{edit.row.where}, column {column}"
    file = "" if named else f"{path}: "
    try:
        with path.open("rb") as opened:
            return read_header(opened, PictureLimits()).displayed_size
    except OSError as error:
        problems.add(where, f"{file}{error.strerror}.", "Check the names; those of a manifest start at its folder.")
    except QiedError as error:
        problems.add(where, f"{file}{error.message}", error.remedy)
    return None
