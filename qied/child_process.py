"""What the processes that qied starts have in common: they end with their parent, and are told by name what to run."""

from __future__ import annotations

import importlib
import os
import threading
from typing import Any


def leave_with_parent() -> None:
    """From now on, exit when standard input ends, which it does when the parent ends, even if that was killed."""
    threading.Thread(target=_wait_for_the_end, name="parent", daemon=True).start()


def _wait_for_the_end() -> None:
    while os.read(0, 4096):
        pass
    os._exit(0)


def load_by_name(name: str) -> Any:
    """The function that is named as ``module:function``; the module's import may take seconds."""
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(module), function)
