"""``upscale``: pictures enlarged by an upscaling model of the daemon, and nothing else done to them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from qied_client.cli.connecting import connected
from qied_client.cli.editing import options as o
from qied_client.cli.editing.arguments import check_files
from qied_client.cli.editing.command import show_saved, show_warnings
from qied_client.cli.editing.places import Place
from qied_client.cli.editing.run import Edits, Saved
from qied_client.cli.editing.words import in_flags
from qied_client.cli.exit_status import INTERRUPTED
from qied_client.cli.failures import failures_as_text
from qied_client.cli.options import Address, AsJson, Key
from qied_client.errors import InvalidRequest
from qied_client.protocol.request import UPSCALING


def upscale(
    pictures: Annotated[list[Path], typer.Argument(metavar="PICTURE...", help="Pictures to enlarge.")],
    out: Annotated[
        Path, typer.Option("-o", "--out", help="Output file: .png, .webp or .jpg; for several, {name} in its name.")
    ],
    upscaler: Annotated[
        str, typer.Option("--upscaler", help="2x or 4x, or the name of an upscaling model of the daemon.")
    ] = "2x",
    quality: o.Quality = None,
    background: o.Background = None,
    priority: o.Priority = 0,
    key: Key = None,
    address: Address = None,
    as_json: AsJson = False,
) -> None:
    """Enlarge pictures by an upscaling model."""
    with failures_as_text(in_flags):
        places = [Place(out.with_name(out.name.replace("{name}", path.stem)), quality=quality) for path in pictures]
        if len({place.out for place in places}) < len(pictures):
            raise InvalidRequest(
                f"{out}: several pictures would have this name.",
                "Put {name} into it, and give pictures of different names.",
                field="out",
            )
        for place in places:
            place.check()
        check_files(pictures)
        done: list[Saved] = []
        with connected(key, address) as client:
            for path, place in zip(pictures, places, strict=True):
                options = {"task": "upscale", "upscale": upscaler, "priority": priority}
                options |= {"background": background} if background is not None else {}
                edits = Edits(client, place, None, 0)
                try:
                    done += edits.run([path], UPSCALING, {**options, **place.asks(client.welcome.version)})
                except KeyboardInterrupt:
                    edits.stop(Console(stderr=True, highlight=False))
                    raise typer.Exit(INTERRUPTED) from None
        show_warnings(done)
        show_saved(Console(highlight=False), done, as_json, many=len(pictures) > 1)
