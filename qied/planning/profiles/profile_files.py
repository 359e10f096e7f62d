"""Profiles on disk: TOML files read into frozen models, whose errors name file, line and key."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any, TypeVar, get_args

import tomli
from pydantic import BaseModel, ValidationError
from qied_client.errors import ConfigError

Key = tuple[str | int, ...]
"""Where a value stands: ``("choose", "precision", 1)`` is the second item of ``precision`` in ``[choose]``."""

_Model = TypeVar("_Model", bound=BaseModel)

_PART = r"""(?:[A-Za-z0-9_-]+|"(?:\\.|[^"\\\n])*"|'[^'\n]*')"""
_DOTTED = rf"{_PART}(?:[ \t]*\.[ \t]*{_PART})*"
_STATEMENT = re.compile(rf"[ \t]*(?:\[(?P<array>\[)?[ \t]*(?P<table>{_DOTTED})[ \t]*\]|(?P<key>{_DOTTED})[ \t]*=)")
_TOKEN = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}'
    r"|'''.*?'{3,5}"
    r'|"(?:\\.|[^"\\\n])*"'
    r"|'[^'\n]*'"
    r"|#[^\n]*|.",
    re.DOTALL,
)
_PARSER_LINE = re.compile(r" \(at line (\d+), column \d+\)$")


@dataclass(frozen=True)
class ProfileFile:
    """One parsed file, and the line (from 1) on which each of its tables and keys is written."""

    path: Path
    values: Mapping[str, Any]
    lines: Mapping[Key, int]

    def line(self, key: Key) -> int:
        """Line of ``key``; of the nearest table around it where the file does not write it."""
        while key:
            for known in (key, (*key, 0)):
                if known in self.lines:
                    return self.lines[known]
            key = key[:-1]
        return 1

    def refusal(self, key: Key, problem: str, remedy: str) -> ConfigError:
        """Error ``FILE:LINE: KEY: problem`` for a value of this file."""
        return ConfigError(": ".join([f"{self.path}:{self.line(key)}", *filter(None, [written(key)]), problem]), remedy)

    def validated(self, kind: type[_Model]) -> _Model:
        """Return the content as ``kind``; raises ConfigError with file, line, key and the allowed values."""
        try:
            return kind.model_validate(self.values)
        except ValidationError as error:
            # A key that is spelt wrong is also a key that is missing: the spelling is what to say.
            first = min(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
        key = first["loc"]
        if first["type"] == "extra_forbidden":
            known = ", ".join(_fields_of(kind, key[:-1]))
            raise self.refusal(key, f"unknown key; known are {known}.", "Remove it, or correct its name.")
        if first["type"] == "missing":
            raise self.refusal(key, "missing.", "Add it.")
        if first["type"] in {"model_type", "dict_type"}:
            raise self.refusal(key, "must be a table.", f"Write [{written(key)}] on a line of its own.")
        raise self.refusal(key, f"{first['msg']}, not {shorten(repr(first['input']), 80)}.", "Correct this value.")


def read_profile_file(path: Path) -> ProfileFile:
    """Read and parse one TOML file; raises ConfigError that names the file, and the line if it is not TOML."""
    try:
        text = path.read_text(encoding="utf-8")
        return ProfileFile(path, tomli.loads(text), key_lines(text))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}.", "Make it a readable file, or remove it.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 at byte {error.start}.", "Save it as UTF-8.") from error
    except tomli.TOMLDecodeError as error:
        found = _PARSER_LINE.search(str(error))
        where = f"{path}:{found[1]}" if found else str(path)
        raise ConfigError(f"{where}: {_PARSER_LINE.sub('', str(error))}.", "Correct the file.") from error


def key_lines(text: str) -> dict[Key, int]:
    """Line of every table header and key of valid TOML ``text``; keys inside inline tables are not listed."""
    lines: dict[Key, int] = {}
    table: Key = ()
    at = 0
    while at < len(text):
        if statement := _STATEMENT.match(text, at):
            line = text.count("\n", 0, at) + 1
            if statement["table"]:
                table = _table_key(lines, _parts(statement["table"]), bool(statement["array"]))
                lines.setdefault(table, line)
            else:
                lines[(*table, *_parts(statement["key"]))] = line
            at = statement.end()
        at = _end_of_statement(text, at)
    return lines


def written(key: Key) -> str:
    """``key`` as people write it: ``choose.precision[1]``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in key).lstrip(".")


def _parts(dotted: str) -> Key:
    parts: Key = ()
    value: Any = tomli.loads(f"{dotted} = 0")
    while isinstance(value, dict):
        ((part, value),) = value.items()
        parts = (*parts, part)
    return parts


def _table_key(lines: Mapping[Key, int], parts: Key, array: bool) -> Key:
    """Key of a table header; tables in arrays carry their number, as do tables below them."""
    table: Key = ()
    for number, part in enumerate(parts):
        table = (*table, part)
        count = sum(len(key) == len(table) + 1 and key[:-1] == table and isinstance(key[-1], int) for key in lines)
        if array and number == len(parts) - 1:
            table = (*table, count)
        elif count:
            table = (*table, count - 1)
    return table


def _end_of_statement(text: str, at: int) -> int:
    """Position after the line break that ends the statement: not one inside a string or an array."""
    depth = 0
    while token := _TOKEN.match(text, at):
        at = token.end()
        if token[0] in "[{":
            depth += 1
        elif token[0] in "]}":
            depth -= 1
        elif token[0] == "\n" and depth <= 0:
            break
    return at


def _fields_of(kind: Any, location: Key) -> list[str]:
    """Names of the fields that the model at ``location`` has; models hold models, and tuples and dicts of them."""
    for part in location:
        if hasattr(kind, "model_fields"):
            kind = kind.model_fields[part].annotation
        else:
            kind = next(inner for inner in reversed(get_args(kind)) if inner is not ...)
    return list(kind.model_fields)
