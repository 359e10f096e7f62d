"""Manifests: CSV with a heading of column names, or JSON Lines with an object in each line."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TextIO

from qied_client.batch.problems import Problems
from qied_client.batch.rows import Row, column_of, row_of
from qied_client.errors import InvalidRequest
from qied_client.system_failures import what_helps

SUFFIXES: Final = (".csv", ".tsv", ".jsonl", ".ndjson")
_LINE_CHARS: Final = 100_000
_FLAGS: Final = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


def rows_of_manifest(path: Path, prompt: str, options: Mapping[str, Any], problems: Problems) -> Iterator[Row]:
    """Read the rows one by one; those that are wrong go to ``problems`` with their line and column.

    Paths in a manifest are relative to its folder. Raises InvalidRequest for a file that cannot be read at all.
    """
    lines = _csv_lines if path.suffix.lower() in (".csv", ".tsv") else _json_lines
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for index, (line, given) in enumerate(lines(file, path, problems), 1):
                where = f"{path.name}, line {line}"
                try:
                    yield row_of(given, index, where, prompt=prompt, options=options, folder=path.parent)
                except InvalidRequest as error:
                    problems.add(where, error.message, error.remedy)
    except OSError as error:
        raise InvalidRequest(f"{path}: {error.strerror}.", what_helps(error), field="manifest") from error
    except UnicodeDecodeError as error:
        raise InvalidRequest(
            f"{path} is not UTF-8.", "Save it as 'CSV UTF-8', or as UTF-8 in an editor.", field="manifest"
        ) from error
    except csv.Error as error:
        raise InvalidRequest(f"{path}: {error}.", "Save it again as CSV.", field="manifest") from error


def _csv_lines(file: TextIO, path: Path, problems: Problems) -> Iterator[tuple[int, dict[str, Any]]]:
    heading = file.readline(_LINE_CHARS)
    file.seek(0)
    reader = csv.reader(file, delimiter=_delimiter(heading), strict=True)
    names = next(reader, None)
    if not names or not any(names):
        raise InvalidRequest(
            f"{path} is empty.", "Its first line names the columns, such as: picture,mask,prompt,seed", field="manifest"
        )
    columns = _columns(names, path)
    for cells in reader:
        line = reader.line_num
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) > len(columns):
            problems.add(
                f"{path.name}, line {line}",
                f"it has {len(cells)} cells, and the heading has {len(columns)} columns.",
                "Put quotes around a text with the separator in it.",
            )
            continue
        row: dict[str, Any] = {}
        for column, cell in zip(columns, cells, strict=False):
            if not cell.strip():
                continue
            try:
                row[column] = _READ.get(column, _text)(cell.strip())
            except ValueError as error:
                problems.add(f"{path.name}, line {line}, column {column}", f"{error}.", "Correct the cell.")
        yield line, row  # also with a wrong cell: all that is wrong is told at once


def _columns(names: list[str], path: Path) -> list[str]:
    columns: list[str] = []
    found = Problems()
    for name in names:
        try:
            column = column_of(name)
        except InvalidRequest as error:
            found.add(f"{path.name}, line 1", error.message, error.remedy)
            continue
        if column in columns:
            found.add(f"{path.name}, line 1", f"the column {column!r} is there twice.", "Remove one of the two.")
        columns.append(column)
    found.raise_if_any()
    return columns


def _delimiter(heading: str) -> str:
    """Spreadsheets of many countries write semicolons, and .tsv files have tabs."""
    return max(",;\t", key=heading.count)


def _json_lines(file: TextIO, path: Path, problems: Problems) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        where = f"{path.name}, line {number}"
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            problems.add(where, f"it is not JSON: {error}.", "Write one JSON object in each line.")
            continue
        if not isinstance(value, dict):
            problems.add(where, "it is not a JSON object.", 'Write {"picture": "a.png", "prompt": "make it night"}.')
            continue
        try:
            row = {column_of(name): item for name, item in value.items()}
        except InvalidRequest as error:
            problems.add(where, error.message, error.remedy)
            continue
        if len(row) < len(value):
            problems.add(where, "two of its keys mean the same.", "Remove one of the two.")
            continue
        wrong = [name for name, item in row.items() if not isinstance(item, _TYPES.get(name, str | None))]
        for name in wrong:
            problems.add(where, f"{name}: {json.dumps(row[name])[:60]} has the wrong type.", "Correct the value.")
        if not wrong:
            yield number, _with_tuples(row)


def _with_tuples(row: dict[str, Any]) -> dict[str, Any]:
    """LoRAs with a strength are pairs in JSON, which has no tuples."""
    loras = row.get("loras")
    if isinstance(loras, list):
        row["loras"] = [tuple(each) if isinstance(each, list) else each for each in loras]
    return row


def _text(cell: str) -> Any:
    return cell


def _whole(cell: str) -> int:
    try:
        return int(cell)
    except ValueError:
        raise ValueError(f"{cell[:60]!r} is not a whole number") from None


def _number(cell: str) -> float:
    try:
        return float(cell.replace(",", "."))
    except ValueError:
        raise ValueError(f"{cell[:60]!r} is not a number") from None


def _flag(cell: str) -> bool:
    if cell.lower() not in _FLAGS:
        raise ValueError(f"{cell[:60]!r} is neither true nor false")
    return _FLAGS[cell.lower()]


def loras_of(text: str) -> list[Any]:
    """LoRAs of a cell: ``NAME``, or ``NAME:0.8``, several of them with semicolons between; raises ValueError."""
    return [_lora(part.strip()) for part in text.split(";") if part.strip()]


def _lora(text: str) -> str | tuple[str, float]:
    name, colon, strength = text.rpartition(":")
    return (name, _number(strength)) if colon else text


_READ: Final[dict[str, Callable[[str], Any]]] = {
    **dict.fromkeys(("seed", "steps", "width", "height", "priority"), _whole),
    "true_cfg_scale": _number,
    "preemptible": _flag,
    "loras": loras_of,
}
_INTEGER: Final = int | None
_TYPES: Final[dict[str, Any]] = {
    **dict.fromkeys(("seed", "steps", "width", "height", "priority"), _INTEGER),
    "true_cfg_scale": int | float | None,
    "preemptible": bool | None,
    "loras": str | list | dict | None,
    "picture": str | list | None,
}
