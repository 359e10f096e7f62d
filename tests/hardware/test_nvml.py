"""Cards are described as far as NVML answers; what it refuses is None, and what it lost is told."""

from __future__ import annotations

from types import SimpleNamespace

import pynvml
import pytest

from qied.hardware.nvml import read_nvml
from qied.hardware.snapshot import GpuProcess, Pcie

NAMES = {77: "python", 42: "Xorg"}


def error(name):
    return pynvml.NVMLError(getattr(pynvml, f"NVML_ERROR_{name}"))


def test_a_card_that_tells_everything_is_described_completely(recorded_nvml, two_cards):
    cards = read_nvml(recorded_nvml(two_cards), NAMES.get)
    assert (cards.driver.version, cards.driver.cuda) == ("560.35.03", "12.6")
    card = cards.gpus[0]
    assert (card.index, card.name, card.compute_capability) == (0, "NVIDIA GeForce RTX 4090", (8, 9))
    assert (card.memory_total_bytes, card.memory_free_bytes) == (25757220864, 24000000000)
    assert card.display_active is True
    assert card.pcie == Pcie(generation=1, width=16, generation_max=4, width_max=16)
    assert cards.problems == ()


def test_a_program_in_both_lists_is_counted_once_and_the_largest_comes_first(recorded_nvml, two_cards):
    card = read_nvml(recorded_nvml(two_cards), NAMES.get).gpus[0]
    assert card.processes == (
        GpuProcess(pid=43, name=None, used_bytes=900),
        GpuProcess(pid=77, name="python", used_bytes=400),
        GpuProcess(pid=42, name="Xorg", used_bytes=None),
    )


def test_a_card_that_supports_no_question_but_its_name_is_still_listed(recorded_nvml, two_cards):
    card = read_nvml(recorded_nvml(two_cards), NAMES.get).gpus[1]
    assert card.name == "NVIDIA GeForce RTX 3060"
    assert (card.compute_capability, card.memory_total_bytes, card.display_active, card.pcie) == (None,) * 4
    assert card.processes == ()


def test_an_older_driver_is_asked_for_the_older_list_of_processes(recorded_nvml, two_cards):
    del two_cards["nvmlDeviceGetComputeRunningProcesses_v3", "card 0"]
    two_cards["nvmlDeviceGetComputeRunningProcesses_v2", "card 0"] = [SimpleNamespace(pid=5, usedGpuMemory=1000)]
    assert read_nvml(recorded_nvml(two_cards), NAMES.get).gpus[0].processes[0].pid == 5


def test_a_card_that_fell_off_the_bus_is_told_and_the_other_is_listed(recorded_nvml, two_cards):
    two_cards["nvmlDeviceGetHandleByIndex", 0] = error("GPU_IS_LOST")
    cards = read_nvml(recorded_nvml(two_cards), NAMES.get)
    assert [card.index for card in cards.gpus] == [1]
    assert [problem.code for problem in cards.problems] == ["gpu_lost"]
    assert "Card 0" in cards.problems[0].message


def test_with_mig_on_the_instances_stand_for_the_card(recorded_nvml, two_cards):
    two_cards |= {
        ("nvmlDeviceGetMigMode", "card 0"): [1, 1],
        ("nvmlDeviceGetMaxMigDeviceCount", "card 0"): 7,
        ("nvmlDeviceGetMigDeviceHandleByIndex", "card 0", 0): "part 0",
        ("nvmlDeviceGetMigDeviceHandleByIndex", "card 0", 2): "part 2",
        ("nvmlDeviceGetUUID", "part 0"): "MIG-11111111-92d4-4c1b-8f52-6a1f0a3be0d7",
        ("nvmlDeviceGetUUID", "part 2"): "MIG-22222222-92d4-4c1b-8f52-6a1f0a3be0d7",
        ("nvmlDeviceGetName", "part 0"): "NVIDIA H100 MIG 3g.40gb",
        ("nvmlDeviceGetMemoryInfo", "part 0"): SimpleNamespace(total=42949672960, free=42000000000, used=0),
    }
    gpus = read_nvml(recorded_nvml(two_cards), NAMES.get).gpus
    assert [(gpu.index, gpu.uuid[:12]) for gpu in gpus] == [
        (0, "MIG-11111111"),
        (0, "MIG-22222222"),
        (1, "GPU-0a1c2f6e"),
    ]
    assert gpus[0].memory_total_bytes == 42949672960
    assert gpus[0].compute_capability == (8, 9)


@pytest.mark.parametrize(
    ("name", "codes"),
    [
        ("LIBRARY_NOT_FOUND", []),
        ("DRIVER_NOT_LOADED", ["no_driver"]),
        ("LIB_RM_VERSION_MISMATCH", ["driver_mismatch"]),
        ("UNKNOWN", ["nvml_failed"]),
    ],
)
def test_a_library_that_does_not_start_says_why_unless_there_is_none(recorded_nvml, name, codes):
    cards = read_nvml(recorded_nvml({"nvmlInit": error(name)}), NAMES.get)
    assert not cards.answered
    assert (cards.driver, cards.gpus) == (None, ())
    assert [problem.code for problem in cards.problems] == codes


def test_the_library_is_left_as_it_was_found(recorded_nvml, two_cards):
    nvml = recorded_nvml(two_cards)
    read_nvml(nvml, NAMES.get)
    assert nvml.calls.count("nvmlInit") == nvml.calls.count("nvmlShutdown") == 1
