"""Files of a watched folder's batch: pictures of one name have results of their own, in whatever order they come."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import pytest
from qied_client.batch.edits import BatchEdit, edits_of
from qied_client.batch.names import Names
from qied_client.batch.owners import Owners
from qied_client.batch.rows import Row
from qied_client.batch.state import BatchState, Entry


def edits(tmp_path: Path, *names: str) -> list[BatchEdit]:
    rows = [Row((str(tmp_path / name),), "night", number) for number, name in enumerate(names, 1)]
    return list(edits_of(rows, Names([str(tmp_path / "out" / "{stem}.webp")]), count=1, batch="b"))


def files(found: list[BatchEdit]) -> list[str]:
    return [path.name for edit in found for path in edit.paths]


@pytest.mark.parametrize("names", list(permutations(("a.png", "a.jpg", "a.jpeg"))))
def test_each_picture_has_a_file_of_its_own_and_keeps_it(tmp_path: Path, names: tuple[str, ...]) -> None:
    owners = Owners(None)
    found = list(owners.apart(edits(tmp_path, *names)))
    assert files(found)[0] == "a.webp" and len(set(files(found))) == len({edit.key for edit in found}) == 3
    assert all(Path(name).stem in ("a", "a-png", "a-jpg", "a-jpeg") for name in files(found))
    assert files(list(owners.apart(edits(tmp_path, *reversed(names))))) == files(found)[::-1], "it came again"


def test_what_an_earlier_run_wrote_keeps_its_owner(tmp_path: Path) -> None:
    first, second = edits(tmp_path, "a.png", "a.jpg")
    with BatchState(tmp_path / "out" / ".qied-batch.db") as state:
        facts = {"pictures": [str(tmp_path / "a.png")], "files": [str(path) for path in first.paths]}
        state.note(first.key, 1, Entry("done", 0, "job", "print", facts))
        assert state.done(first.key, "print", first.files)
        assert not state.done(second.key, "print", second.files) and not state.done(first.key, "other", first.files)
    with BatchState(tmp_path / "out" / ".qied-batch.db") as state:
        # The folder is listed by name, so the other one comes first after a restart.
        assert files(list(Owners(state).apart([second, first]))) == ["a-jpg.webp", "a.webp"]


def test_a_name_that_is_taken_as_well_gets_a_number(tmp_path: Path) -> None:
    found = list(Owners(None).apart(edits(tmp_path, "a.png", "a-jpg.png", "a.jpg")))
    assert files(found) == ["a.webp", "a-jpg.webp", "a-jpg-2.webp"]
