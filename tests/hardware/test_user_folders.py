"""The user's folders are the system's, and a user without a home is told what to set."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest
from qied_client.credentials import default_home, find_credential
from qied_client.errors import ConfigError

from qied.hardware.user_folders import user_cache_folder, user_config_folder, user_home


def test_folders_are_the_systems(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    assert user_home() == tmp_path
    assert user_cache_folder() == tmp_path / "cache" / "qied"
    assert user_config_folder() == tmp_path / "config" / "qied"


@pytest.mark.parametrize("folder", [user_home, user_cache_folder, user_config_folder])
def test_a_user_without_home_and_name_is_told_to_set_home(monkeypatch, folder):
    for name in [name for name in os.environ if name == "HOME" or name.startswith("XDG_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(pwd, "getpwuid", lambda number: {}[number])
    with pytest.raises(ConfigError, match="Set HOME"):
        folder()


def test_a_client_without_home_is_told_to_set_it(monkeypatch):
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", lambda number: {}[number])
    for ask in (default_home, find_credential):
        with pytest.raises(ConfigError, match="Set HOME"):
            ask({})
    with pytest.raises(ConfigError, match="Write the whole path"):
        find_credential({"QIED_KEY": "~nobody-of-this-name/key.json"})


def test_a_named_cache_folder_needs_no_home(monkeypatch, tmp_path):
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", lambda number: {}[number])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert user_cache_folder() == Path(tmp_path / "qied")
