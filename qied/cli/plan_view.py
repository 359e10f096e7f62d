"""A plan as people see it: a table with the source of each value, and the device's memory as a bar; 80 columns."""

from __future__ import annotations

import math
from collections.abc import Sequence

from qied_client.text import column_size, gib
from rich.console import Console, RenderableType
from rich.table import Column, Table
from rich.text import Text

from qied.planning.choosing.planned_upscalers import PlannedUpscaler
from qied.planning.plan import Execution, Plan, Refusal
from qied.planning.requests.quote import Answer

_BAR_CELLS = 64
_MARKS = {
    "context": ("C", "bright_black"),
    "graphs": ("G", "white"),
    "small weights": ("W", "blue"),
    "resident blocks": ("B", "bright_blue"),
    "ring": ("R", "cyan"),
    "second precision": ("P", "bright_cyan"),
    "text encoder": ("T", "yellow"),
    "arena": ("A", "magenta"),
    "sessions": ("S", "green"),
    "caches": ("K", "bright_green"),
    "LoRAs": ("L", "bright_yellow"),
}


def show_plan(
    console: Console, plan: Plan, answer: Answer | None = None, upscalers: Sequence[PlannedUpscaler] = ()
) -> None:
    """Print a plan, and what it means for one request where one was given."""
    console.print(_headline(plan))
    console.print()
    console.print(_values(plan))
    console.print()
    console.print(_memory(plan))
    console.print()
    for reason in plan.reasons:
        console.print(_item("why ", "bold", reason))
    for warning in plan.warnings:
        console.print(_item("note", "bold yellow", warning))
    for each in upscalers:
        console.print(_item(f"{each.scale}x  ", "bold", each.text))
    if answer is not None:
        console.print(_item("edit", "bold green" if answer.fits else "bold red", answer.text))


def show_in_short(console: Console, plans: Sequence[Plan], title: str, loras: int) -> None:
    """Print what the plans of all cards mean for those who will edit; ``loras`` can be used by name."""
    for plan in plans:
        console.print(Text.assemble((title, "bold"), f" in {precision_text(plan)} on {device_text(plan)}"))
        memory = f"{gib(plan.predicted_peak_bytes)} of {gib(plan.budget_bytes)} at most; {_blocks(plan)}"
        edits = f"{_edits(plan.sessions.at_max_pixels)} of that size at once"
        _show_row(console, "results", f"up to {megapixels(plan.max_pixels)}, {edits}")
        _show_row(console, "memory", memory)
        for reason in plan.reasons[:1]:
            _show_row(console, "why", reason)
    if loras:
        _show_row(console, "LoRAs", f"{loras}; qied models lists them")
    _show_row(console, "more", "qied plan")


def _show_row(console: Console, name: str, value: str) -> None:
    console.print(_item(f"  {name:<7}", "dim", value))


def _blocks(plan: Plan) -> str:
    run = plan.execution
    if run.device == "cpu":
        return "all in memory"
    streamed = run.total_blocks - run.resident_blocks
    if not streamed:
        return f"all {run.total_blocks} blocks on the card"
    return f"{run.resident_blocks} of {run.total_blocks} blocks on the card, {streamed} streamed in each step"


def precision_text(plan: Plan) -> str:
    """The precision as people call it: ``FP8``, ``FP8 storage``, ``BF16``, ``FP32``."""
    name = plan.execution.precision
    return "FP8 storage" if name == "fp8-storage" else name.upper()


def device_text(plan: Plan) -> str:
    """The card's name, or ``the CPU``."""
    return "the CPU" if plan.execution.device == "cpu" else plan.gpu


def _edits(count: int) -> str:
    return "1 edit" if count == 1 else f"{count} edits"


def show_refusal(console: Console, refusal: Refusal) -> None:
    """Print why there is no plan, and what to do."""
    console.print(_item("no  ", "bold red", f"{refusal.message} ({refusal.code})"))
    console.print(_item("do  ", "bold green", refusal.remedy))


def megapixels(pixels: int) -> str:
    """An area as the square of that size, such as ``1024 x 1024 px``."""
    side = math.isqrt(pixels)
    return f"{side} x {side} px" if side * side == pixels else f"{pixels / 1e6:.2f} megapixels"


