"""Quantised blocks kept for the next start: the same bytes, made anew when anything changed, whole or not at all."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from qied.checkpoints.pipeline_folder import pipeline_checkpoint
from qied.engine.block import packed as packed_cache
from qied.engine.block.packed import PACKED
from qied.engine.disk import cache as disk_cache
from qied.engine.disk.cache import DiskCache, DiskCaches
from qied.engine.disk.file import PAGE, Contents, PackedReader, PackedWriter, UnusablePackedFile
from qied.engine.disk.in_use import FilesInUse
from qied.engine.engine import Engine, EngineOptions
from qied.engine.transformer import transformer
from qied.planning.plan import Execution
from qied.planning.profiles.model_profile import ModelProfile
from qied.resources import builtin_model_folder
from tests.checkpoints.files import write_transformer
from tests.lost_power import Disk, watching

SHIPPED = pipeline_checkpoint(builtin_model_folder())
MIB = 1 << 20


@pytest.fixture
def cache(tmp_path: Path) -> DiskCache:
    return DiskCache(PACKED, tmp_path / "packed", 64 * MIB)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "t.safetensors"
    write_transformer(path)
    return path


class Loaded:
    """The blocks of a model that was loaded, and how many of them had to be packed."""

    def __init__(self, buffers: list[Tensor], packed: int, progress: list[tuple[str, int, int]]) -> None:
        self.buffers = buffers
        self.packed = packed
        self.progress = progress

    def same(self, other: Loaded) -> bool:
        return all(torch.equal(one, two) for one, two in zip(self.buffers, other.buffers, strict=True))


@pytest.fixture
def load(
    profile: ModelProfile, execution: Callable[..., Execution], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Loaded]:
    def run(file: Path, cache: DiskCache | None, **changes: object) -> Loaded:
        packed: list[int] = []
        progress: list[tuple[str, int, int]] = []
        original = transformer.pack_block
        monkeypatch.setattr(transformer, "pack_block", lambda *arguments: (packed.append(1), original(*arguments))[1])
        settings = {"precision": "fp8", "scaling": "rowwise", "compute": "bf16", **changes}
        options = EngineOptions(execution=execution(**settings), caches=DiskCaches(packed=cache))
        files = replace(SHIPPED, transformer=(str(file),))
        engine = Engine.load(files, profile, options, lambda *news: progress.append(news))
        monkeypatch.setattr(transformer, "pack_block", original)
        return Loaded(list(engine.models.transformer.blocks.buffers()), len(packed), progress)

    return run


def kept(cache: DiskCache) -> list[Path]:
    return sorted(cache.folder.glob("*.packed"))


def test_the_second_start_reads_what_the_first_one_made(
    file: Path, cache: DiskCache, load: Callable[..., Loaded]
) -> None:
    first, second = load(file, cache), load(file, cache)
    assert (first.packed, second.packed) == (6, 0)
    assert second.same(first) and second.same(load(file, None))
    assert len(kept(cache)) == 1
    for loaded in (first, second):
        done = [news[1] for news in loaded.progress]
        assert done == sorted(done) and loaded.progress[-1][1] == loaded.progress[-1][2]


def test_streamed_blocks_come_from_the_file_as_well(file: Path, cache: DiskCache, load: Callable[..., Loaded]) -> None:
    first = load(file, cache)
    second = load(file, cache, resident_blocks=2, ring_slots=2)
    assert second.packed == 0 and second.same(first)


@pytest.mark.parametrize(
    "changes",
    [{"precision": "fp8-storage"}, {"scaling": "tensorwise"}, {"precision": "fp8-storage", "compute": "fp32"}],
    ids=str,
)
def test_another_layout_is_another_file_and_what_lies_alike_is_shared(
    file: Path, cache: DiskCache, load: Callable[..., Loaded], changes: dict[str, str]
) -> None:
    load(file, cache)
    again = load(file, cache, **changes)
    alike = changes == {"precision": "fp8-storage"}
    assert (again.packed, len(kept(cache))) == ((0, 1) if alike else (6, 2))
    assert again.same(load(file, None, **changes))


@pytest.mark.parametrize(
    ("flavour", "precision"),
    [("fp8_plain", "fp8"), ("fp8_scaled", "fp8"), ("fp8_lightx2v", "fp8"), ("int8_convrot", "int8")],
)
def test_what_is_stored_as_it_is_wanted_needs_no_second_copy(
    tmp_path: Path, cache: DiskCache, load: Callable[..., Loaded], flavour: str, precision: str
) -> None:
    write_transformer(tmp_path / "t.safetensors", flavour)
    load(tmp_path / "t.safetensors", cache, precision=precision)
    assert not cache.folder.exists()


@pytest.mark.parametrize(("flavour", "precision"), [("fp8_lightx2v", "int8"), ("int8_convrot", "fp8")])
def test_what_is_quantised_otherwise_is_kept_once_it_was_made(
    tmp_path: Path, cache: DiskCache, load: Callable[..., Loaded], flavour: str, precision: str
) -> None:
    file = tmp_path / "t.safetensors"
    write_transformer(file, flavour)
    first, second = (load(file, cache, precision=precision) for _ in range(2))
    assert (first.packed, second.packed) == (6, 0)
    assert second.same(first)


def test_16_bits_are_not_kept(file: Path, cache: DiskCache, load: Callable[..., Loaded]) -> None:
    load(file, cache, precision="bf16", scaling=None)
    assert not cache.folder.exists()


def rewritten(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def moved_away_and_back(path: Path) -> None:
    """The same bytes and times in another file of the same name."""
    times = path.stat()
    copy = path.with_name("copy")
    copy.write_bytes(path.read_bytes())
    os.utime(copy, ns=(times.st_atime_ns, times.st_mtime_ns))
    copy.replace(path)


@pytest.mark.parametrize("change", [rewritten, Path.touch, moved_away_and_back])
def test_any_change_of_the_sources_makes_the_blocks_anew(
    file: Path, cache: DiskCache, load: Callable[..., Loaded], change: Callable[[Path], object]
) -> None:
    load(file, cache)
    change(file)
    again = load(file, cache)
    assert again.packed == 6
    assert again.same(load(file, None))
    assert load(file, cache).packed == 0


def test_another_version_of_packing_makes_the_blocks_anew(
    file: Path, cache: DiskCache, load: Callable[..., Loaded], monkeypatch: pytest.MonkeyPatch
) -> None:
    load(file, cache)
    monkeypatch.setattr(packed_cache, "PACKING", packed_cache.PACKING + 1)
    assert load(file, cache).packed == 6


@pytest.mark.parametrize("damage", ["cut", "longer", "header", "empty", "page of zeros", "flipped bit"])
def test_a_file_that_is_not_whole_is_made_anew(
    file: Path, cache: DiskCache, load: Callable[..., Loaded], damage: str
) -> None:
    first = load(file, cache)
    (path,) = kept(cache)
    content = path.read_bytes()
    path.write_bytes(
        {
            "cut": content[:-1],
            "longer": content + b"\0",
            "header": content[:30] + b"x" + content[31:],
            "empty": b"",
            "page of zeros": content[: 20 * PAGE] + bytes(PAGE) + content[21 * PAGE :],
            "flipped bit": content[: 20 * PAGE] + bytes([content[20 * PAGE] ^ 4]) + content[20 * PAGE + 1 :],
        }[damage]
    )
    again = load(file, cache)
    assert again.packed == 6 and again.same(first)
    assert path.read_bytes() == content


WRITE = """
import sys, torch
from pathlib import Path
from qied.engine.disk.cache import DiskCache
from qied.engine.block.packed import PACKED
from qied.engine.disk.file import Contents

