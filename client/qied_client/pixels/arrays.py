"""Arrays and tensors as 8-bit pixels: which layout they have, which range their numbers, and what is refused."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from qied_client.errors import InvalidRequest

_CHANNELS: Final = (1, 3, 4)
_LAYOUT: Final = "Give shape [height, width], or [height, width, channels] with 1, 3 or 4 channels"
Levels = np.ndarray[Any, np.dtype[np.uint8]]


def levels_of(array: Any) -> Levels:
    """The pixels of an array or tensor as uint8, [height, width] or [height, width, 3 or 4].

    A batch of one is taken as its picture. Tensors of torch may also be [channels, height, width], as torch has them.
    Floats (16, 32 and 64 bits, bfloat16) go from 0 to 1, uint16 from 0 to 65535, and booleans are black and white.
    Raises InvalidRequest.
    """
    is_tensor = hasattr(array, "detach")
    pixels = _on_the_host(array)
    if pixels.ndim == 4:
        if len(pixels) != 1:
            raise InvalidRequest(
                f"An array of shape {list(pixels.shape)} is a batch of pictures, not one.", "Give them as a list."
            )
        pixels = pixels[0]
    if is_tensor and pixels.ndim == 3 and pixels.shape[0] in _CHANNELS:
        pixels = np.moveaxis(pixels, 0, -1)
    _check_shape(pixels)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    return np.ascontiguousarray(_as_levels(pixels))


def from_16_bits(pixels: np.ndarray[Any, Any]) -> Levels:
    """Levels from 0 to 65535, rounded to 8 bits; raises InvalidRequest where they look like 8 bits."""
    most = int(pixels.max())
    if 0 < most <= 255:
        raise InvalidRequest(
            f"The largest of its 16-bit values is {most}, where white is 65535: it would be black.",
            "Convert it to 8 bits (uint8, or Pillow's mode L) if white is 255.",
        )
    levels: Levels = ((pixels.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
    return levels


def from_mode_f(pixels: np.ndarray[Any, Any]) -> Levels:
    """The levels of a Pillow image of floats, which count from 0 to 255; raises InvalidRequest."""
    least, most = float(pixels.min()), float(pixels.max())
    if 0 < most <= 1 and least >= 0:
        raise InvalidRequest(
            f"The image of mode F has values from {least:g} to {most:g}, where white is 255: it would be black.",
            "Give the array itself if white is 1: numpy.asarray(image).",
        )
    levels = np.rint(pixels)
    if not (levels.min() >= 0 and levels.max() <= 255):
        raise InvalidRequest(
            f"The image of mode F has values from {least:g} to {most:g}; Pillow counts F from 0 to 255.",
            "Scale it first.",
        )
    return np.asarray(levels, np.uint8)


def from_mode_i(pixels: np.ndarray[Any, Any]) -> Levels:
    """The levels of a Pillow image of 32-bit integers, which count from 0 to 65535; raises InvalidRequest."""
    least, most = int(pixels.min()), int(pixels.max())
    if least < 0 or most > 65535:
        raise InvalidRequest(
            f"The image of mode I has values from {least} to {most}; Pillow counts I from 0 to 65535.",
            "Scale it first.",
        )
    return from_16_bits(pixels)


def _on_the_host(array: Any) -> np.ndarray[Any, Any]:
    """As a numpy array, without an import of torch: what has ``detach`` is a tensor."""
    try:
        if hasattr(array, "detach"):
            array = array.detach().cpu()
            # numpy has no bfloat16 and no 8-bit floats.
            array = (array.float() if "float8" in str(array.dtype) or "bfloat" in str(array.dtype) else array).numpy()
        pixels = np.asarray(array)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidRequest(
            f"A {type(array).__name__} cannot be read as an array: {error}.", "Give a numpy array."
        ) from error
    return pixels.astype(np.float32) if pixels.dtype.name == "bfloat16" else pixels


def _check_shape(pixels: np.ndarray[Any, Any]) -> None:
    shape = list(pixels.shape)
    if 0 in shape:
        raise InvalidRequest(f"An array of shape {shape} has no pixels.", "Give a picture.")
    if pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in _CHANNELS):
        return
    channels_first = pixels.ndim == 3 and pixels.shape[0] in _CHANNELS
    remedy = f"{_LAYOUT}: numpy.moveaxis(array, 0, -1)." if channels_first else f"{_LAYOUT}."
    raise InvalidRequest(f"An array of {pixels.dtype} with shape {shape} is not a picture.", remedy)


def _as_levels(pixels: np.ndarray[Any, Any]) -> Levels:
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype == np.bool_:
        return pixels.astype(np.uint8) * np.uint8(255)
    if pixels.dtype == np.uint16:
        return from_16_bits(pixels)
    if pixels.dtype.kind == "f":
        return _from_floats(pixels)
    raise InvalidRequest(
        f"An array of {pixels.dtype} with shape {list(pixels.shape)} is not a picture.",
        "Give uint8 from 0 to 255 (array.astype(numpy.uint8)), uint16, or floats from 0 to 1.",
    )


def _from_floats(pixels: np.ndarray[Any, Any]) -> Levels:
    least, most = float(pixels.min()), float(pixels.max())
    if not (np.isfinite(least) and np.isfinite(most)):
        raise InvalidRequest(
            f"The array has values that are not finite: they go from {least:g} to {most:g}.", "Give floats from 0 to 1."
        )
    # In float64, where no level of float16 is lost. What rounds to a level that there is, is a rounding error.
    levels = np.rint(pixels.astype(np.float64) * 255)
    if levels.min() < 0 or levels.max() > 255:
        raise InvalidRequest(
            f"The array's values go from {least:.6g} to {most:.6g}; floats go from 0 to 1.", _scaled(least, most)
        )
    return np.asarray(levels, np.uint8)


def _scaled(least: float, most: float) -> str:
    if least >= 0 and 2 < most <= 255:
        return "Divide it by 255."
    if -1.01 <= least < -0.5 and most <= 1.01:
        return "Give (array + 1) / 2 if it goes from -1 to 1."
    return "Clip it: array.clip(0, 1)."
