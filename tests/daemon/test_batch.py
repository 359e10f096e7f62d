"""Batches through a real daemon: kills of client and daemon, many rows, and a person's edits next to them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest
from PIL import Image
from qied_client.batch.state import BatchState
from qied_client.picture_metadata import read_metadata

from tests.lost_power import Disk, watching

PICTURES = 8
ROWS = 5_000


@pytest.fixture
def shop(tmp_path, make_picture):
    """A folder of pictures with masks."""
    for folder in ("in", "masks"):
        (tmp_path / folder).mkdir()
    for number in range(PICTURES):
        (tmp_path / "in" / f"p{number}.png").write_bytes(make_picture(64, 48, (30 * number, 9, 7)))
        (tmp_path / "masks" / f"p{number}.png").write_bytes(make_picture(64, 48, (255, 255, 255)))
    return tmp_path


def start_batch(daemon, shop, prompt, *options, out="out", watcher=()):
    program = "from qied_client.cli.main import main; main()"
    command = [sys.executable, "-c", program, "batch", "in", prompt, "--key", str(daemon.key)]
    names = ("-o", f"{out}/{{stem}}.png", "-o", f"{out}/{{stem}}.webp", "--mask", "masks/{stem}.png", "--steps", "2")
    return subprocess.Popen([*watcher, *command, *names, *options], cwd=shop, stderr=subprocess.PIPE, text=True)


def said_by(batch):
    """What a batch said until its end, which was a good one."""
    said = batch.communicate(timeout=100)[1]
    assert batch.returncode == 0, said
    return said


def outcomes(daemon):
    """Jobs of batches that ended, by their outcome, as the daemon knows them."""
    with daemon.client(patience=60.0) as client:
        return Counter(job.state for job in client.jobs(limit=None))


def test_kills_of_client_and_daemon_lose_nothing_and_run_nothing_twice(daemon, shop):
    gate = shop / "gate"
    prompt = f"gate={gate} night"
    first = start_batch(daemon, shop, prompt)
    daemon.wait_for("started")
    first.send_signal(signal.SIGKILL)
    first.communicate()
    second = start_batch(daemon, shop, prompt)
    assert second.stderr.readline().startswith("8 edits of 8 rows")
    daemon.kill()
    daemon.start()
    gate.touch()
    assert "8 made" in said_by(second)
    assert "0 made, 8 done before" in said_by(start_batch(daemon, shop, prompt))
    files = {path.name for path in (shop / "out").iterdir() if path.suffix in (".png", ".webp")}
    assert files == {f"p{number}.{kind}" for number in range(PICTURES) for kind in ("png", "webp")}
    for name in files:
        with Image.open(shop / "out" / name) as image:
            image.load()
    assert outcomes(daemon) == {"succeeded": PICTURES}, "one job for each picture, and none twice"
    report = json.loads((shop / "out" / "report.json").read_text())
    assert (report["skipped"], len({row["job"] for row in report["edits"]})) == (PICTURES, PICTURES)


def test_what_a_batch_calls_done_outlives_a_loss_of_power(daemon, shop):
    for number in range(2, PICTURES):
        (shop / "in" / f"p{number}.png").unlink()
    root, log = (shop / "out").resolve(), shop / "calls"
    root.mkdir()
    said_by(start_batch(daemon, shop, "night", out=root, watcher=watching(log)))
    left = Disk.after(log, root).leave(shop / "left")
    names = sorted(path.name for path in root.glob("p*"))
    assert len(names) == 4 and sorted(path.name for path in left.glob("p*")) == names
    assert all((left / name).read_bytes() == (root / name).read_bytes() for name in names)
    with BatchState(left / ".qied-batch.db") as state:
        assert sorted(name for facts in state.of_all_runs() for name in facts["files"]) == [
            str(root / name) for name in names
        ]


def test_a_persons_edit_goes_before_a_batch_that_holds_its_places(start_daemon, shop):
    daemon = start_daemon(QIED_WORKER_MAX_ACTIVE="1")
    gate = shop / "gate"
    running = start_batch(daemon, shop, f"gate={gate} night")
    daemon.wait_for("started")
    with daemon.client() as client:
        mine = client.submit(shop / "in/p0.png", "mine", steps=1)
        gate.touch()
        assert mine.result(timeout=30).steps == 1
        states = {job.id: job.state for job in client.jobs(limit=None)}
        assert sum(state == "succeeded" for state in states.values()) < PICTURES
    assert "8 made" in said_by(running)


def test_a_watched_folder_gives_pictures_of_one_name_files_of_their_own(daemon, shop, make_picture):
    """Each picture is taken once it has been quiet for two seconds."""
    for left in (shop / "in").iterdir():
        left.unlink()
    colours = {"a.png": (200, 0, 0), "a.webp": (0, 0, 200)}

    def watch():
        program = "from qied_client.cli.main import main; main()"
        words = ("in", "night", "--watch", "-o", "out/{stem}.png", "--steps", "1", "--no-contact-sheet")
        command = [sys.executable, "-c", program, "batch", *words, "--key", str(daemon.key)]
        return subprocess.Popen(command, cwd=shop, stderr=subprocess.PIPE, text=True)

    def ended(watching):
        watching.send_signal(signal.SIGINT)
        said = watching.communicate(timeout=60)[1]
        assert watching.returncode == 0, said
        return said

    def noted_as_done(name):
        """The state is locked while the batch runs, but its bytes can be read."""
        return lambda: f'"files": ["out/{name}"]'.encode() in (shop / "out" / ".qied-batch.db").read_bytes()

    (shop / "in" / "a.png").write_bytes(make_picture(64, 48, colours["a.png"]))
    watching = watch()
    daemon.wait_for("finished")
    Image.new("RGB", (64, 48), colours["a.webp"]).save(shop / "in" / "a.webp", lossless=True)
    daemon.wait_for("finished")
    wait_until(noted_as_done("a-webp.png"))
    ended(watching)
    sources = {name: read_metadata(shop / "out" / name).sources for name in ("a.png", "a-webp.png")}
    made = {path.name: path.stat().st_mtime_ns for path in (shop / "out").glob("*.png")}
    assert set(made) == {"a.png", "a-webp.png"} and sources["a.png"] != sources["a-webp.png"]
    (shop / "in" / "b.png").write_bytes(make_picture(64, 48, (0, 99, 0)))
    again = watch()
    daemon.wait_for("finished")
    wait_until(noted_as_done("b.png"))
    assert "2 done before" in ended(again)
    assert {name: (shop / "out" / name).stat().st_mtime_ns for name in made} == made, "nothing was written over"


def wait_until(condition):
    """Wait for what another process writes after the daemon has told all that it tells."""
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it did not come")


_MANY = """
import resource, sys
from qied_client.batch.assembly import Batch
from qied_client.batch.names import Names

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

batch = Batch([sys.argv[1]], "", Names(["out/{index}.png"]), {}, 1)
before = peak()
found = batch.check()
edits = sum(1 for _ in batch.edits("b"))
print(found.edits, edits, peak() - before)
"""


def test_thousands_of_rows_take_little_memory(shop):
    rows = "".join(f"in/p{number % PICTURES}.png,masks/p{number % PICTURES}.png,x,{number}\n" for number in range(ROWS))
    (shop / "rows.csv").write_text(f"picture,mask,prompt,seed\n{rows}")
    command = [sys.executable, "-c", _MANY, "rows.csv"]
    done = subprocess.run(command, cwd=shop, stdout=subprocess.PIPE, text=True, check=True, env=os.environ)
    found, edits, grown_kb = map(int, done.stdout.split())
    assert (found, edits) == (ROWS, ROWS)
    assert grown_kb < ROWS, "less than a kilobyte each"
