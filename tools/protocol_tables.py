"""Writes the message tables of docs/protocol.md from the code, between its markers; ``--check`` only compares."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from generated_part import update
from qied_client.protocol import fields as f
from qied_client.protocol.roles import FROM_CLIENT, FROM_DAEMON

PAGE = Path(__file__).parent.parent / "docs" / "protocol.md"


def check_text(check: Any) -> str:
    """A field's check in words."""
    match check:
        case f.Int(low, high, multiple):
            grid = f", multiple of {multiple}" if multiple > 1 else ""
            return f"integer {low} to {_power(high)}{grid}"
        case f.Real(low, high):
            return f"number {low:g} to {high:g}, finite"
        case f.Text(limit, empty):
            return f"text, {'0' if empty else '1'} to {limit} bytes"
        case f.Identifier(limit):
            return f"name, 1 to {limit} characters"
        case f.NameInFolder(limit):
            return f"name, or folder/name, 1 to {limit} bytes"
        case f.Hash():
            return "SHA-256 hex"
        case f.Flag():
            return "true or false"
        case f.OneOf(allowed):
            return "one of " + ", ".join(f"`{word}`" for word in allowed)
        case f.Maybe(inner):
            return f"null, or {check_text(inner)}"
        case f.Later(inner):
            return f"{check_text(inner)}; left out while it has its default"
        case f.ListOf(inner, most, least):
            return f"list of {least} to {most}: {check_text(inner)}"
        case f.Nested(kind):
            return f"`{kind.__name__}`"
        case f.Scalars(most):
            return f"mapping of names to scalars, at most {most}"
        case f.Body(least, most):
            return f"third frame: {least} to {most} bytes"
    raise AssertionError(f"no words for {check!r}")


def _power(number: int) -> str:
    return "2^63-1" if number == 2**63 - 1 else str(number)


def table(kind: type[Any]) -> str:
    """One message or part: its docstring and its fields."""
    hints = f._checks(kind)
    title = getattr(kind, "TYPE", b"").decode() or kind.__name__
    lines = [f"#### {title}", "", *_paragraphs(kind)]
    if hints:
        lines += ["| field | values | default |", "| --- | --- | --- |"]
    for field in fields(kind):
        given = field.default if field.default is not MISSING else None
        missing = field.default is MISSING and field.default_factory is MISSING
        body = isinstance(hints[field.name][0], f.Body)
        default = "" if missing or body else _default(given, field.default_factory is not MISSING)
        lines.append(f"| `{field.name}` | {check_text(hints[field.name][0])} | {default} |")
    return "\n".join(lines) + "\n"


def _paragraphs(kind: type[Any]) -> list[str]:
    """What the docstring says, a line for each paragraph: there is no other page that tells what fields mean."""
    paragraphs = inspect.cleandoc(kind.__doc__ or "").replace("``", "`").split("\n\n")
    return [line for paragraph in paragraphs for line in (paragraph.replace("\n", " "), "")]


def _parts(kinds: Iterable[type[Any]]) -> list[type[Any]]:
    """Every part that messages have, and parts of parts, in the order in which they are named first."""
    found: dict[type[Any], None] = {}
    for kind in kinds:
        inner = [_part_of(check) for check, *_ in f._checks(kind).values()]
        for part in (each for each in inner if each is not None and each not in found):
            found |= dict.fromkeys([part, *_parts([part])])
    return list(found)


def _part_of(check: Any) -> type[Any] | None:
    match check:
        case f.Nested(kind):
            return kind
        case f.Maybe(inner) | f.Later(inner) | f.ListOf(inner):
            return _part_of(inner)
    return None


def _default(value: Any, factory: bool) -> str:
    if factory:
        return "empty"
    if value in ("", ()):
        return "empty"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def tables() -> str:
    """All tables: what clients send, what the daemon sends, and the parts."""
    both = set(FROM_CLIENT) & set(FROM_DAEMON)
    sections = [
        ("From the client", [kind for name, kind in FROM_CLIENT.items() if name not in both]),
        ("From the daemon", [kind for name, kind in FROM_DAEMON.items() if name not in both]),
        ("From either side", [kind for name, kind in FROM_CLIENT.items() if name in both]),
        ("Parts of messages", _parts([*FROM_CLIENT.values(), *FROM_DAEMON.values()])),
    ]
    return "\n".join(f"### {title}\n\n" + "\n".join(table(kind) for kind in kinds) for title, kinds in sections)


if __name__ == "__main__":
    sys.exit(update(PAGE, "tables", tables()))
