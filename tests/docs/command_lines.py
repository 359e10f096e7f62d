"""The command lines of ``qied`` and ``qied-client`` that documents show, and what they are replaced by to be run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from qied_client.cli.main import command_line

from qied.cli.main import command_line as whole_command_line

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = (
    *("README.md", "docs/guide.md", "docs/operating.md", "docs/web.md", "docs/comfyui.md"),
    *("client/README.md", "comfyui/README.md"),
)
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")

_FENCED = re.compile(r"^```(?P<language>\w*)\n(?P<text>.*?)^```", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`(qied(?:-client)? [^`]+)`")
_BY_ITS_PATH = re.compile(r'"\$\(command -v (qied(?:-client)?)\)"')
# Some versions of typer bring a click of their own, so neither is imported by name.
_USAGE_ERROR: type[Any] = typer.BadParameter.__mro__[1]
_PLACEHOLDER = re.compile(r"[A-Z][A-Z_]{2,}(?:\.\.\.)?")
PROGRAMS = {"qied": typer.main.get_command(whole_command_line()), "qied-client": typer.main.get_command(command_line())}


@dataclass(frozen=True, order=True)
class CommandLine:
    """A command as a document has it. One ``in_prose`` may leave out what is clear there, such as the picture."""

    document: str
    program: str
    words: tuple[str, ...]
    in_prose: bool
    privileged: bool = False

    def __str__(self) -> str:
        return shlex.join((self.program, *self.words))

    @property
    def command(self) -> tuple[tuple[str, ...], Any]:
        """The path of the command, such as ``("keys", "add")``; raises LookupError where there is none of that name."""
        found: Any = PROGRAMS[self.program]
        path: list[str] = []
        for word in self.words:
            if not hasattr(found, "commands") or word.startswith("-"):
                break
            inner = found.commands.get(word)
            if inner is None:
                raise LookupError(f"{self.document}: there is no command {word!r} in `{self}`")
            found, path = inner, [*path, word]
        return tuple(path), found

    @property
    def unknown_options(self) -> list[str]:
        """Options that the command does not have."""
        known = {name for parameter in self.command[1].params for name in (*parameter.opts, *parameter.secondary_opts)}
        return [
            word for word in self.words if word.startswith("-") and word.partition("=")[0] not in {*known, "--help"}
        ]

    @property
    def wrong(self) -> str:
        """What the command's own parser says of it, "" if it can be run."""
        path, command = self.command
        if not path:  # an option of the program itself acts as soon as it is parsed
            return ""
        try:
            with command.make_context(command.name, list(self.words[len(path) :])):
                return ""
        except _USAGE_ERROR as error:
            return error.format_message()

    @property
    def placeholders(self) -> list[str]:
        """Words that stand for others, such as NAME."""
        return [word for word in self.words if _PLACEHOLDER.fullmatch(word.rpartition("/")[2])]


def collected() -> list[CommandLine]:
    """Each command line of all documents once; in the order of the documents."""
    found: dict[tuple[str, tuple[str, ...]], CommandLine] = {}
    for document in DOCUMENTS:
        for line in lines_of(document, (ROOT / document).read_text(encoding="utf-8")):
            key = line.program, line.words
            if key not in found or (found[key].in_prose and not line.in_prose):
                found[key] = line
    return list(found.values())


def lines_of(document: str, text: str) -> Iterator[CommandLine]:
    """The command lines of one document."""
    for block in _FENCED.finditer(text):
        if block["language"] in ("", "sh", "console"):
            for line in block["text"].replace("\\\n", " ").splitlines():
                yield from _read(document, line.removeprefix("$ "), in_prose=False)
    for inline in _INLINE.finditer(_FENCED.sub("", text)):
        yield from _read(document, " ".join(inline[1].split()), in_prose=True)


def _read(document: str, line: str, *, in_prose: bool) -> Iterator[CommandLine]:
    if not re.match(r"sudo |\S*qied(-client)? ", line):
        return
    try:
        words = shlex.split(_BY_ITS_PATH.sub(r"\1", line), comments=True)
    except ValueError as error:
        raise ValueError(f"{document}: {line!r}: {error}") from error
    privileged = words[:1] == ["sudo"]
    if privileged:
        words = words[3:] if words[1] == "-u" else words[1:]
    words = [word for place, word in enumerate(words) if word != ">" and words[place - 1 : place] != [">"]]
    if words and (program := words[0].rpartition("/")[2]) in PROGRAMS:
        yield CommandLine(document, program, tuple(words[1:]), in_prose, privileged)


def pasted(document: str, heading: str) -> list[str]:
    """The shell blocks below a heading of a document, as they are copied."""
    text = (ROOT / document).read_text(encoding="utf-8").partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return [block["text"] for block in _FENCED.finditer(text) if block["language"] == "sh"]
