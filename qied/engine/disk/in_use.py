"""Which kept files somebody runs on: these do not make way for others, or two that fit alone would be made in turns."""

from __future__ import annotations

import os
import weakref
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from qied.file_lock import try_lock, try_shared_lock


@dataclass(eq=False)
class FilesInUse:
    """The files that a process has used from a folder, locked for as long as this object lives, and what it asked for.

    ``wanted``: bytes of every file that this process has asked for, by path, whether there was room for it or not.
    ``others``: those of files that left no room because another process uses them. ``refused``: there was none once.
    """

    wanted: dict[Path, int] = field(default_factory=dict)
    others: dict[Path, int] = field(default_factory=dict)
    refused: bool = False
    _held: dict[Path, weakref.finalize[..., FilesInUse]] = field(default_factory=dict)

    def hold(self, path: Path) -> None:
        """Keep the file that lies there now from making way; where the file system has no locks, nothing does."""
        with suppress(OSError):
            descriptor = _opened(path)
            let_go = weakref.finalize(self, os.close, descriptor)
            before = self._held.pop(path, None)
            if before is not None:
                before()
            if try_shared_lock(descriptor):
                self._held[path] = let_go
            else:
                let_go()

    @property
    def needed_bytes(self) -> int:
        """Bytes of all that this process asked for, and of what other processes use."""
        return sum((self.others | self.wanted).values())


def is_in_use(path: Path) -> bool:
    """Whether a process holds a file, this one included; raises OSError where it cannot be opened."""
    descriptor = _opened(path)
    try:
        return not try_lock(descriptor)
    except OSError:
        return False
    finally:
        os.close(descriptor)


def _opened(path: Path) -> int:
    return os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
