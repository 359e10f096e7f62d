"""The probe gives one honest snapshot, whatever is missing, hidden or broken."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pynvml
import pytest

from qied.hardware.cuda_driver import CudaAnswer
from qied.hardware.probe import ProbeSources, parse_kernel_module, probe, read_cards
from qied.hardware.snapshot import Gpu, read_snapshot
from qied.hardware.visibility import choose_visible

CARDS = (
    Gpu(index=0, uuid="GPU-aaaa", name="slow"),
    Gpu(index=1, uuid="GPU-bbbb", name="fast"),
)
SPLIT = (
    Gpu(index=0, uuid="MIG-1111", name="part"),
    Gpu(index=0, uuid="MIG-2222", name="part"),
)
BROKEN = CudaAnswer(error="CUDA_ERROR_UNKNOWN")


@pytest.fixture
def no_nvml(recorded_nvml):
    return recorded_nvml({"nvmlInit": pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)})


def codes(problems):
    return [problem.code for problem in problems]


def test_this_machine_has_a_snapshot_that_can_be_read_back(tmp_path):
    snapshot = probe(os.environ, tmp_path)
    assert read_snapshot(snapshot.to_json()) == snapshot
    assert snapshot.torch.version.startswith(importlib.metadata.version("torch"))
    assert snapshot.host.memory_total_bytes > 0
    driven = Path("/proc/driver/nvidia/version").exists()
    assert (snapshot.driver is not None) == driven
    assert bool(snapshot.gpus) <= driven


def test_probing_imports_no_torch_here(tmp_path):
    code = (
        "import os, sys; from pathlib import Path; from qied.hardware.probe import probe; "
        "from qied.hardware.selftest import measured; "
        "measured(probe(os.environ, Path(sys.argv[1])), only_cached=True); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code, tmp_path], check=False).returncode == 0


def test_cards_are_listed_and_a_cuda_that_does_not_work_is_told(recorded_nvml, two_cards, tmp_path):
    snapshot = probe({**os.environ, "CUDA_VISIBLE_DEVICES": "1"}, tmp_path, nvml=recorded_nvml(two_cards))
    assert snapshot.driver.version == "560.35.03"
    assert [gpu.name for gpu in snapshot.gpus] == ["NVIDIA GeForce RTX 3060"]
    assert codes(snapshot.problems) == ["cuda_failed"]


def test_where_nvml_is_missing_nvidia_smi_is_asked(no_nvml, tmp_path, captured):
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\necho '{captured('nvidia-smi-cards.csv').strip()}'\n")
    program.chmod(0o755)
    cards = read_cards({"PATH": str(tmp_path)}, no_nvml)
    assert [gpu.name for gpu in cards.gpus] == ["NVIDIA GeForce RTX 4090", "NVIDIA GeForce RTX 3060"]


@pytest.mark.parametrize(
    ("file", "version"),
    [
        ("proc-driver-nvidia-version.txt", "535.183.01"),
        ("proc-driver-nvidia-version-open.txt", "580.159.04"),
        ("nvidia-smi.txt", None),
    ],
)
def test_the_loaded_kernel_module_tells_its_version(captured, file, version):
    assert parse_kernel_module(captured(file)) == version


def test_a_loaded_module_without_the_library_is_a_driver_with_a_problem(no_nvml, tmp_path, captured):
    module = tmp_path / "version"
    module.write_text(captured("proc-driver-nvidia-version.txt"))
    cards = read_cards({}, no_nvml, ProbeSources((), module, tmp_path))
    assert cards.driver.version == "535.183.01"
    assert codes(cards.problems) == ["nvml_failed"]


@pytest.mark.parametrize(
    ("vendor", "kind", "told"),
    [("0x10de", "0x030000", ["no_driver"]), ("0x10de", "0x040300", []), ("0x1002", "0x030000", [])],
    ids=["nvidia display", "nvidia audio", "other display"],
)
def test_a_card_on_the_bus_that_nothing_drives_is_told(no_nvml, tmp_path, vendor, kind, told):
    device = tmp_path / "pci" / "0000:01:00.0"
    device.mkdir(parents=True)
    (device / "vendor").write_text(vendor + "\n")
    (device / "class").write_text(kind + "\n")
    cards = read_cards({}, no_nvml, ProbeSources((), tmp_path / "none", tmp_path / "pci"))
    assert codes(cards.problems) == told
    assert cards.driver is None


def test_a_machine_without_any_card_has_nothing_to_complain_of(no_nvml, tmp_path):
    cards = read_cards({}, no_nvml, ProbeSources((), tmp_path / "none", tmp_path / "none"))
    assert (cards.driver, cards.gpus, cards.problems) == (None, (), ())


def test_a_driver_that_was_updated_without_a_restart_is_told_with_the_loaded_version(recorded_nvml, tmp_path, captured):
    module = tmp_path / "version"
    module.write_text(captured("proc-driver-nvidia-version.txt"))
    nvml = recorded_nvml({"nvmlInit": pynvml.NVMLError(pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH)})
    cards = read_cards({}, nvml, ProbeSources((), module, tmp_path))
    assert cards.driver.version == "535.183.01"
    assert codes(cards.problems) == ["driver_mismatch"]


def test_cards_come_in_cudas_order_with_the_index_of_nvml():
    gpus, problems = choose_visible(CARDS, {}, CudaAnswer(("bbbb", "aaaa")))
    assert [(gpu.index, gpu.name) for gpu in gpus] == [(1, "fast"), (0, "slow")]
    assert problems == ()


def test_an_index_means_what_cuda_says_it_means():
    gpus, problems = choose_visible(CARDS, {"CUDA_VISIBLE_DEVICES": "0"}, CudaAnswer(("bbbb",)))
    assert [gpu.name for gpu in gpus] == ["fast"]
    assert problems == (), "no card is missed"


def test_where_cuda_does_not_answer_the_variable_is_read_by_its_rules_and_that_is_told():
    gpus, problems = choose_visible(CARDS, {"CUDA_VISIBLE_DEVICES": "1"}, BROKEN)
    assert [gpu.name for gpu in gpus] == ["fast"]
    assert codes(problems) == ["cuda_failed"]
    assert "CUDA_ERROR_UNKNOWN" in problems[0].message


def test_cards_that_cuda_does_not_find_are_told():
    gpus, problems = choose_visible(CARDS, {}, CudaAnswer())
    assert gpus == CARDS
    assert "it finds no card" in problems[0].message


def test_hidden_cards_are_told_with_the_variable():
    gpus, problems = choose_visible(CARDS, {"CUDA_VISIBLE_DEVICES": "-1"}, CudaAnswer())
    assert gpus == ()
    assert codes(problems) == ["gpus_hidden"]
    assert "CUDA_VISIBLE_DEVICES=-1" in problems[0].message


def test_every_instance_of_a_split_card_can_be_chosen_though_cuda_lists_one():
    assert choose_visible(SPLIT, {}, CudaAnswer(("2222",))) == ((SPLIT[1], SPLIT[0]), ())
    assert choose_visible(SPLIT, {"CUDA_VISIBLE_DEVICES": "MIG-2222"}, CudaAnswer(("2222",))) == ((SPLIT[1],), ())


def test_a_card_that_cuda_leaves_out_is_left_out_and_named():
    gpus, problems = choose_visible(CARDS, {}, CudaAnswer(("bbbb",)))
    assert [gpu.name for gpu in gpus] == ["fast"]
    assert codes(problems) == ["cuda_misses_card"]
    assert "slow (card 0)" in problems[0].message


def test_a_card_that_is_hidden_is_not_missed():
    _, problems = choose_visible(CARDS, {"CUDA_VISIBLE_DEVICES": "GPU-bbbb"}, CudaAnswer(("bbbb",)))
    assert problems == ()


def test_cards_without_uuid_are_read_by_the_rules_where_cuda_works():
    nameless = tuple(gpu.model_copy(update={"uuid": None}) for gpu in CARDS)
    assert choose_visible(nameless, {}, CudaAnswer(("bbbb", "aaaa"))) == (nameless, ())
    gpus, problems = choose_visible(nameless, {}, CudaAnswer(("bbbb",)))
    assert gpus == nameless
    assert codes(problems) == ["cuda_misses_card"]


def test_a_look_that_is_read_only_keeps_nothing(recorded_nvml, two_cards, tmp_path, monkeypatch):
    package = tmp_path / "torch"
    package.mkdir()
    (package / "version.py").write_text("__version__ = '2.13.0+cu126'\ncuda = '12.6'\n")
    monkeypatch.setattr("qied.hardware.probe.find_torch", lambda: package)
    monkeypatch.setattr("qied.hardware.torch_facts.ask_child", lambda *told, **more: '{"arch_list": [], "cudnn": null}')
    cache, nvml = tmp_path / "cache", recorded_nvml(two_cards)
    assert probe(os.environ, cache, read_only=True, nvml=nvml).torch.cuda == "12.6"
    assert not cache.exists()
    probe(os.environ, cache, nvml=nvml)
    assert list(cache.iterdir()), "any other look keeps what torch told"
