"""What is wrong with a batch, all of it told at once before anything runs."""

from __future__ import annotations

from typing import Final

from qied_client.errors import InvalidRequest

_SHOWN: Final = 20


class Problems:
    """Collects what is wrong; only the first 20 are kept, the rest is counted."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._remedies: dict[str, None] = {}
        self._count = 0

    def add(self, where: str, message: str, remedy: str = "") -> None:
        """Note one problem, and where it is."""
        self._count += 1
        if len(self._lines) < _SHOWN:
            self._lines.append(f"{where}: {message}" if where else message)
            if remedy:
                self._remedies[remedy] = None

    def raise_if_any(self) -> None:
        """Raise InvalidRequest with all problems, if there are any."""
        if not self._count:
            return
        lines = list(self._lines)
        if self._count > len(lines):
            lines.append(f"... and {self._count - len(lines)} more")
        message = (
            lines[0] if len(lines) == 1 else f"{self._count} problems:\n" + "\n".join(f"  {line}" for line in lines)
        )
        raise InvalidRequest(message, " ".join(list(self._remedies)[:3]), field="batch")
