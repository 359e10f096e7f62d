"""What a suite of trials is, and how it is found by name."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import cast

from qied.hardware.snapshot import Trial


@dataclass(frozen=True)
class Rate:
    """Bytes a second that a transfer reached."""

    bytes_per_s: int


def _always() -> bool:
    return True


@dataclass(frozen=True)
class Suite:
    """Named trials in order. ``usable`` tells after a failure whether the device still answers in this process."""

    trials: Mapping[str, Callable[[], Trial | Rate]]
    usable: Callable[[], bool] = field(default=_always)


def load_suite(name: str) -> Suite:
    """Call the function that ``name`` says as ``module:function``; its import may take seconds."""
    module, _, function = name.partition(":")
    return cast(Suite, getattr(importlib.import_module(module), function)())
