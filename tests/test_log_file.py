"""The log on disk: bounded, private, and no failure of the disk reaches who logs."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from qied.log_file import LogFile, newest_lines


def write(path: Path, lines: list[str], **bounds: int) -> None:
    log = LogFile(path, **bounds)
    for line in lines:
        log.add(line)
    log.close()


def test_the_newest_lines_are_kept_within_the_bounds(tmp_path):
    path = tmp_path / "log" / "daemon.jsonl"
    lines = [json.dumps({"number": number}) for number in range(900)]
    write(path, lines, file_bytes=1_000, files=3)
    sizes = [file.stat().st_size for file in path.parent.iterdir()]
    assert len(sizes) == 3 and max(sizes) <= 1_000
    kept = newest_lines(path, 10_000)
    assert len(kept) > 100 and kept == lines[-len(kept) :]
    assert newest_lines(path, 7) == lines[-7:]


@pytest.mark.skipif(os.name != "posix", reason="modes of files")
def test_nobody_else_can_read_it(tmp_path):
    path = tmp_path / "log" / "daemon.jsonl"
    write(path, ["{}"])
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_a_place_that_cannot_be_written_to_costs_lines_until_it_can(tmp_path, capfd):
    folder = tmp_path / "log"
    folder.write_text("in the way")
    log = LogFile(folder / "daemon.jsonl")
    log.add("lost")
    while log.waiting:
        threading.Event().wait(0.005)
    folder.unlink()
    log.add("kept")
    log.close()
    assert newest_lines(folder / "daemon.jsonl", 10)[-1:] == ["kept"]
    assert capfd.readouterr() == ("", "")


def test_a_log_that_is_not_there_has_no_lines(tmp_path):
    assert newest_lines(tmp_path / "daemon.jsonl", 10) == []
