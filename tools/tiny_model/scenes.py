"""Scenes of coloured shapes as plain data: what may be in a picture, where, in which colour, and random ones."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import combinations
from random import Random
from typing import Literal, TypeVar, get_args

SIDE = 256
"""Width and height of every picture in pixels."""
MAX_SHAPES = 4

Rgb = tuple[int, int, int]
Colour = Literal["red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink", "white", "black"]
Kind = Literal["circle", "square", "triangle", "star", "ring", "diamond", "heart", "cross"]
Size = Literal["small", "medium", "large"]
Place = Literal["top left", "top", "top right", "left", "center", "right", "bottom left", "bottom", "bottom right"]
Pattern = Literal[
    "plain",
    "vertical gradient",
    "horizontal gradient",
    "horizontal stripes",
    "vertical stripes",
    "diagonal stripes",
    "checkerboard",
]

COLOURS: tuple[Colour, ...] = get_args(Colour)
KINDS: tuple[Kind, ...] = get_args(Kind)
SIZES: tuple[Size, ...] = get_args(Size)
PLACES: tuple[Place, ...] = get_args(Place)
PATTERNS: tuple[Pattern, ...] = get_args(Pattern)

SHAPE_RGB: dict[Colour, Rgb] = {
    "red": (220, 40, 40),
    "orange": (250, 140, 20),
    "yellow": (250, 220, 30),
    "green": (40, 165, 60),
    "cyan": (30, 200, 215),
    "blue": (40, 80, 220),
    "purple": (135, 50, 190),
    "pink": (250, 105, 180),
    "white": (255, 255, 255),
    "black": (15, 15, 15),
}
BACKGROUND_RGB: dict[Colour, Rgb] = {
    "red": (236, 160, 155),
    "orange": (250, 205, 150),
    "yellow": (252, 240, 175),
    "green": (175, 222, 170),
    "cyan": (170, 228, 232),
    "blue": (165, 195, 240),
    "purple": (205, 180, 235),
    "pink": (250, 205, 225),
    "white": (248, 248, 248),
    "black": (50, 50, 56),
}
RADIUS: dict[Size, float] = {"small": 17.0, "medium": 26.0, "large": 36.0}
"""Radius in pixels of each size; the kinds reach ``REACH`` times as far from their centre."""
REACH: dict[Kind, float] = {
    "circle": 1.0,
    "square": 0.86,
    "triangle": 1.0,
    "star": 1.08,
    "ring": 1.0,
    "diamond": 1.12,
    "heart": 1.01,
    "cross": 0.96,
}
"""Half the side of the upright square around a shape, in radii."""
ANCHORS = (44.0, 128.0, 212.0)
"""Pixels from the left (top) edge to the three columns (rows) of places."""
JITTER = 5.0
"""Most pixels by which a shape of a random scene lies off the centre of its place, along each axis."""
GAP = 1.0
"""Fewest pixels between the upright squares around two shapes."""

# Black and white are the words that a small text encoder swaps most readily: it sees them twice as often.
COLOUR_WEIGHTS: dict[Colour, float] = {colour: 2.0 if colour in ("white", "black") else 1.0 for colour in COLOURS}
PLAIN_SHARE = 0.35

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Background:
    """A pattern of two colours; ``first`` is on top, on the left, in the top left corner. Plain: both are the same."""

    pattern: Pattern
    first: Colour
    second: Colour

    @property
    def colours(self) -> frozenset[Colour]:
        """The names in it: no shape on it has one of them."""
        return frozenset((self.first, self.second))


@dataclass(frozen=True, slots=True)
class Shape:
    """One flat shape at one of nine places, ``offset`` pixels (right, down) from the place's centre."""

    kind: Kind
    colour: Colour
    size: Size
    place: Place
    offset: tuple[float, float] = (0.0, 0.0)

    @property
    def radius(self) -> float:
        """Pixels."""
        return RADIUS[self.size]

    @property
    def centre(self) -> tuple[float, float]:
        """Pixels from the left and from the top edge."""
        row, column = divmod(PLACES.index(self.place), 3)
        return ANCHORS[column] + self.offset[0], ANCHORS[row] + self.offset[1]


@dataclass(frozen=True, slots=True)
class Scene:
    """A background and up to ``MAX_SHAPES`` shapes, no two of one colour and kind, each at a place of its own."""

    background: Background
    shapes: tuple[Shape, ...] = ()


def is_valid(scene: Scene) -> bool:
    """Whether shapes lie inside the picture and apart, differ in colour or kind, and stand out from the background."""
    shapes = scene.shapes
    looks = {(shape.kind, shape.colour) for shape in shapes}
    return (
        len(shapes) <= MAX_SHAPES
        and len(looks) == len(shapes)
        and all(shape.colour not in scene.background.colours and _inside(shape) for shape in shapes)
        and all(_apart(first, second) for first, second in combinations(shapes, 2))
    )


def _inside(shape: Shape) -> bool:
    reach = shape.radius * REACH[shape.kind]
    return all(reach <= position <= SIDE - reach for position in shape.centre)


def _apart(first: Shape, second: Shape) -> bool:
    room = first.radius * REACH[first.kind] + second.radius * REACH[second.kind] + GAP
    (x0, y0), (x1, y1) = first.centre, second.centre
    return first.place != second.place and max(abs(x0 - x1), abs(y0 - y1)) >= room


def free_places(scene: Scene) -> tuple[Place, ...]:
    """Places without a shape, in reading order."""
    taken = {shape.place for shape in scene.shapes}
    return tuple(place for place in PLACES if place not in taken)


def sample_colour(rng: Random, excluded: Collection[Colour] = ()) -> Colour:
    """A colour by ``COLOUR_WEIGHTS``, none of ``excluded``."""
    return _weighted(rng, [(colour, COLOUR_WEIGHTS[colour]) for colour in COLOURS if colour not in excluded])


def _weighted(rng: Random, options: Sequence[tuple[T, float]]) -> T:
    return rng.choices([option for option, _ in options], [weight for _, weight in options])[0]


def sample_background(rng: Random, excluded: Collection[Colour] = ()) -> Background:
    """A plain or two-coloured background without the colours in ``excluded``."""
    first = sample_colour(rng, excluded)
    if rng.random() < PLAIN_SHARE:
        return Background("plain", first, first)
    return Background(rng.choice(PATTERNS[1:]), first, sample_colour(rng, {first, *excluded}))


def sample_scene(rng: Random, shapes: int) -> Scene:
    """A valid scene of that many shapes (0 to ``MAX_SHAPES``); about two in five lie exactly at their place."""
    while True:
        background = sample_background(rng)
        places = rng.sample(PLACES, shapes)
        scene = Scene(background, tuple(_sample_shape(rng, place, background) for place in places))
        if is_valid(scene):
            return scene


def _sample_shape(rng: Random, place: Place, background: Background) -> Shape:
    reach = 0.0 if rng.random() < 0.4 else JITTER
    offset = (rng.uniform(-reach, reach), rng.uniform(-reach, reach))
    return Shape(rng.choice(KINDS), sample_colour(rng, background.colours), rng.choice(SIZES), place, offset)
