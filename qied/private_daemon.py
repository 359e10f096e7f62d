"""A daemon for a moment: with a state folder and a port of its own, in a process of its own."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from qied_client.errors import SetupError

_STOP_S = 60
_EXCEPTION = re.compile(r"[\w.]*(?:Error|Exception|Exit): ")
_TYPED = re.compile(r"error \w+ ")
_READY = '"event": "ready"'


@dataclass(frozen=True)
class PrivateDaemon:
    """A daemon that is ready for work: its state folder and its process."""

    home: Path
    pid: int


@contextmanager
def private_daemon(
    arguments: Sequence[str],
    environ: Mapping[str, str],
    start_s: float,
    log: list[str],
    *,
    own_profiles: bool = False,
) -> Iterator[PrivateDaemon]:
    """Start ``qied serve`` with ``arguments`` in a temporary folder; stop it and remove the folder at the end.

    ``environ`` is its environment, but that its cache is in the temporary folder; with ``own_profiles`` its
    configuration folder is there as well, so that the user's profiles do not count. Its log goes to the end of ``log``,
    a line of JSON each. Raises SetupError with the daemon's last words where it is not ready after ``start_s`` seconds.
    """
    with tempfile.TemporaryDirectory(prefix="qied-") as folder:
        place = Path(folder)
        home = place / "state"
        process = _start(arguments, {**environ, **_folders(place, own_profiles)}, home)
        assert process.stderr is not None
        ready = threading.Event()
        reader = threading.Thread(target=_read, args=(process.stderr, log, ready), daemon=True)
        reader.start()
        try:
            if not ready.wait(start_s) or not any(_READY in line for line in log):
                raise SetupError(f"A daemon did not start. It said: {last_words(log)}", f"See its log: {_kept(log)}")
            yield PrivateDaemon(home, process.pid)
        finally:
            _stop(process)
            reader.join()


def _kept(log: Sequence[str]) -> Path:
    """Write the log of a daemon whose folder is about to go where people can read it; returns the file."""
    with tempfile.NamedTemporaryFile("w", prefix="qied-", suffix=".log", delete=False, encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in log)
    return Path(file.name)


def _folders(place: Path, own_profiles: bool) -> dict[str, str]:
    """Variables that platformdirs and the CUDA driver heed."""
    cache = {"XDG_CACHE_HOME": str(place / "cache"), "CUDA_CACHE_PATH": str(place / "cache" / "cuda")}
    if not own_profiles:
        return cache
    return {**cache, "XDG_CONFIG_HOME": str(place / "settings")}


def _start(arguments: Sequence[str], environ: Mapping[str, str], home: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "qied", "serve", *arguments),
            *("--listen", "tcp://127.0.0.1:*", "--home", str(home), "--log-format", "json"),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**environ, "QIED_DAEMON_LOG_LEVEL": "info"},
        text=True,
        encoding="utf-8",
    )


def _stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(timeout=_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def last_words(log: Sequence[str]) -> str:
    """What a daemon that has ended said of the reason: its own error, and the exception of its worker before that."""
    said = [" ".join(line.split()) for line in log]
    exception = next((line for line in reversed(said) if _EXCEPTION.match(line)), "")
    typed = next((_TYPED.sub("", line) for line in reversed(said) if _TYPED.match(line)), "")
    return " ".join(filter(None, [typed, exception]))[:500] or " ".join(filter(None, said))[-200:] or "nothing."


def _read(stream: IO[str], log: list[str], ready: threading.Event) -> None:
    """Keep the daemon's log; ``ready`` is set once it can be used, or has ended."""
    with stream:
        for line in stream:
            log.append(line.rstrip())
            if _READY in line:
                ready.set()
    ready.set()
