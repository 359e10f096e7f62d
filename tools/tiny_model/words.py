"""Names of everything in a scene, in English and Chinese; the first of several is the usual one."""

from __future__ import annotations

from random import Random
from typing import Literal

from tools.tiny_model.scenes import Background, Colour, Kind, Pattern, Place, Size

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = ("en", "zh")
USUAL_SHARE = 0.85
"""How often the usual one of several names is taken."""

COLOUR_NAMES: dict[Language, dict[Colour, tuple[str, ...]]] = {
    "en": {
        "red": ("red",),
        "orange": ("orange",),
        "yellow": ("yellow",),
        "green": ("green",),
        "cyan": ("cyan", "turquoise"),
        "blue": ("blue",),
        "purple": ("purple", "violet"),
        "pink": ("pink",),
        "white": ("white",),
        "black": ("black",),
    },
    "zh": {
        "red": ("红色",),
        "orange": ("橙色", "橘色"),
        "yellow": ("黄色",),
        "green": ("绿色",),
        "cyan": ("青色",),
        "blue": ("蓝色",),
        "purple": ("紫色",),
        "pink": ("粉色", "粉红色"),
        "white": ("白色",),
        "black": ("黑色",),
    },
}
KIND_NAMES: dict[Language, dict[Kind, tuple[str, ...]]] = {
    "en": {
        "circle": ("circle", "disc"),
        "square": ("square", "box"),
        "triangle": ("triangle",),
        "star": ("star",),
        "ring": ("ring", "donut"),
        "diamond": ("diamond", "rhombus"),
        "heart": ("heart",),
        "cross": ("cross", "plus sign"),
    },
    "zh": {
        "circle": ("圆形", "圆"),
        "square": ("方块", "正方形"),
        "triangle": ("三角形",),
        "star": ("星星", "五角星"),
        "ring": ("圆环",),
        "diamond": ("菱形",),
        "heart": ("心形", "爱心"),
        "cross": ("十字", "十字形"),
    },
}
ANY_KIND: dict[Language, tuple[str, ...]] = {"en": ("shape", "object", "figure"), "zh": ("图形", "物体")}
SIZE_NAMES: dict[Language, dict[Size, tuple[str, ...]]] = {
    "en": {"small": ("small", "little"), "medium": ("medium", "medium-sized"), "large": ("large", "big")},
    "zh": {"small": ("小", "小小"), "medium": ("中等", "中等大小"), "large": ("大", "大大")},
}
PLACE_NAMES: dict[Language, dict[Place, tuple[str, ...]]] = {
    "en": {
        "top left": ("top left", "upper left", "top left corner", "upper left corner"),
        "top": ("top", "top center", "top middle"),
        "top right": ("top right", "upper right", "top right corner", "upper right corner"),
        "left": ("left", "left side", "middle left"),
        "center": ("center", "middle", "centre"),
        "right": ("right", "right side", "middle right"),
        "bottom left": ("bottom left", "lower left", "bottom left corner", "lower left corner"),
        "bottom": ("bottom", "bottom center", "bottom middle"),
        "bottom right": ("bottom right", "lower right", "bottom right corner", "lower right corner"),
    },
    "zh": {
        "top left": ("左上角", "左上方"),
        "top": ("上方", "顶部", "上边"),
        "top right": ("右上角", "右上方"),
        "left": ("左边", "左侧"),
        "center": ("中间", "中央", "中心"),
        "right": ("右边", "右侧"),
        "bottom left": ("左下角", "左下方"),
        "bottom": ("下方", "底部", "下边"),
        "bottom right": ("右下角", "右下方"),
    },
}
# {x} is the first colour of the pattern, {y} the second.
PATTERN_NAMES: dict[Language, dict[Pattern, tuple[str, ...]]] = {
    "en": {
        "plain": ("{x}", "plain {x}", "solid {x}"),
        "vertical gradient": (
            "a vertical gradient from {x} to {y}",
            "a vertical {x} to {y} gradient",
            "a gradient from {x} at the top to {y} at the bottom",
        ),
        "horizontal gradient": (
            "a horizontal gradient from {x} to {y}",
            "a horizontal {x} to {y} gradient",
            "a gradient from {x} on the left to {y} on the right",
        ),
        "horizontal stripes": ("horizontal {x} and {y} stripes", "{x} and {y} horizontal stripes"),
        "vertical stripes": ("vertical {x} and {y} stripes", "{x} and {y} vertical stripes"),
        "diagonal stripes": ("diagonal {x} and {y} stripes", "{x} and {y} diagonal stripes"),
        "checkerboard": ("a checkerboard of {x} and {y}", "a {x} and {y} checkerboard"),
    },
    "zh": {
        "plain": ("{x}", "纯{x}"),
        "vertical gradient": ("从{x}到{y}的竖直渐变", "上{x}下{y}的渐变"),
        "horizontal gradient": ("从{x}到{y}的水平渐变", "左{x}右{y}的渐变"),
        "horizontal stripes": ("{x}和{y}的横条纹", "{x}{y}相间的横条纹"),
        "vertical stripes": ("{x}和{y}的竖条纹", "{x}{y}相间的竖条纹"),
        "diagonal stripes": ("{x}和{y}的斜条纹", "{x}{y}相间的斜条纹"),
        "checkerboard": ("{x}和{y}的棋盘格", "{x}{y}相间的棋盘格"),
    },
}
OTHER_PICTURE: dict[Language, tuple[str, ...]] = {
    "en": ("picture 2", "image 2", "the second picture", "the second image"),
    "zh": ("图2", "图片2", "第二张图"),
}
FIRST_PICTURE: dict[Language, tuple[str, ...]] = {"en": ("picture 1", "image 1"), "zh": ("图1", "图片1")}


def pick(rng: Random, names: tuple[str, ...]) -> str:
    """The usual name in ``USUAL_SHARE`` of the draws, else one of the others."""
    if len(names) == 1 or rng.random() < USUAL_SHARE:
        return names[0]
    return rng.choice(names[1:])


def with_article(noun: str) -> str:
    """English noun with "a" or "an"."""
    return ("an " if noun[0] in "aeiou" else "a ") + noun


def colour_name(rng: Random, colour: Colour, language: Language) -> str:
    """A name of the colour."""
    return pick(rng, COLOUR_NAMES[language][colour])


def kind_name(rng: Random, kind: Kind | None, language: Language) -> str:
    """A name of the kind; a word for any shape where there is none."""
    return pick(rng, ANY_KIND[language] if kind is None else KIND_NAMES[language][kind])


def background_name(rng: Random, background: Background, language: Language) -> str:
    """A description that fixes the pattern and the order of its colours."""
    pattern = rng.choice(PATTERN_NAMES[language][background.pattern])
    x, y = (colour_name(rng, colour, language) for colour in (background.first, background.second))
    return pattern.format(x=x, y=y).replace("a orange", "an orange")


def place_at(rng: Random, place: Place, language: Language) -> str:
    """Where something is: "at the top left", "左上角"."""
    name = rng.choice(PLACE_NAMES[language][place])
    if language == "zh":
        return name
    inner = "in" if place == "center" or "corner" in name else "on" if name in ("left", "right") else "at"
    return f"{rng.choice((inner, inner, 'at', 'in'))} the {name}"


def place_to(rng: Random, place: Place, language: Language) -> str:
    """Where something goes: "to the top left", "左上角"."""
    name = rng.choice(PLACE_NAMES[language][place])
    if language == "zh":
        return name
    return f"{rng.choice(('to', 'to', 'to', 'into'))} the {name}"
