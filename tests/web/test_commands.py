"""``web`` and ``tokens`` of both command lines: what they print, and what they refuse."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import httpx
import pytest
from qied_client.web.tokens import TokenStore

from tests.web.conftest import GatewayProcess

Run = Callable[..., "subprocess.CompletedProcess[str]"]
PROGRAMS = {"qied": "qied.cli.main", "qied-client": "qied_client.cli.main"}


@pytest.fixture(params=PROGRAMS)
def run(request: Any, tmp_path: Path) -> Run:
    """Run a program with its state in tmp_path."""
    program = f"import sys; sys.argv[0] = {request.param!r}; from {PROGRAMS[request.param]} import main; main()"
    environ = {**os.environ, "QIED_HOME": str(tmp_path), "COLUMNS": "100", "NO_COLOR": "1"}

    def start(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", program, *arguments],
            env=environ,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    return start


def test_a_token_is_made_listed_and_removed(run: Run, tmp_path: Path) -> None:
    made = run("tokens", "add", "lin", "--note", "laptop")
    assert made.returncode == 0, made.stderr
    store = TokenStore(tmp_path / "tokens.json")
    token = store.find(made.stdout.strip())
    assert token is not None and token.user == "lin"
    assert made.stdout.strip() not in made.stderr and token.id in made.stderr
    listed = run("tokens", "list")
    assert all(word in listed.stdout for word in (token.id, "lin", "laptop"))
    (row,) = json.loads(run("tokens", "list", "--json").stdout)
    assert (row["id"], row["user"], row["note"]) == (token.id, "lin", "laptop") and "digest" not in row
    assert token.digest not in listed.stdout
    removed = run("tokens", "remove", token.id)
    assert (removed.returncode, removed.stdout) == (0, f"removed {token.id}\n")
    assert store.find(made.stdout.strip()) is None
    assert json.loads(run("tokens", "list", "--json").stdout) == []


def test_all_tokens_of_a_user_are_removed_at_once(run: Run, tmp_path: Path) -> None:
    store = TokenStore(tmp_path / "tokens.json")
    ids = {store.add("lin")[1].id, store.add("lin")[1].id}
    store.add("mia")
    assert set(run("tokens", "remove", "lin").stdout.removeprefix("removed ").strip().split(", ")) == ids
    assert [token.user for token in store.all()] == ["mia"]


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["tokens", "remove", "nobody"], 2, "There is no token 'nobody', and no user with one."),
        (["tokens", "add", "two words"], 2, "'two words'"),
        (["web", "everywhere"], 2, "'everywhere' is not HOST:PORT."),
        (["web", "127.0.0.1:99999"], 2, "is not HOST:PORT."),
        (["web", "127.0.0.1:0", "--tls-cert", "absent.pem"], 2, "The certificate absent.pem cannot be used"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
@pytest.mark.parametrize("program", PROGRAMS)
def test_what_cannot_be_is_refused(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    key: Path,
    tmp_path: Path,
    program: str,
    arguments: list[str],
    status: int,
    said: str,
) -> None:
    # In this process, since ten more starts of a program would show nothing else.
    options = ["--key", str(key)] if arguments[0] == "web" else []
    monkeypatch.chdir(tmp_path)
    for name, value in {"QIED_HOME": str(tmp_path), "COLUMNS": "100", "NO_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", [program, *arguments, *options])
    with pytest.raises(SystemExit) as ended:
        import_module(PROGRAMS[program]).main()
    told = capsys.readouterr().err
    assert ended.value.code == status, told
    assert said in " ".join(told.split()) and "do " in told


@pytest.fixture(scope="module")
def key(shared_daemon) -> Path:
    return shared_daemon.key


def test_a_port_that_somebody_has_is_told_with_a_remedy(run: Run, key: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run("web", f"127.0.0.1:{port}", "--key", str(key))
    assert done.returncode == 2
    said = " ".join(done.stderr.split())
    assert f"The web gateway cannot listen at 127.0.0.1:{port}: Address already in use." in said
    assert "Choose another address, or end the program that has it." in said


def test_a_file_of_tokens_that_is_damaged_is_told_before_anybody_connects(run: Run, key: Path, tmp_path: Path) -> None:
    (tmp_path / "tokens.json").write_text("[")
    (tmp_path / "tokens.json").chmod(0o600)
    for arguments in (["web", "127.0.0.1:0", "--key", str(key)], ["tokens", "list"], ["tokens", "add", "lin"]):
        done = run(*arguments)
        assert done.returncode == 2 and "tokens.json is damaged" in " ".join(done.stderr.split())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_gateway_says_where_it_listens_and_ends_in_order(key: Path, tmp_path: Path, number: int) -> None:
    TokenStore(tmp_path / "tokens.json").add("lin")
    started = GatewayProcess(key, tmp_path / "tokens.json", stderr=tmp_path / "stderr.txt")
    assert httpx.get(f"{started.url}/health").json() == {"status": "ok"}
    started.process.send_signal(number)
    assert started.process.wait(60) == 0
    started.process.communicate()
    assert (tmp_path / "stderr.txt").read_text() == ""


def test_a_gateway_that_nobody_can_enter_says_how_a_token_is_made(key: Path, tmp_path: Path) -> None:
    started = GatewayProcess(key, tmp_path / "tokens.json", stderr=tmp_path / "stderr.txt")
    started.stop()
    (hint,) = (tmp_path / "stderr.txt").read_text().splitlines()
    assert hint.startswith("No token lets anyone in yet") and hint.endswith(" tokens add NAME")
