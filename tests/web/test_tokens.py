"""The file of tokens: who may read it, what it says when damaged, and several processes that change it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from qied_client.cli.main import command_line
from qied_client.errors import ConfigError, InvalidRequest
from qied_client.web.tokens import PREFIX, TokenStore
from typer.testing import CliRunner

posix = pytest.mark.skipif(os.name != "posix", reason="modes of files")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "tokens.json"


def test_a_token_is_found_and_only_its_hash_is_stored(path: Path) -> None:
    store = TokenStore(path, clock=lambda: 1_800_000_000.0)
    text, token = store.add("lin", note="laptop")
    assert text.startswith(PREFIX) and len(text) > 40
    assert store.find(text) == token
    assert (token.user, token.note, token.added_at) == ("lin", "laptop", 1_800_000_000.0)
    assert text not in path.read_text() and text.removeprefix(PREFIX) not in path.read_text()
    assert (
        store.find(text[:-1]) is None
        and store.find("") is None
        and store.find("\ud800é".encode(errors="replace").decode()) is None
    )


@posix
def test_nobody_else_may_read_it(path: Path) -> None:
    before = os.umask(0)
    try:
        TokenStore(path).add("lin")
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o077 for file in path.parent.iterdir()} == {0}


@posix
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_file_that_others_may_read_is_refused_with_what_mends_it(path: Path, mode: int) -> None:
    text, _ = TokenStore(path).add("lin")
    path.chmod(mode)
    with pytest.raises(ConfigError, match="open to other users") as refused:
        TokenStore(path).find(text)
    subprocess.run(refused.value.remedy.removeprefix("Run: ").split(), check=True)
    assert TokenStore(path).find(text)


@pytest.mark.parametrize(
    "change",
    [
        lambda content: b"",
        lambda content: b"\xff\xfe",
        lambda content: json.dumps(content).encode()[:-9],
        lambda content: json.dumps([content]).encode(),
        lambda content: json.dumps({**content, "version": 2}).encode(),
        lambda content: json.dumps({**content, "tokens": {"a": 1}}).encode(),
        lambda content: json.dumps({**content, "tokens": None}).encode(),
        lambda content: json.dumps({**content, "tokens": [{**content["tokens"][0], "more": 1}]}).encode(),
        lambda content: json.dumps({**content, "tokens": [{**content["tokens"][0], "user": 7}]}).encode(),
        lambda content: json.dumps({**content, "tokens": [{**content["tokens"][0], "digest": None}]}).encode(),
        lambda content: json.dumps({**content, "tokens": [{**content["tokens"][0], "added_at": "now"}]}).encode(),
        lambda content: b"[" * 100_000,
    ],
)
def test_a_damaged_file_is_told_and_left_as_it_is(path: Path, change) -> None:
    store = TokenStore(path)
    text, _ = store.add("lin")
    damaged = change(json.loads(path.read_text()))
    path.write_bytes(damaged)
    for refused in (store.all, lambda: store.find(text), lambda: store.add("mia"), lambda: store.remove("lin")):
        with pytest.raises(ConfigError) as error:
            refused()
        assert str(path) in error.value.message and error.value.remedy
    assert path.read_bytes() == damaged
    path.unlink()
    assert store.all() == ()
    assert store.add("lin")


def test_what_another_process_changes_counts_at_once(path: Path) -> None:
    here, there = TokenStore(path), TokenStore(path)
    assert here.all() == ()
    text, token = there.add("lin")
    assert here.find(text) == token
    other, _ = here.add("lin")
    assert there.remove(token.id) == (token,)
    assert here.find(text) is None and here.find(other)
    assert [each.user for each in here.remove("lin")] == ["lin"]
    assert there.find(other) is None and there.remove("lin") == ()


@pytest.mark.parametrize("name", ["", "two words", "a" * 65, "../x", "é", "x\n"])
def test_a_name_that_nobody_can_have_is_refused(path: Path, name: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        TokenStore(path).add(name)
    assert refused.value.remedy and not path.exists()


def test_a_full_file_says_so_and_stays_readable(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qied_client.web.tokens._MAX_BYTES", 1000)
    store = TokenStore(path)
    with pytest.raises(ConfigError, match="is full"):
        for _ in range(20):
            store.add("lin")
    assert 1 < len(store.all()) < 20
    assert store.remove("lin")


CHANGES = """
import sys
from pathlib import Path
from qied_client.web.tokens import TokenStore
store = TokenStore(Path(sys.argv[1]))
sys.stdin.readline()
for number in range(25):
    kept, _ = store.add(sys.argv[2], note=str(number))
    _, gone = store.add(sys.argv[2])
    assert store.remove(gone.id)
    print(kept)
"""


def test_no_change_of_several_processes_is_lost(path: Path) -> None:
    changing = [
        subprocess.Popen(
            [sys.executable, "-c", CHANGES, str(path), f"user-{n}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for n in range(3)
    ]
    for process in changing:
        process.stdin.write("go\n")
        process.stdin.flush()
    kept = [line for process in changing for line in process.communicate()[0].split()]
    assert [process.returncode for process in changing] == [0, 0, 0]
    store = TokenStore(path)
    assert len(kept) == len(store.all()) == 75
    assert all(store.find(text) for text in kept)


def test_a_process_that_holds_the_file_for_long_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qied_client.web.tokens._LOCK_S", 0.05)
    store = TokenStore(path)
    text, _ = store.add("lin")
    with store._alone():
        with pytest.raises(ConfigError, match="being changed by another process"):
            TokenStore(path).add("mia")
        assert TokenStore(path).find(text), "looking up does not wait"
    assert TokenStore(path).add("mia")


def test_no_token_is_said_so_with_the_command_that_makes_one(tmp_path: Path) -> None:
    listed = CliRunner().invoke(command_line(), ["tokens", "list", "--tokens", str(tmp_path / "tokens.json")])
    assert listed.output == "There is no token yet; 'tokens add NAME' makes one.\n"
