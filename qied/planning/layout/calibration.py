"""Factors of the memory model, measured by ``benchmarks/memory.py``; each is rounded up from the largest one seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

MIB = 1024**2


@dataclass(frozen=True)
class Factors:
    """What one kind of device takes. Bytes where a name does not say otherwise.

    ``context`` is what CUDA, its libraries and their kernels hold besides torch's allocator (on a CPU: the process),
    ``workspace`` cuBLAS's, ``graphs`` what CUDA keeps of recorded blocks. The allocator loses ``fragments`` and
    ``fragmentation`` as a share of the arena.
    ``encode_width`` and ``decode_width`` count feature maps of [pixels, vae_base_dim] at the VAE's peak,
    ``text_hidden_width`` and ``vision_width`` hidden states. ``denoise`` scales what is counted exactly.
    """

    context: int
    workspace: int
    graphs: int
    fragments: int
    fragmentation: float
    encode_width: float
    decode_width: float
    text_hidden_width: float
    vision_width: float
    denoise: float
    host_process: int
    host_tables: int


DEVICES: Mapping[str, Factors] = {
    # benchmarks/results/memory.json: edits of the full-size architecture on one H200, none of which took more than
    # these predict; tests/benchmarks/test_memory_results.py compares.
    "cuda": Factors(
        context=830 * MIB,
        workspace=72 * MIB,
        graphs=64 * MIB,
        fragments=110 * MIB,
        fragmentation=0.22,
        encode_width=6.1,
        decode_width=7.1,
        text_hidden_width=4.0,
        vision_width=12.0,
        denoise=1.02,
        host_process=2624 * MIB,
        host_tables=1024 * MIB,
    ),
    # The built-in model's engine on two cores (torch 2.13, Linux): resident set at rest and at the peak of each phase.
    # At rest it is 461 MiB on cores with AMX.
    # A CUDA build of torch, which is what the public index has, takes 270 MiB more of a process without a card.
    "cpu": Factors(
        context=800 * MIB,
        workspace=0,
        graphs=0,
        fragments=32 * MIB,
        fragmentation=0.10,
        encode_width=12.0,
        decode_width=12.0,
        text_hidden_width=8.0,
        vision_width=16.0,
        denoise=1.2,
        host_process=700 * MIB,
        host_tables=1024 * MIB,
    ),
}
