"""Floors of versions, and which kernels run on which card."""

import pytest

from qied.planning.choosing.candidates import at_least, driver_floor, has_kernels, version_numbers

CU126 = ("sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90")
CU130 = ("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120")


@pytest.mark.parametrize(
    ("arches", "capability", "runs"),
    [
        (CU126, (8, 9), True),  # sm_86 code
        (CU126, (9, 0), True),
        (CU126, (12, 0), False),
        (CU126, (10, 0), False),
        (CU130, (12, 0), True),
        (CU130, (12, 1), True),  # sm_120 code
        (CU130, (7, 0), False),
        (CU130, (8, 0), True),
        (("sm_86",), (8, 0), False),  # newer minor
        (("sm_90a",), (9, 0), True),
        (("sm_90a",), (10, 0), False),
        (("sm_100f",), (10, 3), True),
        (("compute_90",), (12, 0), True),  # compiled on the machine
        (("compute_120",), (9, 0), False),
        (("gfx942", ""), (9, 0), False),
        ((), (9, 0), False),
    ],
    ids=str,
)
def test_code_runs_on_its_own_major_version_and_newer_minors(arches, capability, runs):
    assert has_kernels(arches, capability) is runs


def test_versions_compare_by_their_numbers():
    assert version_numbers("2.13.0+cu126") == (2, 13, 0)
    assert version_numbers("none") == ()
    assert at_least("535.104.05", "535.104.5")
    assert at_least("580", "580.0")
    assert not at_least("470.256.02", "525.60.13")
    assert at_least("2.10", "2.9")


@pytest.mark.parametrize(
    ("cuda", "system", "floor"),
    [("12.6", "Linux", "525.60.13"), ("12.6", "Windows", "527.41"), ("13.0", "Linux", "580"), ("11.8", "Linux", None)],
    ids=str,
)
def test_the_driver_floor_is_that_of_the_major_version(cuda, system, floor):
    assert driver_floor(cuda, system) == floor
