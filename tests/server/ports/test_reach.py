"""Addresses of this machine alone are told from those that others can reach."""

from __future__ import annotations

import pytest

from qied.server.ports.reach import only_this_machine


@pytest.mark.parametrize(
    "address", ["tcp://127.0.0.1:7447", "tcp://127.8.8.8:*", "tcp://[::1]:7447", "tcp://localhost:7447", "tcp://lo:1"]
)
def test_an_address_of_the_loopback_is_this_machines_alone(address):
    assert only_this_machine(address)


@pytest.mark.parametrize(
    "address", ["tcp://0.0.0.0:7447", "tcp://*:7447", "tcp://[::]:7447", "tcp://192.168.1.4:1", "tcp://eth0:7447"]
)
def test_any_other_address_is_reached_by_others(address):
    assert not only_this_machine(address)
