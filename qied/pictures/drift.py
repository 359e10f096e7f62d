"""How far a result has drifted from its picture: shift and zoom, measured by phase correlation, and undone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Numbers = NDArray[np.float64]
LARGEST_ZOOM: Final = 0.02
LARGEST_SHIFT: Final = 0.02
"""Share of a side up to which a change of place is taken for drift; more was probably asked for."""
SMALLEST: Final = 0.25
"""Pixels at a corner from which on drift is undone: resampling for less would cost more than it mends."""
_TILE: Final = (16, 128)
"""Sides of tiles in pixels: short ones cannot be placed, and in long ones a zoom blurs the peak."""
_MOST_TILES: Final = 80
_TEXTURE: Final = 2.0
"""Standard deviation, in levels of 255, below which a tile shows nothing that can be placed."""
_BANDWIDTH: Final = 0.18
"""Width of the Gaussian by which frequencies count, in cycles per pixel: the finest are noise."""
_NOISE: Final = 1.0
"""Standard deviation of what rounding and a codec add, in levels of 255."""
_LEAST_FREQUENCIES: Final = 12
_FLAT: Final = 400.0
"""Condition number from which on a tile shows lines in one direction alone, which have no place along themselves."""
_PEAK: Final = 0.25
"""Height of a tile's peak, of 1 for a pure shift, from which on it is believed."""
_AGREES: Final = 0.5
"""Pixels by which a tile may differ from what the others say."""
_LEAST_TILES: Final = 4
_LEAST_SHARE: Final = 0.5
"""Of the tiles that show something so many must agree; else most of the picture is another."""
_ROUNDS: Final = 12


@dataclass(frozen=True)
class Drift:
    """The result's content lies ``x`` pixels further right and ``y`` further down than the picture's, at the centre.

    It is ``zoom`` times as large; 1 is none.
    """

    x: float
    y: float
    zoom: float

    def enlarged(self, times: int) -> Drift:
        """The same drift in a picture with ``times`` the width and height."""
        return Drift(self.x * times, self.y * times, self.zoom)

    def at_corner(self, size: tuple[int, int]) -> float:
        """Pixels by which a corner of a picture of ``size`` (width, height) is off, at most."""
        across, down = (abs(self.zoom - 1) * side / 2 for side in size)
        return math.hypot(abs(self.x) + across, abs(self.y) + down)

    def is_small(self, size: tuple[int, int]) -> bool:
        """Whether it may be what a model adds unasked, and not what the prompt asked for."""
        return abs(self.zoom - 1) <= LARGEST_ZOOM and all(
            abs(shift) <= max(1.0, LARGEST_SHIFT * side) for shift, side in zip((self.x, self.y), size, strict=True)
        )


def drift_of(original: Image.Image, result: Image.Image) -> Drift | None:
    """Measure the drift of a result against the picture of the same size that it was made from.

    It is measured again after it was undone: both tiles of a pair have the same window, which draws large shifts
    towards zero. None where it cannot be measured, as when most of the picture was changed or shows nothing.
    """
    first = _measured(original, result)
    if first is None or first.at_corner(result.size) < SMALLEST or not first.is_small(result.size):
        return first
    rest = _measured(original, aligned(result, first))
    if rest is None:
        return first
    return Drift(first.x + first.zoom * rest.x, first.y + first.zoom * rest.y, first.zoom * rest.zoom)


def _measured(original: Image.Image, result: Image.Image) -> Drift | None:
    """The drift of a result as it is seen at once.

    Tiles of both are compared by phase correlation (Kuglin and Hines, 1975), which does not mind other colours. Shift
    and zoom are fitted to the tiles that agree with each other; None where too few do.
    """
    before, after = (np.asarray(picture.convert("L"), dtype=np.float64) for picture in (original, result))
    assert before.shape == after.shape, "both have the same size"
    height, width = before.shape
    side = _tile_side(width, height)
    if side is None:
        return None
    window, weight = _window(side), _weight(side)
    places: list[tuple[float, float]] = []
    shifts: list[tuple[float, float]] = []
    shown = 0
    for left, top in _tiles(width, height, side):
        one, other = (levels[top : top + side, left : left + side] for levels in (before, after))
        if min(one.std(), other.std()) < _TEXTURE:
            continue
        shown += 1
        if (shift := _shift(one, other, window, weight)) is not None:
            places.append((left + side / 2 - width / 2, top + side / 2 - height / 2))
            shifts.append(shift)
    if len(shifts) < max(_LEAST_TILES, _LEAST_SHARE * shown):
        return None
    return _fitted(np.array(places), np.array(shifts), shown)


def aligned(result: Image.Image, drift: Drift) -> Image.Image:
    """The result with its drift undone; what comes in from beyond its edges repeats them."""
    width, height = result.size
    colours = result.convert("RGB")
    border = math.ceil(drift.at_corner(result.size)) + 2
    wide = Image.fromarray(np.pad(np.asarray(colours), ((border, border), (border, border), (0, 0)), mode="edge"))
    zoom = drift.zoom
    # Pillow asks where each pixel's centre comes from: centre + drift + zoom * (pixel - centre).
    across = width / 2 * (1 - zoom) + drift.x + border
    down = height / 2 * (1 - zoom) + drift.y + border
    return wide.transform(
        (width, height), Image.Transform.AFFINE, (zoom, 0, across, 0, zoom, down), Image.Resampling.BICUBIC
    )


