"""A report as tables of text, for a terminal and for the page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table as RichTable

from quality_bench import rows
from quality_bench.measures import EVERYTHING, HELD_OUT, OVERALL

Report = Mapping[str, Any]
NOTHING = "-"


@dataclass(frozen=True)
class Table:
    """Cells of text below ``columns``; ``note`` says what they mean."""

    title: str
    columns: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]
    note: str = ""

    def markdown(self) -> str:
        """Heading, table and note."""
        lines = ["| " + " | ".join(cells) + " |" for cells in (self.columns, ["---"] * len(self.columns), *self.cells)]
        return f"### {self.title}\n\n" + "\n".join(lines) + "\n" + (f"\n{self.note}\n" if self.note else "")

    def rich(self) -> RichTable:
        """For a terminal; the first column is text, the others are numbers."""
        table = RichTable(
            title=self.title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False
        )
        for index, name in enumerate(self.columns):
            table.add_column(name, justify="right" if index else "left", no_wrap=True)
        for cells in self.cells:
            table.add_row(*cells)
        return table


def show(report: Report, console: Console) -> None:
    """All tables of a report."""
    for table in tables(report):
        console.print(table.rich())


def tables(report: Report) -> list[Table]:
    """Every table that the report has rows for, in the order in which they are read."""
    made = (
        _bars(report),
        _rows(report),
        _groups(report),
        _against(report),
        _turns(report),
        _style(report),
        _vae(report),
        _text(report),
    )
    return [table for table in made if table.cells]


def share(value: float | None) -> str:
    """A share as a percentage."""
    return NOTHING if value is None else f"{value:.1%}"


def number(value: float | None, form: str = ".2f") -> str:
    """A number, signed where ``form`` says so."""
    return NOTHING if value is None else format(value, form)


def interval(found: Mapping[str, Any]) -> str:
    """The confidence interval of a share in percent."""
    return NOTHING if found["low"] is None else f"{100 * found['low']:.0f}-{100 * found['high']:.0f}"


def _bars(report: Report) -> Table:
    cells = []
    for bar in report["bars"]:
        if bar["met"] is None:
            continue
        shown = share if bar["unit"] == "share" else lambda value: number(value) + " dB" * (value is not None)
        sign = "at most " if bar["at_most"] else "at least "
        cells.append((bar["name"], shown(bar["value"]), sign + shown(bar["limit"]), "yes" if bar["met"] else "no"))
    return Table("Bars", ("bar", "measured", "to reach", "met"), tuple(cells))


def _rows(report: Report) -> Table:
    cells = []
    for row in report["rows"]:
        if OVERALL in row["groups"]:
            overall, everything = row["groups"][OVERALL], row["groups"][EVERYTHING]
            held_out = row["groups"].get(HELD_OUT)
            cells.append(
                (
                    row["name"],
                    share(overall["success"]["share"]),
                    interval(overall["success"]),
                    share(held_out["success"]["share"] if held_out else None),
                    share(everything["success"]["share"]),
                    number(everything["psnr_db"]),
                    number(everything["ssim"], ".3f"),
                    number(everything["preserved_db"], ".1f"),
                )
            )
    columns = ("configuration", "success", "95%", "unseen", "all", "PSNR", "SSIM", "kept")
    note = (
        "*success*: edits in trained phrasings, with the confidence interval in percent; *unseen*: edits in phrasings "
        "that training never saw; *all*: both. *PSNR* (dB) and *SSIM* against the truth, and *kept*, the PSNR of the "
        "preserved region (dB), are means over all edits."
    )
    return Table("Configurations", columns, tuple(cells), note)


def _groups(report: Report) -> Table:
    main = next((row for row in report["rows"] if row["name"] == rows.MAIN), None)
    cells = [
        (
            name,
            str(found["success"]["count"]),
            share(found["success"]["share"]),
            interval(found["success"]),
            number(found["psnr_db"]),
            number(found["preserved_db"], ".1f"),
            number(found["preserved_low_db"], ".1f"),
        )
        for name, found in (main["groups"] if main else {}).items()
    ]
    columns = (rows.MAIN, "edits", "success", "95%", "PSNR", "kept", "low 5%")
    note = "*low 5%*: the fifth percentile of *kept*; a twentieth of the edits are worse."
    return Table("By task, language and phrasing", columns, tuple(cells), note)


def _against(report: Report) -> Table:
    cells = []
    for row in report["rows"]:
        if (found := row["against_bf16"]) is not None:
            task, worst = min(found["tasks_db"].items(), key=lambda item: item[1])
            mean = f"{found['mean_db']:+.2f} ± {found['error_db']:.2f}"
            counts = (str(found["lost"]), str(found["won"]))
            cells.append((row["name"], mean, f"{worst:+.2f} {task}", number(found["both_db"], "+.2f"), *counts))
    note = (
        f"PSNR against the truth in dB, less that of `{rows.MAIN}`, edit by edit. *both*: the mean over edits that "
        f"succeed in both; *lost*: edits that succeed only in `{rows.MAIN}`; *won*: only in this configuration."
    )
    columns = ("configuration", "mean", "worst task", "both", "lost", "won")
    return Table(f"Against {rows.MAIN}", columns, tuple(cells), note)


def _turns(report: Report) -> Table:
    cells = []
    for row in report["rows"]:
        for number_, turn in enumerate(row["drift"]["turns"] if row["drift"] else (), 1):
            cells.append(
                (
                    row["name"].removesuffix(" turns"),
                    str(number_),
                    share(turn["success"]["share"]),
                    share(turn["all_so_far"]["share"]),
                    interval(turn["all_so_far"]),
                    number(turn["psnr_db"]),
                    number(turn["untouched_db"], ".1f"),
                    number(turn["untouched_good_db"], ".1f"),
                )
            )
    columns = ("sessions", "turn", "success", "so far", "95%", "PSNR", "untouched", "if good")
    note = (
        "Each turn edits the model's own previous result. *success*: against the turn's truth; *so far*: sessions "
        "without a failure up to this turn; *untouched*: PSNR in dB against the first source, where no turn so far "
        "edits anything; *if good*: the same, for sessions without a failure."
    )
    return Table("Turns", columns, tuple(cells), note)


def _style(report: Report) -> Table:
    cells = [tuple(_style_cells(row)) for row in report["rows"] if row["style"] is not None]
    columns = ("configuration", "with", "of", "without", "of", "PSNR", "same bytes")
    note = (
        "How many results show the style, in sessions with its LoRA and without; *PSNR*: against the truth drawn in "
        "the style, in dB; *same bytes*: results that equal those of the session alone, to the last pixel."
    )
    return Table("Style LoRA", columns, tuple(cells), note)


def _style_cells(row: Mapping[str, Any]) -> Iterator[str]:
    yield row["name"]
    for which in ("with", "without"):
        found = row["style"].get(which)
        yield share(found["share"] if found else None)
        yield str(found["count"]) if found else NOTHING
    yield number(row["style"]["psnr_to_styled_truth_db"])
    same = row["same_as_alone"]
    yield f"{same['same']} of {same['count']}" if same else NOTHING


def _text(report: Report) -> Table:
    cells = tuple(
        (name, str(found["prompts"]), share(found["embeddings"]), share(found["vision"]))
        for name, found in (report.get(rows.TEXT) or {}).items()
    )
    note = (
        "Norm of the difference to what the stored weights give in FP32, by the norm of that: embeddings of a prompt "
        "with its picture, and features of the picture alone. Rows of weights compute in FP32."
    )
    return Table("Text encoder", ("rounded", "prompts", "embeddings", "features"), cells, note)


def _vae(report: Report) -> Table:
    cells = tuple(
        (name.upper(), str(found["pictures"]), number(found["mean_db"]), number(found["worst_db"]))
        for name, found in (report["vae"] or {}).items()
    )
    return Table("VAE, there and back", ("precision", "pictures", "mean dB", "worst dB"), cells)
