"""Looks through a whole batch before anything runs: every problem is told at once, and what the edits will cost."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from qied_client.batch.edits import BatchEdit
from qied_client.batch.places import whole
from qied_client.batch.problems import Problems
from qied_client.batch.report import SHEET_NAME
from qied_client.errors import InvalidRequest, QiedError
from qied_client.inputs import Picture
from qied_client.options import edit_request
from qied_client.picture_header import PictureLimits, read_header

Size = tuple[int, int]
Sizes = tuple[list[Size], Size | None]
"""Width and height in pixels of the pictures, and of the canvas, where there is one."""
_FIRST: Final = 10
_NAME_BYTES: Final = 255
"""What the file systems of all systems take."""
_KINDS: Final = 200
"""Kinds of edits that are priced; what comes after them counts as their average."""


@dataclass
class Kind:
    """Edits that cost the same: options without seed and pictures, sizes of the pictures and the canvas in pixels."""

    options: dict[str, Any]
    sizes: list[Size]
    canvas: Size | None
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

    def price(self, edit: BatchEdit, sizes: Sizes | None) -> None:
        """Count an edit to those that cost the same; ``sizes`` are None where they are not known."""
        self.last = None
        if sizes is None:
            return
        options = dict(edit.row.with_others(lambda _: "").options)
        for name in ("seed", "mask", "canvas"):
            options.pop(name, None)
        pictures, canvas = sizes
        name = repr((sorted(options.items(), key=lambda item: item[0]), pictures, canvas))
        if name in self.kinds or len(self.kinds) < _KINDS:
            self.last = self.kinds.setdefault(name, Kind(options, pictures, canvas, edit.row.where))
            self.last.count += 1


def checked(edits: Iterable[BatchEdit], problems: Problems) -> Checked:
    """Look at every edit; raises InvalidRequest that names all problems, with their rows."""
    found = Checked()
    outputs: dict[bytes, int] = {}
    inputs: set[bytes] = set()
    for edit in edits:
        found.count(edit)
        if edit.number == 1:
            inputs |= {_mark(os.fspath(file)) for file in edit.row.files() if isinstance(file, (str, os.PathLike))}
            _check_options(edit, problems)
            found.price(edit, _sizes(edit, problems))
        elif found.last is not None:
            found.last.count += 1
        if len({*edit.paths}) < len(edit.paths):
            problems.add(edit.row.where, f"{edit.paths[0]} is the name of two results of one edit.", _TWICE)
        for path in {*edit.paths}:
            if len(os.fsencode(path.name)) > _NAME_BYTES:
                problems.add(edit.row.where, f"{path.name[:40]}... is too long for the name of a file.", _SHORTER)
                continue
            if SHEET_NAME.fullmatch(path.name):
                problems.add(edit.row.where, f"{path.name} is the name of the batch's contact sheet.", _ANOTHER)
                continue
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
_SHORTER: Final = f"A name may have {_NAME_BYTES} bytes: give the row a shorter one."
_ANOTHER: Final = "Put more than {stem} into the names of the results, or give the row another name."
_APART: Final = "Put {stem}, {name} or {index} into the name, or give the rows names of their own."
_TWICE: Final = "Give each -o a name or suffix of its own."


def _mark(path: str | Path) -> bytes:
    """A few bytes that stand for a path: there may be many thousands."""
    return hashlib.blake2b(os.path.normcase(whole(path)).encode(), digest_size=12).digest()


def _check_options(edit: BatchEdit, problems: Problems) -> None:
    try:
        edit_request(edit.row.prompt, edit.seed, edit.options)
    except InvalidRequest as error:
        column = str(error.details.get("field") or "")
        where = f"{edit.row.where}, column {column}" if column else edit.row.where
        problems.add(where, error.message.removeprefix(f"{column}: "), error.remedy)


def _sizes(edit: BatchEdit, problems: Problems) -> Sizes | None:
    """The sizes of the pictures, from their headers; what cannot be read is a problem."""
    sizes = [_size(picture, "picture", edit, problems) for picture in edit.row.pictures]
    others = {option: _size(picture, option, edit, problems) for option, picture in edit.row.others()}
    canvas = others.get("canvas")
    if None in sizes or (canvas is None and edit.row.canvas is not None):
        return None
    return [size for size in sizes if size is not None], canvas


def _size(picture: Picture, column: str, edit: BatchEdit, problems: Problems) -> Size | None:
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
