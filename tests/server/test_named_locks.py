"""Locks by name."""

from __future__ import annotations

import asyncio

from qied.server.named_locks import NamedLocks


async def test_the_same_name_excludes_and_another_does_not():
    locks, order = NamedLocks(), []
    inside = asyncio.Event()
    leave = asyncio.Event()

    async def first():
        async with locks.hold(("job", "a")):
            inside.set()
            await leave.wait()
            order.append("first")

    async def second():
        await inside.wait()
        async with locks.hold(("job", "b")):
            order.append("other")
        leave.set()
        async with locks.hold(("job", "a")):
            order.append("second")

    await asyncio.gather(first(), second())
    assert order == ["other", "first", "second"]


async def test_several_names_in_any_order_never_wait_in_a_circle():
    locks = NamedLocks()

    async def work(*names):
        for _ in range(50):
            async with locks.hold(*names):
                await asyncio.sleep(0)

    async with asyncio.timeout(5):
        await asyncio.gather(work(("x", "1"), ("y", "2")), work(("y", "2"), ("x", "1")))


async def test_an_unused_lock_is_gone_and_an_empty_name_needs_none():
    locks = NamedLocks()
    async with locks.hold(("session", "u", "")):
        assert not locks._locks
    async with locks.hold(("job", "a")):
        assert len(locks._locks) == 1
    assert not locks._locks
