"""Checks of the NVIDIA driver: that there is one, and that it is new enough."""

from __future__ import annotations

from qied.doctor.checkup import Check
from qied.doctor.facts import Facts
from qied.doctor.findings import Status, Verdict, error, ok, skipped, warning, worst
from qied.doctor.words import until_then
from qied.hardware.snapshot import driver_system
from qied.planning.choosing.candidates import FP8_CUDA, FP8_DRIVER, FP8_TORCH, LOWEST_FP8, at_least, driver_floor
from qied.planning.choosing.candidates import version_numbers as numbers
from qied.planning.plan import Refusal

_DOWNLOAD = "https://www.nvidia.com/drivers"
_CARD_REMEDIES = {
    "gpu_lost": "Restart the machine; if it persists, look at power cables, temperature and `dmesg`.",
    "cuda_misses_card": "In a container, give it the card's device (/dev/nvidia0, /dev/nvidia1 and so on: --gpus all); "
    "else see that the driver still serves a card of its age, and restart the machine.",
}


def present(facts: Facts) -> Verdict:
    """There is a driver, and it shows a card."""
    driver = facts.snapshot.driver
    if driver is not None and facts.gpus:
        return ok(f"Driver {driver.version}.")
    if (mismatch := facts.problem("driver_mismatch")) is not None:
        return error(mismatch, "The driver was updated while running: restart the machine.")
    if facts.wants_cpu:
        return ok("No card is used here, as configured.")
    told = error if isinstance(facts.plan, Refusal) else warning
    if (hidden := facts.problem("gpus_hidden")) is not None:
        return told(hidden, "unset CUDA_VISIBLE_DEVICES")
    said = facts.problem("no_driver", "nvml_failed")
    if driver is None:
        return told(
            said or "No NVIDIA driver is loaded, so there is only the CPU.",
            f"Install one from {_DOWNLOAD} and restart; in a container, start it with --gpus all.",
        )
    return told(
        said or f"Driver {driver.version} is loaded, but it shows no card.",
        "See what `nvidia-smi` says; in a container, start it with --gpus all.",
    )


def all_answer(facts: Facts) -> Verdict:
    """Each card that the driver knows answers it, and CUDA gives it to programs."""
    told = [
        warning(problem.message, _CARD_REMEDIES[problem.code])
        for problem in facts.snapshot.problems
        if problem.code in _CARD_REMEDIES
    ]
    if told:
        return worst(told)
    count = len(facts.gpus)
    return ok("1 card answers." if count == 1 else f"{count} cards answer.") if count else skipped("There is no card.")


def reaches_torch(facts: Facts) -> Verdict:
    """The driver reaches the floor of the CUDA that torch was built with."""
    driver, torch = facts.snapshot.driver, facts.snapshot.torch
    if driver is None or torch is None or torch.cuda is None:
        return skipped("There is no driver and torch with CUDA to compare.")
    floor = driver_floor(torch.cuda, driver_system(facts.snapshot))
    if floor is None:
        return _by_major(driver.cuda, driver.version, torch.cuda)
    if at_least(driver.version, floor):
        return ok(f"Driver {driver.version} runs CUDA {torch.cuda} (floor {floor}).")
    return _too_old(driver.version, torch.cuda, floor)


def _by_major(newest: str | None, version: str, wanted: str) -> Verdict:
    if newest is None:
        return skipped(f"The driver's floor for CUDA {wanted} is not known.")
    if numbers(newest)[:1] >= numbers(wanted)[:1]:
        return ok(f"Driver {version} supports CUDA {newest}; torch needs {wanted}.")
    return _too_old(version, wanted, f"one that supports CUDA {wanted}")


def _too_old(version: str, cuda: str, floor: str) -> Verdict:
    older = " Or install a torch build for CUDA 12.6." if numbers(cuda)[:1] > (12,) else ""
    return error(
        f"Driver {version} is too old for torch's CUDA {cuda}, which needs {floor}.",
        f"Update the driver from {_DOWNLOAD} and restart.{older}",
    )


def reaches_fp8(facts: Facts) -> Verdict:
    """Driver, CUDA and torch reach the floors of FP8, where a card could do it."""
    driver, torch = facts.snapshot.driver, facts.snapshot.torch
    if not any(gpu.compute_capability and gpu.compute_capability >= LOWEST_FP8 for gpu in facts.gpus):
        return skipped("No card here has FP8 matrix units.")
    if reaches_torch(facts).status is Status.ERROR:
        return skipped("The driver has to be updated first: see driver.cuda.")
    floors = [
        ("driver", driver and driver.version, FP8_DRIVER),
        ("CUDA", torch and torch.cuda, FP8_CUDA),
        ("torch", torch and torch.version, FP8_TORCH),
    ]
    below = [f"{what} {have} (needs {floor})" for what, have, floor in floors if have and not at_least(have, floor)]
    if below:
        return warning(f"Too old for FP8: {', '.join(below)}.", until_then("Update them", facts.made_plan))
    if unknown := [what for what, have, _ in floors if not have]:
        return skipped(f"Not known here: {', '.join(unknown)}.")
    return ok("Driver, CUDA and torch are new enough for FP8.")


CHECKS = (
    Check("driver.present", "Without a card an edit takes hours instead of seconds.", present),
    Check("driver.cards", "A card that fell off the bus computes nothing.", all_answer),
    Check("driver.cuda", "torch cannot start on the card with an older driver.", reaches_torch),
    Check("driver.fp8", "FP8 halves the memory of the weights and is faster than BF16.", reaches_fp8),
)
