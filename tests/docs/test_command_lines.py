"""Every command line that README, guides and the client's page show can be run, in a terminal and without."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from PIL import Image
from qied_client import Client, Result
from qied_client.cli.web import TOKENS_FILE
from qied_client.credentials import LOCAL_FILE, Credential, read_credential
from qied_client.errors import UnknownSession
from qied_client.web.tokens import TokenStore

from qied.builtin.scene import read_scene
from qied.server.access.keys import KeyStore, write_credential
from tests.docs.command_lines import PICTURE_SUFFIXES, ROOT, CommandLine, collected, pasted
from tests.workflows.official import edit_workflow

BUILTIN_LORA = ROOT / "qied/builtin/loras/builtin-outline.safetensors"
SNAPSHOT = ROOT / "tests/planning/golden/snapshots/rtx-4090-24gb.json"
SERVE_AND_EDIT = "Serve and edit"
"""README's heading of what a newcomer pastes."""
START_S = 150
SECONDS = 60
"""A command that takes longer hangs; it takes one second on a machine that is free."""

ONLY_PARSED: dict[str, str] = {
    r"sudo .*": "needs the rights of root",
    r"qied serve.*": "runs until it is stopped; the block of README runs, and tests/daemon has the options",
    r"qied generate.*": "needs a model that makes pictures from text; tests/web/test_generations.py runs it",
    r"qied demo.*": "tests/cli/test_demo.py runs it",
    r"qied pull (?!--help).+": "fetches up to 58 GB; tests/cli/test_pull.py fetches from a hub of its own",
    r"qied doctor.*": "takes long; the block of README runs it, and tests/doctor has --deep",
    r"qied stop.*": "ends the daemon; tests/daemon/test_stop.py runs it",
    r"qied(-client)? --install-completion": "changes the files of the user's shell",
    r"qied-client web.*": "runs until it is stopped; tests/web runs it",
    r"qied batch .*--(watch|at)\b.*": "waits; client/tests/batch has both",
    r"qied(-client)? top": "lives until q is pressed; client/tests/cli/daemon has it",
    r"qied redraw .*--precision .*": "needs a model in two precisions; tests/daemon/test_second_precision.py has one",
    r"qied (un)?load": "takes the model away from the other commands; tests/daemon runs it",
}
"""Commands that cannot be run here, or not in time, and why. Their words are checked with the program's own parser."""
PLACEHOLDERS: dict[str, dict[str, str]] = {
    "": {"IMAGE...": "photo.png", "PICTURE": "photo.png", "PROMPT": "make the red heart blue", "OUT": "out.png"},
    "inspect": {"FILE_OR_FOLDER...": str(BUILTIN_LORA)},
    "profile show": {"NAME": "ampere-12gb"},
    "keys add": {"NAME": "carol"},
    "keys remove": {"NAME": "anna"},
    "tokens add": {"NAME": "anna"},
    "tokens remove": {"NAME": "anna"},
    "keys renew": {"NAME": "anna"},
}
"""What stands for what, by command; JOB is one that can be cancelled, or has finished where its picture is wanted."""
ADDED: dict[str, tuple[str, ...]] = {
    "plan": ("--snapshot", str(SNAPSHOT)),
}
"""Arguments that make a command look at something else than this machine."""
UNDONE: dict[str, str] = {"pause": "resume"}
LINES = collected()
RUN = [line for line in LINES if not line.wrong and not line.privileged]


def reason_not_to_run(line: CommandLine) -> str | None:
    """Why a command is only parsed, or None."""
    if line.in_prose and line.command[0] in (("edit",), ("batch",)) and not {"-o", "--out"} & set(line.words):
        return "leaves out what is clear where it stands"
    text = f"sudo {line}" if line.privileged else str(line)
    return next((why for pattern, why in ONLY_PARSED.items() if re.fullmatch(pattern, text)), None)


@pytest.mark.parametrize("line", LINES, ids=str)
def test_the_commands_and_options_of_documents_exist(line: CommandLine) -> None:
    assert not line.unknown_options
    if not line.in_prose:
        assert not line.wrong


def test_each_reason_not_to_run_a_command_is_needed() -> None:
    texts = [f"sudo {line}" if line.privileged else str(line) for line in LINES]
    assert [pattern for pattern in ONLY_PARSED if not any(re.fullmatch(pattern, text) for text in texts)] == []


class Ran(NamedTuple):
    """How a command ended, and what it printed."""

    status: int
    printed: str


class Newcomer(NamedTuple):
    """Folders and environment of a user who has just cloned the repository, and has two terminals there."""

    root: Path
    clone: Path
    environ: dict[str, str]

    @property
    def screen(self) -> Path:
        """What the first terminal shows."""
        return self.root / "screen.txt"