buffers = [torch.full((9000,), number, dtype=torch.uint8) for number in (1, 2)]
cache = DiskCache(PACKED, Path(sys.argv[1]) / "packed", 1 << 20)
cache.fill(buffers, Contents({"made": "of"}, 2, 9000), lambda number, buffer: None, lambda _: None)
"""


def test_kept_blocks_outlive_a_loss_of_power_once_they_have_their_name(tmp_path: Path) -> None:
    root, log = tmp_path.resolve() / "root", tmp_path / "calls"
    (root / "packed").mkdir(parents=True)
    subprocess.run([*watching(log), sys.executable, "-c", WRITE, str(root)], check=True)
    # A folder of caches that was never synced is lost as a whole; it is the files in it that are looked at.
    disk = Disk.after(log, root / "packed")
    left = disk.leave(tmp_path / "left")
    assert disk.named_early == []
    found = [torch.empty(9000, dtype=torch.uint8) for _ in range(2)]
    cache = DiskCache(PACKED, left, 1 << 20)
    assert cache.read(Contents({"made": "of"}, 2, 9000), found, lambda _: None)
    assert [buffer.unique().tolist() for buffer in found] == [[1], [2]]


@pytest.mark.parametrize("place", [0, 4 * MIB - 1, 4 * MIB, 9 * MIB, 65 * MIB, 70 * MIB + 4])
@pytest.mark.parametrize("block", [0, 1])
def test_damage_anywhere_in_a_large_block_is_found(tmp_path: Path, place: int, block: int) -> None:
    contents, path = Contents({}, 2, 70 * MIB + 5), tmp_path / "x.packed"
    made = torch.arange(70 * MIB + 5, dtype=torch.int32).to(torch.uint8)
    writer = PackedWriter(path, contents)
    for _ in range(2):
        writer.add(made)
    writer.finish()
    with path.open("r+b") as file:
        file.seek(contents.place(block) + place)
        file.write(bytes([int(made[place]) ^ 1]))
    reader = PackedReader(path, contents)
    found = torch.empty_like(made)
    reader.read(1 - block, found)
    assert torch.equal(found, made)
    with pytest.raises(UnusablePackedFile):
        reader.read(block, found)
    reader.close()


def test_a_block_and_sums_that_are_all_zeros_are_not_taken_for_whole(tmp_path: Path) -> None:
    contents, path = Contents({}, 1, 10_000), tmp_path / "x.packed"
    path.write_bytes(contents.header().ljust(contents.nbytes, b"\0"))
    reader = PackedReader(path, contents)
    with pytest.raises(UnusablePackedFile):
        reader.read(0, torch.empty(10_000, dtype=torch.uint8))
    reader.close()


def test_the_least_recently_used_file_makes_way(tmp_path: Path, cache: DiskCache, load: Callable[..., Loaded]) -> None:
    paths = [tmp_path / f"{number}.safetensors" for number in range(3)]
    for path in paths:
        write_transformer(path)
    load(paths[0], cache)
    (first,) = kept(cache)
    limit = 2 * first.stat().st_size

    def packed(path: Path) -> int:
        """By a process of its own: what one uses does not make way as long as it runs."""
        return load(path, replace(cache, limit_bytes=limit, in_use=FilesInUse())).packed

    packed(paths[1])
    os.utime(first, ns=(1, 1))
    assert packed(paths[0]) == 0
    packed(paths[2])
    assert len(kept(cache)) == 2
    assert [packed(path) for path in (paths[0], paths[2])] == [0, 0]


def test_a_model_beyond_the_limit_is_not_kept(file: Path, cache: DiskCache, load: Callable[..., Loaded]) -> None:
    loaded = load(file, replace(cache, limit_bytes=1000))
    assert loaded.packed == 6 and not kept(cache)


def test_a_disk_that_is_nearly_full_is_left_alone(file: Path, cache: DiskCache, load: Callable[..., Loaded]) -> None:
    with structlog.testing.capture_logs() as logs:
        loaded = load(file, replace(cache, free_reserve_bytes=1 << 60))
    assert loaded.packed == 6 and not kept(cache)
    assert "too little space" in logs[0]["event"] and "storage.packed_bytes" in logs[0]["remedy"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own of 4 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "qied-test", disk], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("a file system can only be mounted by root")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


def test_a_disk_that_fills_up_while_blocks_are_written_costs_the_file_and_nothing_else(
    file: Path, small_disk: Path, load: Callable[..., Loaded], monkeypatch: pytest.MonkeyPatch
) -> None:
    # What the disk has is asked for first, and here it promises more than there is.
    monkeypatch.setattr(disk_cache.shutil, "disk_usage", lambda _: SimpleNamespace(free=1 << 40))
    for sparse in (False, True):
        if sparse:
            monkeypatch.delattr(os, "posix_fallocate")
        cache = DiskCache(PACKED, small_disk / "packed", 64 * MIB)
        with structlog.testing.capture_logs() as logs:
            loaded = load(file, cache)
        assert loaded.packed == 6 and loaded.same(load(file, None))
        assert [log["reason"] for log in logs] == ["No space left on device"]
        assert [path.name for path in cache.folder.iterdir()] == ["lock"]


def _write_for_ever(folder: Path, ready: Any) -> None:
    """Begin a file of packed blocks as a worker would, and stay in the middle of it."""
    cache = DiskCache(PACKED, folder, 64 * MIB)
    contents = Contents({"made": "of"}, 4, 3 * PAGE + 1)
    buffers = [torch.zeros(contents.block_bytes, dtype=torch.uint8) for _ in range(4)]

    def pack(number: int, buffer: Tensor) -> None:
        if number == 2:
            ready.send(True)
            signal.pause()

    cache.fill(buffers, contents, pack, lambda _: None)


@pytest.fixture
def writer(cache: DiskCache) -> Iterator[multiprocessing.process.BaseProcess]:
    """Another process that holds the lock with half a file written."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_write_for_ever, args=(cache.folder, there), daemon=True)
    process.start()
    assert here.recv()
    yield process
    process.kill()
    process.join()


