"""Rewriting a prompt by a local command or a chat model, within a time, and without showing it to others.

A command gets the prompt on its standard input, never among its arguments, which every user of a machine can list. Logs
and warnings have the kind of a failure alone: no prompt, no address, no key, no words of the other side.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from asyncio.subprocess import DEVNULL, PIPE
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import structlog
from qied_client.errors import JobFailed

from qied.config.rewriter import Rewriter

MOST_BYTES: Final = 2000
"""Bytes of UTF-8 of a rewritten prompt; the work of such an edit is counted with the model's longest prompt."""
_ANSWER_BYTES: Final = 256 * 1024
_TOKENS: Final = 1024
_THINKING: Final = re.compile(r"^\s*<think>.*?</think>", re.DOTALL)


class NotRewritten(Exception):
    """The text says what kind of failure it was, in words that may be shown."""


async def rewritten(prompt: str, rewriter: Rewriter, job: str) -> tuple[str, tuple[str, ...]]:
    """The prompt that the edit uses, and warnings. Raises JobFailed where the configuration has failures refused."""
    log = structlog.get_logger(part="rewriter")
    try:
        async with asyncio.timeout(rewriter.timeout_s):
            ask = _from_command if rewriter.command else _from_endpoint
            return _checked(await ask(prompt, rewriter)), ()
    except TimeoutError:
        reason = f"the rewriter took more than {rewriter.timeout_s:g} s"
    except NotRewritten as failure:
        reason = str(failure)
    log.error("a prompt was not rewritten", job=job, reason=reason)
    if rewriter.on_failure == "refuse":
        raise JobFailed(
            f"The prompt could not be rewritten: {reason}.", "Try again later, or leave rewrite_prompt out."
        ) from None
    return prompt, (f"The prompt was used as it is, since {reason}. Try again later, or leave rewrite_prompt out.",)


def _checked(answer: str) -> str:
    """The answer as a prompt."""
    text = _THINKING.sub("", answer).strip()
    if not text or "\0" in text:
        raise NotRewritten("the rewriter gave no text")
    if len(text.encode("utf-8", "replace")) > MOST_BYTES:
        raise NotRewritten(f"the rewriter gave more than {MOST_BYTES} bytes")
    return text


async def _from_command(prompt: str, rewriter: Rewriter) -> str:
    try:
        process = await asyncio.create_subprocess_exec(
            *rewriter.command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, start_new_session=True
        )
    except OSError:
        raise NotRewritten("the rewriter's command cannot be started") from None
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        with suppress(BrokenPipeError, ConnectionResetError):
            process.stdin.write(prompt.encode())
            await process.stdin.drain()
        process.stdin.close()
        data = await process.stdout.read(_ANSWER_BYTES)
        status = await process.wait()
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    if status != 0:
        raise NotRewritten(f"the rewriter's command ended with status {status}")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise NotRewritten("the rewriter gave no text") from None


async def _from_endpoint(prompt: str, rewriter: Rewriter) -> str:
    import httpx

    headers: dict[str, str] = {}
    if rewriter.key_file:
        try:
            key = await asyncio.to_thread(_key_in, rewriter.key_file)
        except (OSError, UnicodeDecodeError, RuntimeError):
            raise NotRewritten("the rewriter's key file cannot be read") from None
        headers["Authorization"] = f"Bearer {key.strip()}"
    messages = [{"role": "system", "content": rewriter.instruction}, {"role": "user", "content": prompt}]
    body = {"model": rewriter.model, "messages": messages, "temperature": 0, "max_tokens": _TOKENS}
    address = f"{rewriter.url.rstrip('/')}/chat/completions"
    try:
        # A redirect would carry the prompt and the key to another place.
        async with httpx.AsyncClient(timeout=rewriter.timeout_s, follow_redirects=False) as client:
            return await _answer(client.stream("POST", address, json=body, headers=headers))
    except (httpx.HTTPError, httpx.InvalidURL):
        raise NotRewritten("the rewriter's endpoint cannot be reached") from None
    except ValueError:
        # Such as a key that no header can hold.
        raise NotRewritten("the rewriter's endpoint cannot be asked") from None


def _key_in(file: str) -> str:
    return Path(file).expanduser().read_text()


async def _answer(request: Any) -> str:
    """The text in an endpoint's answer, of which only so much is read."""
    async with request as response:
        if response.status_code != 200:
            raise NotRewritten(f"the rewriter's endpoint answered with status {response.status_code}")
        data = bytearray()
        async for piece in response.aiter_bytes():
            data += piece
            if len(data) > _ANSWER_BYTES:
                raise NotRewritten("the rewriter's endpoint answered with too many bytes")
    try:
        text = json.loads(data)["choices"][0]["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        text = None
    if not isinstance(text, str):
        raise NotRewritten("the rewriter's endpoint gave no text")
    return text