class Place:
    """A daemon with the built-in model, and folders in which commands find what their documents assume."""

    def __init__(self, root: Path, home: Path, runner: subprocess.Popen[str], environ: dict[str, str]) -> None:
        self.root, self.home = root, home
        self._runner, self._environ = runner, environ

    def run(self, line: CommandLine, folder: Path, *, terminal: bool) -> Ran:
        """Run a command in a new folder that has its pictures and keys."""
        path = " ".join(line.command[0])
        words = [self._filled_in(path, word) for word in line.words]
        home = self._prepare(folder, line.program, path, words)
        order = {
            "program": line.program,
            "arguments": [*words, *ADDED.get(path, ()), *_with_one_step(line)],
            "folder": str(folder),
            "environ": {**self._environ, "HOME": str(folder), "QIED_HOME": str(home)},
            "terminal": terminal,
            "seconds": SECONDS,
        }
        return self._ask(order)

    def _ask(self, order: dict[str, Any]) -> Ran:
        assert self._runner.stdin is not None and self._runner.stdout is not None
        self._runner.stdin.write(json.dumps(order) + "\n")
        self._runner.stdin.flush()
        return Ran(**json.loads(self._runner.stdout.readline()))

    def _filled_in(self, path: str, word: str) -> str:
        if (name := word.rpartition("/")[2]) in ("JOB", "JOB..."):
            return word.replace(name, self._job(word.rpartition("/")[0], done=path in ("result", "release")))
        return PLACEHOLDERS.get(path, {}).get(word) or PLACEHOLDERS[""].get(word, word)

    def _job(self, user: str, *, done: bool) -> str:
        """A new job of a user that runs for long, or has just finished."""
        key = self.key_of(user) if user else read_credential(self.home / LOCAL_FILE)
        with Client(key) as client:
            job = client.submit(read_scene().path, "make the red heart blue", steps=1 if done else 150)
            if done:
                job.outcome()
            return job.id

    def _edited(self, source: Path) -> Result:
        """A picture that qied made, from ``source`` where that is there."""
        with Client(read_credential(self.home / LOCAL_FILE)) as client:
            return client.edit(source if source.exists() else read_scene().path, "make the red heart blue", steps=1)

    def _open_session(self, action: str, name: str) -> None:
        """A new session of two turns with that name, the second undone before a redo; none before an open."""
        with Client(read_credential(self.home / LOCAL_FILE)) as client:
            with suppress(UnknownSession):
                client.take_up_session(name).close()
            if action != "open":
                session = client.session(read_scene().path, name=name)
                for _ in range(2):
                    session.edit("make the red heart blue", steps=1)
                if action == "redo":
                    session.undo()

    def key_of(self, user: str) -> Credential:
        """A key of an enrolled user."""
        path = self.root / f"{user}.key.json"
        if not path.exists():
            endpoint = read_credential(self.home / LOCAL_FILE).endpoint
            write_credential(path, KeyStore(self.home).add(user, endpoint))
        return read_credential(path)

    def _prepare(self, folder: Path, program: str, path: str, words: list[str]) -> Path:
        """Make the pictures and keys that a command reads; returns the daemon's state folder that it is to use."""
        folder.mkdir()
        for before, word in zip(["", *words], words, strict=False):
            picture = folder / word
            if picture.suffix in PICTURE_SUFFIXES and before not in ("-o", "--out"):
                picture.parent.mkdir(parents=True, exist_ok=True)
                with Image.open(read_scene().path) as scene:
                    scene.convert("RGB").save(picture)
            if before in ("--key", "login"):
                write_credential(folder / word, self.key_of("colleague"))
        if path == "batch":
            for name in ("in/photo.png", "masks/photo.png"):
                (folder / name).parent.mkdir(exist_ok=True)
                with Image.open(read_scene().path) as scene:
                    scene.convert("RGB").save(folder / name)
            (folder / "rows.csv").write_text("picture,prompt,name\nin/photo.png,make the red heart blue,heart\n")
        if path == "run":
            (folder / "in").mkdir(exist_ok=True)
            for name in ("photo.png", "in/photo.png"):
                with Image.open(read_scene().path) as scene:
                    scene.convert("RGB").save(folder / name)
            workflow = edit_workflow(("photo.png",), prompt="make the red heart blue", steps=4)
            (folder / "edit.json").write_text(json.dumps(workflow))
        if path in ("show", "redraw") or (path == "run" and words[1].endswith(".png")):
            self._edited(folder / "photo.png").save(folder / words[1])
        if path.startswith("session ") and path != "session list":
            name = words[words.index("--name") + 1] if "--name" in words else words[2]
            self._open_session(path.removeprefix("session "), name)
        if not path.startswith(("keys ", "tokens ")):
            return self.home
        own = folder / "state"  # those who are enrolled by one command are not there for the next
        if path != "keys add":
            KeyStore(own).add("anna", "tcp://127.0.0.1:7447")
        if path in ("tokens list", "tokens remove"):
            TokenStore(own / TOKENS_FILE).add("anna")
        return own

    def undo(self, line: CommandLine, folder: Path) -> None:
        """Take back what a command did to the daemon."""
        if (undone := UNDONE.get(" ".join(line.words))) is not None:
            assert self.run(replace(line, words=(undone,)), folder, terminal=False).status == 0


