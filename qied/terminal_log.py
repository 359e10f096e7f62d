"""The daemon's log as people read it in a terminal: what happened, to whom, and how long it took, in a line each."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping
from typing import Any

import structlog
from qied_client.text import size_text

_LEAST_COLUMNS = 40
_INDENT = " " * 10
"""Below the time, where lines go on."""
_TOGETHER = "\N{NO-BREAK SPACE}"
"""Between words that stay on one line."""
_STYLES = {"debug": "2", "info": "", "warning": "33", "error": "31", "critical": "31"}
"""Codes of ANSI colours by level."""
_DIM, _GREEN = "2", "32"

# The normal course of starts and edits, which the lines before ``ready`` and those at the end of an edit tell.
_ONLY_IN_DETAIL = frozenset(
    {
        "LoRAs",
        "planned",
        "checked that unknown keys are refused, and clients' keys at the workers' port",
        "ready",
        "started",
        "worker started",
        "unloading",
        "swept",
        "showed everyone's jobs",
        # Told by the front as well.
        "the engine cannot be loaded",
    }
)
_SENTENCES = {
    "model": "the model is {told}, from {path}",
    "web gateway": "the web gateway is at {address}; 'qied tokens add NAME' lets somebody in",
    "requeued": "{user}  {job}  waits again: {reason}",
    "a job is set aside": "{user}  {job}  is set aside: the machine went down {downs} times while it ran",
    "an edit's settings are probably not what the user intended": "{user}  {job}  {why}",
    "the owner cancels a job": "{user}  {job}  is cancelled by the owner",
    "ordered": "{user} asks to {action}",
    "grace period is over": "the time for running edits is over; {requeued} of them run at the next start",
    "worker ended": "{worker} ended ({how}) and is started again",
    "worker makes no progress, killing it": "{worker} shows no progress for {silent_ms} and is killed",
    "a worker cannot work": "{worker} cannot work: {trouble}",
    "unloaded": "{worker} is unloaded: its memory is free",
    "loading again": "{worker} loads the model again",
    "other programs hold memory of the card": "other programs hold {withheld_bytes} of the card: edits may wait",
    "planned again for the memory that is free now": (
        "{worker} is planned again for the memory that is free now: {budget_bytes}, {resident_blocks} blocks stay"
    ),
    "a variable is not a setting of qied, ignoring it": "{variable} is not a setting of qied and is ignored",
    "a card is left out": "a card is left out: {reason}",
    "refused a key that is not enrolled": "refused a key that is not enrolled, from {address}",
    "ended a connection": "ended a connection of {user}: {reason}",
    "refused a connection": "refused a connection of {user}: {reason}",
    "refused a message": "refused a message of {user}: {reason}",
    "client_left_out": "a client cannot be let in: {problem}",
    "reloaded": "the settings and the clients were read again",
}
_STATES = {"poisoned": "given up"}
_SHORT_ID = 12
_OF_NOTE = frozenset({"requeued"})
"""Events that people should see although they are no warnings to programs."""
_CAUSES = ("reason", "problem", "trouble")
"""Fields that follow an event after a colon."""


class TerminalLog:
    """Renders events as text; the last processor of structlog.

    ``detailed`` says whether all events and all of their fields are shown; else those that say nothing to people are
    dropped. ``columns`` is the width of the terminal. ``log_file`` is named where a traceback is left out.
    """

    def __init__(
        self, *, colours: bool, columns: Callable[[], int], detailed: Callable[[], bool], log_file: str | None = None
    ) -> None:
        self._colours = colours
        self._columns = columns
        self._detailed = detailed
        self._log_file = log_file
        self._seen: set[str] = set()

    def __call__(self, _: structlog.typing.WrappedLogger, __: str, event: structlog.typing.EventDict) -> str:
        """The lines of an event, without a line break at the end; raises DropEvent where there is nothing to tell."""
        fields = dict(event)
        level, time, name = str(fields.pop("level")), str(fields.pop("timestamp")), str(fields.pop("event"))
        trace, remedy = str(fields.pop("exception", "")), fields.pop("remedy", "")
        if self._detailed():
            text = _with_fields(name, fields)
        else:
            fields.pop("part", None)
            text = self._sentence(name, fields)
            if trace and self._log_file is not None:
                trace, cause = "", trace.rstrip().rpartition("\n")[2]
                text, remedy = f"{text}: {cause}", f"The log has the whole of it: {self._log_file}"
        style = _STYLES["warning" if name in _OF_NOTE else level]
        if name == "finished" and not self._detailed():
            level, style = _of_outcome(fields)
            remedy = remedy if level == "error" else ""
        lines = self._wrapped(text, style)
        lines[0] = f"{self._styled(time, _DIM)}  {lines[0]}"
        if remedy:
            first, *more = self._wrapped(str(remedy), "", taken=4)
            lines += [f"{_INDENT}{self._styled('do', _GREEN)}  {first}", *(f"{_INDENT}    {line}" for line in more)]
        return "\n".join([*lines, *trace.splitlines()])

    def _sentence(self, name: str, fields: dict[str, Any]) -> str:
        if name == "finished":
            return _finished(fields, self._columns() - len(_INDENT))
        if name in _TELLERS:
            return _TELLERS[name](fields)
        if name == "worker ready":
            return self._ready_again(str(fields.get("worker")))
        if name in _ONLY_IN_DETAIL:
            raise structlog.DropEvent
        sentence = _SENTENCES.get(name)
        if sentence is None:
            return _with_fields(name, fields)
        try:
            return sentence.format_map({key: _value(key, value) for key, value in fields.items()})
        except KeyError:  # an event that says less than usual
            return _with_fields(name, fields)

    def _ready_again(self, worker: str) -> str:
        if worker not in self._seen:
            self._seen.add(worker)
            raise structlog.DropEvent
        return f"{worker} is ready again"

    def _wrapped(self, text: str, style: str, taken: int = 0) -> list[str]:
        """Text in the columns right of the time; what cannot be broken, such as a path, is left whole."""
        width = max(_LEAST_COLUMNS, self._columns()) - len(_INDENT) - taken
        lines = textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) or [""]
        first, *more = (self._styled(line.replace(_TOGETHER, " "), style) for line in lines)
        return [first, *(more if taken else (_INDENT + line for line in more))]

    def _styled(self, text: str, style: str) -> str:
        return f"\x1b[{style}m{text}\x1b[0m" if self._colours and style else text


def _finished(fields: Mapping[str, Any], columns: int) -> str:
    """An edit from start to end: whose, which, how large, how many steps, how long, and what became of it.

    Its id is shortened where the line would be longer than ``columns``.
    """
    job, state, took = str(fields["job"]), str(fields.get("state")), fields.get("run_ms")
    steps, waited = fields.get("steps"), fields.get("wait_ms") or 0
    size = f"{fields.get('width')}x{fields.get('height')}"
    outcome = str(fields.get("precision", "")).upper() if state == "succeeded" else _STATES.get(state, state)
    parts = [str(fields["user"]), job, size, "1 step" if steps == 1 else f"{steps} steps"]
    parts += [
        duration(took) if took is not None else "",
        f"waited {duration(waited)}" if waited >= 1000 else "",
        outcome,
    ]
    text = "  ".join(part.replace(" ", _TOGETHER) for part in parts if part)
    if why := fields.get("why"):
        return f"{text}: {why}"
    if len(text) > columns and len(job) > _SHORT_ID:
        text = text.replace(job, f"{job[:_SHORT_ID]}…", 1)
    return text


def _stopping(fields: Mapping[str, Any]) -> str:
    running, waiting = int(fields.get("running", 0)), int(fields.get("waiting", 0))
    if not running:
        return f"stopping; {_edits(waiting)} for the next start" if waiting else "stopping"
    left = f", {waiting} more for the next start" if waiting else ""
    return f"stopping: {_edits(running)} under way, with {fields.get('grace_s')} s to end{left}. Ctrl-C stops at once"


def _stopped(fields: Mapping[str, Any]) -> str:
    kept, left = int(fields.get("results_kept", 0)), int(fields.get("requeued", 0))
    facts = [f"{kept} result{'s' * (kept != 1)} kept"] * (kept > 0) + [f"{_edits(left)} for the next start"] * (
        left > 0
    )
    return f"stopped: {', '.join(facts)}" if facts else "stopped"


def _edits(count: int) -> str:
    return "1 edit" if count == 1 else f"{count} edits"


def _of_outcome(fields: Mapping[str, Any]) -> tuple[str, str]:
    """Level and colour of the line of an edit that has ended."""
    level = {"failed": "error", "poisoned": "error"}.get(str(fields.get("state")), "info")
    return level, _DIM if fields.get("state") == "cancelled" else _STYLES[level]


def _taken_up(fields: Mapping[str, Any]) -> str:
    jobs = int(fields.get("unfinished_jobs", 0))
    if not jobs:
        raise structlog.DropEvent
    return f"{_edits(jobs)} of the last run {'continues' if jobs == 1 else 'continue'}"


def _with_fields(name: str, fields: Mapping[str, Any]) -> str:
    """An event without a sentence of its own, with its fields."""
    cause = next((str(fields[key]) for key in _CAUSES if fields.get(key)), "")
    others = {
        key: value for key, value in fields.items() if key not in _CAUSES and value is not None and value not in ("", 0)
    }
    shown = ", ".join(f"{_label(key)} {_value(key, value)}" for key, value in others.items())
    text = f"{name}: {cause}" if cause else name
    return f"{text} ({shown})" if shown else text


def _label(key: str) -> str:
    for unit in ("_bytes", "_ms", "_s"):
        key = key.removesuffix(unit)
    return key.replace("_", " ")


def _value(key: str, value: object) -> str:
    """A value with its unit, as people write it."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        if key.endswith("_bytes"):
            return size_text(int(value))
        if key.endswith("_ms"):
            return duration(value)
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value)


_TELLERS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "listening": _taken_up,
    "stopping": _stopping,
    "stopped": _stopped,
}


def duration(milliseconds: float) -> str:
    """A time for people: ``240 ms``, ``1.9 s``, ``2 min 5 s``."""
    if milliseconds < 995:
        return f"{milliseconds:.0f} ms"
    if milliseconds < 59_950:
        return f"{milliseconds / 1000:.1f} s"
    minutes, rest = divmod(round(milliseconds / 1000), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"
