"""The units: what must and what must not stand in them, and that systemd takes them where it is installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
from qied_client.errors import ConfigError, SetupError

from qied.service.units import system_unit, user_unit, write

REQUIRED = "QIED_TEST_REQUIRE_SYSTEMD"


@pytest.fixture(autouse=True)
def program(tmp_path, monkeypatch):
    """The program whose path the units get."""
    path = tmp_path / "bin" / "qied"
    path.parent.mkdir()
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    monkeypatch.setattr(sys, "argv", [str(path)])
    return path


def units(tmp_path):
    return {"user": user_unit({"XDG_CONFIG_HOME": str(tmp_path)}), "system": system_unit()}


def keys(unit):
    lines = [line for line in unit.text.splitlines() if line and not line.startswith(("#", "["))]
    return dict(re.fullmatch(r"(\w+)=(.*)", line).groups() for line in lines)


@pytest.mark.parametrize("kind", ["user", "system"])
def test_a_unit_starts_this_program_and_relies_on_what_the_daemon_says(tmp_path, program, kind):
    found = keys(units(tmp_path)[kind])
    assert found["ExecStart"] == f"{program} serve --log-format json"
    assert (found["Type"], found["NotifyAccess"], found["KillMode"]) == ("notify", "main", "mixed")
    assert found["OOMPolicy"] == "continue"  # the daemon judges what the kernel killed, and goes on
    assert int(found["WatchdogSec"]) >= 30
    assert found["ExecReload"] == "/bin/kill -HUP $MAINPID"


def test_hardening_leaves_the_card_its_devices_and_its_compiled_code(tmp_path):
    for unit in units(tmp_path).values():
        closed = {"PrivateDevices", "MemoryDenyWriteExecute", "ProtectClock", "DevicePolicy", "DeviceAllow"}
        assert not closed & set(keys(unit))
    system = keys(units(tmp_path)["system"])
    assert (system["NoNewPrivileges"], system["ProtectSystem"]) == ("yes", "strict")
    assert (system["StateDirectory"], system["StateDirectoryMode"]) == ("qied", "0700")
    assert "QIED_HOME=/var/lib/qied" in system["Environment"]
    # Of a user's own manager: there it would keep the driver's helper, which is setuid, from making device files.
    assert "NoNewPrivileges" not in keys(units(tmp_path)["user"])


@pytest.mark.parametrize("kind", ["user", "system"])
def test_systemd_takes_the_unit(tmp_path, kind):
    tool = shutil.which("systemd-analyze")
    assert tool or not os.environ.get(REQUIRED), "systemd-analyze is not installed"
    path = tmp_path / kind / "qied.service"
    write(replace(units(tmp_path)[kind], path=path), replace=False)
    if tool is not None:
        command = [tool, *(["--user"] if kind == "user" else []), "verify", str(path)]
        environ = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=environ)
        assert (done.returncode, str(path) in done.stderr) == (0, False), done.stderr


def test_a_unit_that_is_there_is_kept_unless_it_is_to_be_replaced(tmp_path):
    unit = units(tmp_path)["user"]
    assert unit.path == tmp_path / "systemd" / "user" / "qied.service"
    assert write(unit, replace=False)
    assert not write(unit, replace=False)
    unit.path.write_text("[Service]\n")
    with pytest.raises(ConfigError, match="exists already, and differs"):
        write(unit, replace=False)
    assert write(unit, replace=True)
    assert unit.path.read_text() == unit.text
    (tmp_path / "file").touch()
    with pytest.raises(SetupError, match="cannot be written"):
        write(replace(unit, path=tmp_path / "file" / "qied.service"), replace=False)


def test_a_path_is_written_as_systemd_reads_it(tmp_path, program, monkeypatch):
    odd = tmp_path / "my 100% bin" / "qied"
    odd.parent.mkdir()
    program.rename(odd)
    monkeypatch.setattr(sys, "argv", [str(odd)])
    assert keys(system_unit())["ExecStart"] == f'"{tmp_path}/my 100%% bin/qied" serve --log-format json'


def test_without_an_installed_program_there_is_no_unit(tmp_path, program):
    program.unlink()
    with pytest.raises(ConfigError, match="is not there"):
        system_unit()
