"""Precisions that a card may run, in order, each with the reason; the self-test's results decide. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from qied.hardware.snapshot import Gpu, SelfTest, Snapshot, Trial, capability_text
from qied.planning.layout.memory import Precisions
from qied.planning.plan import Scaling
from qied.planning.profiles.hardware_profile import Choice
from qied.planning.profiles.model_profile import ModelProfile
from qied.planning.wishes import Wishes

Capability = tuple[int, int]

LOWEST_CAPABILITY: Capability = (7, 5)
"""Turing. Older cards have neither BF16 nor integer dot products for which software is still built."""
LOWEST_BF16: Capability = (8, 0)
LOWEST_FP8: Capability = (8, 9)
INT8_WORTH = 0.95
"""INT8 goes before FP8 from this share of its rate on: its products err a third as much."""
LOWEST_FP8_ATTENTION: Capability = (9, 0)
"""Hopper: what cuDNN's attention in FP8 asks for."""

_DRIVER_FLOORS = {
    12: {"Linux": "525.60.13", "Windows": "527.41"},
    13: {"Linux": "580", "Windows": "580"},
}
"""Lowest driver that runs any torch of a CUDA major version (minor-version compatibility)."""
FP8_DRIVER = "535.104.05"
FP8_CUDA = "12.1"
FP8_ROWWISE_TORCH: dict[Capability, str] = {(8, 9): "2.7", (9, 0): "2.5"}
FP8_TORCH = "2.3"


def version_numbers(version: str) -> tuple[int, ...]:
    """Leading numbers of a version: ``2.13.0+cu126`` gives (2, 13, 0); () where there is none."""
    found = re.match(r"\s*(\d+(?:\.\d+)*)", version)
    return tuple(int(part) for part in found[1].split(".")) if found else ()


def at_least(version: str, floor: str) -> bool:
    """Whether ``version`` is ``floor`` or newer; missing numbers count as 0."""
    have, need = version_numbers(version), version_numbers(floor)
    length = max(len(have), len(need))
    return have + (0,) * (length - len(have)) >= need + (0,) * (length - len(need))


def driver_floor(torch_cuda: str, system: str) -> str | None:
    """Lowest driver for a torch build's CUDA (``12.6``), or None where no floor is known."""
    numbers = version_numbers(torch_cuda)
    floors = _DRIVER_FLOORS.get(numbers[0]) if numbers else None
    return None if floors is None else floors.get(system, floors["Linux"])


def has_kernels(arch_list: Sequence[str], capability: Capability) -> bool:
    """Whether a torch with these architectures runs on the card.

    Machine code (``sm_86``) runs on cards of the same major and an equal or higher minor version; ``sm_90a`` only on
    its own; intermediate code (``compute_90``) is compiled for anything that is as new or newer.
    """
    for arch in arch_list:
        found = re.fullmatch(r"(sm|compute)_(\d+)(\d)([af]?)", arch)
        if found is None:
            continue
        kind, suffix = found[1], found[4]
        built = (int(found[2]), int(found[3]))
        if suffix == "a":
            fits = built == capability
        elif kind == "compute":
            fits = built <= capability
        else:
            fits = built[0] == capability[0] and built[1] <= capability[1]
        if fits:
            return True
    return False


SMALL_MODEL_BYTES = 1024**3
"""A model whose 16-bit weights are smaller gains nothing by FP8: it is bound by launches, not by memory."""
FP8_ATTENTION_TRIAL = "fp8_attention"
"""Name of the self-test's trial of attention in FP8, less the head size."""


@dataclass(frozen=True)
class Candidate:
    """Numbers that may be used, and why."""

    numerics: Precisions
    reason: str
    proven: bool


@dataclass
class Shortlist:
    """Candidates in the order of preference, and why the others are none."""

    candidates: list[Candidate] = field(default_factory=list)
    rejected: list[str] = field(default_factory=list)


def shortlist(gpu: Gpu, snapshot: Snapshot, choice: Choice, model: ModelProfile, wishes: Wishes) -> Shortlist:
    """Go through the order and keep what this card can run and has not failed to."""
    assert gpu.compute_capability is not None
    found = Shortlist()
    for precision in _order(gpu, choice, model, wishes):
        if precision == "fp8":
            _consider_fp8(gpu, snapshot, found)
        elif precision == "int8":
            _consider_int8(gpu, choice, found)
        elif precision == "fp8-storage":
            _consider_storage(gpu, choice, found)
        elif precision == "bf16":
            _consider_bf16(gpu, found)
        else:
            found.candidates.append(Candidate(Precisions("fp32", None, "fp32"), "FP32, which every card runs", True))
    _compare_eight_bits(gpu.selftest, found)
    if wishes.fp8_attention != "off":
        found.candidates = [_with_fp8_attention(each, gpu, model) for each in found.candidates]
    return found


