"""A watched folder: files that are still written wait, and each is given once."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from qied_client.batch.watch import Watch, is_whole
from qied_client.errors import InvalidRequest


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def watch(tmp_path: Path, clock: Clock) -> Watch:
    (tmp_path / "in").mkdir()
    return Watch(tmp_path / "in", threading.Event(), clock=clock)


def names(watch: Watch, clock: Clock, after: float = 2.0) -> list[str]:
    clock.now += after
    return [path.name for path in watch.look()]


def test_a_picture_is_given_once_when_it_has_been_quiet(
    tmp_path: Path, picture: bytes, watch: Watch, clock: Clock
) -> None:
    (tmp_path / "in" / "a.png").write_bytes(picture)
    assert names(watch, clock) == []
    assert names(watch, clock, 1.0) == []
    assert names(watch, clock, 1.0) == ["a.png"]
    assert names(watch, clock, 100.0) == []


def test_a_file_that_grows_waits_and_so_does_one_that_cannot_be_decoded_yet(
    tmp_path: Path, picture: bytes, watch: Watch, clock: Clock
) -> None:
    file = tmp_path / "in" / "a.png"
    for length in (0, 10, len(picture) // 2):
        file.write_bytes(picture[:length])
        assert names(watch, clock, 5.0) == []
    assert names(watch, clock, 5.0) == [], "it is quiet, but half a picture"
    file.write_bytes(picture)
    assert names(watch, clock) == []
    assert names(watch, clock) == ["a.png"]


def test_one_that_stays_broken_is_handed_in_to_fail_with_its_reason(
    tmp_path: Path, picture: bytes, watch: Watch, clock: Clock
) -> None:
    (tmp_path / "in" / "a.png").write_bytes(picture[: len(picture) // 2])
    names(watch, clock)
    assert names(watch, clock, 59.0) == []
    assert names(watch, clock, 2.0) == ["a.png"]


def test_what_is_hidden_or_no_picture_is_left_and_what_is_replaced_comes_again(
    tmp_path: Path, picture: bytes, watch: Watch, clock: Clock
) -> None:
    for name in ("a.png", ".b.png", "c.txt", "d.png.part"):
        (tmp_path / "in" / name).write_bytes(picture)
    names(watch, clock)
    assert names(watch, clock) == ["a.png"]
    os.utime(tmp_path / "in" / "a.png", (1, 1))
    names(watch, clock)
    assert names(watch, clock) == ["a.png"]


def test_the_end_comes_with_the_event_and_a_folder_must_be_there(tmp_path: Path) -> None:
    stop = threading.Event()
    stop.set()
    assert list(Watch(tmp_path, stop)) == []
    with pytest.raises(InvalidRequest, match="not a folder"):
        Watch(tmp_path / "nowhere", stop)
    assert not is_whole(tmp_path / "nowhere")
