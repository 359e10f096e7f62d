"""A limit of time for what a block waits for, also on Python 3.10, which ComfyUI still runs on."""

from __future__ import annotations

import sys

if sys.version_info >= (3, 11):
    from asyncio import timeout as time_limit
else:
    import asyncio
    from types import TracebackType

    from async_timeout import timeout as _timeout

    class time_limit:
        """``asyncio.timeout``: raises TimeoutError where the block takes longer than ``delay`` seconds."""

        def __init__(self, delay: float | None) -> None:
            self._limit = _timeout(delay)

        async def __aenter__(self) -> time_limit:
            await self._limit.__aenter__()
            return self

        async def __aexit__(
            self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
        ) -> None:
            try:
                await self._limit.__aexit__(kind, error, trace)
            except asyncio.TimeoutError as over:  # a class of its own before 3.11
                raise TimeoutError from over

        def expired(self) -> bool:
            """Whether the time was over."""
            return self._limit.expired


__all__ = ["time_limit"]
