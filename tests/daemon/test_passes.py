"""Jobs of several passes: cancelled within one, and begun anew where the daemon is killed within the second."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from qied_client.errors import JobCancelled

BOXES = ((0, 0, 24, 48), (32, 8, 16, 24))
PASSES = [{"box": box, "strength": 1.0} for box in BOXES]
OPTIONS = {"seed": 5, "steps": 3, "redraw": PASSES}


@pytest.fixture
def later(tmp_path):
    return tmp_path / "later"


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


def within_its_pass(job, decoded: int):
    """Wait until a step of a pass is done, after so many pictures that were decoded; the engine then waits."""
    for event in job.events():
        decoded -= event.phase == "decode"
        if event.phase == "redraw" and decoded == 0:
            return job
    raise AssertionError("it ended before")


def test_a_job_stops_within_a_pass_and_leaves_nothing_behind(shared_daemon, make_picture, later):
    canvas = make_picture(64, 48, (1, 2, 3))
    with shared_daemon.client() as client:
        client.edit(canvas, "x", steps=1)
        (worker,) = client.status().workers
        job = within_its_pass(client.submit(canvas, f"later={later}", canvas=canvas, **OPTIONS), 0)
        assert job.cancel() == "cancelled"
        later.touch()
        with pytest.raises(JobCancelled):
            job.result()
        client.edit(canvas, "x", canvas=canvas, **OPTIONS)
        assert client.status().workers[0].free == worker.free


def test_a_job_killed_within_its_second_pass_is_done_once_and_as_if_nothing_had_been(start_daemon, make_picture, later):
    source = make_picture(64, 48, (10, 20, 30))
    daemon = start_daemon()
    with daemon.client(patience=60.0) as client:
        prompt = f"later={later}"
        job = within_its_pass(client.submit(source, prompt, size="same", **OPTIONS), 1)
        daemon.kill()
        later.touch()
        daemon.start()
        result = job.result()
        again = client.edit(source, prompt, size="same", **OPTIONS)
        kept = client.jobs()
    assert (pixels(result.bytes) == pixels(again.bytes)).all()
    assert [row.id for row in kept if row.id == job.id] == [job.id]
    assert [line["event"] for line in daemon.log if line.get("job") == job.id].count("finished") == 1
