"""The host memory that pictures take."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from qied_client.picture_header import PictureLimits
from qied_client.protocol import limits as bounds

from qied.hardware.snapshot import Snapshot
from qied.planning.choosing.planner import PlanRequest, plan
from qied.planning.edits.pictures import (
    CANVAS_PIXELS,
    DECODING_ROOM,
    LEAST_RESULTS,
    LEAST_ROOM,
    RESULT_PIXEL,
    RESULTS_ROOM,
    decoding_bytes,
    decoding_room,
    results_room,
)
from qied.planning.plan import Plan
from qied.planning.profiles.hardware_profile import shipped_hardware_profiles
from qied.planning.profiles.model_profile import shipped_profiles
from qied.planning.wishes import Wishes

Machine = Callable[..., Snapshot]
MODEL = shipped_profiles()["qwen-image-edit-2511"]
PROFILES = shipped_hardware_profiles()


def planned(machine: Snapshot, max_active: int = 0) -> Plan:
    made = plan(machine, PlanRequest(MODEL, PROFILES, Wishes(max_active=max_active)))
    assert isinstance(made, Plan), made
    return made


def test_the_largest_picture_has_room() -> None:
    limits = PictureLimits()
    assert decoding_bytes(limits.max_pixels, limits.max_bytes) <= DECODING_ROOM


@pytest.mark.parametrize(("spare", "room"), [(None, DECODING_ROOM), (0, LEAST_ROOM), (10**9, 10**9)])
def test_decoding_gets_what_is_spare_between_two_bounds(spare: int | None, room: int) -> None:
    assert decoding_room(spare) == room


def test_a_host_with_little_memory_serves_with_less_room_for_decoding(machine: Machine) -> None:
    rooms = [planned(machine((8, 9), 8, free=7.6, host=host)).decoding_bytes for host in (17, 18, 19, 64)]
    assert rooms == sorted(rooms)
    assert rooms[0] < DECODING_ROOM == rooms[-1]
    assert rooms[0] >= LEAST_ROOM


def test_the_hosts_memory_has_what_every_active_edit_holds_of_its_pictures(machine: Machine) -> None:
    one, two, three = (planned(machine((9, 0), 80), active) for active in (1, 2, 3))
    assert one.decoding_bytes == three.decoding_bytes
    assert three.host_bytes - two.host_bytes == two.host_bytes - one.host_bytes >= 3 * one.max_reference_pixels * 3


def test_a_plan_with_the_least_room_for_pictures_differs_in_that_alone(machine: Machine) -> None:
    made = planned(machine((9, 0), 80))
    least = made.with_least_pictures()
    assert (least.decoding_bytes, least.results_bytes) == (LEAST_ROOM, LEAST_RESULTS)
    saved = DECODING_ROOM - LEAST_ROOM + made.results_bytes - LEAST_RESULTS
    assert made.host_bytes - least.host_bytes == saved
    assert least.execution == made.execution


@pytest.mark.parametrize(
    ("spare", "pixels", "room"),
    [
        (None, bounds.PIXELS, RESULTS_ROOM),
        (10**12, bounds.PIXELS, RESULTS_ROOM),
        (0, bounds.PIXELS, LEAST_RESULTS),
        (10**9, bounds.PIXELS, 10**9),
        (None, CANVAS_PIXELS, RESULT_PIXEL * CANVAS_PIXELS),
    ],
)
def test_large_results_get_what_is_left_between_two_bounds(spare: int | None, pixels: int, room: int) -> None:
    assert results_room(spare, pixels) == room


def test_with_upscalers_the_hosts_memory_has_the_largest_results(machine: Machine) -> None:
    plain = planned(machine((9, 0), 80))
    request = PlanRequest(MODEL, PROFILES, largest_result=bounds.PIXELS)
    with_upscalers = plan(machine((9, 0), 80), request)
    assert isinstance(with_upscalers, Plan)
    assert with_upscalers.max_result_pixels == bounds.PIXELS > plain.max_result_pixels == CANVAS_PIXELS
    more = with_upscalers.results_bytes - plain.results_bytes
    assert with_upscalers.host_bytes - plain.host_bytes == more > 0
    assert with_upscalers.execution == plain.execution
    small = plan(machine((8, 9), 8, free=7.6, host=17), request)
    assert isinstance(small, Plan) and small.max_result_pixels < bounds.PIXELS
