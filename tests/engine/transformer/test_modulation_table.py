"""A table in the host's memory, and the rows of an edit's steps, each on its way before it is needed."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch

from qied.engine.copying import host_memory
from qied.engine.copying.host_memory import HostBuffer
from qied.engine.transformer.modulation_table import ModulationTable, StepModulation, StepRows, TableShape
from tests.engine.recorded_streams import Recorded

CPU = torch.device("cpu")
SHAPE = TableShape(steps=4, layers=3, inner=8, dtype=torch.bfloat16)
LOADS = [["copies wait for e1", "copy", "copies reach e0"], ["copies wait for e3", "copy", "copies reach e2"]]
USES = [["computation waits for e0"], ["computation waits for e2"]]
DONES = [
    ["computation waits for e0", "computation reaches e1"],
    ["computation waits for e2", "computation reaches e3"],
]


@pytest.fixture
def table() -> ModulationTable:
    """Every number of step n is n + 1 for the target, n + 11 for the text, n + 21 at the end; the reference is 50."""
    made = ModulationTable(SHAPE, HostBuffer(SHAPE.nbytes, CPU, pin=False))
    for step in range(SHAPE.steps):
        made.steps[step, :, 0], made.steps[step, :, 1], made.out[step] = step + 1, step + 11, step + 21
    made.reference.fill_(50)
    return made


def step_of(rows: StepModulation) -> int:
    """The step that all of the rows are of, and that they are of the right shapes and types."""
    number = int(rows.target[0, 0, 0]) - 1
    for part, value in ((rows.target, 1), (rows.text, 11), (rows.reference, 50 - number)):
        assert part.shape == (3, 6, 8) and part.dtype == torch.bfloat16
        assert bool((part == number + value).all())
    assert rows.out.shape == (2, 8) and bool((rows.out == number + 21).all())
    return number


def test_all_of_a_step_lies_together_and_nothing_lies_between(table: ModulationTable) -> None:
    assert table.nbytes == SHAPE.nbytes == 2 * (4 * (3 * 12 + 2) * 8 + 3 * 6 * 8)
    assert [len(table.step_bytes(step)) for step in range(4)] == [2 * 38 * 8] * 4
    held = torch.cat([*(table.step_bytes(step) for step in range(4)), table.reference.flatten().view(torch.uint8)])
    assert torch.equal(held, table.bytes)


def test_steps_come_in_order_and_in_any_other(table: ModulationTable) -> None:
    order = [0, 1, 2, 3, 3, 0, 2, 1, 1, 2, 0, 3]
    rows = StepRows(table, CPU)
    assert [step_of(rows.step(step)) for step in order] == order


def test_target_and_text_lie_in_one_contiguous_piece(table: ModulationTable) -> None:
    rows = StepRows(table, CPU).step(2)
    whole = rows.target.as_strided((3, 2, 6, 8), (96, 48, 8, 1), rows.target.storage_offset())
    assert torch.equal(whole[:, 0], rows.target) and torch.equal(whole[:, 1], rows.text)
    assert rows.target.stride() == rows.text.stride() == (96, 8, 1)
    assert rows.text.data_ptr() == rows.target.data_ptr() + 48 * 2


def test_the_next_step_is_under_way_before_this_one_is_waited_for(table: ModulationTable) -> None:
    streams = Recorded()
    rows = StepRows(table, CPU, streams)
    expected = [[*LOADS[0], *LOADS[1], *USES[0]], [*DONES[0], *LOADS[0], *USES[1]], [*DONES[1], *LOADS[1], *USES[0]]]
    for step, log in enumerate([*expected, [*DONES[0], *USES[1]]]):
        streams.log.clear()
        assert step_of(rows.step(step)) == step
        assert streams.log == log, step


def test_the_next_steps_rows_are_there_while_a_step_runs(table: ModulationTable) -> None:
    rows = StepRows(table, CPU)
    rows.step(0)
    table.step_bytes(1).zero_()
    assert step_of(rows.step(1)) == 1, "it was copied when step 0 was taken"


def test_the_reference_is_brought_once(table: ModulationTable) -> None:
    rows = StepRows(table, CPU)
    assert rows.step(0).reference.data_ptr() == rows.step(3).reference.data_ptr()
    assert rows.nbytes == 2 * len(table.step_bytes(0)) + 2 * 3 * 6 * 8


@pytest.mark.parametrize("taken", [0, 1, 4])
def test_rows_that_are_dropped_give_their_memory_back_behind_the_copies(table: ModulationTable, taken: int) -> None:
    streams = Recorded()
    rows = StepRows(table, CPU, streams)
    for step in range(taken):
        rows.step(step)
    streams.log.clear()
    del rows
    waits = {0: [], 1: [*DONES[0], *DONES[1]], 4: DONES[1]}
    assert streams.log == waits[taken]


def test_memory_is_unpinned_when_the_last_edit_with_its_table_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(host_memory, "_register", lambda *_: told.append("pinned") or True)
    monkeypatch.setattr(host_memory, "_unregister", lambda *_: told.append("unpinned"))
    table = ModulationTable(SHAPE, HostBuffer(SHAPE.nbytes, torch.device("cuda"), pin=True))
    alive = weakref.ref(table)
    rows = StepRows(table, CPU)
    del table
    gc.collect()
    assert alive() is not None and told == ["pinned"]
    del rows
    assert alive() is None and told == ["pinned", "unpinned"]
