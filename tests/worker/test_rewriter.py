"""Prompts that a real command or a real HTTP endpoint rewrites, and what happens where they do not."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from qied_client.errors import JobFailed
from structlog.testing import capture_logs

from qied.config.rewriter import Rewriter
from qied.worker.rewriter import MOST_BYTES, rewritten

PROMPT = "make it night: 夜"


def command(code: str, **settings: Any) -> Rewriter:
    return Rewriter(command=(sys.executable, "-I", "-c", code), **settings)


def ask(rewriter: Rewriter) -> tuple[str, tuple[str, ...]]:
    return asyncio.run(rewritten(PROMPT, rewriter, "job-1"))


READ = "import sys; p = sys.stdin.buffer.read().decode()\n"
WRITE = "sys.stdout.buffer.write((p + ', with stars').encode())"


def test_a_command_gets_the_prompt_on_its_standard_input_and_prints_another():
    assert ask(command(READ + "assert p not in sys.argv\n" + WRITE)) == (f"{PROMPT}, with stars", ())


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("raise SystemExit(3)", "the rewriter's command ended with status 3"),
        ("pass", "the rewriter gave no text"),
        ("print('\\0')", "the rewriter gave no text"),
        ("import sys; sys.stdout.buffer.write(b'\\xff\\xfe')", "the rewriter gave no text"),
        (f"print('x' * {MOST_BYTES + 1})", f"the rewriter gave more than {MOST_BYTES} bytes"),
    ],
)
def test_a_command_that_fails_leaves_the_prompt_as_it_is_and_tells_so(code: str, said: str):
    prompt, (warning,) = ask(command(code))
    assert prompt == PROMPT and said in warning


def test_a_command_that_hangs_is_ended_with_its_children_after_its_time(tmp_path: Path):
    started = tmp_path / "started"
    code = f"import os, signal, time; os.fork(); open({str(started)!r}, 'a').write(f'{{os.getpid()}} '); time.sleep(60)"
    prompt, (warning,) = ask(command(code, timeout_s=1.0))
    assert prompt == PROMPT and "took more than 1 s" in warning
    for pid in map(int, started.read_text().split()):
        assert not Path(f"/proc/{pid}/stat").exists() or ") Z " in Path(f"/proc/{pid}/stat").read_text()


def test_a_command_that_is_not_there_and_failures_that_are_refused():
    missing = Rewriter(command=("/nowhere/rewrite",))
    assert "cannot be started" in ask(missing)[1][0]
    with pytest.raises(JobFailed, match="could not be rewritten: the rewriter's command cannot be started"):
        ask(replace(missing, on_failure="refuse"))


class Endpoint(BaseHTTPRequestHandler):
    """Answers as ``answer`` of its server says, and keeps what it was asked."""

    server: Any

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.asked.append((self.path, self.headers.get("authorization"), asked))
        status, body, headers = self.server.answer
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def running() -> Iterator[Any]:
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def endpoint(running: Any) -> Any:
    running.asked = []
    running.answer = (200, chat("<think>hm</think>\nMake it night, with stars."), {})
    return running


def chat(text: object) -> bytes:
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]}).encode()


def at(server: Any, **settings: Any) -> Rewriter:
    return Rewriter(url=f"http://127.0.0.1:{server.server_address[1]}/v1/", model="small", **settings)


def test_a_chat_model_is_asked_as_openai_defines_it_with_the_key_of_a_file(endpoint: Any, tmp_path: Path):
    key = tmp_path / "key"
    key.write_text("sk-secret\n")
    assert ask(at(endpoint, key_file=str(key))) == ("Make it night, with stars.", ())
    ((path, authorization, asked),) = endpoint.asked
    assert (path, authorization, asked["model"]) == ("/v1/chat/completions", "Bearer sk-secret", "small")
    assert [message["role"] for message in asked["messages"]] == ["system", "user"]
    assert asked["messages"][1]["content"] == PROMPT


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((401, b"sk-secret is wrong", {}), "answered with status 401"),
        ((307, b"", {"location": "http://127.0.0.1:1/steal"}), "answered with status 307"),
        ((200, b"{", {}), "gave no text"),
        ((200, b"[" * 200_000, {}), "gave no text"),
        ((200, chat(None), {}), "gave no text"),
        ((200, chat(" "), {}), "gave no text"),
        ((200, chat("x" * 300_000), {}), "too many bytes"),
    ],
    ids=["refused", "redirect", "cut", "deep", "null", "blank", "long"],
)
def test_an_endpoint_that_fails_leaves_the_prompt_and_neither_logs_nor_warnings_have_secrets(
    endpoint: Any, tmp_path: Path, answer: tuple[int, bytes, dict[str, str]], said: str
):
    key = tmp_path / "key"
    key.write_text("sk-secret")
    endpoint.answer = answer
    with capture_logs() as logs:
        prompt, (warning,) = ask(at(endpoint, key_file=str(key)))
    assert prompt == PROMPT and said in warning
    assert len(endpoint.asked) == 1
    told = f"{logs}{warning}"
    assert not any(secret in told for secret in ("sk-secret", "night", "127.0.0.1", str(key)))


def test_an_endpoint_that_is_away_and_a_key_that_is_none(endpoint: Any, tmp_path: Path):
    assert "cannot be reached" in ask(Rewriter(url="http://127.0.0.1:1/v1"))[1][0]
    assert "key file cannot be read" in ask(at(endpoint, key_file=str(tmp_path / "none")))[1][0]
    key = tmp_path / "key"
    key.write_text("two\nlines")
    assert "endpoint" in ask(at(endpoint, key_file=str(key)))[1][0]
    assert endpoint.asked == []
