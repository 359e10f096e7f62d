"""When a connection must be heard: the heartbeats, in milliseconds."""

from typing import Final

HEARTBEAT_MS: Final = 2_000
"""Each side sends something at least this often: PING, if there is nothing else."""
SILENCE_MS: Final = 8_000
"""A peer that sent nothing at all for this long is considered gone."""
