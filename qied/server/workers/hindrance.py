"""Why no job can start: what keeps the workers from working, in words for those who wait and for who can mend it."""

from __future__ import annotations

from collections.abc import Iterable

from qied_client.errors import CapacityError, QiedError, SetupError

from qied.server.workers.process import Ending

_GIB = 1024**3


def note_for_waiting_jobs(troubles: Iterable[QiedError | None]) -> str:
    """The first trouble, as long as each worker has one; nothing where a worker has none."""
    known = list(troubles)
    first = next((trouble for trouble in known if trouble is not None), None)
    return "" if first is None or None in known else first.message


def died_while_loading(times: int, ending: Ending) -> QiedError:
    """A worker that ended and did not say why."""
    often = "once" if times == 1 else f"{times} times"
    return SetupError(
        f"The worker ended {often} before its engine was loaded (last: {ending}).",
        "See the daemon's log; it is tried again and again.",
    )


def process_refused(error: OSError) -> QiedError:
    """The operating system starts no process."""
    return SetupError(
        f"The worker's process cannot be started: {error.strerror or error}.",
        "Free memory, processes or open files on the daemon's machine; it is tried again and again.",
    )


def held_by_others(size: int) -> QiedError:
    """Other programs hold ``size`` bytes of the card that were planned with."""
    return CapacityError(
        f"Other programs hold {size / _GIB:.1f} GiB of the card's memory that the plan counts on.",
        "Close them (nvidia-smi lists them); edits that do not fit next to them wait.",
    )
