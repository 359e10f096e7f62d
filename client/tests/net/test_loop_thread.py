"""Ctrl-C at each instruction of a call that waits on the thread of the loop, and what a second call then does."""

from __future__ import annotations

import asyncio
import gc
import signal
import threading
from types import FrameType
from typing import Any

import pytest
from qied_client.net.interrupts import HeldInterrupts
from qied_client.net.loop_thread import LoopThread

pytestmark = pytest.mark.skipif(
    threading.current_thread() is not threading.main_thread(), reason="only the main thread hears signals"
)

_LIMIT_S = 20.0


def works(loop: LoopThread) -> bool:
    """Whether a call still comes back; asked in another thread, which a lock that was left taken would stop."""
    answers: list[int] = []

    async def one() -> int:
        return 1

    asking = threading.Thread(target=lambda: answers.append(loop.run(one)), daemon=True)
    asking.start()
    asking.join(_LIMIT_S)
    return answers == [1]


def test_an_interrupt_at_any_instruction_ends_the_call_and_leaves_the_loop_at_work(
    interrupter: Any, recwarn: Any
) -> None:
    loop = LoopThread("interrupted")

    async def work() -> str:
        await asyncio.sleep(0)
        return "done"

    at, interrupted = 0, 0
    while True:
        interrupting = interrupter(at)
        try:
            assert interrupting.during(lambda: loop.run(work)) == "done"
        except KeyboardInterrupt:
            interrupted += 1
        if not interrupting.sent:
            break
        assert works(loop), f"the loop hangs after an interrupt before instruction {at}"
        at += 1
    loop.close()
    gc.collect()
    assert interrupted == at > 100
    assert [str(warning.message) for warning in recwarn.list] == []


def test_a_handler_of_the_callers_own_is_called_in_the_wait_and_may_let_it_go_on() -> None:
    loop = LoopThread("interrupted")
    heard: list[int] = []
    called = threading.Event()

    def handler(number: int, frame: FrameType | None) -> None:
        heard.append(number)
        called.set()

    async def work() -> str:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        await asyncio.to_thread(called.wait, _LIMIT_S)
        return "done"

    usual = signal.signal(signal.SIGINT, handler)
    try:
        assert loop.run(work) == "done"
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, usual)
        loop.close()
    assert heard == [signal.SIGINT]


def test_a_second_interrupt_does_not_wait_for_work_that_ends_slowly() -> None:
    loop = LoopThread("interrupted")
    main = threading.main_thread().ident or 0
    left = threading.Event()

    async def work() -> None:
        signal.pthread_kill(main, signal.SIGINT)
        try:
            await asyncio.sleep(_LIMIT_S)
        except asyncio.CancelledError:
            signal.pthread_kill(main, signal.SIGINT)
            await asyncio.to_thread(left.wait, _LIMIT_S)
            raise

    with pytest.raises(KeyboardInterrupt) as interrupt:
        loop.run(work)
    assert isinstance(interrupt.value.__context__, KeyboardInterrupt)
    left.set()
    loop.close()


def test_an_interrupt_that_comes_outside_the_wait_is_delivered_at_the_end_of_the_block() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), HeldInterrupts(), HeldInterrupts():
        signal.raise_signal(signal.SIGINT)
        done.append(1)
    assert done == [1]


def test_an_interrupt_before_a_wait_ends_it_before_it_begins() -> None:
    lock = threading.Lock()
    waited = []
    with lock, pytest.raises(KeyboardInterrupt), HeldInterrupts() as interrupts:
        signal.raise_signal(signal.SIGINT)
        waited.append(interrupts.wait(lock, _LIMIT_S))
    assert waited == []


@pytest.mark.parametrize("handler", [signal.SIG_IGN, signal.SIG_DFL])
def test_a_handler_that_is_not_pythons_stays(handler: signal.Handlers) -> None:
    usual = signal.signal(signal.SIGINT, handler)
    try:
        with HeldInterrupts():
            assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, usual)
