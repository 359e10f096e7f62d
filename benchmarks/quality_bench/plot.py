"""A report as one picture: success and PSNR of each configuration, and what five turns do."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from quality_bench.measures import EVERYTHING, OVERALL

Report = Mapping[str, Any]
SCALE = 2
"""Drawn at twice the size, so that it is sharp on screens of high density."""
WIDTH, MARGIN = 860, 24
LABELS, GUTTER = 186, 40
ROW, HEAD, FOOT = 25, 54, 30
LINES_HEIGHT, TURN_LABELS = 150, 18
DOT = 4.5
INK, FAINT, GRID, BAND, WHITE = "#1f2328", "#667080", "#e1e5ea", "#f5f7f9", "#ffffff"
COLOURS = {"bf16": "#2f6db5", "fp8": "#d1702e", "int8": "#3f9a5f", "gguf": "#8a5bb5", "fp32": "#6b7686"}


@dataclass(frozen=True)
class Axis:
    """Values ``low`` to ``high`` on pixels ``start`` to ``stop``, with a tick every ``step``."""

    low: float
    high: float
    step: float
    start: float
    stop: float

    def at(self, value: float) -> float:
        """Where a value lies."""
        share = (value - self.low) / (self.high - self.low)
        return self.start + min(max(share, 0.0), 1.0) * (self.stop - self.start)

    def ticks(self) -> Iterator[float]:
        """The values that are marked."""
        count = round((self.high - self.low) / self.step)
        return (self.low + index * self.step for index in range(count + 1))


def axis(values: Sequence[float], start: float, stop: float, limit: float = math.inf, span: float = 1.0) -> Axis:
    """An axis of a few round steps that holds all values, none below 0; it ends at ``limit`` at the latest.

    It covers ``span`` at least, so that small differences look small.
    """
    high = max(values)
    low = min(*values, high - span)
    step = next(step for step in (0.25, 0.5, 1, 2, 5, 10, 20, 50, 100) if (high - low) / step <= 6)
    top = min(limit, (math.floor(high / step) + 1) * step)
    return Axis(max(0.0, (math.ceil(low / step) - 1) * step), top, step, start, stop)


class Canvas:
    """Drawing in points on a picture of ``SCALE`` pixels a point."""

    def __init__(self, width: float, height: float) -> None:
        self.image = Image.new("RGB", (round(width * SCALE), round(height * SCALE)), WHITE)
        self._draw = ImageDraw.Draw(self.image)

    def text(self, x: float, y: float, text: str, size: float = 12, ink: str = INK, anchor: str = "lm") -> None:
        """Write text; ``anchor`` as Pillow has it."""
        self._draw.text((x * SCALE, y * SCALE), text, fill=ink, font=_font(size), anchor=anchor)

    def line(self, points: Sequence[tuple[float, float]], ink: str, width: float = 1) -> None:
        """Draw a line."""
        self._draw.line([(x * SCALE, y * SCALE) for x, y in points], ink, round(width * SCALE), joint="curve")

    def dot(self, x: float, y: float, ink: str) -> None:
        """Draw a dot with a white rim."""
        self._draw.circle((x * SCALE, y * SCALE), (DOT + 1.2) * SCALE, WHITE)
        self._draw.circle((x * SCALE, y * SCALE), DOT * SCALE, ink)

    def band(self, x0: float, y0: float, x1: float, y1: float) -> None:
        """Shade a row."""
        self._draw.rectangle((x0 * SCALE, y0 * SCALE, x1 * SCALE, y1 * SCALE), BAND)


@cache
def _font(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size * SCALE)


def plot(report: Report) -> Image.Image:
    """Draw a report, RGB: rows of the held-out set, and turns; parts without rows are left out."""
    measured = [row for row in report["rows"] if row["set"] == "held-out" and OVERALL in row["groups"]]
    drifts = [row for row in report["rows"] if row["drift"]]
    rows_height = HEAD + ROW * len(measured) + FOOT if measured else 0
    turns_height = HEAD + LINES_HEIGHT + FOOT if drifts else 0
    canvas = Canvas(WIDTH, MARGIN + rows_height + turns_height + MARGIN / 2)
    if measured:
        _draw_rows(canvas, measured, MARGIN)
    if drifts:
        _draw_turns(canvas, drifts, MARGIN + rows_height)
    return canvas.image


def _draw_rows(canvas: Canvas, measured: Sequence[Report], top: float) -> None:
    """A dot for each row's success, with its confidence interval, and one for its PSNR."""
    width = (WIDTH - 2 * MARGIN - LABELS - GUTTER) / 2
    left = MARGIN + LABELS
    successes = [row["groups"][OVERALL]["success"] for row in measured]
    shares = axis([100 * each[end] for each in successes for end in ("low", "high")], left, left + width, 100, 10)
    decibels = [row["groups"][EVERYTHING]["psnr_db"] for row in measured]
    psnr = axis(decibels, left + width + GUTTER, left + 2 * width + GUTTER)
    first, last = top + HEAD, top + HEAD + ROW * len(measured)
    for index in range(0, len(measured), 2):
        canvas.band(MARGIN - 8, first + index * ROW, WIDTH - MARGIN + 8, first + (index + 1) * ROW)
    canvas.text(left, top + 12, "Success in trained phrasings, %", 13)
    canvas.text(left, top + 30, "line: 95% confidence", 10.5, FAINT)
    canvas.text(psnr.start, top + 12, "PSNR to the truth, dB", 13)
    canvas.text(psnr.start, top + 30, "mean over all edits", 10.5, FAINT)
    for scale in (shares, psnr):
        _vertical_grid(canvas, scale, first, last)
    for index, (row, success, value) in enumerate(zip(measured, successes, decibels, strict=True)):
        y, ink = first + (index + 0.5) * ROW, _colour(row["name"])
        canvas.text(MARGIN, y, row["name"])
        canvas.line([(shares.at(100 * success["low"]), y), (shares.at(100 * success["high"]), y)], ink, 2)
        canvas.dot(shares.at(100 * success["share"]), y, ink)
        canvas.dot(psnr.at(value), y, ink)


