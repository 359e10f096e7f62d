"""Whose result each file of a watched folder's batch is: two pictures of one name must not take each other's files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import count
from pathlib import Path

from qied_client.batch.edits import BatchEdit
from qied_client.batch.places import whole
from qied_client.batch.state import BatchState


class Owners:
    """Files of results by the picture that they belong to, also from earlier runs, as ``state`` has them."""

    def __init__(self, state: BatchState | None) -> None:
        self._of: dict[str, str] = {}
        for facts in [] if state is None else state.of_all_runs():
            for file in facts.get("files", ()):
                self._of.setdefault(whole(file), whole(facts["pictures"][0]))

    def apart(self, edits: Iterable[BatchEdit]) -> Iterator[BatchEdit]:
        """The edits, one by one, each with files that are no other picture's.

        Where ``a.png`` has ``out/a.webp``, the result of ``a.jpg`` is ``out/a-jpg.webp``.
        """
        for edit in edits:
            picture = edit.row.pictures[0]
            owner = whole(str(picture))
            paths = self._free(edit.paths, owner, Path(str(picture)).suffix[1:].lower())
            self._of |= dict.fromkeys(map(whole, paths), owner)
            yield edit if paths == edit.paths else edit.with_paths(paths)

    def _free(self, paths: tuple[Path, ...], owner: str, suffix: str) -> tuple[Path, ...]:
        for number in count():
            added = "" if number == 0 else f"-{suffix}" if number == 1 else f"-{suffix}-{number}"
            tried = tuple(path.with_name(f"{path.stem}{added}{path.suffix}") for path in paths)
            if all(self._of.get(whole(path), owner) == owner for path in tried):
                return tried
        raise AssertionError("numbers do not end")
