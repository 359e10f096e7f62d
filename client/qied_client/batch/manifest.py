"""Manifests: CSV with a heading of column names, or JSON Lines with an object in each line."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TextIO

from qied_client.batch.cells import READ, TYPES
from qied_client.batch.problems import Problems
from qied_client.batch.rows import Row, column_of, row_of
from qied_client.errors import InvalidRequest
from qied_client.system_failures import what_helps

SUFFIXES: Final = (".csv", ".tsv", ".jsonl", ".ndjson")
_LINE_CHARS: Final = 100_000
_SEPARATOR: Final = re.compile(r"sep=(.)\s*", re.IGNORECASE)
"""What Excel reads from the first line of a table, and some programs write there."""


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
    said = _SEPARATOR.fullmatch(heading)
    if said is None:
        file.seek(0)
    before = 0 if said is None else 1
    reader = csv.reader(file, delimiter=_delimiter(heading) if said is None else said[1], strict=True)
    names = next(reader, None)
    if not names or not any(names):
        raise InvalidRequest(
            f"{path} is empty.", "Its first line names the columns, such as: picture,mask,prompt,seed", field="manifest"
        )
    columns = _columns(names, f"{path.name}, line {before + 1}")
    for line, cells in _lines(reader, path, before):
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
                row[column] = READ[column](cell.strip())
            except ValueError as error:
                problems.add(f"{path.name}, line {line}, column {column}", f"{error}.", "Correct the cell.")
            except InvalidRequest as error:
                where = f"{path.name}, line {line}, column {column}"
                problems.add(where, error.message.removeprefix(f"{column}: "), error.remedy)
        yield line, row  # also with a wrong cell: all that is wrong is told at once


def _lines(reader: Any, path: Path, before: int) -> Iterator[tuple[int, list[str]]]:
    """The lines of a table with the numbers that an editor shows, after ``before`` lines that the reader has not seen.

    A text in quotes may go over several lines: the number is that of the first. Raises InvalidRequest for a line that
    cannot be read.
    """
    while True:
        first = before + reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            problem, remedy = f"{error}.", "Save the table again as CSV."
            if "unexpected end" in str(error):
                problem, remedy = "a quote opens there and is not closed.", 'Within quotes, write a quote twice: "".'
            raise InvalidRequest(f"{path.name}, line {first}: {problem}", remedy, field="manifest") from error
        if cells is None:
            return
        yield first, cells


def _columns(names: list[str], where: str) -> list[str]:
    columns: list[str] = []
    found = Problems()
    for name in names:
        try:
            column = column_of(name)
        except InvalidRequest as error:
            found.add(where, error.message, error.remedy)
            continue
        if column in columns:
            found.add(where, f"the column {column!r} is there twice.", "Remove one of the two.")
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
        wrong = [name for name, item in row.items() if not isinstance(item, TYPES[name])]
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
