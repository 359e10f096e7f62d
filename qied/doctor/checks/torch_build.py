"""Checks of the installed torch against the card: its CUDA, its kernels and its known regression."""

from __future__ import annotations

import re
from collections.abc import Sequence

from qied_client.installing import REINSTALL, pip_install

from qied.doctor.checkup import Check
from qied.doctor.facts import Facts
from qied.doctor.findings import Verdict, error, ok, skipped, warning
from qied.doctor.words import some
from qied.hardware.snapshot import Gpu, SelfTest, Trial
from qied.planning.choosing.candidates import LOWEST_CAPABILITY, at_least, has_kernels, version_numbers
from qied.planning.choosing.torch_builds import install_command

_CUDNN_FIX = "9.15"
_NO_CONTEXT = re.compile(
    r"torch\.cuda is not available|torch sees no cuda|no cuda gpus are available|cuda unknown error"
    r"|cuda-capable device|cuda driver initialization failed",
    re.IGNORECASE,
)


def installed(facts: Facts) -> Verdict:
    """Torch is there."""
    torch = facts.snapshot.torch
    if (broken := facts.problem("torch_broken")) is not None:
        return error(broken, f"Install it again: {pip_install('--force-reinstall', 'torch', here=facts.this_machine)}")
    if torch is None:
        return error("torch is not installed, or cannot be imported.", f"Install qied again. {REINSTALL}.")
    return ok(f"torch {torch.version}.")


def built_with_cuda(facts: Facts) -> Verdict:
    """Torch was built with CUDA, where there is a card."""
    torch = facts.snapshot.torch
    if torch is None or not facts.gpus:
        return skipped("There is no card and torch to compare.")
    if torch.cuda is None:
        return error(
            f"torch {torch.version} is built without CUDA, so it cannot use {facts.gpus[0].name}.",
            _install(facts, facts.gpus),
        )
    return ok(f"torch is built with CUDA {torch.cuda}.")


def kernels(facts: Facts) -> Verdict:
    """Torch has kernels for the card."""
    torch = facts.snapshot.torch
    cards = _served([gpu for gpu in facts.gpus if gpu.compute_capability])
    if torch is None or torch.cuda is None or not cards or not torch.arch_list:
        return skipped("There is no card and torch with a list of its kernels to compare.")
    without = [gpu for gpu in cards if not _has_kernels(gpu, torch.arch_list)]
    if not without:
        return ok(f"torch {torch.version} has kernels for {some(_names(cards))}.")
    gpu = without[0]
    told = error if len(without) == len(cards) else warning
    return told(
        f"torch {torch.version} has no kernels for {gpu.name} ({_sm(gpu)}); it has {', '.join(torch.arch_list)}.",
        _install(facts, cards),
    )


def vae_memory(facts: Facts) -> Verdict:
    """Not the torch whose VAE takes two to three times the memory."""
    torch = facts.snapshot.torch
    if torch is None or torch.cuda is None:
        return skipped("There is no torch with CUDA.")
    if version_numbers(torch.version)[:2] != (2, 9):
        return ok(f"torch {torch.version} does not have the VAE memory regression of 2.9.")
    if torch.cudnn is None:
        return skipped("The version of cuDNN is not known.")
    if at_least(_dotted(torch.cudnn), _CUDNN_FIX):
        return ok(f"cuDNN {torch.cudnn} ends the VAE memory regression of torch 2.9.")
    cudnn = f"nvidia-cudnn-cu{version_numbers(torch.cuda)[0]}>={_CUDNN_FIX}"
    return warning(
        f"torch {torch.version} with cuDNN {torch.cudnn} takes 2 to 3 times the memory in the VAE.",
        f"Update torch to 2.10 or newer, or: {pip_install(cudnn, here=facts.this_machine)}",
    )


def sees_card(facts: Facts) -> Verdict:
    """Torch reaches the card that the driver shows."""
    if not facts.gpus:
        return skipped("There is no card.")
    failed = facts.problem("cuda_failed") or _lost_in_trials(facts.gpus)
    if failed is None:
        return ok("Programs reach the card through CUDA.")
    return error(
        f"The driver shows {facts.gpus[0].name}, but CUDA cannot use it: {failed}",
        "After a suspend: sudo rmmod nvidia_uvm && sudo modprobe nvidia_uvm. In a container, give it /dev/nvidia-uvm "
        "and NVIDIA_DRIVER_CAPABILITIES=compute,utility. Else restart the machine.",
    )


def _lost_in_trials(gpus: tuple[Gpu, ...]) -> str | None:
    """What the self-test said, where no trial of it ran for want of a card."""
    trials = [trial for gpu in gpus if gpu.selftest is not None for trial in _trials(gpu.selftest)]
    if any(trial.ok for trial in trials):
        return None
    return next((trial.error for trial in trials if trial.error and _NO_CONTEXT.search(trial.error)), None)


def _trials(test: SelfTest) -> list[Trial]:
    products = test.bf16, test.fp8_rowwise, test.fp8_tensorwise, test.fp8_storage, test.int8
    return [trial for trial in (*products, *test.attention.values()) if trial is not None]


def _has_kernels(gpu: Gpu, arch_list: tuple[str, ...]) -> bool:
    return gpu.compute_capability is not None and has_kernels(arch_list, gpu.compute_capability)


def _served(cards: Sequence[Gpu]) -> list[Gpu]:
    """The cards that are new enough, for whose sake torch is chosen; all of them where none is."""
    new = [gpu for gpu in cards if gpu.compute_capability and gpu.compute_capability >= LOWEST_CAPABILITY]
    return new or list(cards)


def _install(facts: Facts, cards: Sequence[Gpu]) -> str:
    """The torch for the newest of these cards, which has kernels for the others as well."""
    newest = max((gpu.compute_capability for gpu in cards if gpu.compute_capability), default=None)
    return install_command(newest, here=facts.this_machine)


def _sm(gpu: Gpu) -> str:
    assert gpu.compute_capability is not None
    return "sm_{}{}".format(*gpu.compute_capability)


def _names(gpus: list[Gpu]) -> list[str]:
    return list(dict.fromkeys(gpu.name for gpu in gpus))


def _dotted(cudnn: str) -> str:
    """``91500``, as torch numbers cuDNN 9, in the dotted form; that form stays."""
    if not cudnn.isdigit() or len(cudnn) < 5:
        return cudnn
    number = int(cudnn)
    return f"{number // 10_000}.{number // 100 % 100}.{number % 100}"


CHECKS = (
    Check("torch.installed", "The worker computes with torch.", installed),
    Check("torch.cuda_build", "A build without CUDA computes on the CPU only.", built_with_cuda),
    Check("torch.kernels", "Every operation would fail with 'no kernel image is available'.", kernels),
    Check("torch.vae_memory", "Large pictures would run out of memory, or be tiled smaller.", vae_memory),
    Check("torch.sees_card", "Without it programs silently fall back to the CPU.", sees_card),
)