def _tile_side(width: int, height: int) -> int | None:
    """A power of two, so that a picture has two tiles along its shorter side, if it can."""
    short = min(width, height)
    if short < _TILE[0]:
        return None
    return min(_TILE[1], max(_TILE[0], 1 << (short.bit_length() - 2)))


def _tiles(width: int, height: int, side: int) -> list[tuple[int, int]]:
    """Left and top of tiles that are spread evenly and overlap by half, if that gives not too many."""
    step = side / 2
    while ((width - side) / step + 1) * ((height - side) / step + 1) > _MOST_TILES:
        step *= 1.25
    columns, rows = (max(1, round((length - side) / step) + 1) for length in (width, height))
    return [
        (round(column * (width - side) / max(1, columns - 1)), round(row * (height - side) / max(1, rows - 1)))
        for row in range(rows)
        for column in range(columns)
    ]


def _window(side: int) -> Numbers:
    line = np.hanning(side + 1)[:side]
    return np.outer(line, line)


def _weight(side: int) -> Numbers:
    frequencies = np.fft.fftfreq(side)
    line = np.exp(-((frequencies / _BANDWIDTH) ** 2) / 2)
    return np.outer(line, line)


def _shift(one: Numbers, other: Numbers, window: Numbers, weight: Numbers) -> tuple[float, float] | None:
    """Pixels (right, down) by which the second tile's content lies off, or None where there is no clear peak.

    The peak of the correlation gives whole pixels. What is left turns the phase of each frequency in proportion to it,
    so a plane through the phases gives the fraction (Stone et al., 2001).
    """
    spectra = [np.fft.fft2((tile - (tile * window).sum() / window.sum()) * window) for tile in (one, other)]
    # Frequencies that a tile does not have say nothing of its place.
    noise = _NOISE * math.sqrt(float((window**2).sum()))
    weight = weight * (np.minimum(*(np.abs(spectrum) for spectrum in spectra)) > noise)
    total = float(weight.sum())
    if np.count_nonzero(weight) < _LEAST_FREQUENCIES:
        return None
    cross = np.conj(spectra[0]) * spectra[1]
    phases = cross / np.maximum(np.abs(cross), 1e-12)
    correlation = np.fft.ifft2(phases * weight).real
    row, column = divmod(int(np.argmax(correlation)), correlation.shape[1])
    if correlation[row, column] * weight.size / total < _PEAK:
        return None
    across, down = _signed(column, correlation.shape[1]), _signed(row, correlation.shape[0])
    turns = 2 * math.pi * np.fft.fftfreq(len(weight))
    vertical, horizontal = np.meshgrid(turns, turns, indexing="ij")
    left = np.angle(phases * np.exp(1j * (horizontal * across + vertical * down)))
    fraction = _plane(-left, horizontal, vertical, weight)
    return None if fraction is None else (across + fraction[0], down + fraction[1])


def _plane(values: Numbers, across: Numbers, down: Numbers, weight: Numbers) -> tuple[float, float] | None:
    """The slopes of a plane through the origin and ``values``; None where they do not lie on two lines at least."""
    weight = weight * (np.abs(values) < math.pi / 2)
    matrix = np.array([[(weight * one * other).sum() for one in (across, down)] for other in (across, down)])
    right = np.array([(weight * values * one).sum() for one in (across, down)])
    if np.linalg.cond(matrix) > _FLAT:
        return None
    slopes = np.linalg.solve(matrix, right)
    return float(slopes[0]), float(slopes[1])


def _signed(place: int, length: int) -> int:
    return place - length if place > length // 2 else place


def _fitted(places: Numbers, shifts: Numbers, shown: int) -> Drift | None:
    """Shift at the centre and zoom by least squares, over the tiles that agree with them."""
    middle = np.median(shifts, axis=0)
    found = np.array([middle[0], middle[1], 0.0])
    for round_ in range(_ROUNDS):
        off = np.linalg.norm(shifts - found[:2] - found[2] * places, axis=1)
        # Wide at first: before the zoom is known, tiles far from the centre are off by it.
        wide = LARGEST_ZOOM * float(np.abs(places).max()) if round_ == 0 else 2 * float(np.median(off)) / (1 + round_)
        reach = _AGREES + wide
        agree = off <= reach
        if agree.sum() < _LEAST_TILES:
            return None
        found = _least_squares(places[agree], shifts[agree])
    off = np.linalg.norm(shifts - found[:2] - found[2] * places, axis=1)
    if (off <= _AGREES).sum() < max(_LEAST_TILES, _LEAST_SHARE * shown):
        return None
    return Drift(float(found[0]), float(found[1]), 1 + float(found[2]))


def _least_squares(places: Numbers, shifts: Numbers) -> Numbers:
    ones, zeros = np.ones(len(places)), np.zeros(len(places))
    across = np.stack([ones, zeros, places[:, 0]], axis=1)
    down = np.stack([zeros, ones, places[:, 1]], axis=1)
    solved: Numbers = np.linalg.lstsq(np.concatenate([across, down]), shifts.T.reshape(-1), rcond=None)[0]
    return solved