def _headline(plan: Plan) -> Text:
    return Text.assemble((plan.model, "bold"), " on ", (device_text(plan), "bold"))


def _values(plan: Plan) -> Table:
    run, streamed = plan.execution, plan.execution.total_blocks - plan.execution.resident_blocks
    blocks = f"{run.resident_blocks} of {run.total_blocks} stay" + (f", {streamed} stream" if streamed else "")
    scaling = {"rowwise": ", a scale per row", "tensorwise": ", a scale per tensor", None: ""}[plan.scaling]
    host = column_size(plan.host_bytes) + (f", {column_size(plan.pinned_bytes)} pinned" if plan.pinned_bytes else "")
    budget = column_size(plan.budget_bytes)
    if run.device == "cpu":
        budget += f", {column_size(plan.predicted_peak_bytes)} needed"
    rows = (
        ("precision", run.precision + scaling, "precision"),
        *((("second precision", run.second.precision, "second_precision"),) if run.second is not None else ()),
        ("blocks", blocks, "blocks"),
        ("results up to", megapixels(plan.max_pixels), "max_pixels"),
        ("references up to", megapixels(plan.max_reference_pixels), "max_reference_pixels"),
        ("sessions", f"{plan.sessions.at_max_pixels} at that size", "sessions"),
        ("text encoder", _text_encoder(run), "text_encoder"),
        ("previews", _previews(run), ""),
        ("VAE encodes", _tile(run.encode_tile_px), "vae"),
        ("VAE decodes", _tile(run.decode_tile_px), "vae"),
        ("host memory", host, ""),
        ("budget", budget, "budget_bytes"),
    )
    table = Table(Column(no_wrap=True, style="bold"), Column(), Column(style="dim"), box=None, show_header=False)
    for name, value, source in rows:
        table.add_row(name, value, plan.sources.get(source, ""))
    return table


def _text_encoder(run: Execution) -> str:
    if run.text_encoder == "resident":
        return "stays"
    return "streams" + ("" if run.text_encoder_precision == "stored" else f", {run.text_encoder_precision}")


def _previews(run: Execution) -> str:
    return "a linear map" if run.preview_decoder is None else run.preview_decoder.name


def _tile(side: int | None) -> str:
    return "whole pictures" if side is None else f"in tiles of {side} px"


def _memory(plan: Plan) -> RenderableType:
    table = Table(Column(no_wrap=True), Column(no_wrap=True), box=None, show_header=False, padding=(0, 1, 0, 0))
    where = "memory" if plan.execution.device == "cpu" else "VRAM"
    table.add_row(Text(where, "bold"), _bar(plan))
    for line in _legend(plan):
        table.add_row("", line)
    return table


def _bar(plan: Plan) -> Text:
    """The budget as cells. Each part ends at the cell nearest to the sum so far, so that all add up to the bar."""
    whole = max(plan.budget_bytes, plan.predicted_peak_bytes, 1)
    bar, used, cells = Text("["), 0, 0
    for part in plan.parts:
        used += part.bytes
        end = min(_BAR_CELLS, round(_BAR_CELLS * used / whole))
        mark, colour = _MARKS[part.name]
        bar.append(mark * (end - cells), colour)
        cells = end
    return bar.append("." * (_BAR_CELLS - cells) + "]")


def _legend(plan: Plan) -> list[Text]:
    free = max(0, plan.budget_bytes - plan.predicted_peak_bytes)
    entries = [(*_MARKS[part.name], f"{part.name} {column_size(part.bytes)}") for part in plan.parts if part.bytes]
    entries.append((".", "", f"free {column_size(free)}"))
    lines = [Text()]
    for mark, colour, text in entries:
        if len(lines[-1]) + len(text) + 4 > _BAR_CELLS + 2:
            lines.append(Text())
        lines[-1].append(f"{mark} ", colour).append(f"{text}  ")
    return lines


def _item(mark: str, style: str, text: str) -> Table:
    table = Table(Column(no_wrap=True), Column(overflow="fold"), box=None, show_header=False, padding=(0, 1, 0, 0))
    table.add_row(Text(mark, style), Text(text))
    return table
