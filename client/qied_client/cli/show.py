"""``show``: how a picture was made, and the command that makes it again; text of 80 columns that needs no colour."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from qied_client.cli.failures import failures_as_text
from qied_client.cli.made_again import arguments_of, masks_of, number, placeholder, printable, shell_line
from qied_client.cli.options import AsJson, program
from qied_client.errors import InvalidRequest, MetadataMissing
from qied_client.inputs import picture_bytes
from qied_client.picture_file.neighbours import files_with_hashes
from qied_client.picture_metadata import SHORT_HASH, PictureMetadata, read_metadata
from qied_client.transfers import hash_of

_NAME_CELLS = 10


def show(
    picture: Annotated[Path, typer.Argument(help="A picture that qied made: PNG, WebP or JPEG.")],
    source: Annotated[
        list[Path] | None, typer.Option(help="A picture or mask that it was made from; may be repeated.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show how a picture was made, and the command that makes it again; no daemon is needed."""
    with failures_as_text():
        metadata = read_metadata(picture)
        if metadata is None:
            raise MetadataMissing(
                f"{picture} does not say how it was made: qied did not make it, or another program saved it again.",
                "Show the file that qied wrote itself.",
            )
        found = _found(metadata, source or [], picture)
        again = picture.with_name(f"{picture.stem}-again{'.webp' if picture.suffix.lower() == '.webp' else '.png'}")
        arguments = arguments_of(metadata, found, source or [], again)
        command = f"{program()} {shell_line(arguments)}"
        console = Console(highlight=False)
        if as_json:
            document = {"path": str(picture), **asdict(metadata), "command": command, "arguments": arguments}
            console.print_json(json.dumps(document))
            return
        _show(console, picture, metadata, found)
        console.print(Text("\nTo make it again:", "bold"))
        console.print(Text(command), soft_wrap=True)
        for note in _notes(metadata, found, source or []):
            for line in _lines(console, Text(note, "dim")):
                console.print(line)


def _found(metadata: PictureMetadata, named: Sequence[Path], picture: Path) -> dict[str, Path]:
    """Files of the sources and the mask by their hashes: those that are named, then those next to it."""
    wanted = {*metadata.sources, *filter(None, [metadata.canvas]), *masks_of(metadata)}
    found: dict[str, Path] = {}
    for path in named if wanted else ():
        blob = hash_of(picture_bytes(path))
        if blob not in wanted:
            begin = ", ".join(sorted(each[:SHORT_HASH] for each in wanted))
            raise InvalidRequest(
                f"--source {path}: {picture} was not made from this file.",
                f"Its sources have SHA-256 hashes that begin with {begin}.",
            )
        found[blob] = path
    for blob, path in files_with_hashes(picture.parent, wanted - found.keys(), without=picture).items():
        found[blob] = path
    return found


def _show(console: Console, picture: Path, metadata: PictureMetadata, found: dict[str, Path]) -> None:
    size = f"  {metadata.width} x {metadata.height}"
    badge = f"  [{metadata.precision.upper()}]" if metadata.precision else ""
    console.print(Text.assemble((str(picture), "bold"), size, (printable(badge), "bold green")), soft_wrap=True)
    for name, value in _rows(metadata, found):
        style = "yellow" if name == "warning" else ""
        for index, line in enumerate(_lines(console, Text(printable(value), style), _NAME_CELLS)):
            console.print(Text.assemble(((name if index == 0 else "").ljust(_NAME_CELLS), "dim"), line))


def _lines(console: Console, text: Text, indent: int = 0) -> list[Text]:
    """Text in lines that fit, without the spaces that rich leaves at the ends of lines."""
    lines = list(text.wrap(console, console.width - indent)) or [Text()]
    for line in lines:
        line.rstrip()
    return lines


def _rows(metadata: PictureMetadata, found: dict[str, Path]) -> Iterator[tuple[str, str]]:
    if metadata.steps:
        yield from _edit_rows(metadata)
    if metadata.upscale:
        yield "upscaled", f"{metadata.upscale}, {metadata.upscale_by}x"
    for blob in dict.fromkeys(metadata.sources):
        yield "source", _file(blob, found)
    for text in metadata.redraw:
        yield "redraw", text
    if metadata.canvas is not None:
        yield "canvas", _file(metadata.canvas, found)
    for mask in masks_of(metadata):
        yield "mask", _file(mask, found)
    if metadata.drift:
        across, down, zoom = metadata.drift
        undone = ", undone" if metadata.aligned else ""
        yield "drift", f"{across:+g} {down:+g} px, zoom {zoom:g}{undone}"
    for warning in metadata.warnings:
        yield "warning", warning


def _edit_rows(metadata: PictureMetadata) -> Iterator[tuple[str, str]]:
    yield "prompt", metadata.prompt
    if metadata.original_prompt:
        yield "asked for", metadata.original_prompt
    if (metadata.negative_prompt or "").strip():
        yield "negative", str(metadata.negative_prompt)
    yield "seed", str(metadata.seed)
    yield "steps", str(metadata.steps)
    yield "cfg", number(metadata.true_cfg_scale)
    yield "model", f"{metadata.model}, qied {metadata.version}"
    for name, value in (("preset", metadata.preset), ("schedule", metadata.schedule), ("done as", metadata.compat)):
        if value:
            yield name, value
    for lora, strength in metadata.loras:
        yield "LoRA", f"{lora}, strength {number(strength)}"


def _file(blob: str, found: dict[str, Path]) -> str:
    return f"{blob[:SHORT_HASH]}  {found.get(blob, 'not found')}"


def _notes(metadata: PictureMetadata, found: dict[str, Path], named: Iterable[Path]) -> Iterator[str]:
    """What somebody has to know before the command can be used."""
    pictures = dict.fromkeys((*metadata.sources, *filter(None, [metadata.canvas])))
    missing = [placeholder(blob) for blob in pictures if blob not in found]
    missing += [placeholder(mask, "MASK") for mask in masks_of(metadata) if mask not in found]
    if len(missing) == 1:
        yield (
            f"{missing[0]} stands for the file whose SHA-256 hash begins so. Name it with --source, or put it next to "
            "this picture."
        )
    elif missing:
        names = f"{', '.join(missing[:-1])} and {missing[-1]}"
        yield (
            f"{names} stand for the files whose SHA-256 hashes begin so. Name them with --source, or put them next to "
            "this picture."
        )
    if not metadata.sources:
        stands = "" if any(True for _ in named) else "PICTURE stands for what it was made from. "
        yield f"{stands}Pictures of qied {metadata.version} do not tell their sources, nor a mask."
