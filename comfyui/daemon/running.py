"""Edits that one node waits for, together: their progress on the node, and ComfyUI's cancel as theirs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, TypeVar, cast

from qied_client import AsyncClient, OnProgress, Progress, Result

from ..host import PREVIEW_PX, NodeDisplay, stop_if_interrupted
from ..pictures import thumbnail
from ..texts import info_text, news_text
from .connections import CONNECTIONS, Server, Work

T = TypeVar("T")
Edit = Callable[[AsyncClient, OnProgress], Coroutine[Any, Any, Result]]
"""Carries out one edit with a client, and tells its progress."""

_LOOK_S = 0.1
"""How often ComfyUI's cancel is looked at: all it does is to set a flag."""


class Board:
    """The latest news of some edits, put together as one bar. The clients' thread writes, the node's loop reads."""

    def __init__(self, edits: int) -> None:
        self._shares = [0.0] * edits
        self._text = "connecting"
        self._preview = b""

    def hear(self, edit: int, news: Progress) -> None:
        """Take news of one of the edits."""
        self._text = news_text(news) or self._text
        if news.preview:
            self._preview = news.preview
        if news.kind == "requeued":
            self._shares[edit] = 0.0
        elif news.kind == "step" and news.total:
            self._shares[edit] = max(self._shares[edit], news.done / news.total)

    def show(self, display: NodeDisplay, ended: int) -> None:
        """Show what is new; ``ended`` edits have their results. A picture is shown once."""
        preview, self._preview = self._preview, b""
        picture = thumbnail(preview, PREVIEW_PX) if preview else None
        edits = len(self._shares)
        text = self._text if edits == 1 else f"{ended}/{edits} done; {self._text}"
        display.show(text, round(100 * sum(self._shares)), 100 * edits, picture)


async def ask(server: Server, work: Work[T]) -> T:
    """Do work with the client of a daemon, and return what it does; cancelled as ``run_edits`` is."""
    stop_if_interrupted()
    future = asyncio.wrap_future(CONNECTIONS.begin(server, work))
    try:
        while not future.done():
            await asyncio.wait([future], timeout=_LOOK_S)
            stop_if_interrupted()
    finally:
        future.cancel()
    return future.result()


async def run_edits(
    server: Server, node_id: str, edits: Sequence[Edit], text: Callable[[Sequence[Result]], str] = info_text
) -> list[Result]:
    """Carry out edits at once and return their results in order, with the progress on the node, and ``text`` at last.

    Raises what the first edit that fails raises; the others are cancelled then. Raises ``host.Interrupted`` where the
    user presses cancel, which cancels all of them in the daemon, as it does where ComfyUI drops the node.
    """
    board, display = Board(len(edits)), NodeDisplay(node_id)
    news = asyncio.Event()
    loop = asyncio.get_running_loop()

    def telling(number: int) -> OnProgress:
        def tell(progress: Progress) -> None:
            board.hear(number, progress)
            with suppress(RuntimeError):  # the workflow has ended, and its loop is closed
                loop.call_soon_threadsafe(news.set)

        return tell

    def begin(number: int, edit: Edit) -> asyncio.Future[Result]:
        return asyncio.wrap_future(CONNECTIONS.begin(server, lambda client: edit(client, telling(number))))

    stop_if_interrupted()
    futures = [begin(number, edit) for number, edit in enumerate(edits)]
    try:
        while pending := [each for each in futures if not each.done()]:
            board.show(display, len(futures) - len(pending))
            heard = asyncio.ensure_future(news.wait())
            try:
                await asyncio.wait(
                    [*pending, cast("asyncio.Future[Any]", heard)], timeout=_LOOK_S, return_when=asyncio.FIRST_COMPLETED
                )
            finally:
                heard.cancel()
            news.clear()
            stop_if_interrupted()
            for each in futures:
                if each.done() and (error := each.exception()):
                    raise error
    finally:
        for each in futures:
            if not each.cancel() and not each.cancelled():
                each.exception()  # one that failed as well is not told twice
    results = [each.result() for each in futures]
    picture = await asyncio.to_thread(thumbnail, results[-1].bytes, PREVIEW_PX)
    display.show(text(results), 1, 1, picture)
    return results
