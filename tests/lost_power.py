"""What a loss of power leaves of a folder: a process runs under strace, and only what it brought to the disk is kept.

The disk of this model is as forgetful as the rules allow: what a file holds is kept when the file is synced, its name
when the folder is. Syncs take their time, so that an answer that does not wait for one overtakes it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import pytest

_TRACED = (
    "trace=openat,open,creat,mkdir,mkdirat,rmdir,write,pwrite64,writev,pwritev,pwritev2,lseek,ftruncate,fallocate,"
    "fsync,fdatasync,rename,renameat,renameat2,link,linkat,unlink,unlinkat,sendfile,copy_file_range"
)
_SYNC_TAKES_US = 200_000
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_OPEN_FILE = re.compile(r"(\d+)<((?:\\x[0-9a-f]{2})*)>")
_CALL = re.compile(r"(\w+)\((.*)\) += (\d+)(.*)")
_LINE = re.compile(r"(\d+) +(?:<\.\.\. \w+ resumed>)?(.*?)( <unfinished \.\.\.>)?")


def watching(log: Path) -> list[str]:
    """What a command begins with so that ``log`` has what it and its children do to files; skips without strace.

    Where QIED_TEST_REQUIRE_STRACE is set, a system without it fails the test instead.
    """
    command = ["strace", "-f", "--seccomp-bpf", "-y", "-xx", "-s", "16777216", "-e", "signal=none", "-e", _TRACED]
    command += ["-e", f"inject=fsync,fdatasync:delay_enter={_SYNC_TAKES_US}", "-o", str(log)]
    problem = "strace is not installed"
    if shutil.which("strace") is not None:
        problem = subprocess.run([*command, "true"], capture_output=True, text=True, check=False).stderr.strip()
    if problem and os.environ.get("QIED_TEST_REQUIRE_STRACE"):
        pytest.fail(f"a loss of power cannot be tested: {problem}")
    if problem:
        pytest.skip(f"a loss of power is tested with strace (Debian's package of that name): {problem}")
    # The watcher is nobody's parent, so that the process that is started is the command's own.
    return [*command, "-D"]


@dataclass
class _File:
    """What a file holds for those who read it now, and for those who read it when the power is back."""

    now: bytearray = field(default_factory=bytearray)
    on_disk: bytes = b""


class _Folder:
    """A folder; what is in it is told by paths."""


_Node: TypeAlias = _File | _Folder


class Disk:
    """The folder ``root`` as a log of strace tells of it; what is there before counts as not there."""

    def __init__(self, root: Path) -> None:
        self.named_early: list[Path] = []
        """Names that a file got before all of it was on the disk: they may be kept, and what it holds lost."""
        self._root = root
        self._now: dict[Path, _Node] = {}
        self._on_disk: dict[Path, _Node] = {}
        self._places: dict[tuple[str, Path], int] = {}
        self._begun: dict[str, tuple[str, bytes]] = {}

    @classmethod
    def after(cls, log: Path, root: Path) -> Disk:
        """What the calls that are over by now have made of ``root``."""
        disk = cls(root)
        text = log.read_text()
        for line in text[: text.rfind("\n") + 1].splitlines():
            disk._follow(line)
        return disk

    def leave(self, target: Path) -> Path:
        """Write to ``target`` what a loss of power at this moment leaves of ``root``."""
        target.mkdir(mode=0o700, parents=True)
        for path, node in sorted(self._on_disk.items()):
            place = target / path.relative_to(self._root)
            if not place.parent.is_dir():
                continue  # the name of a folder above it is lost
            if isinstance(node, _Folder):
                place.mkdir(mode=0o700)
            else:
                place.write_bytes(node.on_disk)
                place.chmod(0o600)
        return target

    def _follow(self, line: str) -> None:
        found = _LINE.fullmatch(line)
        assert found is not None, line
        thread, text, unfinished = found.groups()
        before, synced = self._begun.pop(thread, ("", None))
        if unfinished:
            self._begun[thread] = (text, self._held(text))
            return
        call = _CALL.fullmatch(before + text)
        if call is not None:
            name, arguments, result, rest = call.groups()
            self._do(name, arguments, int(result), rest, self._held(arguments) if synced is None else synced)

    def _held(self, arguments: str) -> bytes:
        """What the open file of a call holds when the call begins: what comes later, its sync need not take along."""
        for _, path in self._open_files(arguments):
            node = self._now.get(path)
            return bytes(node.now) if isinstance(node, _File) else b""
        return b""

    def _do(self, name: str, arguments: str, result: int, rest: str, held: bytes) -> None:
        paths = [path for path in map(Path, map(_text, _STRING.findall(arguments))) if self._is_ours(path)]
        match name:
            case "open" | "openat" | "creat":
                for path in self._ours(_text(found) for found in re.findall(r"^<((?:\\x..)*)>", rest)):
                    self._open(path, str(result), arguments)
            case "mkdir" | "mkdirat":
                self._now.update((path, _Folder()) for path in paths)
            case "rename" | "renameat" | "renameat2":
                if paths:
                    source, target = paths
                    self._name(target, self._now.pop(source))
            case "link" | "linkat":
                if paths:
                    source, target = paths
                    self._name(target, self._now[source])
            case "unlink" | "unlinkat" | "rmdir":
                for path in paths:
                    self._now.pop(path, None)
            case _:
                for number, path in self._open_files(arguments):
                    self._change(name, number, path, arguments, result, held)

    def _name(self, path: Path, node: _Node) -> None:
        if isinstance(node, _File) and node.now != node.on_disk:
            self.named_early.append(path)
        self._now[path] = node

    def _open(self, path: Path, number: str, flags: str) -> None:
        node = self._now.get(path)
        if node is None and "O_CREAT" in flags:
            node = self._now[path] = _File()
        if isinstance(node, _File) and "O_TRUNC" in flags:
            node.now.clear()
        self._places[number, path] = 0

    def _change(self, name: str, number: str, path: Path, arguments: str, result: int, held: bytes) -> None:
        node = self._now.get(path)
        if path == self._root or isinstance(node, _Folder):
            if name == "fsync":
                self._keep_names(path)
            return
        if not isinstance(node, _File):
            return  # it was removed while it was open
        numbers = [int(found) for found in re.findall(r", (\d+)", arguments)]
        match name:
            case "fsync" | "fdatasync":
                node.on_disk = held
            case "write":
                place = self._places[number, path]
                _put(node.now, place, _data(arguments)[:result])
                self._places[number, path] = place + result
            case "pwrite64":
                _put(node.now, numbers[-1], _data(arguments)[:result])
            case "lseek":
                self._places[number, path] = result
            case "ftruncate":
                node.now[:] = node.now[: numbers[-1]].ljust(numbers[-1], b"\0")
            case "fallocate":
                node.now[:] = node.now.ljust(numbers[-2] + numbers[-1], b"\0")
            case _:
                raise AssertionError(f"{name} of {path} is not followed")

    def _keep_names(self, folder: Path) -> None:
        for path in [path for path in self._on_disk if path.parent == folder]:
            del self._on_disk[path]
        self._on_disk.update((path, node) for path, node in self._now.items() if path.parent == folder)

    def _open_files(self, arguments: str) -> Iterator[tuple[str, Path]]:
        for number, path in _OPEN_FILE.findall(arguments):
            yield from ((number, ours) for ours in self._ours([_text(path)]))

    def _ours(self, paths: Sequence[str] | Iterator[str]) -> Iterator[Path]:
        return (path for path in map(Path, paths) if self._is_ours(path))

    def _is_ours(self, path: Path) -> bool:
        return path.is_relative_to(self._root)


def _data(arguments: str) -> bytes:
    found = _STRING.search(arguments)
    assert found is not None
    return _bytes(found[1])


def _bytes(escaped: str) -> bytes:
    return bytes.fromhex(escaped.replace("\\x", ""))


def _text(escaped: str) -> str:
    return os.fsdecode(_bytes(escaped))


def _put(content: bytearray, place: int, data: bytes) -> None:
    if len(content) < place:
        content.extend(bytes(place - len(content)))
    content[place : place + len(data)] = data
