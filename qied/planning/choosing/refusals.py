"""Refusals: why a card or a machine cannot run a model, with the numbers and what to do. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from qied_client.text import GIB, at_least_gib, gib

from qied.hardware.host import NATIVE_WINDOWS, REMEDY, SAID
from qied.hardware.snapshot import Gpu, Snapshot, capability_text, driver_system
from qied.planning.choosing import candidates as floors
from qied.planning.choosing.candidates import Candidate
from qied.planning.choosing.case import CardRequest
from qied.planning.choosing.fitting import Rung
from qied.planning.choosing.torch_builds import install_command
from qied.planning.plan import Plan, Refusal
from qied.planning.profiles.model_profile import ModelProfile
from qied.planning.wishes import Wishes

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
    "nvml_failed": ("no_driver", "See what nvidia-smi says; reinstall the driver."),
    "gpu_lost": ("no_gpu", "Restart the machine; if it happens again, look at the card's power and its slot."),
}
"""Refusal's code and what to do where no card can be seen, by the probe's code for it."""


def no_daemon_there(snapshot: Snapshot) -> Refusal | None:
    """On Windows itself nothing is served, whatever cards it has."""
    return Refusal("native_windows", SAID, REMEDY) if snapshot.os.system == NATIVE_WINDOWS else None


def incompatible(snapshot: Snapshot, gpu: Gpu) -> Refusal | None:
    """Find what keeps any model from this card: its age, the driver, torch or torch's kernels."""
    broken = next((problem for problem in snapshot.problems if problem.code in _CUDA_BROKEN), None)
    if broken is not None:
        return Refusal("cuda_unavailable", broken.message, _CUDA_BROKEN[broken.code])
    capability = gpu.compute_capability
    if capability is None:
        return Refusal(
            "unknown_card",
            f"The driver does not report the compute capability of {gpu.name}.",
            "Update the driver; with a virtual or partitioned card, use one that reports it.",
        )
    if capability < floors.LOWEST_CAPABILITY:
        return Refusal(
            "capability_too_old",
            f"{gpu.name} has compute capability {capability_text(capability)}; qied needs "
            f"{capability_text(floors.LOWEST_CAPABILITY)} (Turing, 2018) or newer.",
            "Use a newer card: GeForce RTX 20 or later, or a T4.",
        )
    torch = snapshot.torch
    if torch is None:
        return Refusal(
            "torch_missing",
            "torch is not installed, or cannot be imported.",
            f"Install it: {install_command(capability)}",
        )
    if torch.cuda is None:
        return Refusal(
            "torch_without_cuda",
            f"torch {torch.version} is built without CUDA, so it cannot use {gpu.name}.",
            f"Install a CUDA build: {install_command(capability)}",
        )
    if (old := _driver_too_old(snapshot, torch.cuda)) is not None:
        return old
    if torch.arch_list and not floors.has_kernels(torch.arch_list, capability):
        return Refusal(
            "no_kernels",
            f"torch {torch.version} has no kernels for {gpu.name} (sm_{capability[0]}{capability[1]}); it has "
            f"{', '.join(torch.arch_list)}.",
            f"Install a build that has them: {install_command(capability)}",
        )
    return None


def _driver_too_old(snapshot: Snapshot, torch_cuda: str) -> Refusal | None:
    floor = floors.driver_floor(torch_cuda, driver_system(snapshot))
    if snapshot.driver is None or floor is None or floors.at_least(snapshot.driver.version, floor):
        return None
    return Refusal(
        "driver_too_old",
        f"Driver {snapshot.driver.version} is too old for torch's CUDA {torch_cuda}, which needs {floor}.",
        f"Update the NVIDIA driver to {floor} or newer, or install a torch for an older CUDA.",
    )


def no_card(snapshot: Snapshot, model: ModelProfile, wishes: Wishes, *, fits_cpu: bool) -> Refusal:
    """There is no card, or not the one that was asked for."""
    if wishes.device == "cpu":
        return Refusal("no_such_gpu", "A card was asked for, but model.device is cpu.", "Leave one of the two out.")
    if wishes.gpu is not None and snapshot.gpus:
        there = ", ".join(str(gpu.index) for gpu in snapshot.gpus)
        return Refusal("no_such_gpu", f"There is no card {wishes.gpu}.", f"Cards of this machine: {there}.")
    otherwise = "To try qied without one: qied serve --model builtin."
    if fits_cpu:
        otherwise = "Leave model.device at auto to run this model on the CPU."
    for problem in snapshot.problems:
        if problem.code in _NO_CARD:
            return Refusal(_NO_CARD[problem.code][0], problem.message, f"{_NO_CARD[problem.code][1]} {otherwise}")
    if snapshot.driver is None:
        return Refusal(
            "no_driver",
            f"No NVIDIA driver was found, and {model.title} needs an NVIDIA card.",
            f"If the machine has one, install its driver and see that nvidia-smi lists the card. {otherwise}",
        )
    return Refusal(
        "no_gpu",
        f"The NVIDIA driver {snapshot.driver.version} shows no card, and {model.title} needs one.",
        f"See that nvidia-smi lists the card, and what CUDA_VISIBLE_DEVICES hides. {otherwise}",
    )


