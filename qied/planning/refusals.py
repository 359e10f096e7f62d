"""Refusals: what keeps a model from a card or a machine, with the numbers and what to do. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from qied.hardware.snapshot import Gpu, Snapshot
from qied.planning import compatibility as floors
from qied.planning.candidates import Candidate
from qied.planning.case import Case
from qied.planning.ladder import Rung
from qied.planning.model_profile import ModelProfile
from qied.planning.plan import Refusal
from qied.planning.wishes import Wishes
from qied.planning.words import at_least_gib, dotted, gib

_CUDA_BROKEN = {
    "cuda_failed": "After a suspend, reload the driver's module (sudo rmmod nvidia_uvm && sudo modprobe nvidia_uvm) or "
    "restart the machine; in a container, start it with access to the card (--gpus all).",
    "driver_mismatch": "Restart the machine: the driver was updated while it ran.",
}
"""What to do where the driver shows a card that programs cannot use, by the probe's code for it."""

_NO_CARD = {
    "gpus_hidden": ("no_gpu", "Unset CUDA_VISIBLE_DEVICES, or name a card that is there."),
    "no_driver": ("no_driver", "Install the NVIDIA driver, or load its module: sudo modprobe nvidia."),
    "driver_mismatch": ("no_driver", _CUDA_BROKEN["driver_mismatch"]),
    "nvml_failed": ("no_driver", "See what nvidia-smi says; install the driver again."),
    "gpu_lost": ("no_gpu", "Restart the machine; if it happens again, look at the card's power and its slot."),
}
"""Refusal's code and what to do where no card can be seen, by the probe's code for it."""


def incompatible(snapshot: Snapshot, gpu: Gpu) -> Refusal | None:
    """Find what keeps any model from this card: its age, the driver, torch or torch's kernels."""
    broken = next((problem for problem in snapshot.problems if problem.code in _CUDA_BROKEN), None)
    if broken is not None:
        return Refusal("cuda_unavailable", broken.message, _CUDA_BROKEN[broken.code])
    capability = gpu.compute_capability
    if capability is None:
        return Refusal(
            "unknown_card",
            f"The driver does not tell what {gpu.name} can compute.",
            "Update the driver; with a virtual or partitioned card, ask for one that shows its capability.",
        )
    if capability < floors.LOWEST_CAPABILITY:
        return Refusal(
            "capability_too_old",
            f"{gpu.name} has compute capability {dotted(capability)}; qied needs {dotted(floors.LOWEST_CAPABILITY)} "
            "(Turing, 2018) or newer.",
            "Use a newer card: GeForce RTX 20 or later, or a T4.",
        )
    torch = snapshot.torch
    if torch is None:
        return Refusal(
            "torch_missing", "torch is not installed, or cannot be imported.", "Install it: pip install torch."
        )
    if torch.cuda is None:
        return Refusal(
            "torch_without_cuda",
            f"torch {torch.version} is built without CUDA, so it cannot use {gpu.name}.",
            "Install a CUDA build: pip install --force-reinstall torch --index-url "
            "https://download.pytorch.org/whl/cu126 (cu130 for a Blackwell card).",
        )
    if (old := _driver_too_old(snapshot, torch.cuda)) is not None:
        return old
    if torch.arch_list and not floors.has_kernels(torch.arch_list, capability):
        return Refusal(
            "no_kernels",
            f"torch {torch.version} has no kernels for {gpu.name} (sm_{capability[0]}{capability[1]}); it has "
            f"{', '.join(torch.arch_list)}.",
            "Install a build that has them: Blackwell needs cu128 or newer, for example --index-url "
            "https://download.pytorch.org/whl/cu130.",
        )
    return None


def _driver_too_old(snapshot: Snapshot, torch_cuda: str) -> Refusal | None:
    floor = floors.driver_floor(torch_cuda, snapshot.os.system)
    if snapshot.driver is None or floor is None or floors.at_least(snapshot.driver.version, floor):
        return None
    return Refusal(
        "driver_too_old",
        f"Driver {snapshot.driver.version} is too old for torch's CUDA {torch_cuda}, which needs {floor}.",
        f"Update the NVIDIA driver to {floor} or newer, or install a torch for an older CUDA.",
    )