def takes_fp8_attention(numerics: Precisions) -> bool:
    """Whether the numbers around the attention allow for one in FP8."""
    return numerics.precision == "int8" or (numerics.precision, numerics.scaling) == ("fp8", "rowwise")


def why_no_fp8_attention(numerics: Precisions, gpu: Gpu | None, head_dim: int) -> str | None:
    """Say why the attention may not be in FP8 on a card, None where it may; without a card it is simulated."""
    if not takes_fp8_attention(numerics):
        return f"it needs weights in FP8 or INT8 with a scale for each row, and these are {_title(numerics)}"
    if gpu is None:
        return None
    if gpu.selftest is None:
        return "no self-test has proven it here yet"
    return _why_not("attention in FP8", gpu.selftest.attention.get(f"{FP8_ATTENTION_TRIAL}_{head_dim}"), None)


def _with_fp8_attention(candidate: Candidate, gpu: Gpu, model: ModelProfile) -> Candidate:
    if why_no_fp8_attention(candidate.numerics, gpu, model.architecture.head_dim) is not None:
        return candidate
    return replace(candidate, numerics=replace(candidate.numerics, fp8_attention=True))


def _title(numerics: Precisions) -> str:
    return "FP8 with one scale for all" if numerics.precision == "fp8" else numerics.precision


def _order(gpu: Gpu, choice: Choice, model: ModelProfile, wishes: Wishes) -> Sequence[str]:
    if wishes.precision != "auto":
        return (wishes.precision,)
    facts = model.architecture
    if 2 * (facts.layers * facts.block_parameters + facts.rest_parameters) <= SMALL_MODEL_BYTES:
        return ("bf16", "fp32") if gpu.compute_capability >= LOWEST_BF16 else ("fp32",)  # type: ignore[operator]
    return choice.precision


def _consider_fp8(gpu: Gpu, snapshot: Snapshot, found: Shortlist) -> None:
    assert gpu.compute_capability is not None
    if gpu.compute_capability < LOWEST_FP8:
        found.rejected.append("fp8: this card has no FP8 matrix units (they came with capability 8.9)")
        return
    if missing := _below_fp8_floors(snapshot):
        found.rejected.append(f"fp8: {missing}")
        return
    numerics = {"rowwise": Precisions("fp8", "rowwise", "bf16"), "tensorwise": Precisions("fp8", "tensorwise", "bf16")}
    if gpu.selftest is None:
        guess: Scaling = "rowwise" if _has_rowwise(gpu.compute_capability, snapshot) else "tensorwise"
        title = {"rowwise": "row-wise", "tensorwise": "per tensor"}[guess]
        reason = (
            f"FP8 {title} by capability {capability_text(gpu.compute_capability)}; no self-test has proven it here yet"
        )
        found.candidates.append(Candidate(numerics[guess], reason, proven=False))
        return
    if gpu.selftest.bf16 is not None and (failed := _why_not("BF16", gpu.selftest.bf16, None)):
        found.rejected.append(f"fp8: activations are BF16, and {failed}")
        return
    scalings: tuple[tuple[Scaling, str, Trial | None], ...] = (
        ("rowwise", "row-wise", gpu.selftest.fp8_rowwise),
        ("tensorwise", "per tensor", gpu.selftest.fp8_tensorwise),
    )
    for scaling, title, trial in scalings:
        failed = _why_not(f"FP8 {title}", trial, gpu.selftest.bf16)
        if failed is None:
            found.candidates.append(Candidate(numerics[scaling], f"FP8 {title} {_speed(trial, gpu.selftest)}", True))
            return
        found.rejected.append(f"fp8 {title}: {failed}")


def _consider_int8(gpu: Gpu, choice: Choice, found: Shortlist) -> None:
    """Only where it was proven: which cards multiply INT8 fast is for the self-test to say."""
    assert gpu.compute_capability is not None
    if gpu.selftest is None:
        found.rejected.append("int8: no self-test has proven it here yet")
        return
    compute = choice.compute if gpu.compute_capability >= LOWEST_BF16 else "fp32"
    base = gpu.selftest.bf16
    if compute == "bf16" and base is not None and (failed := _why_not("BF16", base, None)):
        found.rejected.append(f"int8: activations are BF16, and {failed}")
    elif failed := _why_not("INT8", gpu.selftest.int8, base):
        found.rejected.append(f"int8: {failed}")
    else:
        reason = f"INT8 with rotation {_speed(gpu.selftest.int8, gpu.selftest)}"
        found.candidates.append(Candidate(Precisions("int8", None, compute), reason, True))


