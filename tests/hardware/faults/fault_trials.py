"""Suites of trials that go wrong, for the real child process to run."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from qied.engine.selftest.child import Rate, Suite
from qied.hardware.snapshot import Trial


def _good():
    return Trial(ok=True, tflops=1.0, relative_error=0.001)


def _log_run():
    """One line for each child that was started, where the test wants to know."""
    if "FAULT_LOG" in os.environ:
        with Path(os.environ["FAULT_LOG"]).open("a", encoding="utf-8") as log:
            log.write(f"{os.getpid()} {os.environ.get('CUDA_VISIBLE_DEVICES')}\n")


def _hang():
    _log_run()
    threading.Event().wait()


def _raise(error):
    raise error


def healthy():
    _log_run()
    matrix = dict.fromkeys(("bf16", "fp8_rowwise", "fp8_tensorwise", "fp8_storage"), _good)
    return Suite({**matrix, "attention.flash_128": _good, "host_to_device": lambda: Rate(25_000_000_000)})


def crash():
    return Suite({"bf16": _good, "fp8_rowwise": os.abort, "fp8_tensorwise": _good})


def crash_logged():
    _log_run()
    return crash()


def crash_everywhere():
    return Suite({"bf16": os.abort, "fp8_rowwise": os.abort})


def leave():
    return Suite({"bf16": lambda: os._exit(7), "fp8_rowwise": _good})


def hang():
    return Suite({"bf16": _good, "fp8_rowwise": _hang, "fp8_tensorwise": _good})


def hang_in_each():
    return Suite({"bf16": _hang, "fp8_rowwise": _hang, "fp8_tensorwise": _hang})


def error():
    return Suite({"bf16": lambda: _raise(ValueError("no such kernel\nmore for programmers")), "fp8_rowwise": _good})


def poisoned():
    """After a failure the device does not answer in this process any more."""

    def tell():
        return Trial(ok=True, tflops=float(os.getpid()))

    return Suite(
        {"bf16": tell, "fp8_rowwise": lambda: _raise(RuntimeError("CUDA error: misaligned")), "fp8_tensorwise": tell},
        usable=lambda: False,
    )


def out_of_memory():
    _log_run()
    return Suite({"bf16": lambda: _raise(RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB."))})


def chatter():
    print("a library says hello on standard output")
    os.write(1, b"and so does its C code, without an end of line")
    return Suite({"bf16": _good})


def no_card():
    raise RuntimeError("No CUDA GPUs are available")


def hang_at_start():
    threading.Event().wait()


def lost_card():
    """The first trial takes the card down with it: the next process does not find it any more."""
    if Path(os.environ["FAULT_LOG"]).exists():
        no_card()
    _log_run()
    return crash_everywhere()


def misbehaving():
    """Products that forget their scales, divide by zero, or take many times as long, under the real measures."""
    import torch

    from qied.engine.selftest.matmul import MatmulTrials, Shape, quantised
    from qied.engine.selftest.measure import clock_of

    device = torch.device("cpu")
    trials = MatmulTrials(device, Shape(128, 256, 128), torch.bfloat16, clock_of(device))
    inputs, weight, sizes = trials.factors(spread=6.0)
    low, _ = quantised(inputs, rows=True)
    low_weight, _ = quantised(weight, rows=True)

    def right():
        return inputs @ weight.t()

    def unscaled():
        return low.float() @ low_weight.float().t()

    def laboured():
        for _ in range(20):
            right()
        return right()

    return Suite(
        {
            "fp8_rowwise": lambda: trials.judge(unscaled, inputs, weight, sizes, 0.06),
            "fp8_tensorwise": lambda: trials.judge(lambda: right() / 0, inputs, weight, sizes, 0.06),
            "fp8_storage": lambda: trials.judge(laboured, inputs, weight, sizes, 0.06, faster_than=right),
        }
    )
