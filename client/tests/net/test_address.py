"""Addresses of daemons, of both families."""

from __future__ import annotations

import pytest
from qied_client.net.address import Address, read_address


@pytest.mark.parametrize(
    ("text", "address", "families"),
    [
        ("tcp://127.0.0.1:7447", Address("127.0.0.1", 7447), (False,)),
        ("tcp://[::1]:7447", Address("[::1]", 7447), (True,)),
        ("tcp://[fe80::1%eth0]:1", Address("[fe80::1%eth0]", 1), (True,)),
        ("tcp://workstation.local:65535", Address("workstation.local", 65535), (False, True)),
        ("tcp://my_host-2:80", Address("my_host-2", 80), (False, True)),
    ],
)
def test_a_host_and_its_port_are_read(text, address, families):
    found = read_address(text)
    assert (found, found.families) == (address, families)


@pytest.mark.parametrize(
    "text",
    [
        *("", "foo", "127.0.0.1:7447", "http://127.0.0.1:7447", "tcp://", "tcp://:7447", "tcp://host", "tcp://a b:1"),
        *(
            "tcp://::1:7447",
            "tcp://[::1]",
            "tcp://[::1:7447",
            "tcp://[zebra]:1",
            "tcp://[127.0.0.1]:1",
            "tcp://1.2.3:4",
        ),
        *(
            "tcp://127.0.0.300:1",
            "tcp://host:1/path",
            "tcp://host:1;tcp://other:2",
            "tcp://*:7447",
            "tcp://h\u00f6st:1",
        ),
    ],
)
def test_what_is_not_an_address_is_refused_with_an_example(text):
    with pytest.raises(ValueError, match=r"is not an address; use tcp://127\.0\.0\.1:7447 or tcp://\[::1\]:7447"):
        read_address(text)


@pytest.mark.parametrize("port", ["0", "65536", "", "x", "*", "-1", "\u0663"])
def test_what_is_not_a_port_is_refused_with_the_range(port):
    with pytest.raises(ValueError, match="no port from 1 to 65535;"):
        read_address(f"tcp://host:{port}")


def test_any_host_and_any_port_are_for_listening_alone():
    assert read_address("tcp://*:*", listening=True) == Address("*", None)
