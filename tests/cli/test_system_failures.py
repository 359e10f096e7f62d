"""Whatever the operating system refuses, each command says so in words, with what to do, and never by a traceback."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from qied_client.errors import SetupError
from typer.testing import CliRunner, Result

from qied.cli.main import command_line
from qied.file_lock import try_lock
from qied.server.journal.journal import Journal

LONG = "long" * 100


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Run a command where ``file`` is a file, ``nothing`` a link to nothing, and ``picture.png`` a picture."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("QIED_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    Path("file").touch()
    Path("nothing").symlink_to("nowhere")
    Path("picture.png").write_bytes(b"\x89PNG")

    def command(*words: str) -> Result:
        return CliRunner().invoke(command_line(), list(words), catch_exceptions=True)

    return command


@pytest.mark.parametrize("place", ["file/x", "nothing/x", f"{LONG}/x", "/proc/qied"])
@pytest.mark.parametrize(
    "words",
    [
        ("keys", "list", "--home"),
        ("keys", "add", "ann", "--home"),
        ("keys", "remove", "ann", "--home"),
        ("keys", "add", "ann", "--home", "home", "-o"),
        ("demo", "--out"),
        ("ps", "--key"),
        ("edit", "picture.png", "x", "-o"),
        ("edit", "-o", "out.png", "--key", "no-key", "picture.png", "x", "--mask"),
        ("inspect",),
        ("plan", "--config"),
        ("plan", "--model"),
        ("doctor", "--snapshot"),
    ],
    ids=" ".join,
)
def test_a_place_that_cannot_be_used(run, words: tuple[str, ...], place: str) -> None:
    done = run(*words, place)
    assert isinstance(done.exception, SystemExit), done.exception
    assert done.exit_code in (1, 2, 3), done.output
    assert "Traceback" not in done.output and "internal_error" not in done.output


def test_a_key_file_that_cannot_be_written_takes_no_name(run) -> None:
    assert run("keys", "add", "ann", "--home", "home", "-o", "file/ann.json").exit_code == 2
    assert run("keys", "add", "ann", "--home", "home", "-o", "ann.json", "--endpoint", "tcp://x:1").exit_code == 0


@pytest.mark.skipif(os.name != "posix", reason="only POSIX asks flock")
def test_a_file_system_without_locks_is_no_second_daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    with monkeypatch.context() as nfs:
        nfs.setattr(fcntl, "flock", refuse)
        with pytest.raises(SetupError, match="has no locks") as refused:
            Journal.open(tmp_path / "journal.db")
        assert "disk of this machine" in refused.value.remedy
    held, other = (os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT) for _ in range(2))
    assert (try_lock(held), try_lock(other)) == (True, False)
    os.close(held)
    os.close(other)
