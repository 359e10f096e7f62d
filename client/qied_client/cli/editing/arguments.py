"""Pictures and prompt told apart: what to say where the prompt is forgotten, comes first, or has no quotes."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from qied_client.aio.uploads import PictureUpload
from qied_client.cli.options import program
from qied_client.errors import InvalidRequest

_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".avif", ".heic", ".heif", ".jxl")
_PROMPT = "make it night"


def told_apart(words: Sequence[str]) -> tuple[list[Path], str]:
    """The pictures and the prompt of ``edit``; raises InvalidRequest that says which argument seems to be what."""
    pictures, last = words[:-1], words[-1] if words else ""
    if not words:
        raise _refused("A picture and a prompt are missing.", ["photo.png"], _PROMPT)
    if _ends_like_a_picture(last):
        _refuse_a_picture_as_prompt(pictures, last)
    if not pictures:
        from_text = f". For a picture from text alone: {program()} generate {_quoted(last)} -o out.png"
        raise _refused(f"A picture is missing: {last!r} is taken for the prompt.", ["photo.png"], last, from_text)
    strays = [word for word in pictures if not _is_picture(word)]
    if " " not in last and 0 < len(strays) < len(pictures) and strays == list(pictures[-len(strays) :]):
        text = " ".join((*strays, last))
        named = ", ".join(repr(word) for word in strays)
        verb = "is" if len(strays) == 1 else "are"
        raise _refused(
            f"{named} {verb} taken for a picture: the prompt seems to have no quotes.",
            pictures[: -len(strays)],
            text,
        )
    return [Path(word) for word in pictures], last


def check_files(pictures: Sequence[Path], mask: Path | None = None) -> None:
    """Raise the error of a picture that cannot be used now, rather than after waiting for a daemon."""
    for picture in pictures:
        PictureUpload(picture)
    if mask is not None:
        PictureUpload(mask, "mask")


def _refuse_a_picture_as_prompt(pictures: Sequence[str], last: str) -> None:
    strays = [word for word in pictures if not _is_picture(word)]
    if not strays:
        raise _refused(f"The prompt is missing: {last} is a picture.", [*pictures, last], _PROMPT)
    if strays == list(pictures[: len(strays)]):
        raise _refused(
            f"{' '.join(strays)!r} seems to be the prompt, which comes last.",
            [*pictures[len(strays) :], last],
            " ".join(strays),
        )


def _ends_like_a_picture(word: str) -> bool:
    """Whether a word is the name of a picture rather than a prompt that ends with one."""
    return word.lower().endswith(_SUFFIXES) and (" " not in word or _is_file(word))


def _is_picture(word: str) -> bool:
    return _ends_like_a_picture(word) or _is_file(word)


def _is_file(word: str) -> bool:
    try:
        return Path(word).is_file()
    except (OSError, ValueError):  # too long for a name: a prompt
        return False


def _refused(message: str, pictures: Sequence[str], prompt: str, otherwise: str = "") -> InvalidRequest:
    command = " ".join((program(), "edit", *map(shlex.quote, pictures), _quoted(prompt), "-o out.png"))
    return InvalidRequest(
        message, f"Name the pictures, then the prompt in quotes: {command}{otherwise}", field="prompt"
    )


def _quoted(prompt: str) -> str:
    return f'"{prompt}"' if not set(prompt) & set('"$`\\!') else shlex.quote(prompt)
