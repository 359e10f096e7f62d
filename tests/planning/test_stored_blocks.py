"""Files of GGUF: streamed blocks stay as they are where that takes less, and the plan counts them so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qied.hardware.snapshot import Snapshot
from qied.planning.choosing.planner import PlanRequest, plan
from qied.planning.layout.memory import model_of
from qied.planning.plan import Execution, Plan
from qied.planning.profiles.hardware_profile import shipped_hardware_profiles
from qied.planning.profiles.model_profile import shipped_profiles
from qied.planning.wishes import Wishes

LARGE = PlanRequest(shipped_profiles()["qwen-image-edit-2511"], shipped_hardware_profiles())
Machine = Callable[..., Snapshot]
Q4_BLOCK = 128 * 1024**2
"""Bytes of a block of the large model in Q4_K, some more than it has."""
Q8_BLOCK = 240 * 1024**2


def planned(snapshot: Snapshot, request: PlanRequest) -> Plan:
    outcome = plan(snapshot, request)
    assert isinstance(outcome, Plan), outcome
    return outcome


def streams(execution: Execution) -> bool:
    return execution.resident_blocks < execution.total_blocks


@settings(max_examples=60)
@given(data=st.data())
def test_stored_blocks_change_what_the_host_holds_and_nothing_of_the_device(
    data: st.DataObject, any_snapshot: st.SearchStrategy[Snapshot]
) -> None:
    snapshot = data.draw(any_snapshot)
    stored = data.draw(st.sampled_from([Q4_BLOCK, Q8_BLOCK, 10**9]))
    precision = data.draw(st.sampled_from(["auto", "fp8", "fp8-storage", "bf16"]))
    request = replace(LARGE, wishes=Wishes(precision=precision))
    plain, made = (plan(snapshot, replace(request, stored_block=size)) for size in (0, stored))
    if not isinstance(plain, Plan) or not isinstance(made, Plan):
        assert not isinstance(plain, Plan)
        return
    run = made.execution
    if run.stored_block_bytes:
        assert run.stored_block_bytes == stored and streams(run) and run.device == "cuda"
        block = model_of(run, LARGE.model).weights("streamed").block
        assert run.ring_slots * stored + block <= run.ring_slots * block
        assert run.scaling != "tensorwise"
    if run.precision == plain.execution.precision:
        assert replace(run, stored_block_bytes=0, pin=plain.execution.pin) == plain.execution
        assert made.predicted_peak_bytes == plain.predicted_peak_bytes
        assert made.host_bytes - made.decoding_bytes <= plain.host_bytes - plain.decoding_bytes


def test_a_small_card_streams_a_gguf_as_it_is_stored_and_says_so(machine: Machine) -> None:
    small = machine((8, 9), 8)
    request = replace(LARGE, stored_block=Q4_BLOCK)
    made, plain = planned(small, request), planned(small, LARGE)
    assert made.execution.stored_block_bytes == Q4_BLOCK and streams(made.execution)
    streamed = made.execution.total_blocks - made.execution.resident_blocks
    block = model_of(plain.execution, LARGE.model).weights("streamed").block
    saved = plain.host_bytes - plain.decoding_bytes - (made.host_bytes - made.decoding_bytes)
    assert saved == streamed * (block - Q4_BLOCK)
    assert made.pinned_bytes == streamed * Q4_BLOCK
    assert any("stream from host memory as their file has them" in reason for reason in made.reasons)
    assert not planned(small, replace(LARGE, stored_block=block)).execution.stored_block_bytes


@pytest.mark.parametrize("capability", [(7, 5), (8, 6), (8, 9), (12, 0)])
def test_a_q4_k_file_runs_with_8_gb_on_the_card_and_16_gb_of_host_memory(
    machine: Machine, capability: tuple[int, int]
) -> None:
    small = machine(capability, 8, host=16)
    made = planned(small, replace(LARGE, stored_block=Q4_BLOCK))
    assert streams(made.execution) and made.execution.stored_block_bytes == Q4_BLOCK
    assert made.max_pixels >= 1024 * 1024
    assert made.predicted_peak_bytes <= made.budget_bytes < 8 * 1024**3
    assert made.host_bytes <= (small.host.memory_available_bytes or 0) < 16 * 1024**3
    refused = plan(small, LARGE)
    assert not isinstance(refused, Plan) and "wait in host memory" in refused.message


def test_where_all_blocks_stay_nothing_is_kept_as_stored(machine: Machine) -> None:
    large = machine((9, 0), 80)
    assert planned(large, replace(LARGE, stored_block=Q4_BLOCK)).execution.stored_block_bytes == 0
