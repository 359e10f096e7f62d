"""What a start uses does not make way for what else it uses, so a limit that is too low makes no work on the disk."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import structlog
import torch
from torch import Tensor

from qied.engine.disk.cache import DiskCache, Kind
from qied.engine.disk.file import Contents
from qied.engine.disk.in_use import FilesInUse, is_in_use

LASTING = Kind("packed blocks", "storage.packed_bytes", lasting=True)
TEXT, TRANSFORMER = (
    Contents({"of": of}, 4, nbytes, synced=False) for of, nbytes in (("text", 9000), ("blocks", 40000))
)


def fill(block: int, buffer: Tensor) -> None:
    buffer.fill_(block)


def start(cache: DiskCache) -> list[str]:
    """What a process does that streams a text encoder and packs a transformer; returns what it had to make."""
    made: list[str] = []
    new = replace(cache, in_use=FilesInUse())

    def make(what: str) -> None:
        made.append(what)

    text = new.mapped(TEXT, lambda block, buffer: (make("text"), fill(block, buffer))[1], lambda: None)
    buffers = [torch.empty(TRANSFORMER.block_bytes, dtype=torch.uint8) for _ in range(TRANSFORMER.blocks)]
    new.fill(buffers, TRANSFORMER, lambda block, buffer: (make("blocks"), fill(block, buffer))[1], lambda _: None)
    new.say_what_is_needed()
    assert text is None or all((one == number).all() for number, one in enumerate(text))
    assert all((one == number).all() for number, one in enumerate(buffers))
    return sorted(set(made))


def files(cache: DiskCache) -> dict[str, int]:
    return {path.name: path.stat().st_ino for path in sorted(cache.folder.glob("*.packed"))}


def both(limit_bytes: int, folder: Path) -> DiskCache:
    return DiskCache(LASTING, folder / "packed", limit_bytes)


def test_both_are_kept_where_the_limit_has_room_for_both(tmp_path: Path) -> None:
    cache = both(TEXT.nbytes + TRANSFORMER.nbytes, tmp_path)
    with structlog.testing.capture_logs() as logs:
        assert start(cache) == ["blocks", "text"]
        assert start(cache) == []
    assert len(files(cache)) == 2 and not logs


@pytest.mark.parametrize("limit", [TEXT.nbytes + TRANSFORMER.nbytes - 1, TRANSFORMER.nbytes, TEXT.nbytes, 1000])
def test_with_less_no_start_writes_what_the_next_one_deletes_and_each_says_once_what_it_needs(
    tmp_path: Path, limit: int
) -> None:
    cache = both(limit, tmp_path)
    start(cache)
    first = files(cache)
    assert len(first) == (limit >= TEXT.nbytes)
    for _ in range(2):
        with structlog.testing.capture_logs() as logs:
            # Where the text encoder was not kept, it is not made either: it is used as it is stored.
            assert start(cache) == ["blocks"]
        assert files(cache) == first
        (told,) = logs
        assert told["needed_bytes"] == TEXT.nbytes + TRANSFORMER.nbytes
        assert told["available_bytes"] == limit
        assert "Set storage.packed_bytes to 1GiB or more" in told["remedy"]


def test_the_limit_that_is_told_is_enough(tmp_path: Path) -> None:
    cache = both(1000, tmp_path)
    with structlog.testing.capture_logs() as logs:
        start(cache)
    enough = both(logs[0]["needed_bytes"], tmp_path)
    assert start(enough) == ["blocks", "text"] and start(enough) == []


def test_what_no_process_uses_makes_way(tmp_path: Path) -> None:
    cache = both(TEXT.nbytes + TRANSFORMER.nbytes, tmp_path)
    old = replace(TRANSFORMER, made_of={"of": "another model"})
    buffers = [torch.empty(old.block_bytes, dtype=torch.uint8) for _ in range(old.blocks)]
    replace(cache, in_use=FilesInUse()).fill(buffers, old, fill, lambda _: None)
    (name,) = files(cache)
    assert start(cache) == ["blocks", "text"]
    assert name not in files(cache) and len(files(cache)) == 2


HOLD = """
import sys
from pathlib import Path
from qied.engine.disk.in_use import FilesInUse
held = FilesInUse()
held.hold(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_a_file_that_another_process_runs_on_stays_and_is_counted(tmp_path: Path) -> None:
    cache = both(TEXT.nbytes + TRANSFORMER.nbytes, tmp_path)
    old = replace(TRANSFORMER, made_of={"of": "a worker of another card"})
    buffers = [torch.empty(old.block_bytes, dtype=torch.uint8) for _ in range(old.blocks)]
    replace(cache, in_use=FilesInUse()).fill(buffers, old, fill, lambda _: None)
    (name,) = files(cache)
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(cache.folder / name)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with child:
        assert child.stdout is not None and child.stdout.readline() == b"held\n"
        with structlog.testing.capture_logs() as logs:
            assert start(cache) == ["blocks", "text"]
        assert logs[0]["needed_bytes"] == TEXT.nbytes + TRANSFORMER.nbytes + old.nbytes
        assert name in files(cache)
        assert is_in_use(cache.folder / name)
        child.communicate()
    assert start(cache) == ["blocks"] and name not in files(cache)


def test_a_file_is_let_go_of_with_what_held_it_and_the_one_that_took_its_place_is_held(tmp_path: Path) -> None:
    path, new = tmp_path / "a.packed", tmp_path / "b.packed"
    path.write_bytes(b"a")
    new.write_bytes(b"b")
    held = FilesInUse()
    held.hold(path)
    assert is_in_use(path) and not is_in_use(new)
    new.replace(path)
    assert not is_in_use(path)
    held.hold(path)
    assert is_in_use(path)
    del held
    assert not is_in_use(path)
