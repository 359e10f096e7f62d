"""One part of a benchmark, and how it hands over its figures while it runs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

Put = Callable[[tuple[str, ...], Any], None]
"""Hands over one figure, or a mapping of some, under a path of names; JSON types only."""


@dataclass(frozen=True)
class Part:
    """``run`` is ``module:function`` of what runs in the child: it is given the benchmark's setting and a Recorder.

    ``fresh_caches`` starts it with no compiled kernels kept on disk, so that the first call costs what it costs.
    """

    name: str
    title: str
    run: str
    fresh_caches: bool = False


class Run(Protocol):
    """What a part's function looks like."""

    def __call__(self, setting: Any, record: Recorder) -> None:
        """Measure, and record each figure when it is there."""


class Recorder:
    """Hands figures over one by one, so that what was measured stays when something after it fails."""

    def __init__(self, put: Put) -> None:
        self._put = put

    def put(self, *path: str, value: Any) -> None:
        """Record a figure, or a mapping of figures, under ``path``."""
        print(f"    {' '.join(path)}: {_short(value)}", file=sys.stderr, flush=True)
        self._put(path, value)

    def attempt(self, *path: str, measure: Callable[[], Any]) -> bool:
        """Record what ``measure`` returns, or the error that it raised; returns whether it went well."""
        try:
            value = measure()
        except Exception as error:  # noqa: BLE001 - whatever one figure does, the others are measured
            self.put(*path, value={"error": said(error)})
            return False
        self.put(*path, value=value)
        return True


def said(error: BaseException) -> str:
    """What an error says, in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"


def _short(value: Any) -> str:
    """A figure as progress shows it: mappings of figures on one line, lists of many by their length."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_short(each)}" for key, each in list(value.items())[:12])
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list) and len(value) > 8:
        return f"[{len(value)} entries]"
    return str(value)
