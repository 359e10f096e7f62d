"""Checks that fields of several messages share."""

from __future__ import annotations

from typing import Final

from qied_client.protocol import limits
from qied_client.protocol.fields import Identifier, Int, ListOf, Text

COUNT: Final = Int(0, 2**63 - 1)
BYTES: Final = Int(0, limits.RESULT_BYTES)
"""Of a picture, or into one."""
ID: Final = Identifier(limits.ID_CHARS)
NAME: Final = Text(limits.SHORT_NAME_BYTES, empty=True)
"""Name of a precision, preset or schedule; empty where it is not known."""
TEXT: Final = Text(limits.TEXT_CHARS, empty=True)
SIDE: Final = Int(0, limits.PIXELS)
STATES: Final = ("waiting", "running", "succeeded", "failed", "cancelled", "poisoned")
TIME: Final = Int(0, 2**53)
"""Milliseconds since the epoch, by the daemon's clock; 0 where it is not known, or has not come."""
SHORT_PROMPT: Final = Text(limits.SHORT_PROMPT_BYTES, empty=True)
"""The beginning of a prompt."""
WARNINGS: Final = ListOf(Text(limits.WARNING_BYTES), limits.WARNINGS)
"""What the user probably did not intend, a sentence each."""