def no_card(snapshot: Snapshot, model: ModelProfile, wishes: Wishes) -> Refusal:
    """There is no card, or not the one that was asked for."""
    if wishes.gpu is not None and snapshot.gpus:
        there = ", ".join(str(gpu.index) for gpu in snapshot.gpus)
        return Refusal("no_such_gpu", f"There is no card {wishes.gpu}.", f"Cards of this machine: {there}.")
    try_builtin = "To try qied without one: qied serve --model builtin."
    for problem in snapshot.problems:
        if problem.code in _NO_CARD:
            return Refusal(_NO_CARD[problem.code][0], problem.message, f"{_NO_CARD[problem.code][1]} {try_builtin}")
    if snapshot.driver is None:
        return Refusal(
            "no_driver",
            f"No NVIDIA driver was found, and {model.title} needs an NVIDIA card.",
            f"If the machine has one, install its driver and see that nvidia-smi lists the card. {try_builtin}",
        )
    return Refusal(
        "no_gpu",
        f"The NVIDIA driver {snapshot.driver.version} shows no card, and {model.title} needs one.",
        f"See that nvidia-smi lists the card, and what CUDA_VISIBLE_DEVICES hides. {try_builtin}",
    )


def too_little_memory(case: Case, rungs: Sequence[Rung]) -> Refusal:
    """Not even the lowest rung fits."""
    needs = min(case.fitter(candidate.numerics).needed(rungs[0]) for candidate in case.listed.candidates)
    missing = needs - case.budget.bytes
    others = sum(process.used_bytes or 0 for process in case.gpu.processes)
    held = f", of which other programs hold {gib(others)}" if others else ""
    total = case.gpu.memory_total_bytes
    return Refusal(
        "vram_too_small",
        f"{case.question.model.title} needs {gib(needs)} of the memory of {case.gpu.name} at least; "
        f"{gib(case.budget.bytes)} may be used{'' if total is None else f' of its {gib(total)}'}{held}.",
        f"Free {at_least_gib(missing)} on the card by closing other programs, or use a card with more memory.",
    )


def too_little_host_memory(short: Sequence[tuple[Candidate, int]], capacity: int) -> Refusal:
    """The host cannot hold what streams: ``short`` has the bytes that each candidate needs of it."""
    candidate, needed = min(short, key=lambda pair: pair[1])
    return Refusal(
        "host_memory_too_small",
        f"The blocks that do not fit on the card wait in host memory: {gib(needed)} are needed in "
        f"{candidate.numerics.precision}, {gib(capacity)} are free.",
        f"Close other programs or add memory until {at_least_gib(needed - capacity)} more are free; a container's "
        "limit counts as well.",
    )


def cpu_too_slow(model: ModelProfile) -> Refusal:
    """The model is too large for a CPU."""
    blocks = model.architecture.layers * model.architecture.block_parameters
    return Refusal(
        "cpu_too_slow",
        f"{model.title} has {blocks / 1e9:.0f} billion parameters in its blocks: on a CPU one edit would take hours.",
        "Use a machine with an NVIDIA card of 8 GB or more; to try qied itself, serve the built-in model: "
        "qied serve --model builtin.",
    )


def no_profile(cards: str) -> Refusal:
    """No hardware profile matches."""
    return Refusal(
        "no_profile",
        f"No hardware profile is for {cards}.",
        "Write one: start from what 'qied profile show' prints for a similar card.",
    )


def no_precision(case: Case) -> Refusal:
    """Every precision was ruled out."""
    return Refusal(
        "precision_unavailable",
        f"{case.gpu.name} can run none of the precisions that are allowed: {'; '.join(case.listed.rejected)}.",
        "Leave model.precision at auto; where a self-test failed, update driver and torch and run it again.",
    )
