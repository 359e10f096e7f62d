"""A worker process: reads its launch order, loads the engine, runs the step loop until the front is gone."""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
from functools import partial
from pathlib import Path

import structlog
from qied_client.errors import QiedError

from qied.child_process import leave_with_parent, load_by_name
from qied.link import messages as w
from qied.link.engine_port import DeviceLost, EnginePort, LoadEngine
from qied.link.exit_codes import DEVICE_LOST, ENGINE_BROKEN, FRONT_GONE
from qied.link.launch import LaunchOrder
from qied.log_file import LogFile
from qied.logs import set_up_logs
from qied.pictures.encode import encode_preview
from qied.worker.carried import preview_marks
from qied.worker.link import Link
from qied.worker.loop import Order, StepLoop

_MEMORY_S = 2.0
_NOTICEABLE_BYTES = 32 * 1024 * 1024


def main() -> int:
    """Run the worker; returns the exit status."""
    for number in (signal.SIGINT, signal.SIGTERM):
        # A terminal's Ctrl-C and a service manager's stop reach the whole group; the front decides when workers end.
        signal.signal(number, signal.SIG_IGN)
    order = LaunchOrder.from_line(_first_line())
    log_file = LogFile(Path(order.log_folder) / f"{order.worker}.jsonl") if order.log_folder else None
    set_up_logs(order.log_format, order.log_level, log_file)
    log = structlog.get_logger(part="worker").bind(worker=order.worker)
    orders: queue.SimpleQueue[Order] = queue.SimpleQueue()
    leave_with_parent()

    def lost(reason: QiedError) -> None:
        log.warning("the front is gone", reason=str(reason))
        os._exit(FRONT_GONE)

    link = Link(order, orders, lost)
    try:
        load: LoadEngine = load_by_name(order.engine)
        engine = load(order, lambda *news: link.report(w.Loading(*news)))
    except QiedError as error:
        log.error("the engine cannot be loaded", trouble=error.message, remedy=error.remedy)
        link.close(w.Broken(error.code, error.message[:500], error.remedy[:500]))
        return ENGINE_BROKEN
    offer = w.Offer(engine.device, engine.precision, engine.budget_bytes, engine.weights_bytes, order.max_active)
    link.offer(offer, engine.views)
    threading.Thread(target=_watch_memory, args=(engine, link), name="memory", daemon=True).start()
    loop = StepLoop(
        engine,
        orders,
        link.report,
        lambda edit, image: link.deliver(edit, image, engine.model),
        partial(encode_preview, xmp=preview_marks(order.marking)),
    )
    try:
        loop.run()
    except DeviceLost:
        log.exception("the device is lost: this worker exits, and its edits restart on a new one")
        # Without the finalisers of a context that answers nothing: they would fail, or wait for ever.
        if log_file is not None:
            log_file.close()
        os._exit(DEVICE_LOST)
    link.close()
    return 0


def _watch_memory(engine: EnginePort, link: Link) -> None:
    """Report the device's memory when it changes, for as long as the process lives."""
    told: tuple[int, int] | None = None
    while (memory := engine.device_memory()) is not None:
        if told is None or abs(sum(memory) - sum(told)) >= _NOTICEABLE_BYTES:
            link.report(w.Memory(*memory))
            told = memory
        threading.Event().wait(_MEMORY_S)


def _first_line() -> bytes:
    """The launch order. Nothing follows it on this pipe.

    Read without Python's buffer, whose lock would otherwise be held while the process ends.
    """
    parts: list[bytes] = []
    while (part := os.read(0, 1 << 16)) and not part.endswith(b"\n"):
        parts.append(part)
    return b"".join([*parts, part])


if __name__ == "__main__":
    sys.exit(main())
