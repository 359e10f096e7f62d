"""The INT8 product as a Triton kernel, with scales and bias in its epilogue."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, misc, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _place(program, rows, OUTPUTS: tl.constexpr, M: tl.constexpr, N: tl.constexpr, SWEEP: tl.constexpr):
    """First row and first output of a tile of M by N.

    In an order in which ``SWEEP`` tiles of rows meet one tile of outputs after another: what they read stays in the
    card's cache.
    """
    output_tiles: tl.constexpr = (OUTPUTS + N - 1) // N
    first = program // (SWEEP * output_tiles) * SWEEP
    width = tl.minimum(tl.cdiv(rows, M) - first, SWEEP)
    within = program % (SWEEP * output_tiles)
    return (first + within % width) * M, (within // width) * N


@triton.jit
def _finish(
    total, x_scale, weight_scale, bias, out, row, output, rows, OUTPUTS: tl.constexpr, M: tl.constexpr, N: tl.constexpr
):
    """Write sums [M, N] times the scales of their rows and outputs, plus the bias."""
    m, n = row + tl.arange(0, M), output + tl.arange(0, N)
    inside_m, inside_n = m < rows, n < OUTPUTS
    step = tl.load(x_scale + m, inside_m, 0.0)[:, None] * tl.load(weight_scale + n, inside_n, 0.0)[None]
    result = total.to(tl.float32) * step + tl.load(bias + n, inside_n, 0.0).to(tl.float32)[None]
    at = m.to(tl.int64)[:, None] * OUTPUTS + n[None]
    tl.store(out + at, result.to(out.dtype.element_ty), inside_m[:, None] & inside_n[None])


@triton.jit(do_not_specialize=["rows"])
def int8_linear_kernel(
    x,
    weight,
    x_scale,
    weight_scale,
    bias,
    out,
    rows,
    OUTPUTS: tl.constexpr,
    INPUTS: tl.constexpr,
    M: tl.constexpr,
    N: tl.constexpr,
    K: tl.constexpr,
    SWEEP: tl.constexpr,
):
    """Write x [rows, INPUTS] times weight [OUTPUTS, INPUTS], both INT8, times their rows' scales, plus the bias."""
    row, output = _place(tl.program_id(0), rows, OUTPUTS, M, N, SWEEP)
    m, n, k = row + tl.arange(0, M), output + tl.arange(0, N), tl.arange(0, K)
    a = x + tl.where(m < rows, m, 0).to(tl.int64)[:, None] * INPUTS + k[None]
    b = weight + tl.where(n < OUTPUTS, n, 0)[None] * INPUTS + k[:, None]
    total = tl.zeros((M, N), dtype=tl.int32)
    for begin in range(0, INPUTS, K):
        if INPUTS % K == 0:
            total = tl.dot(tl.load(a), tl.load(b), total, out_dtype=tl.int32)
        else:
            inside = begin + k < INPUTS
            left, right = tl.load(a, inside[None], 0), tl.load(b, inside[:, None], 0)
            total = tl.dot(left, right, total, out_dtype=tl.int32)
        a += K
        b += K
    _finish(total, x_scale, weight_scale, bias, out, row, output, rows, OUTPUTS, M, N)


@triton.jit(do_not_specialize=["rows"])
def persistent_int8_linear_kernel(
    x,
    weight,
    x_scale,
    weight_scale,
    bias,
    out,
    rows,
    OUTPUTS: tl.constexpr,
    INPUTS: tl.constexpr,
    M: tl.constexpr,
    N: tl.constexpr,
    K: tl.constexpr,
    SWEEP: tl.constexpr,
):
    """The same by as many programs as a card runs at once, which take one tile after another.

    ``x`` and ``weight`` are descriptors of what the card's copy engine brings, M by K and N by K at a time; the next
    tile's first pieces come while this one's results are written.
    """
    tiles = tl.cdiv(rows, M) * ((OUTPUTS + N - 1) // N)
    for program in tl.range(tl.program_id(0), tiles, tl.num_programs(0), flatten=True):
        row, output = _place(program, rows, OUTPUTS, M, N, SWEEP)
        total = tl.zeros((M, N), dtype=tl.int32)
        for begin in range(0, INPUTS, K):
            left, right = x.load([row, begin]), weight.load([output, begin])
            total = tl.dot(left, right.T, total, out_dtype=tl.int32)
        _finish(total, x_scale, weight_scale, bias, out, row, output, rows, OUTPUTS, M, N)
