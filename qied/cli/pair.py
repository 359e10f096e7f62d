"""Two pictures side by side in a terminal, two pixels to a character."""

from __future__ import annotations

from io import BytesIO

from PIL import Image
from rich.columns import Columns
from rich.console import Console
from rich.panel import Panel
from rich_pixels import HalfcellRenderer, Pixels

_MOST_COLUMNS = 48
_FRAME = 4


def show_pair(console: Console, before: bytes, after: bytes) -> None:
    """Print two encoded pictures beside each other, as large as the terminal's width allows."""
    side = min(_MOST_COLUMNS, console.width // 2 - _FRAME)
    panels = [
        Panel(_pixels(picture, side), title=title, expand=False)
        for title, picture in (("before", before), ("after", after))
    ]
    console.print(Columns(panels))


def _pixels(picture: bytes, side: int) -> Pixels:
    image = Image.open(BytesIO(picture)).convert("RGB")
    image.thumbnail((side, side), Image.Resampling.BOX)
    return Pixels.from_image(image, renderer=HalfcellRenderer())