def _with_one_step(line: CommandLine) -> tuple[str, ...]:
    """An edit takes one step, unless it says how many: what counts here is that it is done."""
    takes = any("--steps" in parameter.opts for parameter in line.command[1].params)
    return ("--steps", "1") if takes and not {"--steps", "--preset"} & set(line.words) else ()


def loras_of_documents() -> set[str]:
    """Names of the LoRAs in all commands."""
    return {
        word.partition(":")[0]
        for line in LINES
        for before, word in zip(line.words, line.words[1:], strict=False)
        if before == "--lora"
    }


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory: pytest.TempPathFactory) -> Newcomer:
    """Somebody with a fresh clone, the environment that `make install` made, and a home folder without anything."""
    root = tmp_path_factory.mktemp("newcomer")
    (root / "home").mkdir()
    clone = root / "clone"
    clone.mkdir()
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in {line.partition("/")[0] for line in tracked.splitlines()}:
        (clone / name).symlink_to(ROOT / name)
    (clone / ".venv").symlink_to(sys.prefix)
    for name in loras_of_documents():
        file = root / "loras" / f"{name}.safetensors"
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(BUILTIN_LORA, file)
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("QIED_", "XDG_", "HF_", "COLUMNS"))}
    environ = {
        **kept,
        "PATH": os.defpath,
        "HOME": str(root / "home"),
        "TERM": "xterm-256color",
        "QIED_DAEMON_LISTEN": "tcp://127.0.0.1:*",
        "QIED_MODEL_LORAS": str(root / "loras"),
    }
    return Newcomer(root, clone, environ)


@pytest.fixture(scope="module")
def place(newcomer: Newcomer) -> Iterator[Place]:
    """The daemon that README's first block starts, as it is pasted, and a process that runs commands against it."""
    with newcomer.screen.open("wb") as screen:
        shell = subprocess.Popen(
            ["bash", "-c", pasted("README.md", SERVE_AND_EDIT)[0]],
            cwd=newcomer.clone,
            env=newcomer.environ,
            stdin=subprocess.DEVNULL,
            stdout=screen,
            stderr=screen,
            start_new_session=True,
        )
    runner = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("command_runner.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        until = time.monotonic() + START_S
        while '"event": "ready"' not in newcomer.screen.read_text():
            assert shell.poll() is None and time.monotonic() < until, newcomer.screen.read_text()
            time.sleep(0.05)
        with runner:
            environ = {**newcomer.environ, "QIED_MODEL_PATH": "builtin"}
            yield Place(newcomer.root, newcomer.root / "home/.local/state/qied", runner, environ)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(shell.pid, signal.SIGINT)
        shell.wait(60)
        runner.kill()
        runner.wait()


@pytest.mark.slow
def test_what_readme_has_a_newcomer_paste_works(newcomer: Newcomer, place: Place) -> None:
    first, second, third, *_ = pasted("README.md", SERVE_AND_EDIT)
    assert "qied serve" in first
    for block in (second, "source .venv/bin/activate\n" + third.partition("make wheels")[0]):
        terminal = ["bash", "-e", "-c", block]
        done = subprocess.run(
            terminal, cwd=newcomer.clone, env=newcomer.environ, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    with Image.open(newcomer.clone / "out.png") as after, Image.open(read_scene().path) as before:
        assert after.size == before.size
    assert read_credential(newcomer.clone / "anna.key.json").endpoint == "tcp://workstation:7447"
    assert not re.search("not found|No such file|Traceback", newcomer.screen.read_text())


@pytest.mark.slow
@pytest.mark.parametrize("terminal", [True, False], ids=["in a terminal", "without a terminal"])
@pytest.mark.parametrize("line", [line for line in RUN if reason_not_to_run(line) is None], ids=str)
def test_the_commands_of_documents_run(line: CommandLine, terminal: bool, place: Place, tmp_path: Path) -> None:
    try:
        status, printed = place.run(line, tmp_path / "folder", terminal=terminal)
    finally:
        place.undo(line, tmp_path / "undone")
    assert status == 0, printed
    assert "Traceback" not in printed


def test_an_option_that_does_not_exist_is_found() -> None:
    line = next(line for line in LINES if line.words[:1] == ("edit",))
    assert replace(line, words=(*line.words, "--sharpness", "3")).unknown_options == ["--sharpness"]
    with pytest.raises(LookupError, match="'edti'"):
        _ = replace(line, words=("edti",)).command
