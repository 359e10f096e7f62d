"""A limit of open files that is too low for a daemon is told before anything is opened."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such limit")
def test_too_few_open_files_are_told_with_what_helps(tmp_path):
    import resource

    serve = [sys.executable, "-m", "qied", "serve", "--model", "builtin", "--listen", "tcp://127.0.0.1:*"]
    ended = subprocess.run(
        serve,
        env={**os.environ, "QIED_HOME": str(tmp_path / "home")},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (24, 24)),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2
    assert "24 open files" in ended.stderr and "ulimit -n" in ended.stderr and "Traceback" not in ended.stderr
