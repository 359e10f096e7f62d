"""The page's plots: time against tokens, and speed against weights on the card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from forward_bench.limits import limits
from forward_bench.setting import GB, MIDDLE, NATIVE, SIZES, Setting
from forward_bench.show import MODELS
from part_runs.bar import figure, ratio
from PIL import Image
from quality_bench.plot import FAINT, GRID, INK, MARGIN, WIDTH, Axis, Canvas

from performance_bench.forward_part import LIMIT, streamed_rows
from performance_bench.reports import Results

HEIGHT, HEAD, FOOT, LEFT, LEGEND = 380, 40, 44, 44, 250
COLOURS = {
    LIMIT: "#9aa4b0",
    "diffusers": "#8250a8",
    "compiled": "#b5568f",
    "compiled-graphs": "#d992bd",
    "compiled-autotune": "#8f4a72",
    "torchao": "#3d8f6c",
    "bf16": "#2f6db5",
    "fp8-storage": "#5aa5c9",
    "fp8": "#e0a878",
    "fp8-attention": "#d1702e",
}
_STEPS = (1, 2, 5)
_TICKS = 8


@dataclass(frozen=True)
class Line:
    """Points with a name and a colour; ``dots`` alone where they are not joined."""

    name: str
    ink: str
    points: tuple[tuple[float, float], ...]
    joined: bool = True


def forward_plot(found: Results) -> Image.Image:
    """Milliseconds of one forward against its tokens, of all that ran on the card that FP8 ran on."""
    tokens = {str(size): Setting().tokens(size) for size in SIZES}
    lines = [Line(LIMIT, COLOURS[LIMIT], _points(tokens, limits(found.figures("ceilings"))))]
    for part, title in MODELS.items():
        times = {size: figure(found.figures(part), "sizes", size, "ms") for size in tokens}
        if not found.elsewhere(part, "fp8"):
            lines.append(Line(title, COLOURS[part], _points(tokens, times)))
    marks = {float(count): size for size, count in tokens.items()}
    return _drawn("One forward, ms", "tokens: target, references, text", lines, marks)


def streaming_plot(found: Results) -> Image.Image:
    """Share of the resident speed against gigabytes of weights on the card."""
    lines = []
    for size, ink, swept in ((NATIVE, COLOURS["fp8"], "#7d3c10"), (MIDDLE, COLOURS["bf16"], "#163a63")):
        kinds = (("ms", f"{size}, one edit", ink), ("several_ms", f"{size}, four edits in a sweep", swept))
        for kind, name, colour in kinds:
            resident = figure(found.figures("streaming"), "resident", kind, size)
            shares = [
                (row["weights_bytes"] / GB, 100 * share)
                for row in streamed_rows(found)
                if (share := ratio(resident, figure(row, kind, size))) is not None
            ]
            streamed = shares if kind == "ms" else shares[1:]
            lines.append(Line(name, colour, tuple(sorted(streamed)), joined=kind == "ms"))
    return _drawn(
        "Speed, % of that with all blocks resident", "GB of weights on the card, FP8, attention in 16 bits", lines, {}
    )


def _points(tokens: Mapping[str, int], times: Mapping[str, float | None]) -> tuple[tuple[float, float], ...]:
    return tuple((float(tokens[size]), time) for size, time in times.items() if time is not None)


def from_zero(high: float, start: float, stop: float) -> Axis:
    """An axis from 0 of a few round steps that holds ``high``."""
    scale = 1.0
    while True:
        for step in (each * scale for each in _STEPS):
            if high / step <= _TICKS:
                top = step * -(-high // step)
                return Axis(0.0, float(top), float(step), start, stop)
        scale *= 10


def _drawn(title: str, below: str, lines: Sequence[Line], marks: Mapping[float, str]) -> Image.Image:
    """A plot with a legend; ``marks`` are values of the lower axis that have a name."""
    shown = [line for line in lines if line.points]
    canvas = Canvas(WIDTH, HEIGHT)
    left, right, top, bottom = MARGIN + LEFT, WIDTH - MARGIN - LEGEND, MARGIN + HEAD, HEIGHT - MARGIN - FOOT
    across = from_zero(max(x for line in shown for x, _ in line.points), left, right)
    up = from_zero(max(y for line in shown for _, y in line.points), bottom, top)
    canvas.text(left, MARGIN + 8, title, 13)
    for tick in up.ticks():
        canvas.line([(left, up.at(tick)), (right, up.at(tick))], GRID)
        canvas.text(left - 8, up.at(tick), f"{tick:g}", 10.5, FAINT, "rm")
    for tick in across.ticks():
        canvas.text(across.at(tick), bottom + 14, f"{tick:g}", 10.5, FAINT, "mm")
    canvas.text((left + right) / 2, bottom + 34, below, 10.5, FAINT, "mm")
    for value, name in marks.items():
        canvas.line([(across.at(value), top), (across.at(value), bottom)], GRID)
        canvas.text(across.at(value), top - 8, name, 10, FAINT, "mm")
    for index, line in enumerate(shown):
        points = [(across.at(x), up.at(y)) for x, y in line.points]
        if line.joined and len(points) > 1:
            canvas.line(points, line.ink, 2)
        for x, y in points:
            canvas.dot(x, y, line.ink)
        y = top + 10 + 22 * index
        canvas.dot(right + 28, y, line.ink)
        canvas.text(right + 42, y, line.name, 11, INK)
    return canvas.image
