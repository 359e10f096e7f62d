"""The room that plans keep for LoRAs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from qied_client.protocol.request import LoraChoice

from qied.edit import EditSpec
from qied.hardware.snapshot import Snapshot
from qied.planning.choosing.fitting import LORAS
from qied.planning.choosing.planner import PlanRequest, plan
from qied.planning.edits.loras import NO_LORAS, LoraFacts, LoraRoom, room_for
from qied.planning.edits.workload import workload_of
from qied.planning.layout.memory import Tiles, model_of
from qied.planning.plan import Plan, Refusal
from qied.planning.profiles.hardware_profile import shipped_hardware_profiles
from qied.planning.profiles.model_profile import shipped_profiles
from qied.planning.requests.serving import Serving, kind_of
from qied.planning.wishes import Wishes

REAL = shipped_profiles()["qwen-image-edit-2511"]
PROFILES = shipped_hardware_profiles()
LIGHTNING = LoraFacts(424_673_280, 192, 4)
"""Rank 64 on the 12 linears of 60 blocks."""
ROOM = room_for([LIGHTNING, LoraFacts(100_000_000, 48)], 2)
MIB = 1024**2
Machine = Callable[..., Snapshot]


def test_room_is_that_of_the_largest_loras():
    loras = [LoraFacts(10, 3), LoraFacts(30, 1), LoraFacts(20, 2), LoraFacts(problem="broken")]
    assert [room_for(loras, at_once) for at_once in (1, 2, 8)] == [LoraRoom(30, 3), LoraRoom(50, 3), LoraRoom(60, 3)]
    assert room_for([], 2) == NO_LORAS


def made(machine: Snapshot, room: LoraRoom = NO_LORAS, **wishes: int) -> Plan:
    found = plan(machine, PlanRequest(REAL, PROFILES, Wishes(**wishes), room))
    assert isinstance(found, Plan)
    return found


def parts(found: Plan) -> dict[str, int]:
    return {part.name: part.bytes for part in found.parts}


@pytest.mark.parametrize(("capability", "gib", "element"), [((8, 9), 8, 2), ((7, 5), 11, 4)], ids=["bf16", "fp32"])
def test_a_plan_keeps_their_bytes_and_gives_up_blocks_for_them(machine: Machine, capability, gib, element):
    without, kept = made(machine(capability, gib)), made(machine(capability, gib), ROOM)
    assert LORAS not in parts(without)
    assert parts(kept)[LORAS] == 524_673_280 * element
    assert kept.execution.resident_blocks < without.execution.resident_blocks
    assert kept.predicted_peak_bytes <= kept.budget_bytes
    assert (kept.max_pixels, kept.sessions) == (without.max_pixels, without.sessions)


def test_every_edit_that_a_plan_admits_fits_with_loras_too(machine: Machine):
    spec = EditSpec(("a" * 64,) * 3, "x" * 1000, " ", 1, 20, 4.0, 1024, 1024, mask="b" * 64)
    loras = {"fast": LIGHTNING}
    for capability, gib in (((8, 9), 8), ((8, 6), 12), ((8, 9), 24)):
        found = made(machine(capability, gib), ROOM)
        serving = Serving(REAL, (found,), loras, ROOM)
        kind = kind_of(found.execution)
        plain = serving.footprints(spec)[kind]
        foot = serving.footprints(replace(spec, loras=(LoraChoice("fast"),)))[kind]
        assert foot.state == plain.state, "the room is the worker's, not the edit's"
        assert plain.arena <= foot.arena < plain.arena + 100 * MIB
        fixed = sum(part.bytes for part in found.parts if part.name not in ("arena", "sessions"))
        assert fixed + foot.arena + found.sessions.at_max_pixels * foot.state <= found.budget_bytes


def test_temporaries_of_a_branch_count_the_values_between_its_matrices(machine: Machine):
    found = made(machine((8, 9), 24))
    memory = model_of(found.execution, REAL)
    tiles = Tiles(found.execution.encode_tile_px, found.execution.decode_tile_px)
    loras = {"fast": LIGHTNING, "style": LoraFacts(1, 48)}
    spec = EditSpec(("a" * 64,), "make it blue", None, 1, 20, 1.0, 1024, 1024)
    chosen = replace(spec, loras=(LoraChoice("style"), LoraChoice("fast")))
    plain, work = (workload_of(each, REAL, 1 << 20, loras) for each in (spec, chosen))
    assert (plain.lora_width, work.lora_width) == (0, 192)
    added = memory.arena(work, tiles, "streamed").denoise - memory.arena(plain, tiles, "streamed").denoise
    assert added == pytest.approx(work.tokens * 192 * 2 * memory.factors.denoise, rel=1e-4)


def test_where_loras_take_what_the_model_needs_the_refusal_says_so(machine: Machine):
    refusal = plan(machine((8, 9), 8), PlanRequest(REAL, PROFILES, Wishes(), LoraRoom(4_000_000_000, 64)))
    assert isinstance(refusal, Refusal)
    assert refusal.code == "vram_too_small"
    assert "Lower worker.loras_at_once" in refusal.remedy
