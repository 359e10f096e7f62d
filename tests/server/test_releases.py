"""Of released jobs the ids are remembered, so that a late SUBMIT does not run them again."""

from __future__ import annotations

import pytest

from qied.scheduling.model import JobKey
from qied.server.releases import ReleasedJobs


def test_of_released_jobs_the_newest_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qied.server.releases._TOMBSTONES_PER_USER", 2)
    keys = [JobKey("ann", name) for name in ("one", "two", "three")]
    released = ReleasedJobs((key, "hash") for key in keys[:2])
    assert released.gives_way("ann") == keys[0]
    released.add(keys[2], "hash")
    assert [key in released for key in keys] == [False, True, True]
    released.forget(keys)
    assert released.gives_way("ann") is None
    assert released.get(keys[2]) is None
