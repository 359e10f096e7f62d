"""Folders of the current user: home, cache and configuration."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import platformdirs
from qied_client.errors import ConfigError
from qied_client.system_failures import user_home

__all__ = ["user_cache_folder", "user_config_folder", "user_home"]


def user_cache_folder() -> Path:
    """Where qied keeps what it found out; it need not exist. Raises ConfigError where there is no home folder."""
    return _told(lambda: Path(platformdirs.user_cache_dir("qied", appauthor=False)))


def user_config_folder() -> Path:
    """Where the user's own profiles lie; it need not exist. Raises ConfigError where there is no home folder."""
    return _told(lambda: Path(platformdirs.user_config_dir("qied", appauthor=False)))


def _told(ask: Callable[[], Path]) -> Path:
    try:
        return ask()
    except RuntimeError as error:
        raise ConfigError(
            "The home folder of this user is not known: HOME is not set, and the system has no entry for the user.",
            "Set HOME to a folder of this user: export HOME=/path/to/folder",
        ) from error
