"""Pictures in a terminal: two pixels in each cell, as a half block in two colours; needs the extra ``pictures``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from io import BytesIO
from itertools import groupby

from rich.color import Color
from rich.console import Console
from rich.style import Style
from rich.table import Table
from rich.text import Text

from qied_client.picture_header import PictureLimits, read_header

_MOST_COLUMNS = 48
_LEAST_COLUMNS = 24
_GAP = 2


def can_draw(console: Console) -> bool:
    """Whether a console is a terminal with 256 colours or more, half blocks, and a user who wants colours."""
    try:
        import PIL  # noqa: F401
    except ImportError:
        return False
    colours = console.color_system in ("256", "truecolor")
    return console.is_terminal and colours and not console.no_color and console.encoding.startswith("utf")


def show_pictures(console: Console, pictures: Sequence[tuple[str, bytes]]) -> None:
    """Print encoded pictures with their titles side by side, as large as the terminal's width allows.

    Pictures of formats that cannot be decoded here are left out.
    """
    pictures = [(title, picture) for title, picture in pictures if _let_open(picture)]
    if not pictures:
        return
    most = max(1, (console.width + _GAP) // (_LEAST_COLUMNS + _GAP))
    columns = min(len(pictures), most)
    side = min(_MOST_COLUMNS, (console.width + _GAP) // columns - _GAP)
    for start in range(0, len(pictures), columns):
        table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0))
        shown = pictures[start : start + columns]
        for title, _ in shown:
            table.add_column(Text(title), width=side, no_wrap=True, overflow="crop")
        table.add_row(*(half_blocks(picture, side) for _, picture in shown))
        console.print(table)


def _let_open(picture: bytes) -> bool:
    """Whether Pillow can open a picture, with its plugin loaded where it needs one."""
    from qied_client.pixels.plugins import is_decodable, load_plugin

    kind = read_header(BytesIO(picture), PictureLimits()).format
    if is_decodable(kind):
        load_plugin(kind)
        return True
    return False


def half_blocks(picture: bytes, side: int) -> Text:
    """An encoded picture as text of at most ``side`` columns and ``side / 2`` lines."""
    from PIL import Image, ImageOps

    with Image.open(BytesIO(picture)) as opened:
        opened.draft("RGB", (4 * side, 4 * side))
        image = ImageOps.exif_transpose(opened).convert("RGB")
    image.thumbnail((side, side), Image.Resampling.BOX)
    width, height = image.size
    rows = [[_colour(image, x, y) for x in range(width)] for y in range(height)]
    lines = [Text().join(_cells(rows[y], rows[y + 1] if y + 1 < height else None)) for y in range(0, height, 2)]
    return Text("\n").join(lines)


def _colour(image: object, x: int, y: int) -> Color:
    return Color.from_rgb(*image.getpixel((x, y)))  # type: ignore[attr-defined]


def _cells(upper: Sequence[Color], lower: Sequence[Color] | None) -> Iterator[Text]:
    pairs = zip(upper, lower if lower is not None else [None] * len(upper), strict=True)
    for (above, below), cells in groupby(pairs):
        yield Text("▀" * len(list(cells)), Style(color=above, bgcolor=below))
