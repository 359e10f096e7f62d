"""``batch --dry-run``: the rows, what each kind of edit takes, and the time of the whole."""

from __future__ import annotations

import os
from collections.abc import Sequence

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from qied_client.batch.assembly import expected_ms
from qied_client.batch.checking import Checked, Kind
from qied_client.batch.edits import BatchEdit
from qied_client.batch.names import Names
from qied_client.cli.status import seconds
from qied_client.inputs import Picture
from qied_client.protocol.messages import Quoted


def show_plan(
    console: Console,
    found: Checked,
    names: Names,
    answers: Sequence[tuple[Kind, Quoted]],
    stages: Sequence[str],
    done: int = 0,
) -> None:
    """Print the first rows, the kinds of edits, and the sum; ``done`` of them were made before."""
    console.print(_rows(found.first, names))
    if found.edits > len(found.first):
        console.print(Text(f"and {found.edits - len(found.first)} more edits"))
    console.print()
    if answers:
        console.print(_kinds(answers))
        console.print()
    left = found.edits - done
    before = f", {done} done before" if done else ""
    text = Text.assemble((f"{left} edits", "bold"), f" of {found.rows} rows{before}: {' -> '.join(stages)}")
    if answers:
        text.append(f"; about {seconds(expected_ms(answers, left))} on one worker, next to nothing else")
    console.print(text, soft_wrap=True)


def _rows(edits: Sequence[BatchEdit], names: Names) -> Table:
    table = _table(
        Column("row", justify="right", no_wrap=True),
        Column("picture", overflow="ellipsis", no_wrap=True, ratio=2),
        Column("mask", overflow="ellipsis", no_wrap=True, ratio=1),
        Column("prompt", overflow="ellipsis", no_wrap=True, ratio=3),
        Column("results", overflow="fold", ratio=3),
        expand=True,
    )
    for edit in edits:
        row = edit.row
        pictures = ", ".join(_name(picture) for picture in row.pictures)
        mask = "-" if row.mask is None else _name(row.mask)
        # Rows without a seed get one by the batch's id, which is made when it begins.
        seed = "{seed}" if row.options.get("seed") is None else edit.seed
        results = ", ".join(str(path) for path in names.paths(row, edit.number, seed))
        table.add_row(str(row.index), Text(pictures), Text(mask), Text(row.prompt), Text(results))
    return table


def _kinds(answers: Sequence[tuple[Kind, Quoted]]) -> Table:
    table = _table(
        Column("edits", justify="right", no_wrap=True),
        Column("result", no_wrap=True),
        Column("steps", justify="right", no_wrap=True),
        Column("forwards", justify="right", no_wrap=True),
        Column("precision", no_wrap=True),
        Column("each", justify="right", no_wrap=True),
        Column("warnings", overflow="fold"),
    )
    for kind, quoted in answers:
        table.add_row(
            str(kind.count),
            f"{quoted.width} x {quoted.height}",
            str(quoted.steps),
            str(quoted.forwards),
            quoted.precision,
            seconds(quoted.milliseconds),
            Text(" ".join(quoted.warnings) or "-"),
        )
    return table


def _table(*columns: Column, expand: bool = False) -> Table:
    return Table(*columns, box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", expand=expand)


def _name(picture: Picture) -> str:
    return os.path.basename(picture) if isinstance(picture, str) else type(picture).__name__  # noqa: PTH119
