"""What a snapshot tells beyond its fields."""

from __future__ import annotations

import pytest

from qied.hardware.snapshot import Host, Snapshot, System, driver_system


@pytest.mark.parametrize(
    ("system", "release", "counts"),
    [
        ("Linux", "6.8.0-60-generic", "Linux"),
        ("Linux", "5.15.153.1-microsoft-standard-WSL2", "Windows"),
        ("Linux", "4.4.0-19041-Microsoft", "Windows"),
        ("Windows", "10", "Windows"),
    ],
)
def test_linux_inside_windows_has_the_driver_of_windows(system, release, counts):
    machine = Snapshot(os=System(system=system, release=release, python="3.11.7"), host=Host())
    assert driver_system(machine) == counts
