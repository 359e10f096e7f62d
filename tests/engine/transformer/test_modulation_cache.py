"""Modulation tables kept on disk: the same numbers for the next start, made anew when anything changed or broke."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Collection, Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import structlog
import torch
from torch import Tensor

from benchmarks.part_runs.dense_source import DenseSource
from qied.checkpoints.pipeline_folder import STEMS, weight_files
from qied.engine.disk.cache import DiskCache, DiskCaches
from qied.engine.disk.file import Contents
from qied.engine.transformer import modulation, modulation_cache
from qied.engine.transformer.modulation_cache import MODULATION
from qied.engine.transformer.modulation_table import ModulationTable
from qied.engine.transformer.transformer import Transformer
from qied.engine.weights.sources import FileSource, TensorSource
from qied.engine.weights.stored_weight import StoredWeight
from qied.file_lock import try_lock
from qied.resources import builtin_model_folder

SIGMAS = torch.tensor([1.0, 0.777, 0.3331, 0.02])
MIB = 1 << 20


class Watched(FileSource):
    """Weights in files, with the names of the tensors that were read one by one."""

    def __init__(self, files: list[Path]) -> None:
        super().__init__("transformer", files)
        self.seen: list[str] = []

    def stored(self, name: str) -> StoredWeight:
        self.seen.append(name)
        return super().stored(name)


@dataclass
class Start:
    """A transformer as it is after a start, and the modulation weights that it read since."""

    transformer: Transformer
    source: Watched

    def units(self, sigmas: Tensor = SIGMAS, loras: tuple[object, ...] = ()) -> Generator[None, None, ModulationTable]:
        return self.transformer.modulation_table(sigmas, loras)  # type: ignore[arg-type,return-value]

    def table(self, sigmas: Tensor = SIGMAS, loras: tuple[object, ...] = ()) -> ModulationTable:
        making = self.units(sigmas, loras)
        while True:
            try:
                next(making)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]

    def read(self) -> int:
        seen, self.source.seen = self.source.seen, []
        assert all("_mod.1" in name for name in seen)
        return len(seen)


ALL = 6 * 2 * 2
"""Modulation weights and biases of the built-in model."""


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.fixture
def cache(tmp_path: Path) -> DiskCache:
    return DiskCache(MODULATION, tmp_path / "modulation", 64 * MIB)


@pytest.fixture
def files() -> list[Path]:
    return list(weight_files(builtin_model_folder() / "transformer", STEMS["transformer"]))


@pytest.fixture
def copied(files: list[Path], tmp_path: Path) -> list[Path]:
    return [Path(shutil.copy(file, tmp_path)) for file in files]


@pytest.fixture
def start(make_transformer: Callable[..., Transformer], files: list[Path]) -> Callable[..., Start]:
    def run(cache: DiskCache | None, source: list[Path] = files, **changes: object) -> Start:
        watched = Watched(source)
        transformer = make_transformer(watched, DiskCaches(modulation=cache), **changes)
        watched.seen.clear()
        return Start(transformer, watched)

    return run


Begin = Callable[..., Start]


def kept(cache: DiskCache) -> list[Path]:
    return sorted(cache.folder.glob("*.packed"))


def test_the_second_start_reads_the_table_and_no_modulation_weights(cache: DiskCache, start: Begin) -> None:
    first = start(cache)
    made = first.table()
    assert first.read() == ALL and len(kept(cache)) == 1
    second = start(cache)
    assert list(second.units()) == [], "it takes no unit of work of its own"
    found = second.table()
    assert second.read() == 0
    assert torch.equal(found.bytes, made.bytes) and torch.equal(found.bytes, start(None).table().bytes)


def test_a_table_that_had_to_leave_the_memory_is_read_again(cache: DiskCache, start: Begin) -> None:
    begun = start(cache)
    begun.transformer.modulation._limit_bytes = 0
    made = begun.table().bytes.clone()
    assert begun.read() == ALL
    assert torch.equal(begun.table().bytes, made) and begun.read() == 0


@pytest.mark.parametrize(
    "sigmas",
    [SIGMAS[:3], SIGMAS.flip(0), torch.nextafter(SIGMAS, torch.tensor(0.0)), torch.cat([SIGMAS, SIGMAS[3:]])],
    ids=["fewer", "reversed", "one-bit", "more"],
)
def test_another_schedule_is_another_table(cache: DiskCache, start: Begin, sigmas: Tensor) -> None:
    begun = start(cache)
    begun.table()
    begun.read()
    assert torch.equal(begun.table(sigmas).bytes, start(None).table(sigmas).bytes)
    assert begun.read() == ALL and len(kept(cache)) == 2


def test_another_compute_type_is_another_table(cache: DiskCache, start: Begin) -> None:
    start(cache).table()
    narrow = start(cache, precision="bf16", compute="bf16")
    assert narrow.table().steps.dtype == torch.bfloat16
    assert narrow.read() == ALL and len(kept(cache)) == 2


def rewritten(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def moved_away_and_back(path: Path) -> None:
    """The same bytes and times in another file of the same name."""
    times = path.stat()
    copy = path.with_name("copy")
    shutil.copy(path, copy)
    os.utime(copy, ns=(times.st_atime_ns, times.st_mtime_ns))
    copy.replace(path)


@pytest.mark.parametrize("change", [rewritten, Path.touch, moved_away_and_back])
def test_any_change_of_the_checkpoint_makes_it_anew(
    copied: list[Path], cache: DiskCache, start: Begin, change: Callable[[Path], object]
) -> None:
    start(cache, copied).table()
    change(copied[1])
    again = start(cache, copied)
    again.table()
    assert again.read() == ALL


@pytest.mark.parametrize("what", ["version", "torch", "diffusers", "device"])
def test_what_else_the_numbers_depend_on_makes_it_anew(
    cache: DiskCache, start: Begin, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    start(cache).table()
    if what == "version":
        monkeypatch.setattr(modulation_cache, "TABLES", 2)
    elif what == "device":
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "another CPU")
    else:
        monkeypatch.setattr(getattr(modulation_cache, what), "__version__", "99.0")
    again = start(cache)
    again.table()
    assert again.read() == ALL


def flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


@pytest.mark.parametrize("damage", ["cut", "empty", "first", "last", "sum", "zeros"])
def test_a_damaged_file_is_found_out_and_written_anew(cache: DiskCache, start: Begin, damage: str) -> None:
    made = start(cache).table().bytes.clone()
    (path,) = kept(cache)
    content = path.read_bytes()
    begin = content.index(bytes(made[:64].tolist()))
    end = begin + len(made)
    path.write_bytes(
        {
            "cut": content[:-1],
            "empty": b"",
            "first": flipped(content, begin),
            "last": flipped(content, end - 1),
            "sum": flipped(content, end + 3),
            "zeros": content[:begin] + bytes(len(content) - begin),
        }[damage]
    )
    with structlog.testing.capture_logs() as logs:
        again = start(cache)
        assert torch.equal(again.table().bytes, made) and again.read() == ALL
    assert path.read_bytes() == content
    assert bool(logs) == (damage not in ("cut", "empty"))
    healed = start(cache)
    assert torch.equal(healed.table().bytes, made) and healed.read() == 0


def test_the_least_recently_used_table_makes_way_within_the_limit(cache: DiskCache, start: Begin) -> None:
    start(cache).table()
    (first,) = kept(cache)
    small = replace(cache, limit_bytes=2 * first.stat().st_size)
    start(small).table(SIGMAS * 0.9)
    (second,) = set(kept(small)) - {first}
    for place, path in enumerate((first, second), 1):
        os.utime(path, ns=(place, place))
    assert (used := start(small)).table() is not None and used.read() == 0
    start(small).table(SIGMAS * 0.8)
    assert first in kept(small) and second not in kept(small) and len(kept(small)) == 2
    assert sum(path.stat().st_size for path in kept(small)) <= small.limit_bytes


def test_a_table_with_a_lora_is_neither_kept_nor_taken_for_one_without(cache: DiskCache, start: Begin) -> None:
    class Louder:
        key = ("louder", 1.0)
        changes_time = False

        def add_to(self, outputs: Tensor, *_: object) -> None:
            outputs.add_(1.0)

    begun = start(cache)
    plain = begun.table()
    assert begun.read() == ALL
    moved = begun.table(loras=(Louder(),))
    assert begun.read() == ALL and len(kept(cache)) == 1
    torch.testing.assert_close(moved.steps, plain.steps + 1)
    assert torch.equal(start(cache).table().bytes, plain.bytes)


def test_weights_that_are_in_no_file_are_no_key(
    cache: DiskCache, make_transformer: Callable[..., Transformer], transformer_source: TensorSource
) -> None:
    class Held(DenseSource):
        component, nbytes = transformer_source.component, transformer_source.nbytes

        def names(self) -> Collection[str]:
            return transformer_source.names()

        def origin(self, name: str) -> str:
            return name

        def read(self, name: str) -> Tensor:
            return transformer_source.read(name)

    list(make_transformer(Held(), DiskCaches(modulation=cache)).modulation_table(SIGMAS))
    assert not cache.folder.exists()


def test_edits_that_make_a_table_together_keep_it_once_and_one_given_up_half_made_is_not(
    cache: DiskCache, start: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(modulation, "BLOCKS_AT_ONCE", 2)
    begun = start(cache)
    given_up = begun.units(SIGMAS * 0.5)
    next(given_up)
    given_up.close()
    assert not kept(cache)
    times: list[int] = []
    own = DiskCache.writing
    monkeypatch.setattr(DiskCache, "writing", lambda *of: (times.append(1), own(*of))[1])
    one, two = begun.units(), begun.units()
    assert [next(making) for making in (one, two, one)] == [(2, 6), (4, 6), (6, 6)]
    assert [next(making, None) for making in (one, two)] == [None, None]
    assert len(times) == len(kept(cache)) == 1


def test_while_another_process_writes_a_table_is_used_from_memory(cache: DiskCache, start: Begin) -> None:
    cache.folder.mkdir()
    other = os.open(cache.folder / "lock", os.O_RDWR | os.O_CREAT)
    assert try_lock(other)
    begun = start(cache)
    assert begun.table() is begun.table() and begun.read() == ALL
    assert not kept(cache)
    os.close(other)
    start(cache).table()
    assert len(kept(cache)) == 1


WRITE = """
import sys, torch
from pathlib import Path
from qied.engine.disk.cache import DiskCache
from qied.engine.transformer.modulation_cache import MODULATION
from qied.engine.disk.file import Contents

