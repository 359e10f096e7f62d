"""Whether this system tells what a connection has sent is found by asking it."""

from __future__ import annotations

import socket
import sys

import pytest

from qied.server.ports.flood_guard import can_guard


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts")
def test_linux_tells():
    assert can_guard()


def test_a_system_without_the_option_does_not(monkeypatch):
    monkeypatch.delattr(socket, "TCP_INFO", raising=False)
    assert not can_guard()


def test_a_system_whose_option_says_something_else_does_not(monkeypatch):
    monkeypatch.setattr(socket, "TCP_INFO", socket.TCP_NODELAY, raising=False)
    assert not can_guard()


def test_where_no_connection_can_be_made_nothing_is_known(monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError

    monkeypatch.setattr(socket, "create_connection", refuse)
    assert not can_guard()
