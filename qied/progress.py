"""How long work reports how far it is."""

from __future__ import annotations

from collections.abc import Callable

OnProgress = Callable[[str, int, int], None]
"""Called with what is done now, how much is done, and how much there is in all.

They are bytes, or numbers of trials; 0 of 0 where nothing counts.
"""
