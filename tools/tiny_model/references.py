"""Phrases that point at one shape of a scene and at no other: by kind, colour, size, place or several of these."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from tools.tiny_model.scenes import Colour, Kind, Place, Scene, Shape, Size
from tools.tiny_model.words import (
    PLACE_NAMES,
    SIZE_NAMES,
    Language,
    colour_name,
    kind_name,
    pick,
    place_at,
)

# Which attributes are named together, and how often where each of them is enough.
FORMS: tuple[tuple[frozenset[str], float], ...] = (
    (frozenset(), 3.0),
    (frozenset({"kind"}), 3.0),
    (frozenset({"colour"}), 2.0),
    (frozenset({"place"}), 2.0),
    (frozenset({"size"}), 1.0),
    (frozenset({"size", "kind"}), 1.0),
    (frozenset({"size", "colour"}), 0.5),
    (frozenset({"kind", "place"}), 0.5),
    (frozenset({"colour", "kind", "place"}), 0.5),
    (frozenset({"size", "colour", "kind"}), 2.0),
    (frozenset({"colour", "kind"}), 10.0),
)


@dataclass(frozen=True, slots=True)
class Reference:
    """What a phrase says of a shape; None is not said."""

    kind: Kind | None = None
    colour: Colour | None = None
    size: Size | None = None
    place: Place | None = None

    def fits(self, shape: Shape) -> bool:
        """Whether all that is said is true of ``shape``."""
        return (
            self.kind in (None, shape.kind)
            and self.colour in (None, shape.colour)
            and self.size in (None, shape.size)
            and self.place in (None, shape.place)
        )


def _said(shape: Shape, form: frozenset[str]) -> Reference:
    return Reference(
        kind=shape.kind if "kind" in form else None,
        colour=shape.colour if "colour" in form else None,
        size=shape.size if "size" in form else None,
        place=shape.place if "place" in form else None,
    )


def references(scene: Scene, shape: Shape) -> tuple[tuple[Reference, float], ...]:
    """Every reference that fits ``shape`` and no other shape of ``scene``, with its weight; there always is one."""
    options = ((_said(shape, form), weight) for form, weight in FORMS)
    others = [other for other in scene.shapes if other != shape]
    return tuple((said, weight) for said, weight in options if not any(said.fits(other) for other in others))


def sample_reference(rng: Random, scene: Scene, shape: Shape) -> Reference:
    """One of ``references``, by weight."""
    options = references(scene, shape)
    return rng.choices([said for said, _ in options], [weight for _, weight in options])[0]


def phrase(rng: Random, reference: Reference, language: Language) -> str:
    """The reference in words: "the red circle at the top left", "左上角的红色圆形"."""
    return _english(rng, reference) if language == "en" else _chinese(rng, reference)


def noun(rng: Random, reference: Reference, language: Language) -> str:
    """Size, colour and kind in words, without article and place: "small red circle", "小的红色圆形"."""
    if language == "en":
        size = pick(rng, SIZE_NAMES["en"][reference.size]) if reference.size else ""
        colour = colour_name(rng, reference.colour, "en") if reference.colour else ""
        return " ".join(word for word in (size, colour, kind_name(rng, reference.kind, "en")) if word)
    size = pick(rng, SIZE_NAMES["zh"][reference.size]) + "的" if reference.size else ""
    of_colour = "的" if reference.kind is None or rng.random() < 0.25 else ""
    colour = colour_name(rng, reference.colour, "zh") + of_colour if reference.colour else ""
    return size + colour + kind_name(rng, reference.kind, "zh")


def _english(rng: Random, reference: Reference) -> str:
    words = noun(rng, reference, "en")
    if reference.place is None:
        return f"the {words}"
    if rng.random() < 0.3 and reference.place != "center":
        return f"the {PLACE_NAMES['en'][reference.place][0]} {words}"
    return f"the {words} {place_at(rng, reference.place, 'en')}"


def _chinese(rng: Random, reference: Reference) -> str:
    words = noun(rng, reference, "zh")
    return words if reference.place is None else f"{place_at(rng, reference.place, 'zh')}的{words}"
