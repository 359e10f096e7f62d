"""``presets``, ``loras`` and ``upscalers``: what an edit can choose from, and the limits of this daemon."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from math import isqrt
from typing import TypeVar

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from qied_client.cli.failures import failures_as_text
from qied_client.cli.options import Address, AsJson, Key
from qied_client.client import Client
from qied_client.picture_header import FORMAT_NAMES
from qied_client.protocol import messages as m
from qied_client.text import counted, file_size

Row = TypeVar("Row", m.LoraInfo, m.UpscalerInfo)


def presets(key: Key = None, address: Address = None, as_json: AsJson = False) -> None:
    """Show what each preset does, and the limits of this daemon."""
    with failures_as_text():
        with Client(key, address=address) as client:
            description = client.describe()
        console = Console(highlight=False)
        if as_json:
            facts = asdict(description)
            del facts["re"], facts["plans"]
            console.print_json(json.dumps(facts))
            return
        console.print(Text.assemble((description.title, "bold"), f" in {description.precision}"))
        for line in _caps(description):
            console.print(Text(f"  {line}"))
        console.print()
        console.print(presets_table(description.presets))
        for warning in description.warnings:
            console.print(Text(f"warning: {warning}", "yellow"), soft_wrap=True)


def _caps(description: m.Description) -> Iterator[str]:
    grid = description.side_multiple
    side = isqrt(description.max_pixels) // grid * grid
    yield f"results up to {description.max_pixels / 1e6:.2f} megapixels ({side} x {side})"
    most = description.max_images
    pictures = "text alone" if most == 0 else "1 picture" if most == 1 else f"1 to {most} pictures"
    loras = counted(description.loras, "LoRA") if description.loras else "no LoRAs"
    yield f"{pictures} in an edit; {loras}"
    yield f"pictures as {', '.join(FORMAT_NAMES.get(kind, kind) for kind in description.picture_formats)}"


def presets_table(rows: Sequence[m.PresetInfo]) -> Table:
    """Presets as text; what each is for has the room that is left."""
    table = _table(
        Column("preset", no_wrap=True),
        Column("steps", no_wrap=True, justify="right"),
        Column("CFG", no_wrap=True, justify="right"),
        Column("precision", no_wrap=True),
        Column("LoRAs", overflow="fold"),
        Column("about", overflow="fold"),
    )
    for row in rows:
        table.add_row(
            Text.assemble((row.name, "bold"), " (default)" if row.default else ""),
            str(row.steps),
            f"{row.true_cfg_scale:g}",
            Text(row.precision or "any"),
            Text(", ".join(row.loras) or "-"),
            Text(row.about),
        )
    return table


def loras(key: Key = None, address: Address = None, as_json: AsJson = False) -> None:
    """List the LoRAs by the names that 'edit --lora' takes."""
    with failures_as_text():
        with Client(key, address=address) as client:
            rows = client.loras()
        _print_rows(
            rows, loras_table, "This daemon has no LoRAs. Its owner names their folders in model.loras.", as_json
        )


def loras_table(rows: Sequence[m.LoraInfo]) -> Table:
    """LoRAs as text; names are whole, since they are typed."""
    table = _table(
        Column("name", overflow="fold"),
        Column("size", no_wrap=True, justify="right"),
        Column("rank", no_wrap=True, justify="right"),
        Column("made for", overflow="fold"),
    )
    for row in rows:
        made_for = Text(f"not usable: {row.problem}", "yellow") if row.problem else Text(_made_for(row))
        table.add_row(Text(row.name), file_size(row.bytes), str(row.rank or "-"), made_for)
    return table


def _made_for(row: m.LoraInfo) -> str:
    return f"{row.steps} steps, CFG 1" if row.steps else ""


def upscalers(key: Key = None, address: Address = None, as_json: AsJson = False) -> None:
    """List the upscaling models by the names that 'edit --upscale' takes."""
    with failures_as_text():
        with Client(key, address=address) as client:
            rows = client.upscalers()
        none = "This daemon has no upscalers. Its owner names their folders in model.upscalers."
        _print_rows(rows, upscalers_table, none, as_json)


def upscalers_table(rows: Sequence[m.UpscalerInfo]) -> Table:
    """Upscaling models as text; names are whole, since they are typed."""
    table = _table(
        Column("name", overflow="fold"),
        Column("scale", no_wrap=True, justify="right"),
        Column("architecture", overflow="fold"),
        Column("precision", no_wrap=True),
    )
    for row in rows:
        table.add_row(Text(row.name), f"{row.scale}x", Text(row.architecture or "-"), row.precision or "-")
    return table


def _table(*columns: Column) -> Table:
    return Table(*columns, box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")


def _print_rows(rows: Sequence[Row], table: Callable[[Sequence[Row]], Table], none: str, as_json: bool) -> None:
    """Print what a daemon lists as JSON, as a table, or why there is none."""
    console = Console(highlight=False)
    if as_json:
        console.print_json(json.dumps([asdict(row) for row in rows]))
    elif rows:
        console.print(table(rows))
    else:
        console.print(none)