def _compare_eight_bits(test: SelfTest | None, found: Shortlist) -> None:
    """Put the better one of FP8 and INT8 first where both are proven; the profile knows neither's rate."""
    names = [each.numerics.precision for each in found.candidates]
    if test is None or test.int8 is None or not {"fp8", "int8"} <= set(names):
        return
    fp8, int8 = names.index("fp8"), names.index("int8")
    trial = test.fp8_rowwise if found.candidates[fp8].numerics.scaling == "rowwise" else test.fp8_tensorwise
    if not found.candidates[fp8].proven or trial is None:
        return
    better = (test.int8.tflops or 0.0) >= INT8_WORTH * (trial.tflops or 0.0)
    if better != (int8 < fp8):
        found.candidates[fp8], found.candidates[int8] = found.candidates[int8], found.candidates[fp8]


def _consider_storage(gpu: Gpu, choice: Choice, found: Shortlist) -> None:
    assert gpu.compute_capability is not None
    compute = choice.compute if gpu.compute_capability >= LOWEST_BF16 else "fp32"
    text = f"weights in FP8 computed in {compute.upper()}: a third to a half of the memory, no faster"
    test = gpu.selftest or SelfTest()
    needs = (("FP8 storage", test.fp8_storage), ("BF16", test.bf16 if compute == "bf16" else None))
    _consider_proven(Precisions("fp8-storage", "rowwise", compute), text, needs, found)


def _consider_bf16(gpu: Gpu, found: Shortlist) -> None:
    assert gpu.compute_capability is not None
    if gpu.compute_capability < LOWEST_BF16:
        found.rejected.append("bf16: this card only emulates it (native from capability 8.0)")
        return
    test = gpu.selftest or SelfTest()
    needs = (("BF16", test.bf16),)
    _consider_proven(Precisions("bf16", None, "bf16"), "BF16 as the checkpoint was trained", needs, found)


def _consider_proven(
    numerics: Precisions, text: str, needs: Sequence[tuple[str, Trial | None]], found: Shortlist
) -> None:
    """Take numbers that no trial has shown to be wrong: ordinary products need no proof, unlike those in FP8."""
    failed = [why for title, trial in needs if trial is not None and (why := _why_not(title, trial, None))]
    if failed:
        found.rejected.append(f"{numerics.precision}: {failed[0]}")
    else:
        found.candidates.append(Candidate(numerics, text, proven=needs[0][1] is not None))


def proven_attention(gpu: Gpu, head_dim: int) -> tuple[str, ...]:
    """Backends of attention that ran right at this head size, the fastest first; () where none was tried.

    That in FP8, which takes accuracy, is none of them.
    """
    if gpu.selftest is None:
        return ()
    tried = {
        name.removesuffix(f"_{head_dim}"): trial
        for name, trial in gpu.selftest.attention.items()
        if name.endswith(f"_{head_dim}") and trial.ok
    }
    tried.pop(FP8_ATTENTION_TRIAL, None)
    return tuple(sorted(tried, key=lambda name: (-(tried[name].tflops or 0.0), name)))


def _below_fp8_floors(snapshot: Snapshot) -> str | None:
    """Name the first version that is too old for FP8, if any; what is not known passes."""
    driver, torch = snapshot.driver, snapshot.torch
    if driver is not None and not at_least(driver.version, FP8_DRIVER):
        return f"driver {driver.version} is older than {FP8_DRIVER}"
    if torch is not None and torch.cuda is not None and not at_least(torch.cuda, FP8_CUDA):
        return f"torch's CUDA {torch.cuda} is older than {FP8_CUDA}"
    if torch is not None and not at_least(torch.version, FP8_TORCH):
        return f"torch {torch.version} is older than {FP8_TORCH}"
    return None


def _why_not(title: str, trial: Trial | None, against: Trial | None) -> str | None:
    """Say why a mode is not to be used, None where it ran right and not slower than ``against``."""
    if trial is None:
        return f"{title} was not run by the self-test"
    if not trial.ok:
        return trial.error or f"{title} failed the self-test"
    slower = against is not None and trial.tflops is not None and against.tflops is not None
    if slower and trial.tflops < against.tflops:  # type: ignore[operator,union-attr]
        return f"{title} is slower than BF16 here ({trial.tflops:.0f} against {against.tflops:.0f} TFLOP/s)"  # type: ignore[union-attr]
    return None


def _speed(trial: Trial | None, selftest: SelfTest) -> str:
    if trial is None or trial.tflops is None:
        return "ran correctly on this card"
    against = selftest.bf16.tflops if selftest.bf16 is not None else None
    compared = f", {trial.tflops / against:.1f} times BF16" if against else ""
    return f"ran correctly on this card at {trial.tflops:.0f} TFLOP/s{compared}"


def _has_rowwise(capability: tuple[int, int], snapshot: Snapshot) -> bool:
    """Whether torch's row-wise products are said to run on a card; what is not known passes."""
    floor = FP8_ROWWISE_TORCH.get(capability)
    return floor is None or snapshot.torch is None or at_least(snapshot.torch.version, floor)
