"""The daemon says that it runs under WSL2 on Windows, and nothing elsewhere."""

from __future__ import annotations

import pytest
from qied_client.errors import SystemUnsupported

from qied.hardware.host import refuse_native_windows


def test_windows_itself_is_refused_in_one_sentence_that_names_wsl2():
    with pytest.raises(SystemUnsupported) as caught:
        refuse_native_windows("Windows")
    assert caught.value.message.count(".") == 1
    assert "WSL2" in caught.value.message
    assert "wsl --install" in caught.value.remedy


@pytest.mark.parametrize("system", ["Linux", "Darwin", ""])
def test_any_other_system_is_not(system):
    refuse_native_windows(system)


def test_it_is_this_machine_that_is_asked_about(monkeypatch):
    refuse_native_windows()
    monkeypatch.setattr("platform.system", lambda: "Windows")
    with pytest.raises(SystemUnsupported):
        refuse_native_windows()
