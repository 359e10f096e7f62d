"""Structured logs on standard error (readable in a terminal, JSON lines elsewhere), and all of them in a file."""

from __future__ import annotations

import logging
import sys
from typing import TextIO, cast

import structlog

from qied.log_file import LogFile


class _CurrentStderr:
    """Standard error as it is at each write: a progress bar takes it over for a while, and puts lines above itself."""

    def write(self, text: str) -> int:
        """Write text."""
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


class _IntoFile:
    """A step between an event and its line on standard error, which also puts it into the file as JSON.

    The file has everything from ``info`` on; what is below ``level`` goes no further.
    """

    def __init__(self, file: LogFile, level: int) -> None:
        self._file = file
        self._level = level
        # Without local variables: they hold prompts and keys.
        self._exceptions = structlog.processors.ExceptionRenderer(
            structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        )
        self._utc = structlog.processors.TimeStamper(fmt="iso", utc=True)
        self._json = structlog.processors.JSONRenderer()

    def __call__(
        self, logger: structlog.typing.WrappedLogger, name: str, event: structlog.typing.EventDict
    ) -> structlog.typing.EventDict:
        copy = self._exceptions(logger, name, self._utc(logger, name, dict(event)))
        self._file.add(str(self._json(logger, name, copy)))
        if getattr(logging, str(event["level"]).upper()) < self._level:
            raise structlog.DropEvent
        return event


def set_up_logs(log_format: str, level: str, file: LogFile | None = None) -> None:
    """Choose the form of all logs of this process on standard error: ``auto``, ``text`` or ``json``."""
    lowest = getattr(logging, level.upper())
    text = log_format == "text" or (log_format == "auto" and sys.stderr.isatty())
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.RichTracebackFormatter(show_locals=False)
        )
        if text
        else structlog.processors.JSONRenderer()
    )
    processors: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=not text),
    ]
    if file is not None:
        processors.append(_IntoFile(file, lowest))
    if not text:
        # Without local variables: they hold prompts and keys.
        transformer = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        processors.append(structlog.processors.ExceptionRenderer(transformer))
    structlog.configure(
        processors=[*processors, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(lowest if file is None else min(lowest, logging.INFO)),
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, _CurrentStderr())),
        cache_logger_on_first_use=True,
    )