cache = DiskCache(MODULATION, Path(sys.argv[1]), 1 << 30)
for number in range(40):
    with cache.writing(Contents({}, 1, 1 << 20, synced=False)) as keeping:
        keeping.add(torch.full((1 << 20,), number, dtype=torch.uint8))
    if number == 0:
        print("begun", flush=True)
"""


def test_what_another_process_writes_at_the_same_time_is_read_whole_or_not_at_all(cache: DiskCache) -> None:
    contents = Contents({}, 1, 1 << 20, synced=False)
    buffer = torch.empty(1 << 20, dtype=torch.uint8)
    found: list[bool] = []
    command = [sys.executable, "-c", WRITE, str(cache.folder)]
    with (
        structlog.testing.capture_logs() as logs,
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer,
    ):
        assert writer.stdout is not None and writer.stdout.readline() == "begun\n"
        while writer.poll() is None:
            found.append(cache.read(contents, [buffer], lambda _: None) and bool((buffer == buffer[0]).all()))
    assert writer.returncode == 0 and found and all(found) and not logs
    assert len(kept(cache)) == 1


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("trouble", ["full", "reserved", "no folder", "too large"])
def test_a_disk_that_takes_nothing_costs_a_line_in_the_log_and_nothing_else(
    cache: DiskCache, start: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    (tmp_path / "file").touch()
    cache = {
        "full": cache,
        "reserved": replace(cache, free_reserve_bytes=1 << 60),
        "no folder": replace(cache, folder=tmp_path / "file" / "modulation"),
        "too large": replace(cache, limit_bytes=1000),
    }[trouble]
    if trouble == "full":
        monkeypatch.setattr(os, "posix_fallocate", full)
    begun = start(cache)
    with structlog.testing.capture_logs() as logs:
        tables = [begun.table(), begun.table(SIGMAS * 0.9)]
    assert len(logs) == 1 and logs[0]["event"].startswith("modulation tables cannot be kept")
    assert "storage.modulation_bytes" in logs[0]["remedy"]
    assert not list(tmp_path.rglob("*.packed")) and not list(tmp_path.rglob("*.writing"))
    plain = start(None)
    assert torch.equal(tables[0].bytes, plain.table().bytes)
    assert torch.equal(tables[1].bytes, plain.table(SIGMAS * 0.9).bytes)