def test_what_a_killed_process_began_is_never_read_and_goes_away(
    file: Path, cache: DiskCache, writer: multiprocessing.process.BaseProcess, load: Callable[..., Loaded]
) -> None:
    assert len(list(cache.folder.glob("*.writing"))) == 1
    writer.kill()
    writer.join()
    assert load(file, cache).packed == 6
    assert not list(cache.folder.glob("*.writing")) and len(kept(cache)) == 1
    assert load(file, cache).packed == 0


def test_two_processes_at_once_both_load_and_one_of_them_writes(
    file: Path, cache: DiskCache, writer: multiprocessing.process.BaseProcess, load: Callable[..., Loaded]
) -> None:
    assert load(file, cache).packed == 6
    assert not kept(cache)
    assert len(list(cache.folder.glob("*.writing"))) == 1
    assert writer.is_alive()


def test_blocks_that_a_reader_has_open_survive_that_their_file_makes_way(tmp_path: Path) -> None:
    contents = Contents({}, 1, 10)
    writer = PackedWriter(tmp_path / "a.packed", contents)
    writer.add(torch.arange(10, dtype=torch.uint8))
    writer.finish()
    reader = PackedReader(tmp_path / "a.packed", contents)
    (tmp_path / "a.packed").unlink()
    found = torch.zeros(10, dtype=torch.uint8)
    reader.read(0, found)
    reader.close()
    assert found.tolist() == list(range(10))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(blocks=st.integers(0, 4), block_bytes=st.integers(1, 3 * PAGE), seed=st.integers(0, 9), cut=st.integers(1, 9999))
def test_a_file_gives_back_what_was_put_in_and_no_part_of_it_is_taken_for_the_whole(
    tmp_path: Path, blocks: int, block_bytes: int, seed: int, cut: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    made = [torch.randint(256, (block_bytes,), generator=generator, dtype=torch.uint8) for _ in range(blocks)]
    contents = Contents({"seed": seed}, blocks, block_bytes)
    path = tmp_path / "x.packed"
    writer = PackedWriter(path, contents)
    for block in made:
        writer.add(block)
    writer.finish()
    reader = PackedReader(path, contents)
    for number, block in enumerate(made):
        found = torch.empty_like(block)
        reader.read(number, found)
        assert torch.equal(found, block)
    reader.close()
    assert path.stat().st_size == contents.nbytes
    for other in (replace(contents, made_of={}), replace(contents, blocks=blocks + 1)):
        with pytest.raises(UnusablePackedFile):
            PackedReader(path, other)
    os.truncate(path, max(0, contents.nbytes - cut))
    with pytest.raises(UnusablePackedFile):
        PackedReader(path, contents)
