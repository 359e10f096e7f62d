"""Draws the demo picture: coloured shapes in the palette and proportions that the built-in model was trained on."""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

SIDE = 256
OVERSAMPLING = 8

Point = tuple[float, float]
Rgb = tuple[int, int, int]

SHAPE_COLOURS: dict[str, Rgb] = {
    "red": (220, 40, 40),
    "orange": (250, 140, 20),
    "yellow": (250, 220, 30),
    "green": (40, 165, 60),
    "blue": (40, 80, 220),
    "purple": (135, 50, 190),
}
BACKGROUND_COLOURS: dict[str, Rgb] = {"blue": (165, 195, 240), "pink": (250, 205, 225), "yellow": (252, 240, 175)}


@dataclass(frozen=True)
class Shape:
    """One flat shape: a kind of ``outline``, a name of ``SHAPE_COLOURS``, its radius and centre in pixels."""

    kind: str
    colour: str
    radius: float
    centre: Point


@dataclass(frozen=True)
class Scene:
    """Shapes on a vertical gradient between two names of ``BACKGROUND_COLOURS``."""

    top: str
    bottom: str
    shapes: tuple[Shape, ...]


DEMO_SCENE = Scene(
    top="blue",
    bottom="pink",
    shapes=(
        Shape("heart", "red", 36.0, (128.0, 128.0)),
        Shape("star", "yellow", 36.0, (44.0, 44.0)),
        Shape("square", "green", 26.0, (212.0, 44.0)),
        Shape("triangle", "purple", 36.0, (212.0, 212.0)),
    ),
)


def outline(kind: str) -> list[Point]:
    """Corners of a shape of radius 1 around the origin, y pointing down; raises KeyError for an unknown kind."""
    return {
        "circle": _arc(1.0, 0.0, 360.0),
        "square": [(-0.86, -0.86), (0.86, -0.86), (0.86, 0.86), (-0.86, 0.86)],
        "triangle": [(0.0, -1.0), (0.98, 0.75), (-0.98, 0.75)],
        "star": [_polar(1.08 if corner % 2 == 0 else 0.54, 36.0 * corner - 90.0) for corner in range(10)],
        "heart": _heart(),
    }[kind]


def _polar(radius: float, degrees: float) -> Point:
    return radius * math.cos(math.radians(degrees)), radius * math.sin(math.radians(degrees))


def _arc(radius: float, start: float, end: float, centre: Point = (0.0, 0.0)) -> list[Point]:
    steps = 90
    points = (_polar(radius, start + (end - start) * step / steps) for step in range(steps + 1))
    return [(centre[0] + x, centre[1] + y) for x, y in points]


def _heart() -> list[Point]:
    """A square on its corner, closed above by a half circle over each upper side."""
    unit = 1 / 0.6
    lobe, lobe_y = math.sqrt(0.125) * unit, -0.19 * unit
    left = _arc(lobe, 135.0, 315.0, (-0.25 * unit, lobe_y))
    right = _arc(lobe, 225.0, 405.0, (0.25 * unit, lobe_y))
    return [(0.0, 0.56 * unit), *left, *right]


def draw(scene: Scene) -> Image.Image:
    """Draw ``scene`` as an RGB picture of 256 x 256 pixels with smooth edges."""
    gradient = Image.linear_gradient("L").resize((SIDE, SIDE))
    picture = Image.composite(
        Image.new("RGB", gradient.size, BACKGROUND_COLOURS[scene.bottom]),
        Image.new("RGB", gradient.size, BACKGROUND_COLOURS[scene.top]),
        gradient,
    )
    for shape in scene.shapes:
        picture.paste(SHAPE_COLOURS[shape.colour], mask=_coverage(shape))
    return picture


def _coverage(shape: Shape) -> Image.Image:
    """How much of each pixel the shape covers, as an "L" picture."""
    large = Image.new("L", (SIDE * OVERSAMPLING, SIDE * OVERSAMPLING))
    (x0, y0), scale = shape.centre, OVERSAMPLING
    corners = [((x0 + shape.radius * x) * scale, (y0 + shape.radius * y) * scale) for x, y in outline(shape.kind)]
    ImageDraw.Draw(large).polygon(corners, fill=255)
    return large.reduce(OVERSAMPLING)


def main() -> None:
    """Write the demo picture to the path given on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path, nargs="?", default=Path("qied/builtin/demo.png"))
    draw(DEMO_SCENE).save(parser.parse_args().path, optimize=True)


if __name__ == "__main__":
    main()
