"""Checks of the cards: what they can do, who else uses them, how they are connected."""

from __future__ import annotations

from qied_client.text import GIB, rate_text, size_text

from qied.doctor.checkup import Check
from qied.doctor.facts import Facts
from qied.doctor.findings import Verdict, error, ok, skipped, warning, worst
from qied.doctor.pcie import link_bytes_per_s
from qied.doctor.words import some, until_then
from qied.hardware.snapshot import Gpu, SelfTest, Trial
from qied.planning.choosing.candidates import LOWEST_BF16, LOWEST_CAPABILITY, LOWEST_FP8
from qied.planning.plan import Plan

_TAKEN_SHARE = 0.08
"""Share of a card's memory that a desktop may well take; the first GiB of it is never reported."""

_NO_CARD = "There is no card."


def capability(facts: Facts) -> Verdict:
    """A card is new enough."""
    known = [gpu for gpu in facts.gpus if gpu.compute_capability]
    if not known:
        return skipped(_NO_CARD if not facts.gpus else "The card's compute capability is not known.")
    old = [_described(gpu) for gpu in known if (gpu.compute_capability or (0, 0)) < LOWEST_CAPABILITY]
    if len(old) == len(known):
        return error(
            f"{some(old)} is older than Turing (7.5).",
            "Use a newer card; the CPU runs the built-in model only (--model builtin).",
        )
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
    if taken <= max(GIB, total * _TAKEN_SHARE):
        return ok(f"{size_text(free)} of {size_text(total)} free on {gpu.name}.")
    users = sorted(gpu.processes, key=lambda process: -(process.used_bytes or 0))
    named = [
        (process.name or f"process {process.pid}")
        + (f" ({size_text(process.used_bytes)})" if process.used_bytes is not None else "")
        for process in users
    ]
    by = f", by {some(named)}" if named else ""
    return warning(
        f"{size_text(taken)} of {size_text(total)} on {gpu.name} are taken{by}.",
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
    speed = f", at most {rate_text(link_bytes_per_s(generation, link.width))}" if generation else ""
    return warning(
        f"{gpu.name} has {link.width} of {link.width_max} PCIe lanes{speed}.",
        "Put the card into the slot nearest the processor, seat it again, and look for an M.2 drive that shares its "
        "lanes (mainboard manual).",
    )


def selftest(facts: Facts) -> Verdict:
    """The kernels that were run on each card ran right, and FP8 was not slower than BF16."""
    judged = [_selftest_of(gpu, gpu.selftest, facts.plan_of(gpu)) for gpu in facts.gpus if gpu.selftest is not None]
    if judged:
        return worst(judged)
    return skipped(_NO_CARD if not facts.gpus else "No kernels were run on the card; 'qied probe' runs them.")


def _selftest_of(gpu: Gpu, test: SelfTest, plan: Plan | None) -> Verdict:
    ran = [verdict for verdict in (_base_of(gpu, test), _attention_of(gpu, test)) if verdict is not None]
    if test.fp8_storage is not None:
        ran.append(_storage_of(gpu, test.fp8_storage, plan))
    tried = [(name, trial) for name, trial in _fp8_trials(test) if trial is not None]
    if tried and (gpu.compute_capability or (0, 0)) >= LOWEST_FP8:
        ran.append(_fp8_of(gpu, test.bf16, tried, plan))
    return worst(ran) if ran else skipped(f"No kernels were run on {gpu.name}; 'qied probe --fresh' runs them.")


def _base_of(gpu: Gpu, test: SelfTest) -> Verdict | None:
    """BF16 on a card that has it; what older cards say of it was to be expected."""
    if test.bf16 is None or (gpu.compute_capability or (0, 0)) < LOWEST_BF16:
        return None
    if test.bf16.ok:
        return ok(f"BF16 runs correctly on {gpu.name}.")
    return error(
        f"BF16 failed on {gpu.name}: {test.bf16.error or 'wrong numbers'}.",
        "Update driver and torch; if it persists, the card or its power supply may be faulty.",
    )


def _attention_of(gpu: Gpu, test: SelfTest) -> Verdict | None:
    """One backend that runs right is enough."""
    if not test.attention:
        return None
    if right := [name for name, trial in test.attention.items() if trial.ok]:
        return ok(f"{len(right)} of {len(test.attention)} attention kernels run correctly on {gpu.name}.")
    name, trial = next(iter(test.attention.items()))
    return error(
        f"All attention kernels failed on {gpu.name} ({name}: {trial.error or 'wrong numbers'}).",
        "Update driver and torch; if it persists, the card or its power supply may be faulty.",
    )


def _storage_of(gpu: Gpu, trial: Trial, plan: Plan | None) -> Verdict:
    """Weights held in FP8 that are computed in another precision."""
    if trial.ok:
        return ok(f"FP8 storage runs correctly on {gpu.name}.")
    return warning(
        f"FP8 storage failed on {gpu.name}: {trial.error or 'wrong numbers'}.",
        until_then("Update torch and the driver", plan),
    )


def _fp8_of(gpu: Gpu, base: Trial | None, tried: list[tuple[str, Trial]], plan: Plan | None) -> Verdict:
    """FP8 should run right in one way at least, and as fast as BF16."""
    failed = [f"{name}: {trial.error or 'wrong numbers'}" for name, trial in tried if not trial.ok]
    remedy = until_then("Update torch and the driver", plan)
    if len(failed) == len(tried):
        return warning(f"FP8 failed on {gpu.name} ({'; '.join(failed)}).", remedy)
    rates = [trial.tflops for _, trial in tried if trial.ok and trial.tflops]
    bf16 = base.tflops if base is not None and base.ok else None
    if rates and bf16 and max(rates) < bf16:
        return warning(f"FP8 is slower than BF16 on {gpu.name} ({max(rates):.0f} against {bf16:.0f} TFLOPS).", remedy)
    fast = f" at {max(rates):.0f} TFLOPS (BF16 {bf16:.0f})" if rates and bf16 else ""
    but = f"; not {'; '.join(failed)}" if failed else ""
    return ok(f"FP8 runs correctly on {gpu.name}{fast}{but}.")


def _fp8_trials(test: SelfTest) -> tuple[tuple[str, Trial | None], ...]:
    return ("row-wise", test.fp8_rowwise), ("per tensor", test.fp8_tensorwise)


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
    Check("card.selftest", "A precision is used only if it was found to run correctly and fast.", selftest),
)