def _draw_turns(canvas: Canvas, drifts: Sequence[Report], top: float) -> None:
    """A line for each row of sessions: those without a failure so far, and how well untouched regions keep."""
    width = (WIDTH - 2 * MARGIN - LABELS - GUTTER) / 2
    left, first = MARGIN + LABELS, top + HEAD
    turns = [row["drift"]["turns"] for row in drifts]
    panels = (
        ("Sessions without a failure, %", 10, [[100 * turn["all_so_far"]["share"] for turn in each] for each in turns]),
        ("Never edited region, PSNR, dB", 1, [[turn["untouched_db"] for turn in each] for each in turns]),
    )
    for place, (title, span, lines) in enumerate(panels):
        start = left + place * (width + GUTTER)
        known = [value for line in lines for value in line if value is not None]
        if not known:
            continue
        scale = axis(known, first + LINES_HEIGHT, first, 100, span)
        canvas.text(start, top + 12, title, 13)
        canvas.text(start, top + 30, "after each turn on the model's own results", 10.5, FAINT)
        for tick in scale.ticks():
            canvas.line([(start, scale.at(tick)), (start + width, scale.at(tick))], GRID)
            canvas.text(start - 6, scale.at(tick), f"{tick:g}", 10.5, FAINT, "rm")
        for row, line in zip(drifts, lines, strict=True):
            _draw_line(canvas, line, _colour(row["name"]), scale, start, width)
    for index, row in enumerate(drifts):
        y = first + (index + 0.5) * ROW
        canvas.line([(MARGIN, y), (MARGIN + 18, y)], _colour(row["name"]), 2)
        canvas.text(MARGIN + 26, y, row["name"].removesuffix(" turns"))


def _draw_line(
    canvas: Canvas, values: Sequence[float | None], ink: str, scale: Axis, start: float, width: float
) -> None:
    step = width / len(values)
    points = [(start + (turn + 0.5) * step, scale.at(value)) for turn, value in enumerate(values) if value is not None]
    for turn in range(len(values)):
        canvas.text(start + (turn + 0.5) * step, scale.start + TURN_LABELS, f"turn {turn + 1}", 10.5, FAINT, "mm")
    canvas.line(points, ink, 2)
    for x, y in points:
        canvas.dot(x, y, ink)


def _vertical_grid(canvas: Canvas, scale: Axis, top: float, bottom: float) -> None:
    for tick in scale.ticks():
        canvas.line([(scale.at(tick), top), (scale.at(tick), bottom)], GRID)
        canvas.text(scale.at(tick), bottom + 12, f"{tick:g}", 10.5, FAINT, "mm")


def _colour(name: str) -> str:
    return COLOURS[name.split(maxsplit=1)[0]]
