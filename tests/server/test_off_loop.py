"""Threads ask the event loop for what only it may look at."""

from __future__ import annotations

import asyncio
import threading

import pytest

from qied.server.off_loop import ask_loop


async def test_a_thread_gets_what_the_loop_finds_on_its_own_thread() -> None:
    loop = asyncio.get_running_loop()
    assert await asyncio.to_thread(ask_loop, loop, threading.get_ident, 30.0) == threading.get_ident()


async def test_what_the_loop_raises_is_raised_in_the_thread() -> None:
    def fail() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        await asyncio.to_thread(ask_loop, asyncio.get_running_loop(), fail, 30.0)


async def test_a_loop_that_does_not_come_to_it_is_not_waited_for_and_calls_nothing_later() -> None:
    called = threading.Event()
    found: list[BaseException] = []

    def ask() -> None:
        try:
            ask_loop(loop, called.set, 0.01)
        except TimeoutError as error:
            found.append(error)

    loop = asyncio.get_running_loop()
    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()  # the loop stands still meanwhile
    assert found
    await asyncio.sleep(0)
    assert not called.is_set()


def test_a_loop_that_has_ended_does_not_answer() -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    with pytest.raises(TimeoutError):
        ask_loop(loop, threading.get_ident, 30.0)
