from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qied.engine.copying.host_memory import HostBuffer
from qied.engine.transformer.residency import Blocks, resident_blocks
from qied.planning.layout.block_layout import BlockShape, block_layout
from qied.planning.plan import Execution

LAYOUT = block_layout(BlockShape(64, 128, 32), "fp8", "rowwise", "bf16")


def numbered(execution: Execution) -> Blocks:
    """Blocks whose every byte is their number."""
    blocks = Blocks(LAYOUT, execution, torch.device("cpu"))
    for index, buffer in enumerate(blocks.buffers()):
        buffer.fill_(index)
    return blocks


def numbers(blocks: Blocks) -> list[int]:
    with blocks.sweep() as weights:
        return [int(block.image.qkv.weight.view(torch.uint8)[0, 0]) for block in weights]


@given(st.integers(1, 100).flatmap(lambda total: st.tuples(st.just(total), st.integers(0, total))))
def test_resident_blocks_are_as_many_as_asked_and_spread_evenly(sizes: tuple[int, int]) -> None:
    total, resident = sizes
    kept = sorted(resident_blocks(total, resident))
    assert len(kept) == resident
    for window in (total // 4, total // 2):
        counts = [sum(start <= block < start + window for block in kept) for start in range(total - window + 1)]
        assert max(counts) - min(counts) <= 1


@pytest.mark.parametrize(("resident", "slots"), [(6, 0), (5, 2), (3, 2), (2, 3), (0, 1), (0, 4), (0, 9)])
def test_a_sweep_visits_every_block_in_order_time_after_time(
    execution: Callable[..., Execution], resident: int, slots: int
) -> None:
    blocks = numbered(execution(resident_blocks=resident, ring_slots=slots))
    assert [numbers(blocks) for _ in range(3)] == [list(range(6))] * 3


class Pinned(HostBuffer):
    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        self.pinned = True


def test_the_next_sweeps_first_blocks_are_copied_ahead(
    execution: Callable[..., Execution], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qied.engine.copying.host_memory.HostBuffer", Pinned)
    blocks = numbered(execution(resident_blocks=0, ring_slots=2))
    numbers(blocks)
    for buffer in list(blocks.buffers())[:2]:
        buffer.fill_(77)
    assert numbers(blocks) == [0, 1, 2, 3, 4, 5]
    assert numbers(blocks)[:2] == [77, 77]


@pytest.mark.parametrize(
    ("buffer", "slots", "expected"),
    [
        (HostBuffer, 2, ["load 0", "visit 0", "load 1", "visit 1", "load 2", "visit 2", "load 0"]),
        (HostBuffer, 1, ["load 0", "visit 0", "load 1", "visit 1", "load 2", "visit 2", "load 0"]),
        (Pinned, 2, ["load 0", "load 1", "visit 0", "load 2", "visit 1", "load 0", "visit 2", "load 1"]),
    ],
    ids=["pageable", "pageable in one slot", "pinned"],
)
def test_pageable_memory_is_copied_while_a_block_is_under_way_and_pinned_memory_as_early_as_possible(
    execution: Callable[..., Execution],
    monkeypatch: pytest.MonkeyPatch,
    buffer: type[HostBuffer],
    slots: int,
    expected: list[str],
) -> None:
    monkeypatch.setattr("qied.engine.copying.host_memory.HostBuffer", buffer)
    blocks = numbered(execution(total_blocks=3, resident_blocks=0, ring_slots=slots))
    ring, log = blocks.ring, []
    load, done = ring.load, ring.done
    monkeypatch.setattr(ring, "load", lambda host: log.append(f"load {int(host[0])}") or load(host))
    monkeypatch.setattr(ring, "done", lambda ticket: log.append("done") or done(ticket))
    with blocks.sweep() as weights:
        for block in weights:
            log.append(f"visit {int(block.image.qkv.weight.view(torch.uint8)[0, 0])}")
    assert [line for line in log if line != "done"] == expected
    overlapped = [line for line, after in pairwise(log) if after == "done" and "load" in line]
    assert bool(overlapped) == (buffer is HostBuffer and slots == 2)


@pytest.mark.parametrize("visited", [0, 1, 2, 5])
def test_a_sweep_that_was_left_early_leaves_the_next_one_whole(
    execution: Callable[..., Execution], visited: int
) -> None:
    blocks = numbered(execution(resident_blocks=2, ring_slots=2))
    with blocks.sweep() as weights:
        for _ in range(visited):
            next(weights)
    assert numbers(blocks) == list(range(6))
    with pytest.raises(ValueError, match="broken"), blocks.sweep() as weights:
        for _ in range(visited + 1):
            next(weights)
        raise ValueError("broken")
    assert numbers(blocks) == list(range(6))


def test_streamed_blocks_without_a_ring_are_a_mistake(execution: Callable[..., Execution]) -> None:
    with pytest.raises(AssertionError, match="ring"):
        Blocks(LAYOUT, execution(resident_blocks=5, ring_slots=0), torch.device("cpu"))


def test_a_ring_has_no_more_slots_than_there_are_streamed_blocks(execution: Callable[..., Execution]) -> None:
    blocks = Blocks(LAYOUT, execution(resident_blocks=5, ring_slots=4), torch.device("cpu"))
    assert (blocks.device_bytes, blocks.host_bytes) == (6 * LAYOUT.nbytes, LAYOUT.nbytes)
