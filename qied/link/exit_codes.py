"""The exit statuses by which a worker says why it ended."""

from typing import Final

ENGINE_BROKEN: Final = 3
"""The engine cannot be loaded; a BROKEN has said why."""
FRONT_GONE: Final = 4
"""The front does not answer any more."""
DEVICE_LOST: Final = 5
"""The device does not answer any more."""
