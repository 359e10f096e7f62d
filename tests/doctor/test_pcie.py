"""Rates of links."""

from __future__ import annotations

from qied.doctor.pcie import link_bytes_per_s


def test_links_carry_what_their_standard_says():
    assert round(link_bytes_per_s(4, 16) / 1e9, 1) == 31.5
    assert round(link_bytes_per_s(3, 4) / 1e9, 1) == 3.9
    assert link_bytes_per_s(9, 1) == link_bytes_per_s(6, 1)
