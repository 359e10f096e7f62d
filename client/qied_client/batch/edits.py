"""The edits of a batch: each variation of a row, with its seed, its files, and what tells it from all others."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from numbers import Integral
from pathlib import Path
from typing import Any

from qied_client.batch.names import Names, filled
from qied_client.batch.places import whole
from qied_client.batch.rows import Row
from qied_client.batch.state import BatchState
from qied_client.inputs import Picture, picture_bytes
from qied_client.options import edit_request
from qied_client.options.redraws import with_masks
from qied_client.protocol import limits
from qied_client.transfers import hash_of


@dataclass(frozen=True)
class BatchEdit:
    """One edit. ``number`` is its variation, from 1; ``paths`` are the files of its result.

    ``key`` tells it from all other edits of a batch, whatever its pictures hold.
    """

    row: Row
    number: int
    seed: int
    paths: tuple[Path, ...]
    key: str

    @property
    def options(self) -> dict[str, Any]:
        """The options of ``Client.submit``."""
        return {**self.row.options, "seed": self.seed}

    def content(self) -> str:
        """Hash of the whole request with the bytes of its pictures; raises InvalidRequest where one cannot be read."""
        request = edit_request(self.row.prompt, self.seed, self.options)
        masks = [_hash(mask, "redraw") for mask in self.row.pass_masks()]
        return replace(
            request,
            images=tuple(hash_of(picture_bytes(picture)) for picture in self.row.pictures),
            mask=_hash(self.row.mask, "mask"),
            canvas=_hash(self.row.canvas, "canvas"),
            redraw=with_masks(request.redraw, masks),
        ).payload_hash()

    @property
    def all_there(self) -> bool:
        """Whether its files are."""
        return all(path.is_file() for path in self.paths)

    @property
    def files(self) -> list[str]:
        """Its files as the state knows them."""
        return [whole(path) for path in self.paths]

    def done(self, state: BatchState) -> bool:
        """Whether nothing is left to do."""
        return state.done(self.key, self.fingerprint(), self.files) and self.all_there

    def with_paths(self, paths: tuple[Path, ...]) -> BatchEdit:
        """The same edit with other files."""
        return replace(self, paths=paths)

    def fingerprint(self) -> str:
        """Tells whether the pictures may have changed, without reading files: their sizes and times."""
        return " ".join(_fingerprint(picture) for picture in self.row.files())


def edits_of(rows: Iterable[Row], names: Names | None, *, count: int, batch: str) -> Iterator[BatchEdit]:
    """The edits of rows, one by one. Without ``names`` they have no files; rows without a seed get one of ``batch``.

    Raises InvalidRequest for a mask's name with an unknown field.
    """
    for row in rows:
        row = row.with_others(partial(_filled, row))  # noqa: PLW2901
        pictures = [_named(each) for each in row.files()]
        for number in range(1, count + 1):
            content = _digest([row.prompt, pictures, _plain(row), number])
            given = row.options.get("seed")
            seed = _seed(batch, content) if given is None else _nth(given, number)
            paths = () if names is None else names.paths(row, number, seed)
            key = _digest([content, *(whole(path) for path in paths)])
            yield BatchEdit(row, number, seed, paths, key)


def _seed(batch: str, content: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{batch}/{content}".encode()).digest()[:4], "big") >> 1


def _nth(seed: Any, number: int) -> Any:
    """The seed of a variation; a seed that is none stays for the request's checks to refuse."""
    if isinstance(seed, bool) or not isinstance(seed, Integral) or not 0 <= int(seed) <= limits.SEED:
        return seed
    return (int(seed) + number - 1) % (limits.SEED + 1)


def _filled(row: Row, picture: Picture) -> Picture:
    return filled(picture, row) if isinstance(picture, str) and "{" in picture else picture


def _hash(picture: Picture | None, option: str) -> str | None:
    return None if picture is None else hash_of(picture_bytes(picture, option))


def _named(picture: Picture) -> str:
    if isinstance(picture, (str, os.PathLike)):
        return whole(picture)
    return hash_of(picture_bytes(picture))


def _plain(row: Row) -> dict[str, Any]:
    """The options without their pictures, which count by their names."""
    options = {**row.with_others(lambda _: "").options, "mask": None, "canvas": None}
    return {name: value for name, value in options.items() if value is not None}


def _digest(parts: list[Any]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=repr).encode()).hexdigest()


def _fingerprint(picture: Picture) -> str:
    if not isinstance(picture, (str, os.PathLike)):
        return hash_of(picture_bytes(picture))
    try:
        found = Path(os.fspath(picture)).stat()
    except OSError:
        return "missing"
    return f"{found.st_size}:{found.st_mtime_ns}"
