"""Checks of the cards: what they can do, who else uses them, how they are connected."""

from __future__ import annotations

from qied.doctor.checkup import Check
from qied.doctor.facts import Facts
from qied.doctor.findings import Verdict, error, ok, skipped, warning, worst
from qied.doctor.pcie import link_bytes_per_s
from qied.doctor.words import rate, size, some
from qied.hardware.snapshot import Gpu, SelfTest
from qied.planning.compatibility import LOWEST_BF16, LOWEST_CAPABILITY, LOWEST_FP8

_GIB = 1024**3
_TAKEN_SHARE = 0.08
"""Share of a card's memory that a desktop may well take; at least a GiB of it is no news."""

_NO_CARD = "There is no card."


def capability(facts: Facts) -> Verdict:
    """A card is new enough."""
    known = [gpu for gpu in facts.gpus if gpu.compute_capability]
    if not known:
        return skipped(_NO_CARD if not facts.gpus else "The card's compute capability is not known.")
    old = [_described(gpu) for gpu in known if (gpu.compute_capability or (0, 0)) < LOWEST_CAPABILITY]
    if len(old) == len(known):
        return error(f"{some(old)} is older than Turing (7.5).", "Use a newer card, or --device cpu.")
    lowest = min(gpu.compute_capability or (0, 0) for gpu in known)
    if lowest < LOWEST_BF16 and not old:
        return warning(
            f"{some([_described(gpu) for gpu in known])} has no BF16 units: FP8 storage with FP32 compute is used.",
            "It works, but it is slow; Ampere and newer compute in BF16.",
        )
    return ok(", ".join(_described(gpu) for gpu in known if _described(gpu) not in old) + ".")


def several(facts: Facts) -> Verdict:
    """Whether there are different cards, which get different plans."""
    names = list(dict.fromkeys(gpu.name for gpu in facts.gpus))
    if not names:
        return skipped(_NO_CARD)
    if len(names) == 1:
        return ok(f"{len(facts.gpus)} x {names[0]}.")
    plan = facts.made_plan
    used = f" The plan shown is that of {plan.gpu}." if plan is not None else ""
    return ok(f"Different cards: {', '.join(names)}.{used}")


def memory(facts: Facts) -> Verdict:
    """Other programs leave the card's memory alone."""
    judged = [_memory_of(gpu) for gpu in facts.gpus]
    return worst(judged) if judged else skipped(_NO_CARD)


def _memory_of(gpu: Gpu) -> Verdict:
    total, free = gpu.memory_total_bytes, gpu.memory_free_bytes
    if total is None or free is None:
        return skipped(f"The free memory of {gpu.name} is not known.")
    taken = total - free
    if taken <= max(_GIB, total * _TAKEN_SHARE):
        return ok(f"{size(free)} of {size(total)} free on {gpu.name}.")
    users = sorted(gpu.processes, key=lambda process: -(process.used_bytes or 0))
    named = [
        (process.name or f"process {process.pid}")
        + (f" ({size(process.used_bytes)})" if process.used_bytes is not None else "")
        for process in users
    ]
    by = f", by {some(named)}" if named else ""
    return warning(
        f"{size(taken)} of {size(total)} on {gpu.name} are taken{by}.",
        "Close what you do not need there; `nvidia-smi` shows it.",
    )


def pcie(facts: Facts) -> Verdict:
    """The link has all of its lanes; an idle link's lower generation says nothing."""
    judged = [_pcie_of(gpu) for gpu in facts.gpus]
    return worst(judged) if judged else skipped(_NO_CARD)


def _pcie_of(gpu: Gpu) -> Verdict:
    link = gpu.pcie
    if link is None or link.width is None or link.width_max is None:
        return skipped(f"The link of {gpu.name} is not known.")
    if link.width >= link.width_max:
        return ok(f"{gpu.name} has all {link.width} lanes.")
    generation = link.generation_max or link.generation
    speed = f", at most {rate(link_bytes_per_s(generation, link.width))}" if generation else ""
    return warning(
        f"{gpu.name} has {link.width} of {link.width_max} PCIe lanes{speed}.",
        "Put the card into the slot nearest the processor, seat it again, and look for an M.2 drive that shares its "
        "lanes (mainboard manual).",
    )


def selftest(facts: Facts) -> Verdict:
    """The kernels that were run on each card ran right, and FP8 was faster than BF16."""
    judged = [_selftest_of(gpu, gpu.selftest) for gpu in facts.gpus if gpu.selftest is not None]
    if judged:
        return worst(judged)
    return skipped(_NO_CARD if not facts.gpus else "No kernels were run on the card; `qied probe` runs them.")


def _selftest_of(gpu: Gpu, test: SelfTest) -> Verdict:
    of_card = gpu.compute_capability or (0, 0)
    if test.bf16 is not None and not test.bf16.ok and of_card >= LOWEST_BF16:
        return error(
            f"BF16 failed on {gpu.name}: {test.bf16.error or 'wrong numbers'}.",
            "Update driver and torch; if it stays, the card or its power supply may be faulty.",
        )
    modes = [(name, trial) for name, trial in (("row-wise", test.fp8_rowwise), ("per tensor", test.fp8_tensorwise))]
    tried = [(name, trial) for name, trial in modes if trial is not None]
    if of_card < LOWEST_FP8 or not tried:
        return ok(f"BF16 runs right on {gpu.name}." if test.bf16 else f"{gpu.name} was tested.")
    failed = [f"{name}: {trial.error or 'wrong numbers'}" for name, trial in tried if not trial.ok]
    if len(failed) == len(tried):
        return warning(
            f"FP8 failed on {gpu.name} ({'; '.join(failed)}).", "Update torch and the driver; until then BF16 is used."
        )
    return _speed_of(gpu, test, failed)


def _speed_of(gpu: Gpu, test: SelfTest, failed: list[str]) -> Verdict:
    """FP8 that runs right should also be faster."""
    rates = [trial.tflops for trial in (test.fp8_rowwise, test.fp8_tensorwise) if trial and trial.ok and trial.tflops]
    bf16 = test.bf16.tflops if test.bf16 and test.bf16.ok else None
    if rates and bf16 and max(rates) <= bf16:
        return warning(
            f"FP8 is not faster than BF16 on {gpu.name} ({max(rates):.0f} against {bf16:.0f} TFLOPS).",
            "Update torch; FP8 still saves memory.",
        )
    fast = f" at {max(rates):.0f} TFLOPS (BF16 {bf16:.0f})" if rates and bf16 else ""
    but = f"; not {'; '.join(failed)}" if failed else ""
    return ok(f"FP8 runs right on {gpu.name}{fast}{but}.")


def _described(gpu: Gpu) -> str:
    major, minor = gpu.compute_capability or (0, 0)
    return f"{gpu.name} ({major}.{minor})"


CHECKS = (
    Check("card.capability", "Older cards lack what the model needs, and what torch is built for.", capability),
    Check("card.several", "Each card gets a worker with a plan of its own; slower cards make slower edits.", several),
    Check(
        "card.memory",
        "The budget is planned from what is free: less of it means more streaming.",
        memory,
    ),
    Check("card.pcie", "Blocks that do not fit on the card come over this link at every step.", pcie),
    Check("card.selftest", "A precision is used only where it was seen to run right and fast.", selftest),
)
