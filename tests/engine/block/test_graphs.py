"""What is recorded when, and what happens where it cannot be; the recording itself needs a card (tests/gpu)."""

from collections.abc import Callable

import pytest
import torch

from qied.engine.block import graphs as block_graphs
from qied.engine.block.graphs import BlockGraphs, Direct


class Tape:
    """Stands in for the card: a record is a launch that notes that it was replayed."""

    def __init__(self) -> None:
        self.news: list[str] = []
        self.refusal: RuntimeError | None = None
        self.room_helps = False

    def record(self, launch: Callable[[], None]) -> Callable[[], None]:
        if self.refusal is not None:
            raise self.refusal
        self.news.append("record")
        return lambda: self.news.append("replay")

    def make_room(self) -> None:
        self.news.append("make room")
        if self.room_helps:
            self.refusal = None

    def forget(self) -> None:
        self.news.append("forget")


@pytest.fixture
def tape() -> Tape:
    return Tape()


def launch_of(tape: Tape) -> Callable[[], None]:
    return lambda: tape.news.append("launch")


def test_a_launch_runs_as_it_is_first_and_is_recorded_and_replayed_from_then_on(tape: Tape) -> None:
    graphs = BlockGraphs(tape)
    for _ in range(3):
        graphs.run("block", launch_of(tape))
    assert tape.news == ["launch", "record", "replay", "replay"]


def test_other_addresses_or_shapes_are_another_launch(tape: Tape) -> None:
    graphs = BlockGraphs(tape)
    for key in ("one", "two", "one", "two"):
        graphs.run(key, launch_of(tape))
    assert tape.news == ["launch", "launch", "record", "replay", "record", "replay"]


def test_records_that_were_not_used_lately_make_way(tape: Tape) -> None:
    graphs = BlockGraphs(tape, limit=2)
    for key in ("one", "one", "two", "two", "one", "three", "three"):
        graphs.run(key, launch_of(tape))
    assert len(graphs) == 2
    tape.news.clear()
    graphs.run("one", launch_of(tape))
    graphs.run("two", launch_of(tape))
    assert tape.news == ["replay", "launch"]


def test_what_cannot_be_recorded_runs_as_it_is_every_time_and_is_not_tried_again(tape: Tape) -> None:
    graphs = BlockGraphs(tape)
    tape.refusal = RuntimeError("operation not permitted when stream is capturing")
    for _ in range(3):
        graphs.run("block", launch_of(tape))
    tape.refusal = None
    graphs.run("block", launch_of(tape))
    assert tape.news == ["launch"] * 4 and len(graphs) == 0


def test_where_memory_runs_out_room_is_made_once(tape: Tape) -> None:
    graphs = BlockGraphs(tape)
    tape.refusal, tape.room_helps = torch.OutOfMemoryError("CUDA out of memory"), True
    for _ in range(3):
        graphs.run("block", launch_of(tape))
    assert tape.news == ["launch", "make room", "record", "replay", "replay"]


def test_where_room_does_not_help_all_records_give_theirs_back_and_none_is_made_any_more(tape: Tape) -> None:
    graphs = BlockGraphs(tape)
    for key in ("one", "one", "two"):
        graphs.run(key, launch_of(tape))
    tape.news.clear()
    tape.refusal = torch.OutOfMemoryError("CUDA out of memory")
    graphs.run("two", launch_of(tape))
    assert tape.news == ["make room", "forget", "launch"] and len(graphs) == 0
    tape.refusal = None
    for key in ("one", "two", "two"):
        graphs.run(key, launch_of(tape))
    assert tape.news == ["make room", "forget"] + ["launch"] * 4


def test_what_is_remembered_of_launches_has_a_limit(tape: Tape, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_graphs, "_REMEMBERED", 3)
    graphs = BlockGraphs(tape)
    for key in range(10):
        graphs.run(key, launch_of(tape))
    assert len(graphs._tried) == 3


def test_without_graphs_every_launch_runs_as_it_comes(tape: Tape) -> None:
    for _ in range(2):
        Direct().run("block", launch_of(tape))
    assert tape.news == ["launch", "launch"]
