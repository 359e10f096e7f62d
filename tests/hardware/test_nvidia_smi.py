"""What nvidia-smi prints is read as it is; what it does not know is None."""

from __future__ import annotations

from qied.hardware.nvidia_smi import CARD_FIELDS, find_nvidia_smi, parse_cuda_version, read_nvidia_smi, runner
from qied.hardware.snapshot import Driver, GpuProcess, Pcie


def answers(captured, cards, *, refuses_capability=False):
    def run(arguments):
        if not arguments:
            return captured("nvidia-smi.txt")
        if "compute-apps" in arguments[0]:
            return captured("nvidia-smi-processes.csv")
        return None if refuses_capability and "compute_cap" in arguments[0] else captured(cards)

    return run


def test_cards_driver_and_programs_are_read(captured):
    cards = read_nvidia_smi(answers(captured, "nvidia-smi-cards.csv"))
    assert cards.driver == Driver(version="560.35.03", cuda="12.6")
    first, second = cards.gpus
    assert (first.index, first.name, first.compute_capability) == (0, "NVIDIA GeForce RTX 4090", (8, 9))
    assert (first.memory_total_bytes, first.memory_free_bytes) == (24564 * 1024**2, 22871 * 1024**2)
    assert first.pcie == Pcie(generation=1, width=16, generation_max=4, width_max=16)
    assert (first.display_active, second.display_active) == (True, False)
    assert second.processes == ()
    assert first.processes == (
        GpuProcess(pid=4242, name="Xorg", used_bytes=314 * 1024**2),
        GpuProcess(pid=5150, name="python.exe", used_bytes=None),
    )


def test_a_driver_that_knows_no_compute_capability_is_asked_without(captured):
    cards = read_nvidia_smi(answers(captured, "nvidia-smi-cards-old.csv", refuses_capability=True))
    card = cards.gpus[0]
    assert card.name == "GeForce RTX 2080 Ti"
    assert card.compute_capability is None
    assert card.pcie == Pcie(generation=1, width=16)


def test_a_program_that_fails_has_not_answered():
    cards = read_nvidia_smi(lambda arguments: None)
    assert not cards.answered
    assert cards.gpus == ()


def test_warnings_between_the_rows_are_no_cards(captured):
    listing = "WARNING: infoROM is corrupted at gpu 0000:01:00.0\n" + captured("nvidia-smi-cards.csv")
    assert len(read_nvidia_smi(lambda arguments: listing).gpus) == 2


def test_the_drivers_cuda_is_found_in_old_and_new_reports(captured):
    assert parse_cuda_version(captured("nvidia-smi.txt")) == "12.6"
    assert parse_cuda_version("| NVIDIA-SMI 590.44   KMD Version: 590.44   CUDA UMD Version: 13.1 |") == "13.1"
    assert parse_cuda_version("NVIDIA-SMI has failed") is None


def test_a_real_program_on_the_path_is_run(tmp_path, captured):
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\necho '{captured('nvidia-smi-cards.csv').strip()}'\n")
    program.chmod(0o755)
    found = find_nvidia_smi({"PATH": str(tmp_path)})
    assert found == program
    assert len(read_nvidia_smi(runner(found)).gpus) == 2
    program.write_text("#!/bin/sh\necho half an answer\nexit 9\n")
    assert runner(found)([]) is None


def test_the_fields_that_old_drivers_refuse_come_last():
    assert CARD_FIELDS[-1] == "compute_cap"
