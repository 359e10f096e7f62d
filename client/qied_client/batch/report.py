"""What comes with the results of a batch: ``report.json``, and contact sheets of its pictures."""

from __future__ import annotations

import io
import json
import math
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, Final

from qied_client.batch.state import FILE, BatchState

REPORT: Final = "report.json"
SHEET: Final = "contact-sheet"
SHEET_NAME: Final = re.compile(rf"{SHEET}(-\d+)?\.jpg")
_COLUMNS: Final = 8
_ROWS: Final = 8
_CELL_PX: Final = 200
_LABEL_PX: Final = 18
_LABEL_CHARS: Final = 30


def is_sheet(path: Path) -> bool:
    """Whether a file is the contact sheet of a batch whose results lie next to it, and no picture of its own."""
    return SHEET_NAME.fullmatch(path.name) is not None and path.with_name(FILE).exists()


def write_report(state: BatchState, path: Path, facts: Mapping[str, Any]) -> None:
    """Write what this run did as JSON: ``facts`` of the whole, then ``edits`` in their order, a few in memory."""
    with _replacing(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", write_through=True)
        head = json.dumps(dict(facts), indent=2, ensure_ascii=False)
        text.write(head[: head.rindex("\n}")] + ',\n  "edits": [')
        for number, row in enumerate(state.facts()):
            text.write((",\n    " if number else "\n    ") + json.dumps(row, ensure_ascii=False))
        text.write("\n  ]\n}\n")
        text.detach()


def write_sheets(state: BatchState, folder: Path) -> list[Path]:
    """Write contact sheets of 64 pictures each; none without Pillow, or without pictures."""
    if find_spec("PIL") is None:
        return []
    sheets: list[Path] = []
    pictures = state.thumbnails()
    while page := _page(pictures):
        number = len(sheets) + 1
        path = folder / (f"{SHEET}.jpg" if number == 1 else f"{SHEET}-{number}.jpg")
        with _replacing(path) as file:
            file.write(_sheet(page))
        sheets.append(path)
    return sheets


def _page(pictures: Iterator[tuple[dict[str, Any], bytes]]) -> list[tuple[str, bytes]]:
    page = []
    for facts, thumbnail in pictures:
        variation = f" {facts['variation']}" if facts["variation"] > 1 else ""
        page.append((f"{facts['name'][:_LABEL_CHARS]}{variation}", thumbnail))
        if len(page) == _COLUMNS * _ROWS:
            break
    return page


def _sheet(page: list[tuple[str, bytes]]) -> bytes:
    from PIL import Image, ImageDraw

    columns = min(_COLUMNS, len(page))
    rows = math.ceil(len(page) / columns)
    sheet = Image.new("RGB", (columns * _CELL_PX, rows * (_CELL_PX + _LABEL_PX)), "white")
    draw = ImageDraw.Draw(sheet)
    for place, (label, thumbnail) in enumerate(page):
        left, top = place % columns * _CELL_PX, place // columns * (_CELL_PX + _LABEL_PX)
        with Image.open(io.BytesIO(thumbnail)) as image:
            image.thumbnail((_CELL_PX - 8, _CELL_PX - 8))
            sheet.paste(image, (left + (_CELL_PX - image.width) // 2, top + (_CELL_PX - image.height) // 2))
        draw.text((left + 4, top + _CELL_PX), label.encode("ascii", "replace").decode(), fill="black")
    target = io.BytesIO()
    sheet.save(target, "JPEG", quality=88)
    return target.getvalue()


@contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file that gets its name once it is whole."""
    part = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