_NEAREST = (
    *("host_memory_too_small", "vram_too_small", "unknown_memory", "precision_unavailable", "torch_missing"),
    *("torch_without_cuda", "no_kernels", "cuda_unavailable", "driver_too_old", "no_profile"),
    *("unknown_card", "capability_too_old"),
)


def nearest_to_serving(refusals: Sequence[Refusal]) -> Refusal:
    """Of several cards' refusals the one that is mended most easily."""
    return min(refusals, key=lambda refusal: _NEAREST.index(refusal.code))


def unknown_memory(gpu: Gpu) -> Refusal:
    """The driver does not report the card's memory."""
    return Refusal(
        "unknown_memory",
        f"The driver does not report how much memory {gpu.name} has.",
        "Say how much qied may use: worker.budget_bytes in qied.toml, or qied plan --vram 12GB.",
    )


def card_gone(snapshot: Snapshot) -> Refusal:
    """The card that a worker had is not there any more."""
    for problem in snapshot.problems:
        if problem.code in _NO_CARD:
            return Refusal(_NO_CARD[problem.code][0], problem.message, _NO_CARD[problem.code][1])
    return Refusal(
        "no_gpu",
        "The card that this worker used is not there any more.",
        "See whether nvidia-smi lists it; if not, restart the machine, and if that does not help for long, look at the "
        "card's power and its slot.",
    )


def too_little_to_restart(gpu: Gpu, budget_bytes: int) -> Refusal:
    """Others hold so much of the card that a worker cannot start again."""
    total, free = gpu.memory_total_bytes, gpu.memory_free_bytes
    taken = "" if total is None or free is None else f"; other programs hold {gib(total - free)}"
    return Refusal(
        "vram_too_small",
        f"Only {gib(budget_bytes)} of the memory of {gpu.name} may be used now, too little to start the worker "
        f"again{taken}.",
        "Close programs that use the card (nvidia-smi lists them); the worker starts as soon as there is room.",
    )


def too_little_memory(case: CardRequest, rungs: Sequence[Rung]) -> Refusal:
    """Not even the lowest rung fits."""
    needs = min(case.fitter(candidate.numerics).needed(rungs[0]) for candidate in case.listed.candidates)
    total, free = case.gpu.memory_total_bytes, case.gpu.memory_free_bytes
    of_all = "" if total is None else f" of its {gib(total)}"
    return Refusal(
        "vram_too_small",
        f"{case.request.model.title} needs at least {gib(needs)} of the memory of {case.gpu.name}; "
        f"{gib(case.budget.bytes)} may be used{of_all}.",
        _how_to_get(needs, case, 0 if total is None or free is None else total - free),
    )


def _how_to_get(needs: int, case: CardRequest, taken: int) -> str:
    """What would make room for ``needs`` bytes; others have ``taken`` of the card."""
    wishes, missing = case.request.wishes, needs - case.budget.bytes
    if wishes.cache_bytes > missing and wishes.cache_bytes > GIB:
        return f"Lower {wishes.origin('cache_bytes', 'worker.cache_bytes')}: it is {gib(wishes.cache_bytes)}."
    if (held := _largest_lora_bytes(case)) > missing:
        return f"Lower worker.loras_at_once, or remove LoRAs: {gib(held)} are reserved for them."
    if case.budget.bytes == wishes.budget_bytes:
        return f"Raise {wishes.origin('budget_bytes', 'worker.budget_bytes')} to {at_least_gib(needs)} or more."
    if missing <= taken:
        return f"Free {at_least_gib(missing)} on the card by closing other programs."
    return "Use a card with more memory: closing other programs does not free enough on this one."


def _largest_lora_bytes(case: CardRequest) -> int:
    return max(case.fitter(candidate.numerics).lora_bytes for candidate in case.listed.candidates)


def too_little_host_memory(short: Sequence[tuple[Candidate, int, int]], capacity: int) -> Refusal:
    """The host cannot hold a worker: ``short`` has each candidate, the bytes that it needs, and its streamed blocks."""
    candidate, needed, streamed = min(short, key=lambda entry: entry[1])
    what = f"{streamed} blocks that do not fit on the card wait in host memory" if streamed else "A worker starts"
    return Refusal(
        "host_memory_too_small",
        f"{what}: {gib(needed)} are needed in {candidate.numerics.precision}, {gib(capacity)} are free.",
        f"Close other programs or add memory until {at_least_gib(needed - capacity)} more are free; a container's "
        "limit counts as well.",
    )


def beside_other_cards(made: Plan, taken: int, capacity: int) -> Refusal:
    """The host cannot hold the worker of one card next to those of others."""
    missing = taken + made.host_bytes - capacity
    return Refusal(
        "host_memory_too_small",
        f"{made.gpu} needs {gib(made.host_bytes)} of host memory, and the workers of other cards leave "
        f"{gib(max(0, capacity - taken))}.",
        f"Add {at_least_gib(missing)} of memory, or choose other cards with model.gpus.",
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
        f"No hardware profile matches {cards}.",
        "Write one: start from what 'qied profile show' prints for a similar card.",
    )


def no_precision(case: CardRequest) -> Refusal:
    """Every precision was ruled out."""
    return Refusal(
        "precision_unavailable",
        f"{case.gpu.name} can run none of the precisions that are allowed: {'; '.join(case.listed.rejected)}.",
        "Leave model.precision at auto; where a self-test failed, update driver and torch and run it again.",
    )
