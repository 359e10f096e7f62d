"""What a person can do about an edit whose program did not get the picture: its job is named, and taken up again."""

from __future__ import annotations

import re
import resource
import signal
import subprocess
import sys
from functools import partial

import pytest
from qied_client.errors import DaemonUnreachable


def edit(key, picture, out, *options, **run):
    command = [
        sys.executable,
        "-m",
        "qied",
        "edit",
        picture,
        "hello",
        "-o",
        out,
        "--key",
        key,
        "--steps",
        "2",
        *options,
    ]
    return subprocess.run([*command, *options], capture_output=True, text=True, check=False, timeout=120, **run)


@pytest.fixture
def picture_file(picture, tmp_path):
    path = tmp_path / "in.png"
    path.write_bytes(picture)
    return path


def test_a_picture_that_cannot_be_saved_is_had_by_the_same_command_with_its_job(daemon, picture_file, tmp_path):
    no_files = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (64, 64))
    failed = edit(daemon.key, picture_file, tmp_path / "out.png", preexec_fn=no_files)
    assert failed.returncode == 2 and "File too large" in failed.stderr
    job = re.search(r"--job (job-\w+)", failed.stderr)
    assert job is not None
    again = edit(daemon.key, picture_file, tmp_path / "new.png", "--job", job[1])
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
