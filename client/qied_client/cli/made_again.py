"""From what a picture says of itself to the command that makes it again, quoted for a shell."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

from qied_client.picture_metadata import SHORT_HASH, PictureMetadata

_UNTOLD = "PICTURE"
"""Stands for the source of a picture that does not name its sources, as those of qied 0.2.0 do not."""


def placeholder(blob: str, kind: str = "PICTURE") -> str:
    """What stands for a picture of which only the hash is known: ``PICTURE-3f2a91b0c4d5``."""
    return f"{kind}-{blob[:SHORT_HASH]}"


def arguments_of(metadata: PictureMetadata, found: dict[str, Path], untold: list[Path], out: Path) -> list[str]:
    """Arguments of ``edit``, or of ``upscale``, that make the picture again as ``out``.

    ``found`` has the files of sources and mask by hash; a placeholder stands for others. ``untold`` are the sources in
    their order, for metadata that has none.
    """

    def name(blob: str, kind: str = "PICTURE") -> str:
        return str(found[blob]) if blob in found else placeholder(blob, kind)

    told = [name(blob) for blob in metadata.sources]
    pictures = [*(told or map(str, untold) or ())] or [_UNTOLD]
    if metadata.upscale and not metadata.steps:
        files = ["--", *pictures] if any(word.startswith("-") for word in pictures) else pictures
        return ["upscale", "--upscaler", metadata.upscale, "-o", str(out), *files]
    options = [*_options(metadata), "-o", str(out)]
    if metadata.mask is not None:
        options += ["--mask", name(metadata.mask, "MASK")]
        if metadata.mask_mode not in ("", "auto"):
            options += ["--mask-mode", metadata.mask_mode]
    for text in metadata.redraw:
        options += ["--redraw", _with_files(text, name)]
    named = [*pictures, metadata.prompt]
    if metadata.canvas is not None:
        options += ["--canvas", name(metadata.canvas)]
    if any(word.startswith("-") for word in named):
        return ["edit", *options, "--", *named]
    return ["edit", *named, *options]


def masks_of(metadata: PictureMetadata) -> tuple[str, ...]:
    """Hashes of the masks of an edit and of its passes, each once."""
    words = (word for text in metadata.redraw for word in text.split(","))
    masks = [word.removeprefix("mask=") for word in words if word.startswith("mask=")]
    return tuple(dict.fromkeys([*([metadata.mask] if metadata.mask else []), *masks]))


def _with_files(text: str, name: Callable[[str, str], str]) -> str:
    """A pass with its mask's file in place of the hash."""
    words = text.split(",")
    return ",".join(
        f"mask={name(word.removeprefix('mask='), 'MASK')}" if word.startswith("mask=") else word for word in words
    )


def _options(metadata: PictureMetadata) -> list[str]:
    options = ["--seed", str(metadata.seed)]
    if metadata.preset:
        options += ["--preset", metadata.preset]
    options += ["--steps", str(metadata.steps), "--cfg", number(metadata.true_cfg_scale)]
    if metadata.negative_prompt is not None:
        options += ["--negative", metadata.negative_prompt]
    for lora, strength in metadata.loras:
        options += ["--lora", lora if strength == 1 and ":" not in lora else f"{lora}:{number(strength)}"]
    if metadata.compat:
        options += ["--compat", metadata.compat]
    if metadata.size in ("same", "kontext"):
        options += ["--size", metadata.size]
    elif not metadata.size and metadata.canvas is None:
        drawn = (metadata.width // metadata.upscale_by, metadata.height // metadata.upscale_by)
        options += ["--width", str(drawn[0]), "--height", str(drawn[1])]
    if metadata.upscale:
        options += ["--upscale", metadata.upscale]
    if metadata.background:
        options += ["--background", metadata.background]
    if metadata.precision:
        options += ["--precision", metadata.precision]
    return options


def number(value: float) -> str:
    """A number as short as it can be without a change."""
    return short if float(short := f"{value:g}") == value else repr(value)


def shell_line(words: list[str]) -> str:
    """The words as one command for a POSIX shell, which prints without harm: control characters are escaped."""
    return " ".join(map(_quoted, words))


def _quoted(word: str) -> str:
    if not any(_is_control(character) for character in word):
        return shlex.quote(word)
    escaped = word.replace("\\", "\\\\").replace("'", "\\'")
    return "$'" + _escaped(escaped, lambda character: f"\\u{ord(character):04x}") + "'"


def printable(text: str) -> str:
    """Text of a stranger for a terminal: control characters but the ends of lines are shown as ``\\x1b``."""
    return _escaped(text, lambda character: f"\\x{ord(character):02x}")


def _escaped(text: str, escape: Callable[[str], str]) -> str:
    return "".join(escape(character) if _is_control(character) else character for character in text)


def _is_control(character: str) -> bool:
    return character != "\n" and (ord(character) < 0x20 or 0x7F <= ord(character) < 0xA0)
