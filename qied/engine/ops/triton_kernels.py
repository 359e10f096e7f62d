"""The fused operations as Triton kernels: one program for each row, which is read once and written once.

Rows are those of the joint sequence, text first. Everything is computed in FP32, and rounded in between where
``Operations`` says so. A NaN stays a NaN: its row's scale is that of the row's numbers, and the
value becomes E4M3's NaN.
"""

# Types of a kernel's arguments mean nothing to Triton, and kernels are not functions for any other tool.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, misc, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

PLAIN, ROWWISE, INT8 = 0, 1, 2
_LARGEST: tl.constexpr = tl.constexpr(448.0)
_LARGEST_INT8: tl.constexpr = tl.constexpr(127.0)
_TO_INTEGER: tl.constexpr = tl.constexpr(12582912.0)
"""1.5 * 2^23: a sum with it has no room for fractions, and its last byte is the integer that is nearest.

Cards add faster than they convert.
"""
_SMALLEST_AMAX: tl.constexpr = tl.constexpr(1e-12)


@triton.jit
def _rotated(values, BLOCK: tl.constexpr, LEVELS: tl.constexpr):
    """Rotate neighbours in groups of 4 to the power of LEVELS; see ``engine.weights.rotation``."""
    for level in tl.static_range(LEVELS):
        parts = tl.reshape(values, (BLOCK // (4 << (2 * level)), 4, 1 << (2 * level)))
        parts = 0.5 * tl.sum(parts, 1, keep_dims=True) - parts
        values = tl.reshape(parts, (BLOCK,))
    return values


@triton.jit
def _put(
    values,
    inside,
    plain,
    quantised,
    scale,
    BLOCK: tl.constexpr,
    FORM: tl.constexpr,
    KEEP: tl.constexpr,
    LEVELS: tl.constexpr,
):
    """Store a row in the compute type, as E4M3 or rotated INT8 with its scale, or both."""
    if FORM == 2:
        if KEEP:
            tl.store(plain, values.to(plain.dtype.element_ty), inside)
        turned = _rotated(tl.where(inside, values, 0.0), BLOCK, LEVELS)
        step = tl.maximum(tl.max(tl.abs(turned), 0), _SMALLEST_AMAX) / _LARGEST_INT8
        rounded = turned * (1.0 / step) + _TO_INTEGER
        tl.store(quantised, rounded.to(tl.int32, bitcast=True).to(tl.int8), inside)
        # INT8 has no NaN: the scale says it of the whole row.
        spoilt = tl.max((turned != turned).to(tl.int32), 0) > 0  # noqa: PLR0124 (only NaN is not itself)
        step = tl.where(spoilt, float("nan"), step)
        tl.store(scale, step)
    elif FORM == 0 or KEEP:
        tl.store(plain, values.to(plain.dtype.element_ty), inside)
    if FORM == 1:
        largest = tl.max(tl.where(inside, tl.abs(values), 0.0), 0)
        step = tl.maximum(largest, _SMALLEST_AMAX) / _LARGEST
        tl.store(quantised, (values * (1.0 / step)).to(tl.float8e4nv), inside)
        tl.store(scale, step)


@triton.jit
def _rounded(values, like, FORM: tl.constexpr):
    """What diffusers rounds to the type that ``like`` points to, where the result is of that type."""
    return values.to(like.dtype.element_ty).to(tl.float32) if FORM == 0 else values


@triton.jit
def norm_kernel(
    residual,
    update,
    modulation,
    number,
    quantised,
    scale,
    first,
    text,
    image,
    scale_gap,
    D: tl.constexpr,
    BLOCK: tl.constexpr,
    GATE: tl.constexpr,
    SHIFT: tl.constexpr,
    EPSILON: tl.constexpr,
    FORM: tl.constexpr,
    KEEP: tl.constexpr,
    LEVELS: tl.constexpr,
):
    """Add the gated update, layer-normalise, modulate; see ``Operations.norm``.

    ``text`` and ``image`` are where text and target end. ``GATE`` is the row of the gate: 0 for none, 5 for that of the
    block before. The result in the compute type lies where the update was.
    """
    row = (tl.program_id(0) + first).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    inside = columns < D
    kind = tl.where(row < text, 0, tl.where(row < image, 1, 2))
    block = tl.load(number).to(tl.int64)
    here = modulation + (block * 3 + kind) * (6 * D) + columns
    at = row * D + columns
    x = tl.load(residual + at, inside, 0.0).to(tl.float32)
    if GATE > 0:
        gates = here - 18 * D if GATE == 5 else here
        gate = tl.load(gates + GATE * D, inside, 0.0).to(tl.float32)
        x += _rounded(tl.load(update + at, inside, 0.0).to(tl.float32) * gate, residual, FORM)
        rounded = x.to(residual.dtype.element_ty)
        tl.store(residual + at, rounded, inside)
        x = rounded.to(tl.float32)
    mean = tl.sum(x, 0) / D
    centred = tl.where(inside, x - mean, 0.0)
    variance = tl.sum(centred * centred, 0) / D
    shift = tl.load(here + SHIFT * D, inside, 0.0).to(tl.float32)
    factor = _rounded(1.0 + tl.load(here + (SHIFT + 1) * D, inside, 0.0).to(tl.float32), residual, FORM)
    normed = _rounded(centred * tl.rsqrt(variance + EPSILON), residual, FORM)
    values = _rounded(normed * factor, residual, FORM) + shift
    local = row - first
    scale_at = tl.where(row < text, local, local + scale_gap)
    to = quantised + local * D + columns
    _put(values, inside, update + at, to, scale + scale_at, BLOCK, FORM, KEEP, LEVELS)


@triton.jit
def input_kernel(
    x,
    factor,
    plain,
    quantised,
    scale,
    text,
    scale_gap,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
    GELU: tl.constexpr,
    FACTOR: tl.constexpr,
    FORM: tl.constexpr,
    KEEP: tl.constexpr,
    LEVELS: tl.constexpr,
):
    """Make rows the input of a linear, by way of the GELU or not; with FACTOR they are times that one number."""
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    inside = columns < WIDTH
    at = row * WIDTH + columns
    values = tl.load(x + at, inside, 0.0).to(tl.float32)
    if FACTOR:
        values *= tl.load(factor)
    if GELU:
        # The tanh form is v / (1 + exp(-2 b)) with b = sqrt(2 / pi) (v + 0.044715 v^3); the factors below are -2 / ln 2
        # times its own. The square of a reciprocal root takes half the instructions of a division.
        root = tl.rsqrt(1.0 + tl.exp2(values * (-2.3022081983 - 0.1029432397 * values * values)))
        values = values * root * root
    scale_at = tl.where(row < text, row, row + scale_gap)
    _put(values, inside, plain + at, quantised + at, scale + scale_at, BLOCK, FORM, KEEP, LEVELS)


@triton.jit
def heads_kernel(
    qkv,
    rotation,
    text_q,
    text_k,
    image_q,
    image_k,
    text,
    HEADS: tl.constexpr,
    AT_ONCE: tl.constexpr,
    SIZE: tl.constexpr,
    EPSILON: tl.constexpr,
    FORM: tl.constexpr,
):
    """RMS-normalise queries and keys of [rows, 3, heads, size] and rotate their pairs, in place."""
    row = tl.program_id(0).to(tl.int64)
    heads = tl.program_id(1) * AT_ONCE + tl.arange(0, AT_ONCE)
    inside = (heads < HEADS)[:, None]
    columns = tl.arange(0, SIZE)
    turns = tl.load(rotation + row * SIZE + columns)
    cosine, sine = tl.split(tl.reshape(turns, (SIZE // 2, 2)))
    is_text = row < text
    for part in tl.static_range(2):
        at = row * (3 * HEADS * SIZE) + part * HEADS * SIZE + heads[:, None] * SIZE + columns[None]
        x = tl.load(qkv + at, inside, 0.0).to(tl.float32)
        if part == 0:
            weights = tl.where(is_text, tl.load(text_q + columns), tl.load(image_q + columns))
        else:
            weights = tl.where(is_text, tl.load(text_k + columns), tl.load(image_k + columns))
        turned = _turned(x, weights.to(tl.float32), cosine, sine, qkv, AT_ONCE, SIZE, EPSILON, FORM)
        tl.store(qkv + at, turned.to(qkv.dtype.element_ty), inside)


@triton.jit
def _turned(
    x,
    weights,
    cosine,
    sine,
    like,
    AT_ONCE: tl.constexpr,
    SIZE: tl.constexpr,
    EPSILON: tl.constexpr,
    FORM: tl.constexpr,
):
    """RMS-normalise heads [heads, size] of one row, and rotate their pairs."""
    normed = _rounded(x * tl.rsqrt(tl.sum(x * x, 1) / SIZE + EPSILON)[:, None], like, FORM)
    x = _rounded(normed * weights[None], like, FORM)
    even, odd = tl.split(tl.reshape(x, (AT_ONCE, SIZE // 2, 2)))
    first = even * cosine[None] - odd * sine[None]
    second = even * sine[None] + odd * cosine[None]
    return tl.reshape(tl.join(first, second), (AT_ONCE, SIZE))


@triton.jit
def _step_of(text, image, LENGTH: tl.constexpr, SMALLEST: tl.constexpr):
    """What heads behind these norms are divided by."""
    largest = tl.max(tl.maximum(tl.abs(text.to(tl.float32)), tl.abs(image.to(tl.float32))), 0)
    return tl.maximum(largest * LENGTH, SMALLEST) / _LARGEST


@triton.jit
def largest_value_kernel(qkv, largest, rows, WIDTH: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr):
    """Raise ``largest`` to the largest magnitude of the values in ROWS rows of [rows, 3, WIDTH].

    As bits of FP32, among which those of NaN are the largest. Who comes first makes no difference.
    """
    columns = tl.arange(0, BLOCK)
    inside = columns < WIDTH
    found = tl.zeros([BLOCK], tl.int32)
    first = tl.program_id(0).to(tl.int64) * ROWS
    for step in tl.static_range(ROWS):
        at = (first + step) * (3 * WIDTH) + 2 * WIDTH + columns
        x = tl.load(qkv + at, inside & (first + step < rows), 0.0).to(tl.float32)
        found = tl.maximum(found, x.to(tl.int32, bitcast=True) & 0x7FFFFFFF)
    tl.atomic_max(largest, tl.max(found, 0), sem="relaxed")


@triton.jit
def quantised_heads_kernel(
    qkv,
    rotation,
    text_q,
    text_k,
    image_q,
    image_k,
    largest,
    quantised,
    scales,
    text,
    HEADS: tl.constexpr,
    AT_ONCE: tl.constexpr,
    SIZE: tl.constexpr,
    LENGTH: tl.constexpr,
    EPSILON: tl.constexpr,
    LARGEST_VALUE: tl.constexpr,
    SMALLEST: tl.constexpr,
):
    """Do as ``heads_kernel``, to E4M3 and with the values; the first program writes the scales (see ``ScaleRow``).

    ``largest`` is that of ``largest_value_kernel``.
    """
    row = tl.program_id(0).to(tl.int64)
    heads = tl.program_id(1) * AT_ONCE + tl.arange(0, AT_ONCE)
    inside = (heads < HEADS)[:, None]
    columns = tl.arange(0, SIZE)
    turns = tl.load(rotation + row * SIZE + columns)
    cosine, sine = tl.split(tl.reshape(turns, (SIZE // 2, 2)))
    is_text = row < text
    for part in tl.static_range(3):
        at = row * (3 * HEADS * SIZE) + part * HEADS * SIZE + heads[:, None] * SIZE + columns[None]
        x = tl.load(qkv + at, inside, 0.0).to(tl.float32)
        if part == 2:
            value = tl.load(largest).to(tl.float32, bitcast=True)
            # What is no number is not smaller either, and stays.
            step = tl.where(value < SMALLEST, SMALLEST, value) / LARGEST_VALUE
        else:
            of_text = tl.load((text_q if part == 0 else text_k) + columns)
            of_image = tl.load((image_q if part == 0 else image_k) + columns)
            weights = tl.where(is_text, of_text, of_image).to(tl.float32)
            x = _turned(x, weights, cosine, sine, qkv, AT_ONCE, SIZE, EPSILON, 1)
            step = _step_of(of_text, of_image, LENGTH, SMALLEST)
        tl.store(quantised + at, (x / step).to(tl.float8e4nv), inside)
        if tl.program_id(0) + tl.program_id(1) == 0:
            tl.store(scales + part * 4, step)
            if part == 2:
                tl.store(scales + 3 * 4, 1.0 / _LARGEST)
                tl.store(scales + 4 * 4, _LARGEST)
                tl.store(scales + 5 * 4, 1.0 / step)


@triton.jit
def _from_e4m3(values):
    """E4M3 from its bits, FP32: Triton knows the type only for cards that multiply it.

    Exponent and mantissa take their places in FP32, whose exponents begin 120 lower; that also holds for numbers below
    the normal ones. E4M3 has one pattern for NaN, and none for infinity.
    """
    bits = values.to(tl.uint32)
    magnitude = bits & 0x7F
    magnitude = tl.where(magnitude == 0x7F, 0x7FC00000, magnitude << 20)
    return ((bits & 0x80) << 24 | magnitude).to(tl.float32, bitcast=True) * 2.0**120


@triton.jit
def expand_kernel(values, scale, out, count, COLUMNS: tl.constexpr, PER_ROW: tl.constexpr, BLOCK: tl.constexpr):
    """Write E4M3 values, given as their bits, times their scale, that of their row or the first."""
    places = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = places < count
    x = _from_e4m3(tl.load(values + places, inside, 0))
    step = tl.load(scale + places // COLUMNS, inside, 0.0) if PER_ROW else tl.load(scale)
    tl.store(out + places, (x * step).to(out.dtype.element_ty), inside)
