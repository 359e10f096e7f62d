"""ICC profiles made byte by byte, so that tests can say exactly which colour must come out."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

import pytest
from qied_client.picture_header.header import PictureLimits

D50 = (0.9642, 1.0, 0.8249)
PAPER = (0.80, 0.82, 0.60)
D65 = (0.9505, 1.0, 1.0891)
P3_COLUMNS = ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407))
SRGB_COLUMNS = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))


def _fixed(value: float) -> bytes:
    return struct.pack(">i", round(value * 65536))


def _xyz(values: Sequence[float]) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(_fixed(value) for value in values)


def _gamma(value: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(value * 256))


def _profile(device: bytes, space: bytes, pcs: bytes, tags: dict[bytes, bytes]) -> bytes:
    table, body = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        table += name + struct.pack(">II", start + len(body), len(data))
        body += data + b"\0" * (-len(data) % 4)
    size = start + len(body)
    header = struct.pack(">I4sI4s4s4s", size, b"\0\0\0\0", 0x02100000, device, space, pcs)
    header += struct.pack(">6H", 2024, 1, 1, 0, 0, 0) + b"acsp" + b"\0" * 28 + b"".join(map(_fixed, D50))
    return header.ljust(128, b"\0") + table + body


def _srgb_curve() -> bytes:
    """The tone curve of sRGB as a table of 1024 levels, as monitors' and cameras' profiles have it."""
    levels = (level / 1023 for level in range(1024))
    linear = (level / 12.92 if level <= 0.04045 else ((level + 0.055) / 1.055) ** 2.4 for level in levels)
    return b"curv\0\0\0\0" + struct.pack(">I1024H", 1024, *(round(value * 65535) for value in linear))


def rgb_profile(columns: Sequence[Sequence[float]], curve: bytes | None = None) -> bytes:
    """A display profile with the given XYZ (D50) of red, green and blue and the white of its monitor."""
    tags = {b"wtpt": _xyz(D65)}
    for letter, column in zip("rgb", columns, strict=True):
        tags[f"{letter}XYZ".encode()] = _xyz(column)
        tags[f"{letter}TRC".encode()] = curve or _gamma(2.2)
    return _profile(b"mntr", b"RGB ", b"XYZ ", tags)


def gray_profile(gamma: float) -> bytes:
    return _profile(b"mntr", b"GRAY", b"XYZ ", {b"wtpt": _xyz(D50), b"kTRC": _gamma(gamma)})


def _table(lab: Sequence[tuple[float, float, float]]) -> bytes:
    """Lab at the corners of the device's colours, the last one changing fastest."""
    inputs = (len(lab) - 1).bit_length()
    identity = bytes(range(256))
    table = b"".join(bytes([round(lightness * 2.55), round(a + 128), round(b + 128)]) for lightness, a, b in lab)
    matrix = b"".join(_fixed(value) for value in (1, 0, 0, 0, 1, 0, 0, 0, 1))
    return b"mft1\0\0\0\0" + bytes([inputs, 3, 2, 0]) + matrix + identity * inputs + table + identity * 3


def cmyk_profile(lab_of: Callable[[int, int, int, int], tuple[float, float, float]]) -> bytes:
    """A press on yellowish paper: a table of Lab for the 16 corners of CMYK, relative to that paper."""
    corners = [(c, m, y, k) for c in (0, 1) for m in (0, 1) for y in (0, 1) for k in (0, 1)]
    lut = _table([lab_of(*corner) for corner in corners])
    return _profile(b"prtr", b"CMYK", b"Lab ", {b"wtpt": _xyz(PAPER), b"A2B0": lut})


def intents_profile(red_lightness: Sequence[float], black_lightness: float) -> bytes:
    """A scanner of yellowish paper whose red is a gray of another lightness for each intent.

    The order is that of ICC: perceptual, relative colorimetric, saturation.
    """
    tags = {b"wtpt": _xyz(PAPER)}
    for number, lightness in enumerate(red_lightness):
        corners = [black_lightness, 50.0, 50.0, 50.0, lightness, 50.0, 50.0, 100.0]
        tags[f"A2B{number}".encode()] = _table([(level, 0.0, 0.0) for level in corners])
    return _profile(b"scnr", b"RGB ", b"Lab ", tags)


@pytest.fixture
def limits() -> PictureLimits:
    return PictureLimits()


@pytest.fixture
def p3_profile() -> bytes:
    return rgb_profile(P3_COLUMNS)


@pytest.fixture
def swapped_profile() -> bytes:
    """A profile whose red is sRGB's green and the reverse."""
    red, green, blue = SRGB_COLUMNS
    return rgb_profile((green, red, blue))


@pytest.fixture
def nearly_srgb_profile() -> bytes:
    """sRGB but for the rounding of its numbers."""
    return rgb_profile(SRGB_COLUMNS, _srgb_curve())


@pytest.fixture
def linear_gray_profile() -> bytes:
    return gray_profile(1.0)


@pytest.fixture
def odd_cmyk_profile() -> bytes:
    """A profile of a press whose cyan ink looks white: only magenta, yellow and black darken the paper."""

    def lab_of(_c: int, m: int, y: int, k: int) -> tuple[float, float, float]:
        return (100.0 if not (m or y or k) else 0.0, 0.0, 0.0)

    return cmyk_profile(lab_of)


@pytest.fixture
def scanner_profile() -> bytes:
    """Red is a gray of lightness 53.6 (128 in sRGB) relative to the paper, and something else for other intents."""
    return intents_profile((20.0, 53.6, 80.0), black_lightness=15.0)
