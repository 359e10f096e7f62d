"""Structured logs on standard error (readable in a terminal, JSON lines elsewhere), and all of them in a file."""

from __future__ import annotations

import logging
import os
import shutil
import sys
from contextlib import suppress
from typing import TextIO, cast

import structlog

from qied.log_file import LogFile
from qied.terminal_log import TerminalLog


class _CurrentStderr:
    """Standard error as it is at each write: a progress bar takes it over for a while, and puts lines above itself.

    Where nothing can be written, as to a terminal that was closed, lines are dropped: no work fails for its log.
    """

    def write(self, text: str) -> int:
        """Write text."""
        with suppress(OSError, ValueError):
            sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            sys.stderr.flush()


class _Threshold:
    """Drops what is below a level that may change while loggers are in use, which structlog's own may not."""

    def __init__(self) -> None:
        self.lowest = logging.INFO

    def __call__(self, _: object, method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        if getattr(logging, method.upper(), logging.ERROR) < self.lowest:
            raise structlog.DropEvent
        return event


_threshold = _Threshold()


def set_level(level: str) -> None:
    """From now on, log this level and those above it."""
    _threshold.lowest = getattr(logging, level.upper())


class _IntoFile:
    """A step between an event and its line on standard error, which also puts it into the file as JSON.

    The file has everything from ``info`` on, whatever level goes to standard error.
    """

    def __init__(self, file: LogFile) -> None:
        self._file = file
        # Without local variables: they hold prompts and keys.
        self._exceptions = structlog.processors.ExceptionRenderer(
            structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        )
        self._utc = structlog.processors.TimeStamper(fmt="iso", utc=True)
        self._json = structlog.processors.JSONRenderer()

    def __call__(
        self, logger: structlog.typing.WrappedLogger, name: str, event: structlog.typing.EventDict
    ) -> structlog.typing.EventDict:
        if getattr(logging, str(event["level"]).upper(), logging.ERROR) >= logging.INFO:
            copy = self._exceptions(logger, name, self._utc(logger, name, dict(event)))
            self._file.add(str(self._json(logger, name, copy)))
        return event


def logs_are_text(log_format: str) -> bool:
    """Whether logs of this form are for people, and not JSON."""
    return log_format == "text" or (log_format == "auto" and sys.stderr.isatty())


def set_up_logs(log_format: str, level: str, file: LogFile | None = None) -> None:
    """Choose the form of all logs of this process on standard error: ``auto``, ``text`` or ``json``."""
    text = logs_are_text(log_format)
    set_level(level)
    processors: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if text else "iso", utc=not text),
    ]
    if file is not None:
        processors.append(_IntoFile(file))
    processors += [_threshold, *(_for_people(file) if text else _for_programs())]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(logging.NOTSET),
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, _CurrentStderr())),
        cache_logger_on_first_use=True,
    )


def _for_people(file: LogFile | None) -> list[structlog.typing.Processor]:
    renderer = TerminalLog(
        colours=sys.stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb",
        columns=lambda: shutil.get_terminal_size().columns,
        detailed=lambda: _threshold.lowest <= logging.DEBUG,
        log_file=None if file is None else str(file.path),
    )
    # Tracebacks without local variables: they hold prompts and keys.
    return [structlog.processors.format_exc_info, renderer]


def _for_programs() -> list[structlog.typing.Processor]:
    transformer = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
    return [structlog.processors.ExceptionRenderer(transformer), structlog.processors.JSONRenderer()]
