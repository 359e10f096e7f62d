"""Factors of the memory model, measured by ``benchmarks/memory.py``; each is rounded up from the largest one seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

MIB = 1024**2


@dataclass(frozen=True)
class Widths:
    """Tensors that live at once at the peak of a forward, counted in rows of [tokens, inner] and [tokens, mlp]."""

    inner: float
    mlp: float


@dataclass(frozen=True)
class Factors:
    """What one kind of device takes. Bytes where a name does not say otherwise.

    ``encode_width`` and ``decode_width`` count feature maps of [pixels, vae_base_dim] at the VAE's peak, ``..._canvas``
    are bytes for each pixel of the whole picture. ``fragmentation`` is the allocator's loss as a share.
    """

    context: int
    workspace: int
    fragmentation: float
    encode_width: float
    decode_width: float
    encode_canvas: float
    decode_canvas: float
    text_hidden_width: float
    text_mlp_width: float
    vision_width: float
    modulation_copies: float
    denoise: Mapping[str, Widths]
    host_process: int
    host_tables: int


DEVICES: Mapping[str, Factors] = {
    "cuda": Factors(
        context=640 * MIB,
        workspace=64 * MIB,
        fragmentation=0.04,
        encode_width=9.0,
        decode_width=17.0,
        encode_canvas=16.0,
        decode_canvas=28.0,
        text_hidden_width=12.0,
        text_mlp_width=3.0,
        vision_width=12.0,
        modulation_copies=1.1,
        denoise={
            "fp8": Widths(9.0, 2.0),
            "fp8-storage": Widths(9.0, 2.0),
            "bf16": Widths(9.0, 2.0),
            "fp32": Widths(9.0, 2.0),
        },
        host_process=2048 * MIB,
        host_tables=1024 * MIB,
    ),
    "cpu": Factors(
        context=0,
        workspace=0,
        fragmentation=0.10,
        encode_width=15.0,
        decode_width=24.0,
        encode_canvas=16.0,
        decode_canvas=28.0,
        text_hidden_width=16.0,
        text_mlp_width=4.0,
        vision_width=16.0,
        modulation_copies=1.1,
        denoise={
            "fp32": Widths(12.0, 2.0),
            "bf16": Widths(12.0, 2.0),
            "fp8": Widths(12.0, 2.0),
            "fp8-storage": Widths(12.0, 2.0),
        },
        host_process=700 * MIB,
        host_tables=1024 * MIB,
    ),
}
