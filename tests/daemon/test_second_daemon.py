"""One daemon for one state folder."""

from __future__ import annotations

import subprocess
import sys


def test_a_second_daemon_on_the_same_state_is_refused_and_names_the_first(daemon):
    command = [sys.executable, "-m", "qied", "serve", "--model", "builtin", "--home", str(daemon.home)]
    done = subprocess.run(
        [*command, "--listen", "tcp://127.0.0.1:*"], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 2
    assert str(daemon.process.pid) in done.stderr
    with daemon.client() as client:
        assert client.status().workers[0].state == "ready"
