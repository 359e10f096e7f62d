"""What a card, and its driver, do not give: memory beyond the plan, and pinned memory that they refuse."""

import gc
import subprocess
import sys

import pytest
import torch

from qied.engine.copying import host_memory
from qied.engine.copying.host_memory import HostBuffer

pytestmark = [pytest.mark.card, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a card")]
MIB = 1 << 20

LOAD_AND_ALLOCATE = """
import sys
from dataclasses import replace

import torch

from qied.engine.engine import Engine, EngineOptions
from qied.planning.profiles.model_profile import shipped_profiles
from qied.resources import builtin_model_folder

MIB = 1 << 20
profile = shipped_profiles()["builtin"]
execution = replace(EngineOptions("cuda").resolved(profile), allocator_bytes=int(sys.argv[1]) * MIB)
engine = Engine.load(builtin_model_folder(), profile, EngineOptions(execution=execution), lambda *_: None)
held = torch.empty(512 * MIB, dtype=torch.uint8, device="cuda")
try:
    more = torch.empty(512 * MIB, dtype=torch.uint8, device="cuda")
    print("given")
except torch.cuda.OutOfMemoryError:
    print("refused")
"""


@pytest.mark.parametrize(("allocator_mib", "answer"), [(1000, "refused"), (4000, "given"), (0, "given")])
def test_a_card_gives_no_more_than_the_plan_says(allocator_mib: int, answer: str) -> None:
    command = [sys.executable, "-c", LOAD_AND_ALLOCATE, str(allocator_mib)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1:] == [answer], done.stderr


def test_memory_that_the_driver_refuses_to_pin_is_pageable_and_no_kernel_is_blamed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    device = torch.device("cuda", torch.cuda.current_device())
    first = HostBuffer(4 * MIB, device, pin=True)
    memory = first.bytes
    assert first.pinned and memory.is_pinned()
    # The driver pins no memory twice.
    monkeypatch.setattr(host_memory, "_in_huge_pages", lambda _: memory)
    second = HostBuffer(4 * MIB, device, pin=True)
    assert not second.pinned
    assert int(torch.ones(8, device=device).sum()) == 8
    del first, second
    gc.collect()
    assert not memory.is_pinned()
