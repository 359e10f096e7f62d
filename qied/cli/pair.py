"""Two pictures side by side in a terminal, two pixels to a character."""

from __future__ import annotations

from io import BytesIO

from PIL import Image
from rich.console import Console
from rich.table import Table
from rich_pixels import HalfcellRenderer, Pixels

_MOST_COLUMNS = 48
_GAP = 2


def show_pair(console: Console, before: bytes, after: bytes) -> None:
    """Print two encoded pictures beside each other, as large as the terminal's width allows."""
    side = min(_MOST_COLUMNS, (console.width - _GAP) // 2)
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0))
    for title in ("before", "after"):
        table.add_column(title, width=side)
    table.add_row(_pixels(before, side), _pixels(after, side))
    console.print(table)


def _pixels(picture: bytes, side: int) -> Pixels:
    image = Image.open(BytesIO(picture)).convert("RGB")
    image.thumbnail((side, side), Image.Resampling.BOX)
    return Pixels.from_image(image, renderer=HalfcellRenderer())
