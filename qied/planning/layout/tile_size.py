"""How large the VAE's tiles are: the largest that fit in what the rest of a plan leaves. Pure."""

from __future__ import annotations

from collections.abc import Callable

from qied.planning.layout.memory import Tiles
from qied.planning.profiles.hardware_profile import Choice

TILE_STEP = 64
"""Tiles are multiples of this many pixels."""


def largest_tiles(fits: Callable[[Tiles], bool], decoded_pixels: int, encoded_pixels: int, choice: Choice) -> Tiles:
    """Grow the decoder's tile first, then the encoder's, for as long as they fit.

    ``decoded_pixels`` and ``encoded_pixels`` are those of the largest pictures on either way. A picture that the
    profile's largest tile would cover is done whole where that fits.
    """
    decode = _largest(lambda side: fits(Tiles(choice.min_tile_px, side)), decoded_pixels, choice)
    return Tiles(_largest(lambda side: fits(Tiles(side, decode)), encoded_pixels, choice), decode)


def _largest(fits: Callable[[int | None], bool], pixels: int, choice: Choice) -> int | None:
    """Pixels of a tile's longest side, None for a picture that is done whole."""
    if pixels <= choice.max_tile_px**2 and fits(None):
        return None
    sides = range(choice.min_tile_px, choice.max_tile_px + 1, TILE_STEP)
    return max(filter(fits, sides), default=choice.min_tile_px)
