"""What a person can do about an edit whose program did not get the picture: its job is named, and taken up again."""

from __future__ import annotations

import json
import re
import resource
import signal
import subprocess
import sys
from functools import partial

import pytest
from qied_client.errors import DaemonUnreachable


def command(*words, **run):
    return subprocess.run(
        [sys.executable, "-m", "qied", *words], capture_output=True, text=True, check=False, timeout=120, **run
    )


def edit(key, picture, out, *options, **run):
    return command("edit", picture, "hello", "-o", out, "--key", key, "--steps", "2", *options, **run)


@pytest.fixture
def picture_file(picture, tmp_path):
    path = tmp_path / "in.png"
    path.write_bytes(picture)
    return path


def test_a_picture_that_cannot_be_saved_is_had_by_the_command_that_is_named(daemon, picture_file, tmp_path):
    no_files = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (64, 64))
    failed = edit(daemon.key, picture_file, tmp_path / "out.png", preexec_fn=no_files)
    assert failed.returncode == 2 and "File too large" in failed.stderr
    job = re.search(rf"qied result (job-\w+) -o {tmp_path / 'out.png'}", failed.stderr)
    assert job is not None
    again = command("result", job[1], "-o", tmp_path / "new.png", "--key", daemon.key)
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "new.png").stat().st_size > 0
    assert len([line for line in daemon.log if line.get("event") == "started"]) == 1


def test_an_edit_that_loses_the_daemon_names_its_job(daemon, picture, tmp_path):
    gate = tmp_path / "gate"
    with daemon.client(patience=0.5) as client:
        accepted = []

        def end_the_daemon(news):
            if news.kind == "started" and not accepted:
                accepted.append(news)
                daemon.process.send_signal(signal.SIGKILL)

        with pytest.raises(DaemonUnreachable, match=r"keeps its picture") as raised:
            client.edit(picture, f"gate={gate}", steps=2, width=64, height=48, on_progress=end_the_daemon)
    assert re.fullmatch(r"job-\w+", str(raised.value.details["job"]))
    assert f"client.job('{raised.value.details['job']}').result()" in raised.value.remedy


def test_an_edit_stays_to_be_listed_and_had_again_until_it_is_released(daemon, picture_file, tmp_path):
    first, again, later = (tmp_path / name for name in ("a.png", "b.png", "c.png"))
    assert edit(daemon.key, picture_file, first, "--job", "mine").returncode == 0
    repeated = edit(daemon.key, picture_file, again, "--job", "mine")
    assert repeated.returncode == 0, repeated.stderr
    listed = command("jobs", "--json", "--key", daemon.key)
    (row,) = json.loads(listed.stdout)
    assert (row["id"], row["state"], row["prompt"]) == ("mine", "succeeded", "hello")
    assert row["fetched"] is True, "said by the client, which kept it nevertheless"
    assert command("result", "mine", "-o", later, "--key", daemon.key).returncode == 0
    assert first.read_bytes() == again.read_bytes() == later.read_bytes()
    assert len([line for line in daemon.log if line.get("event") == "started"]) == 1
    released = command("release", "mine", "--key", daemon.key)
    assert (released.returncode, released.stdout) == (0, "mine: released\n")
    assert command("result", "mine", "-o", later, "--key", daemon.key).returncode == 1
    assert json.loads(command("jobs", "--json", "--key", daemon.key).stdout) == []


def test_a_size_above_the_cap_is_told_with_the_flag_that_helps(daemon, picture_file, tmp_path):
    refused = edit(daemon.key, picture_file, tmp_path / "a.png", "--width", "8192", "--height", "4096")
    assert refused.returncode == 2
    assert refused.stderr.splitlines()[1].endswith(", or let the daemon fit it with --fit.")


def test_presets_loras_and_the_view_are_those_of_the_daemon(daemon):
    presets = command("presets", "--json", "--key", daemon.key)
    names = [preset["name"] for preset in json.loads(presets.stdout)["presets"]]
    assert {"preview", "draft", "final"} <= set(names)
    assert command("loras", "--key", daemon.key).returncode == 0
    assert "0 edits at once" in command("top", "--once", "--key", daemon.key).stdout
