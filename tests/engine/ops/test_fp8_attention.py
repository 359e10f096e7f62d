"""Attention in FP8: its input from both implementations of the operations, and what is made of it."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from qied.engine.block.arena import Region, Workspace, make_arena
from qied.engine.block.packed import BlockWeights, PackedLinear, StreamWeights
from qied.engine.ops.attention import Attention
from qied.engine.ops.fp8_attention import (
    LARGEST_VALUE,
    SMALLEST_BOUND,
    ExpandedAttention,
    Fp8AttentionOfAnyRows,
    Fp8AttentionUnavailable,
    ScaleRow,
    SimulatedFp8Attention,
)
from qied.engine.ops.linear import linear_kind
from qied.engine.ops.operations import Operations
from qied.engine.ops.torch_operations import TorchOperations
from qied.planning.layout.block_layout import BlockShape
from qied.planning.layout.forward_layout import Tokens, TransformerShape, arena_layout

triton_operations = pytest.importorskip("qied.engine.ops.triton_operations", reason="Triton runs on Linux only")
HAS_CARD = torch.cuda.is_available()
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the interpreter is numpy, which tells of overflows
DEVICE = torch.device("cuda" if HAS_CARD else "cpu")
TOKENS = Tokens(text=5, target=40, reference=19)
WIDTH, HEAD = 256, 64
INPUTS = ("random", "zeros", "huge", "outlier")


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.fixture(params=["torch", "triton"])
def operations(request: pytest.FixtureRequest) -> Operations:
    kind = TorchOperations if request.param == "torch" else triton_operations.TritonOperations
    return kind(linear_kind("fp8", "rowwise", DEVICE), Attention(), SimulatedFp8Attention())


def drawn(kind: str, seed: int, *shape: int) -> Tensor:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    if kind == "zeros":
        x.zero_()
    if kind == "huge":
        x *= 1e15
    if kind == "outlier":
        x[..., 3] *= 3000
    return x.bfloat16().to(DEVICE)


def arena() -> tuple[Region, Workspace]:
    numbers = TransformerShape(BlockShape(WIDTH, 1024, HEAD), 1, "fp8", "bf16", fp8_attention=True)
    made = make_arena(arena_layout(numbers, (TOKENS,)), (TOKENS,), DEVICE)
    (region,) = made.regions
    turns = torch.randn(TOKENS.all, HEAD // 2, generator=torch.Generator().manual_seed(3))
    region.rotation.copy_(torch.view_as_real(torch.polar(torch.ones_like(turns), turns)).flatten(1))
    return region, made.workspace


def block_of(kind: str) -> BlockWeights:
    """A block of which only the norms of the heads are real."""
    linear = PackedLinear(torch.empty(0), torch.empty(0), None)
    norms = [drawn(kind, seed, HEAD) for seed in range(10, 14)]
    streams = [StreamWeights(linear, linear, linear, linear, *norms[2 * index : 2 * index + 2]) for index in range(2)]
    return BlockWeights(*streams, torch.zeros(1, dtype=torch.int32, device=DEVICE))


def exact_heads(qkv: Tensor, region: Region, weights: BlockWeights) -> Tensor:
    """Queries, keys and values FP64 [rows, 3, heads, size] as the attention should see them."""
    x = qkv.double().view(len(qkv), 3, -1, HEAD).clone()
    turns = torch.view_as_complex(region.rotation.double().view(len(qkv), 1, -1, 2))
    for part, name in enumerate(("q_norm", "k_norm")):
        streams = [weights.text if row < TOKENS.text else weights.image for row in range(len(qkv))]
        learned = torch.stack([getattr(stream, name) for stream in streams]).double()
        normed = functional.rms_norm(x[:, part], (HEAD,), eps=1e-6) * learned[:, None]
        pairs = torch.view_as_complex(normed.view(len(qkv), -1, HEAD // 2, 2)) * turns
        x[:, part] = torch.view_as_real(pairs).flatten(-2)
    return x


def exact_attention(heads: Tensor, queries: slice = slice(None)) -> Tensor:
    q, k, v = (part.transpose(0, 1) for part in heads.double().unbind(1))
    return functional.scaled_dot_product_attention(q[:, queries], k, v).transpose(0, 1)


def off(found: Tensor, exact: Tensor) -> float:
    return float((found.double() - exact).norm() / exact.norm())


@pytest.mark.parametrize("norms", ["random", "outlier"])
@pytest.mark.parametrize("kind", INPUTS)
def test_heads_go_to_e4m3_with_scales_that_nothing_overflows(operations: Operations, kind: str, norms: str) -> None:
    region, workspace = arena()
    weights, qkv = block_of(norms), drawn(kind, 0, TOKENS.all, 3 * WIDTH)
    exact = exact_heads(qkv, region, weights)
    operations.quantised_heads(qkv.clone(), region, weights, workspace)
    steps = workspace.attention_scales[:, 0]
    found = workspace.heads.view(exact.shape).float()
    assert torch.isfinite(found).all()
    assert (found.abs().amax((0, 2, 3)) <= torch.tensor([448, 448, LARGEST_VALUE], device=DEVICE)).all()
    for part in range(3):
        largest = exact[:, part].abs().amax()
        assert steps[part] * 448 >= 0.9999 * largest, "whatever the data, a scale is a bound of it"
        right = (found[:, part] * steps[part] - exact[:, part]).abs() <= torch.maximum(
            exact[:, part].abs() * 2**-4, steps[part].double() * 2**-10
        ) * (1.001 if HAS_CARD or isinstance(operations, TorchOperations) else 2.002)
        assert right.double().mean() > (0.999 if HAS_CARD or isinstance(operations, TorchOperations) else 0.9)
    values = exact[:, 2].abs().amax().float().clamp_min(SMALLEST_BOUND)
    torch.testing.assert_close(steps[ScaleRow.V], values / LARGEST_VALUE, rtol=1e-6, atol=0)
    torch.testing.assert_close(steps[ScaleRow.RESULT] * steps[ScaleRow.V], torch.ones((), device=DEVICE))
    assert steps[ScaleRow.WEIGHT] == 448 and steps[ScaleRow.UNWEIGHT] == torch.tensor(1 / 448, device=DEVICE)


@pytest.mark.parametrize("row", [0, 15, 16, 60])
def test_the_largest_value_of_any_row_makes_the_scale_and_none_behind_the_last_does(
    operations: Operations, row: int
) -> None:
    region, workspace = arena()
    qkv = drawn("random", 0, TOKENS.all, 3 * WIDTH)
    qkv[row, 2 * WIDTH + 9], qkv[61:] = -1000, 1e6
    operations.quantised_heads(qkv[:61], region, block_of("random"), workspace)
    torch.testing.assert_close(
        workspace.attention_scales[ScaleRow.V, 0].item(), 1000 / LARGEST_VALUE, rtol=1e-6, atol=0
    )


def test_the_bound_of_a_head_is_reached_and_not_much_above_it() -> None:
    region, workspace = arena()
    weights = block_of("random")
    qkv = torch.zeros(TOKENS.all, 3 * WIDTH, dtype=torch.bfloat16, device=DEVICE)
    weights.image.q_norm[9] = -7
    qkv[-1, 9] = 5
    region.rotation.copy_(torch.tensor([1.0, 0.0]).repeat(HEAD // 2))
    TorchOperations(linear_kind("fp8", "rowwise", DEVICE), Attention()).quantised_heads(qkv, region, weights, workspace)
    assert workspace.heads[-1, 9].float() == -448


@pytest.mark.parametrize("part", [0, 2])
def test_what_is_no_number_stays_visible(operations: Operations, part: int) -> None:
    region, workspace = arena()
    qkv = drawn("random", 0, TOKENS.all, 3 * WIDTH)
    qkv[6, part * WIDTH + 9] = torch.nan
    operations.quantised_heads(qkv, region, block_of("random"), workspace)
    if part == 2:
        assert torch.isnan(workspace.attention_scales[ScaleRow.V, 0])
    if HAS_CARD or isinstance(operations, TorchOperations):
        spoilt = ~torch.isfinite(attend(workspace, 0, TOKENS.all).float()).all(1)
        assert spoilt.nonzero().flatten().tolist() == ([6] if part == 0 else list(range(TOKENS.all)))


def attend(workspace: Workspace, first: int, stop: int) -> Tensor:
    out = workspace.quantised[: stop - first]
    heads = workspace.heads.view(len(workspace.heads), 3, -1, HEAD)
    SimulatedFp8Attention()(heads, first, workspace.attention_scales, out.view(len(out), -1, HEAD))
    return out


@pytest.mark.parametrize(("first", "stop"), [(0, 64), (5, 45)])
@pytest.mark.parametrize("kind", ["random", "outlier", "huge"])
def test_the_result_is_that_of_exact_attention_but_for_some_percent(kind: str, first: int, stop: int) -> None:
    region, workspace = arena()
    weights, qkv = block_of("random"), drawn(kind, 0, TOKENS.all, 3 * WIDTH)
    operations = TorchOperations(linear_kind("fp8", "rowwise", DEVICE), Attention(), SimulatedFp8Attention())
    exact = exact_attention(exact_heads(qkv, region, weights), slice(first, stop))
    operations.quantised_heads(qkv, region, weights, workspace)
    attended = attend(workspace, first, stop)
    text = max(0, TOKENS.text - first)
    made = operations.prepare(attended, text, workspace, keep=True)
    for part, rows in ((made.text, slice(0, text)), (made.image, slice(text, None))):
        if part is None:
            assert text == 0
            continue
        whole = part.values.float() * part.scale[:, None]
        torch.testing.assert_close(part.plain.float(), whole, rtol=2**-8, atol=0)
        assert 0.01 < off(whole, exact.flatten(1)[rows]) < 0.08
        assert (part.scale == part.scale[0]).all()


def test_the_result_is_an_input_of_linears_as_it_is(operations: Operations) -> None:
    region, workspace = arena()
    operations.quantised_heads(drawn("random", 0, TOKENS.all, 3 * WIDTH), region, block_of("random"), workspace)
    attended = attend(workspace, 0, TOKENS.all)
    before = attended.float()
    made = operations.prepare(attended, TOKENS.text, workspace)
    assert made.text is not None and made.image is not None
    assert made.text.plain is None and made.image.plain is None
    assert torch.equal(torch.cat([made.text.values, made.image.values]).float(), before)
    assert made.image.values.data_ptr() == attended.data_ptr() + TOKENS.text * WIDTH
    assert (made.image.scale.data_ptr() - workspace.scale.data_ptr()) % 256 == 0
    assert (made.text.scale == workspace.attention_scales[ScaleRow.V, 0]).all()


def test_equal_values_come_back_even_where_every_weight_is_rounded_up() -> None:
    """Weights of 0.6076 x 448 become 288, 6 % more, and their sum does not: a mean above the largest value."""
    _, workspace = arena()
    heads = torch.zeros(TOKENS.all, 3, 4, HEAD, device=DEVICE)
    heads[:, 2] = LARGEST_VALUE
    heads[:, 0, :, 0], heads[1:, 1, :, 0] = 1, -1
    workspace.heads.copy_(heads.view(workspace.heads.shape))
    scales = workspace.attention_scales
    scales.fill_(1.0)
    scales[ScaleRow.Q] = 0.4983 * HEAD**0.5
    scales[ScaleRow.WEIGHT], scales[ScaleRow.UNWEIGHT] = 448, 1 / 448
    exact = LARGEST_VALUE * (448 + 63 * 288) / (448 * (1 + 63 * 0.6076))
    assert LARGEST_VALUE * 1.05 < exact < 448
    assert (attend(workspace, 0, TOKENS.all).float() == 448).all()


@pytest.mark.parametrize("count", [1, 4, 6])
def test_rows_that_a_kernel_refuses_are_attended_in_16_bits_and_asked_for_once(count: int) -> None:
    heads = drawn("random", 0, TOKENS.all, 3, count, HEAD).to(torch.float8_e4m3fn)
    scales = torch.zeros(8, 4, device=DEVICE)
    scales[:, 0] = torch.tensor([0.7, 0.3, 2.5, 1 / 448, 448, 1 / 2.5, 0, 0])
    asked = []

    def odd_only(heads: Tensor, first: int, scales: Tensor, out: Tensor) -> None:
        asked.append(len(out))
        if len(out) % 2 == 0:
            raise Fp8AttentionUnavailable("even numbers")
        out.copy_(torch.ones(out.shape))

    attention = Fp8AttentionOfAnyRows(odd_only, Attention())
    whole = heads.double() * scales[:3, 0].double()[None, :, None, None]
    for queries in (40, 40, 39, 39):
        out = torch.zeros(queries, count, HEAD, device=DEVICE).to(torch.float8_e4m3fn)
        attention(heads, 5, scales, out)
        if queries == 39:
            assert (out.float() == 1).all()
        else:
            # E4M3 by itself is off by some 2.6 %.
            assert 0.02 < off(out.float() * scales[ScaleRow.V, 0], exact_attention(whole, slice(5, 45))) < 0.03
    assert asked == [40, 39, 39]


def test_in_16_bits_too_a_result_beyond_e4m3_is_cut_off_and_what_is_no_number_stays() -> None:
    heads = torch.full((8, 3, 1, HEAD), 448.0, device=DEVICE).to(torch.float8_e4m3fn)
    out = torch.zeros(8, 1, HEAD, device=DEVICE).to(torch.float8_e4m3fn)
    larger = ExpandedAttention(lambda q, k, v: 2 * v[: len(q)].flatten(1))
    larger(heads, 0, torch.ones(8, 4, device=DEVICE), out)
    assert (out.float() == 448).all()
    heads[3, 2, 0, 0] = torch.nan
    larger(heads, 0, torch.ones(8, 4, device=DEVICE), out)
    assert torch.isnan(out.float()).nonzero().tolist() == [[3, 0, 0]]
