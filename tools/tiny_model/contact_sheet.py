"""Contact sheets: rows of small pictures with the instruction below, for a person to look at."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from tools.tiny_model.edits import Edit
from tools.tiny_model.render import render_scenes

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
GAP = 6
FONT_PX = 13
LABEL_PX, LINE_PX = 16, 17
CAPTION_LINES = 2
DIFFERENCE_GAIN = 4.0
"""By how much differences are brightened."""
CHINESE_FONTS = (
    "NotoSansCJK-Regular.ttc",
    "NotoSansSC-Regular.otf",
    "SourceHanSansSC-Regular.otf",
    "wqy-microhei.ttc",
    "wqy-zenhei.ttc",
    "DroidSansFallbackFull.ttf",
    "PingFang.ttc",
    "msyh.ttc",
    "simhei.ttf",
)
"""Files that PIL looks for in the font folders of Linux, macOS and Windows."""
LATIN_CHARACTER_SHARE = 0.55
INK, FAINT, FAILED = "black", "gray", "#c01818"


@dataclass(frozen=True)
class Entry:
    """One row of labelled pictures (FP32 [3, H, W], 0..1) with a caption; ``failed`` prints it in red.

    ``plain`` is the caption where no font has the characters of the first one.
    """

    pictures: tuple[tuple[str, Tensor], ...]
    caption: str
    failed: bool = False
    plain: str = ""


def result_entries(edits: Sequence[Edit], outputs: Tensor, successes: Sequence[bool]) -> list[Entry]:
    """Source, picture 2 where there is one, output, truth and difference of outputs FP32 [N, 3, SIDE, SIDE]."""
    entries = []
    for edit, output, success in zip(edits, outputs.float().cpu().clamp(0, 1), successes, strict=True):
        given, truth = _given(edit)
        difference = ((output - truth).abs() * DIFFERENCE_GAIN).clamp(0, 1)
        shown = (*given, ("output", output), ("truth", truth), ("difference", difference))
        entries.append(Entry(shown, edit.instruction, not success, _plain(edit)))
    return entries


def truth_entries(edits: Sequence[Edit]) -> list[Entry]:
    """Source, picture 2 where there is one, and the exact result."""
    return [
        Entry((*given, ("truth", truth)), edit.instruction, plain=_plain(edit))
        for edit in edits
        for given, truth in [_given(edit)]
    ]


def _plain(edit: Edit) -> str:
    """What an instruction asks for, in ASCII."""
    return edit.instruction if edit.instruction.isascii() else f"(Chinese) {edit.task}"


def _given(edit: Edit) -> tuple[tuple[tuple[str, Tensor], ...], Tensor]:
    """The pictures that an edit starts from, and its exact result."""
    scenes = [edit.source, edit.target, *([edit.reference] if edit.reference else [])]
    source, truth, *second = render_scenes(scenes)
    return (("source", source), *(("picture 2", picture) for picture in second)), truth


def contact_sheet(entries: Sequence[Entry], columns: int = 3, side: int = 112) -> Image.Image:
    """All entries in a grid of ``columns``, each picture ``side`` pixels wide and high, as an RGB picture."""
    slots = max((len(entry.pictures) for entry in entries), default=1)
    width = slots * (side + GAP) + 2 * GAP
    height = LABEL_PX + side + CAPTION_LINES * LINE_PX + GAP
    rows = -(-len(entries) // columns)
    sheet = Image.new("RGB", (columns * width, max(rows, 1) * height), "white")
    for number, entry in enumerate(entries):
        corner = (number % columns * width + GAP, number // columns * height)
        _draw_entry(sheet, entry, corner, side, slots * (side + GAP))
    return sheet


def _draw_entry(sheet: Image.Image, entry: Entry, corner: tuple[int, int], side: int, width: int) -> None:
    drawing = ImageDraw.Draw(sheet)
    left, top = corner
    for index, (label, picture) in enumerate(entry.pictures):
        x = left + index * (side + GAP)
        drawing.text((x, top), label, fill=FAINT, font=_latin_font())
        small = _image(picture).resize((side, side), Image.Resampling.LANCZOS)
        sheet.paste(small, (x, top + LABEL_PX))
    ink = FAILED if entry.failed else INK
    for line, (text, font) in enumerate(_caption_lines(entry, width)):
        drawing.text((left, top + LABEL_PX + side + 1 + line * LINE_PX), text, fill=ink, font=font)


def _image(picture: Tensor) -> Image.Image:
    levels = (picture * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous()
    return Image.fromarray(levels.numpy())


def _caption_lines(entry: Entry, width: int) -> Iterator[tuple[str, Font]]:
    """The caption in lines that fit ``width`` pixels."""
    caption = entry.caption
    chinese = None if caption.isascii() else _chinese_font()
    if chinese is None and not caption.isascii():
        caption = entry.plain
    font = chinese or _latin_font()
    characters = int(width / (FONT_PX * (1.0 if chinese else LATIN_CHARACTER_SHARE)))
    for line in textwrap.wrap(caption, characters, max_lines=CAPTION_LINES, placeholder="..."):
        yield line, font


@cache
def _latin_font() -> Font:
    """The font that comes with PIL."""
    return ImageFont.load_default(FONT_PX)


@cache
def _chinese_font() -> Font | None:
    """The first of ``CHINESE_FONTS`` that is installed."""
    for name in CHINESE_FONTS:
        try:
            return ImageFont.truetype(name, FONT_PX)
        except OSError:
            continue
    return None
