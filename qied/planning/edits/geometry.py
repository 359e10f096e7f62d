"""Size arithmetic in pixels: how pictures are fitted to the areas that a model was trained at."""

from __future__ import annotations

import math

from qied.planning.profiles.model_profile import ModelProfile

MAX_ASPECT = 32
"""Pictures longer than this many times their height (or the reverse) are refused: one side would vanish."""
TRUE_PROPORTIONS = 0.001
"""Pictures whose proportions change by less are not said to be stretched: a pixel in a thousand."""
_SAME_PROPORTIONS = 0.06
"""Sides of a small picture are rounded by some percent."""


def fitted_size(area_pixels: int, width: int, height: int, multiple: int) -> tuple[int, int]:
    """Return (width, height) of about ``area_pixels`` at the aspect of ``width`` x ``height``, in pixels.

    Sides are rounded to ``multiple`` the way diffusers' ``calculate_dimensions`` does it (half to even), and are at
    least one multiple.
    """
    ratio = width / height
    fitted_width = math.sqrt(area_pixels * ratio)
    fitted_height = fitted_width / ratio
    return _rounded(fitted_width, multiple), _rounded(fitted_height, multiple)


def reference_size(profile: ModelProfile, width: int, height: int, max_pixels: int | None = None) -> tuple[int, int]:
    """Return (width, height) to which a reference is resized for the VAE; ``max_pixels`` caps the model's own area."""
    area = profile.geometry.vae_pixels if max_pixels is None else min(profile.geometry.vae_pixels, max_pixels)
    return fitted_size(area, width, height, profile.geometry.reference_multiple)


def vision_size(profile: ModelProfile, width: int, height: int) -> tuple[int, int]:
    """Return (width, height) to which a reference is resized for the vision encoder."""
    return fitted_size(profile.geometry.vision_pixels, width, height, profile.geometry.reference_multiple)


def default_target_size(profile: ModelProfile, width: int, height: int) -> tuple[int, int]:
    """Return the result's (width, height) where a request names none, from the last picture's size.

    It is the grid that the reference itself is laid on, so that target and reference tokens lie on the same one: any
    other makes the result drift or zoom by some pixels.
    """
    geometry = profile.geometry
    area = min(geometry.vae_pixels, geometry.max_target_pixels)
    return fitted_size(area, width, height, math.lcm(geometry.reference_multiple, geometry.side_multiple))


def content_within(grid: tuple[int, int], width: int, height: int) -> tuple[int, int]:
    """Return the largest (width, height) of the proportions of ``width`` x ``height`` that fits a grid, in pixels.

    It is the grid itself where its proportions differ by less than ``TRUE_PROPORTIONS``.
    """
    across, down = grid[0] / width, grid[1] / height
    if abs(across / down - 1) < TRUE_PROPORTIONS:
        return grid
    scale = min(across, down)
    return min(grid[0], max(1, round(width * scale))), min(grid[1], max(1, round(height * scale)))


def proportional(size: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two sizes have the same proportions, but for what rounding to a grid makes of them."""
    (width, height), (other_width, other_height) = size, other
    return abs(width * other_height / (height * other_width) - 1) <= _SAME_PROPORTIONS


def within_aspect(width: int, height: int) -> bool:
    """Whether a picture of this size can be fitted without losing a side."""
    return max(width, height) <= MAX_ASPECT * min(width, height)


def nearest_within(width: int, height: int, max_pixels: int, multiple: int) -> tuple[int, int]:
    """Largest (width, height) of the same aspect within ``max_pixels``; the size itself where that fits.

    Sides are multiples of ``multiple`` pixels.
    """
    if width * height <= max_pixels:
        return width, height
    area = max_pixels
    while True:
        fitted_width, fitted_height = fitted_size(area, width, height, multiple)
        if fitted_width * fitted_height <= max_pixels or area < multiple * multiple:
            return fitted_width, fitted_height
        area = area * 31 // 32


def _rounded(side: float, multiple: int) -> int:
    return max(multiple, round(side / multiple) * multiple)


def rounded_up_area(area: int, multiple: int) -> int:
    """Most pixels that fitting any aspect to ``area`` can give, since each side is rounded to ``multiple``.

    Rounding the short side s up by at most multiple / 2 adds the share multiple / 2s; the longest aspect has the
    shortest side. The long side, rounded the same way, adds multiple / 2l.
    """
    short = math.isqrt(area // MAX_ASPECT)
    long = short * MAX_ASPECT
    half = multiple // 2
    return max(_grown(area, short, long, half), _grown(area, math.isqrt(area), math.isqrt(area), half))


def _grown(area: int, short: int, long: int, half: int) -> int:
    return area + half * (short + long + 2) + half * half
