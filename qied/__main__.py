"""Entry point of ``qied``, and of ``python -m qied``. Imports nothing before Ctrl-C ends the program quietly."""

from __future__ import annotations

import os
import signal
import sys

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""


def main() -> None:
    """Run the command line; Ctrl-C while its modules are imported ends it at once, without a traceback."""
    heard = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # a shell may have it ignored
    if heard:
        signal.signal(signal.SIGINT, lambda *_: _leave())
    from qied.cli.main import main as run

    if heard:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        run()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _leave() -> None:
    """Nothing was begun that would have to be ended."""
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    main()
