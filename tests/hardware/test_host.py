"""The host's facts are those of this machine, within its container's limits."""

from __future__ import annotations

import os

import psutil

from qied.hardware.host import installed_version, process_name, read_host, read_packages, read_system


def test_memory_and_processors_are_those_of_this_machine(tmp_path):
    host = read_host(membership="", mount=tmp_path)
    assert host.memory_total_bytes == psutil.virtual_memory().total
    assert 0 < host.memory_available_bytes <= host.memory_total_bytes
    assert host.memory_limit_bytes is None
    assert host.cpu_count == len(psutil.Process().cpu_affinity())


def test_a_containers_limits_are_told(tmp_path):
    (tmp_path / "memory.max").write_text("1073741824\n")
    (tmp_path / "memory.current").write_text("1000000\n")
    (tmp_path / "cpu.max").write_text("100000 100000\n")
    host = read_host(membership="0::/\n", mount=tmp_path)
    assert (host.memory_limit_bytes, host.memory_limit_used_bytes) == (1073741824, 1000000)
    assert host.cpu_count == 1


def test_a_limit_above_the_memory_of_the_machine_limits_nothing(tmp_path):
    (tmp_path / "memory.max").write_text(f"{psutil.virtual_memory().total * 2}\n")
    (tmp_path / "memory.current").write_text("1000000\n")
    host = read_host(membership="0::/\n", mount=tmp_path)
    assert (host.memory_limit_bytes, host.memory_limit_used_bytes) == (None, None)


def test_packages_that_are_missing_are_none_and_others_have_their_version():
    packages = read_packages()
    assert packages["psutil"] == psutil.__version__
    assert installed_version("no-such-distribution") is None


def test_processes_have_names_until_they_are_gone():
    assert process_name(os.getpid()) == psutil.Process().name()
    assert process_name(2**22 + 1) is None


def test_the_system_is_named():
    assert read_system().system == os.uname().sysname
