"""``upscale``: pictures enlarged by an upscaling model of the daemon, and nothing else done to them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from qied_client.cli import completing
from qied_client.cli.editing import options as o
from qied_client.cli.editing.command import show_saved, show_warnings
from qied_client.cli.editing.places import Place
from qied_client.cli.editing.run import Edits, Saved
from qied_client.cli.editing.words import in_flags
from qied_client.cli.exit_status import INTERRUPTED, status_of
from qied_client.cli.failures import failures_as_text, show_failure
from qied_client.cli.options import Address, AsJson, Key
from qied_client.client import Client
from qied_client.errors import InvalidRequest, QiedError, UnreachableError
from qied_client.protocol.request import UPSCALING


def upscale(
    pictures: Annotated[list[Path], typer.Argument(metavar="PICTURE...", help="Pictures to enlarge.")],
    out: Annotated[
        Path, typer.Option("-o", "--out", help="Output file: .png, .webp or .jpg; for several, {name} in its name.")
    ],
    upscaler: Annotated[
        str,
        typer.Option(
            "--upscaler",
            help="2x or 4x, or the name of an upscaling model of the daemon.",
            autocompletion=completing.upscalers,
        ),
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
        places = _places(pictures, out, quality)
        options = {"task": "upscale", "upscale": upscaler, "priority": priority}
        options |= {"background": background} if background is not None else {}
        done: list[Saved] = []
        status = 0
        with Client(key, address=address) as client:
            for path, place in zip(pictures, places, strict=True):
                edits = Edits(client, place, None, 0)
                try:
                    done += edits.run([path], UPSCALING, {**options, **place.asks(client.welcome.version)})
                except KeyboardInterrupt:
                    edits.stop(Console(stderr=True, highlight=False))
                    raise typer.Exit(INTERRUPTED) from None
                except UnreachableError:
                    raise
                except QiedError as error:
                    if len(pictures) == 1:
                        raise
                    told = in_flags(error)
                    if str(path) not in told.message:
                        told.message = f"{path}: {told.message}"
                    show_failure(told)
                    status = max(status, status_of(error))
        show_warnings(done)
        if done or as_json:
            show_saved(Console(highlight=False), done, as_json, many=len(pictures) > 1)
    if status:
        raise typer.Exit(status)


def _places(pictures: list[Path], out: Path, quality: int | None) -> list[Place]:
    """Where each picture's result goes; raises InvalidRequest where two would have one name, or none can be written."""
    taken: dict[Path, Path] = {}
    for path in pictures:
        name = out.with_name(out.name.replace("{name}", path.stem))
        if name in taken:
            raise InvalidRequest(
                f"{name} would be the result of both {taken[name]} and {path}.",
                "Put {name} into the name of the output, and give pictures of different names.",
                field="out",
            )
        taken[name] = path
    places = [Place(name, quality=quality) for name in taken]
    for place in places:
        place.check()
    return places
