"""Both implementations of the operations against their definitions in FP64.

Without a card the Triton kernels run in Triton's interpreter. That cuts digits off where a card rounds, has no NaN in
E4M3, and halves what its rounding to E4M3 would carry up to a power of two.
"""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from qied.engine.block.arena import Region, Workspace, make_arena
from qied.engine.block.packed import BlockWeights, PackedLinear, StreamWeights
from qied.engine.ops.attention import Attention
from qied.engine.ops.linear import SimulatedFp8Linear, linear_kind
from qied.engine.ops.operations import Activation, JointRows, NormPlace, Operations, StreamLinear
from qied.engine.ops.torch_operations import TorchOperations
from qied.engine.weights.quantise import quantise
from qied.engine.weights.rotation import rotate
from qied.planning.layout.block_layout import BlockShape, rotation_group
from qied.planning.layout.forward_layout import Tokens, TransformerShape, arena_layout

triton_operations = pytest.importorskip("qied.engine.ops.triton_operations", reason="Triton runs on Linux only")
HAS_CARD = torch.cuda.is_available()
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the interpreter is numpy, which tells of overflows
DEVICE = torch.device("cuda" if HAS_CARD else "cpu")
TOKENS = Tokens(text=5, target=7, reference=4)
KINDS = [0] * 5 + [1] * 7 + [2] * 4
LAYERS, BLOCK = 3, 1
WIDTH, MLP = 256, 1024
GROUP = rotation_group(WIDTH, MLP)
FORMS = {"bf16": "plain", "fp8": "rowwise", "int8": "int8"}
STEPS = 1 if HAS_CARD else 2
"""Half steps of a type by which a rounded number may differ from the exact one."""
INPUTS = ("random", "zeros", "huge", "outlier")


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.fixture(params=["torch", "triton"])
def make(request: pytest.FixtureRequest) -> Callable[[str, str | None], Operations]:
    """Make the operations for a precision and scaling."""

    def operations(precision: str, scaling: str | None) -> Operations:
        linears = linear_kind(precision, scaling, DEVICE)
        if request.param == "torch":
            return TorchOperations(linears, Attention())
        kinds = triton_operations.TensorwiseOperations, triton_operations.TritonOperations
        return kinds[scaling != "tensorwise"](linears, Attention())

    return operations


def drawn(kind: str, rows: int, columns: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, columns, generator=generator)
    if kind == "zeros":
        x.zero_()
    if kind == "huge":
        x *= 1e15
    if kind == "outlier":
        x[:, 3] *= 3000
    return x.bfloat16().to(DEVICE)


def arena(kind: str, precision: str, head: int = 64) -> tuple[Region, Workspace]:
    numbers = TransformerShape(BlockShape(WIDTH, MLP, head), LAYERS, precision, "bf16")  # type: ignore[arg-type]
    made = make_arena(arena_layout(numbers, (TOKENS,), 8), (TOKENS,), DEVICE)
    (region,) = made.regions
    region.residual.copy_(drawn(kind, TOKENS.all, WIDTH))
    region.update.copy_(drawn(kind, TOKENS.all, WIDTH, 1))
    region.modulation.copy_(drawn("random", (LAYERS + 1) * 18, WIDTH, 2).view(region.modulation.shape))
    region.rotation.copy_(angles(head))
    return region, made.workspace


def angles(head: int) -> Tensor:
    turns = torch.randn(TOKENS.all, head // 2, generator=torch.Generator().manual_seed(3))
    return torch.view_as_real(torch.polar(torch.ones_like(turns), turns)).flatten(1).to(DEVICE)


def number(value: int) -> Tensor:
    return torch.tensor([value], dtype=torch.int32, device=DEVICE)


def assert_close(
    found: Tensor, exact: Tensor, form: str, scale: Tensor | None = None, between: Tensor | float = 0.0
) -> None:
    """Compare with FP64: half a step of the type that was rounded to, and what sums in FP32 lose.

    ``between`` are the magnitudes of what was rounded on the way, added up.
    """
    sums = 2e-6 * exact.abs().amax(-1, keepdim=True)
    off = (found.double() - exact).abs() - sums
    if form == "plain":
        assert (off <= STEPS * (exact.abs() + between) * 2**-8).all()
        return
    assert scale is not None
    if form == "int8":  # half a step of its row; numbers between two steps may go either way
        off = (found.double() - rotate(exact, GROUP)).abs() - 2 * sums
        assert (off <= scale.double()[:, None] * 0.5001).all()
        return
    # E4M3 has 3 digits behind the first, and below 2^-6 steps of 2^-9.
    right = off <= STEPS * torch.maximum(exact.abs() * 2**-4, scale.double()[:, None] * 2**-10) * 1.001
    assert right.all() if HAS_CARD else right.double().mean() > 0.9 and (found.abs() <= exact.abs() * 1.1 + sums).all()


def whole(made: JointRows) -> tuple[Tensor, Tensor | None]:
    """An activation of both streams in one, with scales of its rows."""
    parts = [part for part in (made.text, made.image) if part is not None]
    if parts[0].scale is None:
        return torch.cat([part.values for part in parts]), None
    scales = [part.scale for part in parts]
    values = [part.values.double() * scale.double()[:, None] for part, scale in zip(parts, scales, strict=True)]
    return torch.cat(values), torch.cat(scales)


def exact_sum(region: Region, block: int, half: NormPlace) -> tuple[Tensor, Tensor]:
    """The residual streams after the update, and the update's magnitudes."""
    modulation = region.modulation.double()[:, KINDS]
    x = region.residual.double()
    if half != "mlp" and not block:
        return x, torch.zeros_like(x)
    update = region.update.double() * (modulation[block, :, 2] if half == "mlp" else modulation[block - 1, :, 5])
    return x + update, update.abs()


def exact_norm(region: Region, block: int, half: NormPlace) -> tuple[Tensor, Tensor]:
    """What the norm makes of residual streams to which the update was added, and its magnitudes before the shift."""
    modulation = region.modulation.double()[:, KINDS]
    shift = 3 if half == "mlp" else 0
    normed = functional.layer_norm(region.residual.double(), (WIDTH,), eps=1e-6)
    scaled = normed * (1 + modulation[block, :, shift + 1])
    return scaled + modulation[block, :, shift], scaled.abs()


@pytest.mark.parametrize(("block", "half"), [(0, "attention"), (1, "attention"), (1, "mlp"), (2, "mlp"), (3, "out")])
@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize("precision", ["bf16", "fp8", "int8"])
def test_a_norm_adds_what_is_due_and_modulates_each_kind_of_token(
    make: Callable[..., Operations], precision: str, kind: str, block: int, half: NormPlace
) -> None:
    operations = make(precision, "rowwise")
    region, workspace = arena(kind, precision)
    rows = slice(5, 12) if (block, half) in ((2, "mlp"), (3, "out")) else slice(0, 16)
    form = "plain" if half == "out" else FORMS[precision]
    sums, updates = exact_sum(region, block, half)
    found, scale = whole(operations.norm(region, workspace, block, number(block), half))
    # The sum is rounded to BF16; where FP32 and FP64 round it differently, the norm sees another one.
    on_the_way = updates[rows] if form == "plain" else 0.0
    assert_close(region.residual[rows], sums[rows], "plain", between=on_the_way)
    if half == "attention" and block == 0:
        assert torch.equal(region.residual, drawn(kind, 16, WIDTH))
    exact, scaled = exact_norm(region, block, half)
    assert_close(found, exact[rows], form, scale, between=3 * scaled[rows])


@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize("precision", ["bf16", "fp8", "int8"])
def test_the_gelu_and_the_attentions_result_become_inputs_of_linears(
    make: Callable[..., Operations], precision: str, kind: str
) -> None:
    operations = make(precision, "rowwise")
    _, workspace = arena(kind, precision)
    workspace.wide[:16] = x = drawn(kind, 16, MLP)
    exact = functional.gelu(x.double(), approximate="tanh")
    found, scale = whole(operations.activate(workspace.wide[:16], 5, workspace))
    assert_close(found, exact, FORMS[precision], scale)
    attended = drawn(kind, 16, WIDTH)
    found, scale = whole(operations.prepare(attended, 5, workspace))
    assert_close(found, attended.double(), FORMS[precision], scale)


@pytest.mark.parametrize("head", [64, 128])
@pytest.mark.parametrize("kind", INPUTS)
def test_heads_are_normalised_and_rotated_and_values_left_alone(
    make: Callable[..., Operations], kind: str, head: int
) -> None:
    region, _ = arena(kind, "bf16", head)
    weights = block_of(head)
    qkv = drawn(kind, 16, 3 * WIDTH)
    x = qkv.double().view(16, 3, -1, head)
    make("bf16", None).heads(qkv, region, weights)
    turns = torch.view_as_complex(region.rotation.double().view(16, 1, -1, 2))
    found = qkv.double().view(16, 3, -1, head)
    for part, name in enumerate(("q_norm", "k_norm")):
        learned = torch.stack([getattr(weights.text if row < 5 else weights.image, name) for row in range(16)])
        normed = functional.rms_norm(x[:, part], (head,), eps=1e-6) * learned.double()[:, None]
        pairs = torch.view_as_complex(normed.view(16, -1, head // 2, 2)) * turns
        on_the_way = 2 * pairs.abs().repeat_interleave(2, -1)
        assert_close(found[:, part], torch.view_as_real(pairs).flatten(-2), "plain", between=on_the_way)
    assert torch.equal(found[:, 2], x[:, 2])


def rounding_of(operations: Operations) -> Callable[[Tensor], Tensor]:
    """How numbers become BF16: to the nearest one, or in Triton's interpreter to that towards zero."""
    if HAS_CARD or isinstance(operations, TorchOperations):
        return lambda x: x.bfloat16().float()
    return lambda x: (x.contiguous().view(torch.int32) & -(1 << 16)).view(torch.float32)


def share_alike(found: Tensor, expected: Tensor) -> float:
    return float((found.float() == expected).double().mean())


@pytest.mark.parametrize("half", ["attention", "mlp"])
def test_in_bf16_each_step_of_a_norm_is_rounded(make: Callable[..., Operations], half: NormPlace) -> None:
    operations = make("bf16", None)
    rounded = rounding_of(operations)
    region, workspace = arena("random", "bf16")
    modulation = region.modulation.float()[:, KINDS]
    gate = modulation[BLOCK, :, 2] if half == "mlp" else modulation[BLOCK - 1, :, 5]
    shift, scale = (modulation[BLOCK, :, row + (3 if half == "mlp" else 0)] for row in (0, 1))
    total = rounded(region.residual.float() + rounded(region.update.float() * gate))
    normed = rounded(functional.layer_norm(total, (WIDTH,), eps=1e-6))
    found, _ = whole(operations.norm(region, workspace, BLOCK, number(BLOCK), half))
    assert share_alike(region.residual, total) > 0.999
    # What sums in another order may round otherwise, which is rare.
    assert share_alike(found, rounded(rounded(normed * rounded(1 + scale)) + shift)) > 0.99


def test_in_bf16_heads_are_rounded_before_and_behind_their_weights(make: Callable[..., Operations]) -> None:
    operations = make("bf16", None)
    rounded = rounding_of(operations)
    region, _ = arena("random", "bf16")
    weights, qkv = block_of(64), drawn("random", 16, 3 * WIDTH)
    x = qkv.float().view(16, 3, -1, 64).clone()
    operations.heads(qkv, region, weights)
    turns = torch.view_as_complex(region.rotation.view(16, 1, -1, 2))
    for part, name in enumerate(("q_norm", "k_norm")):
        learned = torch.stack([getattr(weights.text if row < 5 else weights.image, name) for row in range(16)]).float()
        normed = rounded(rounded(functional.rms_norm(x[:, part], (64,), eps=1e-6)) * learned[:, None])
        pairs = torch.view_as_complex(normed.view(16, -1, 32, 2)) * turns
        found = qkv.view(16, 3, -1, 64)[:, part]
        assert share_alike(found, rounded(torch.view_as_real(pairs).flatten(-2))) > 0.99


@pytest.mark.parametrize("half", ["attention", "mlp"])
@pytest.mark.parametrize("precision", ["bf16", "fp8", "int8"])
def test_what_is_no_number_stays_visible_and_in_its_row(
    make: Callable[..., Operations], precision: str, half: NormPlace
) -> None:
    operations = make(precision, "rowwise")
    region, workspace = arena("random", precision)
    region.residual[6, 9] = torch.nan
    operations.norm(region, workspace, BLOCK, number(BLOCK), half, keep=True)
    spoilt = ~torch.isfinite(region.update).all(1)
    assert spoilt.nonzero().flatten().tolist() == [6]
    if HAS_CARD or isinstance(operations, TorchOperations):
        region, workspace = arena("random", precision)
        region.residual[6, 9] = torch.nan
        found, _ = whole(operations.norm(region, workspace, BLOCK, number(BLOCK), half))
        assert (~torch.isfinite(found).all(1)).nonzero().flatten().tolist() == [6]


@pytest.mark.parametrize(
    ("precision", "scaling"), [("fp8", "rowwise"), ("fp8", "tensorwise"), ("int8", None), ("bf16", None)]
)
def test_whoever_asks_keeps_the_input_as_it_was_before_it_was_quantised(
    make: Callable[..., Operations], precision: str, scaling: str | None
) -> None:
    operations = make(precision, scaling)
    region, workspace = arena("random", precision)
    made = operations.norm(region, workspace, BLOCK, number(BLOCK), "mlp", keep=True)
    exact, scaled = exact_norm(region, BLOCK, "mlp")
    assert made.text is not None and made.image is not None
    plain = torch.cat([part.plain for part in (made.text, made.image)])
    assert_close(plain, exact, "plain", between=0.0 if precision == "int8" or scaling == "rowwise" else 3 * scaled)
    workspace.wide[:16] = x = drawn("random", 16, MLP)
    made = operations.activate(workspace.wide[:16], 5, workspace, keep=True)
    plain = torch.cat([part.plain for part in (made.text, made.image)])
    assert_close(plain, functional.gelu(x.double(), approximate="tanh"), "plain")


def test_per_tensor_each_stream_has_one_scale(make: Callable[..., Operations]) -> None:
    operations = make("fp8", "tensorwise")
    _, workspace = arena("random", "fp8")
    attended = drawn("random", 16, WIDTH)
    made = operations.prepare(attended, 5, workspace)
    for part, rows in ((made.text, attended[:5]), (made.image, attended[5:])):
        expected = quantise(rows, "tensorwise")
        assert torch.equal(part.values.float(), expected.values.float())
        assert part.scale[0] == expected.scale[0, 0]


@pytest.mark.parametrize("first_part", [(0, 3), (0, 5), (3, 9), (5, 16), (11, 16)])
def test_rows_of_a_joint_activation_are_cut_where_the_streams_meet(first_part: tuple[int, int]) -> None:
    values = torch.arange(16.0)[:, None]
    made = JointRows(Activation(values[:5]), Activation(values[5:])).rows(*first_part)
    parts = [part.values for part in (made.text, made.image) if part is not None]
    assert torch.equal(torch.cat(parts), values[first_part[0] : first_part[1]])
    assert made.text is None or made.text.values.max() < 5
    assert made.image is None or made.image.values.min() >= 5


@pytest.mark.parametrize("scaling", ["rowwise", "tensorwise"])
def test_expanded_weights_are_rounded_once(scaling: str) -> None:
    weight = quantise(drawn("random", 48, 64).float(), scaling)  # type: ignore[arg-type]
    out = torch.empty(48, 64, dtype=torch.bfloat16, device=DEVICE)
    triton_operations.expand(weight.values, weight.scale.flatten(), out)
    assert_close(out, weight.values.double() * weight.scale.double(), "plain")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_value_of_e4m3_is_expanded_to_its_bits(dtype: torch.dtype) -> None:
    values = torch.arange(256, dtype=torch.uint8, device=DEVICE).view(torch.float8_e4m3fn).view(4, 64)
    out = torch.empty(4, 64, dtype=dtype, device=DEVICE)
    triton_operations.expand(values, torch.ones(1, device=DEVICE), out)
    expected = values.to(dtype)
    assert torch.equal(out.isnan(), expected.isnan()) and int(out.isnan().sum()) == 2
    assert torch.equal(out.nan_to_num(7), expected.nan_to_num(7))
    assert torch.equal(out.signbit() | out.isnan(), expected.signbit() | expected.isnan())


def test_both_streams_meet_their_own_weights(make: Callable[..., Operations]) -> None:
    operations = make("bf16", None)
    _, workspace = arena("random", "bf16")
    x = drawn("random", 16, WIDTH)
    sides = [PackedLinear(drawn("random", 32, WIDTH, seed), drawn("random", 1, 32, seed)[0], None) for seed in (7, 8)]
    out = torch.empty(16, 32, dtype=torch.bfloat16, device=DEVICE)
    operations.linear(
        operations.prepare(x, 5, workspace), StreamLinear(sides[0]), StreamLinear(sides[1]), out, workspace
    )
    for rows, side in ((slice(0, 5), sides[0]), (slice(5, 16), sides[1])):
        expected = functional.linear(x[rows].double(), side.weight.double(), side.bias.double())
        torch.testing.assert_close(out[rows].double(), expected, rtol=0.01, atol=0.05)


def test_without_fp8_cores_the_cast_is_that_of_torch_bit_by_bit() -> None:
    operations = TorchOperations(SimulatedFp8Linear("rowwise"), Attention())
    _, workspace = arena("random", "fp8")
    attended = drawn("outlier", 16, WIDTH)
    found = operations.prepare(attended, 5, workspace)
    for part, rows in ((found.text, attended[:5]), (found.image, attended[5:])):
        scale = rows.float().abs().amax(1) / 448
        assert torch.equal(part.scale, scale)
        expected = (rows.float() / scale[:, None]).to(torch.float8_e4m3fn)
        assert torch.equal(part.values.view(torch.uint8), expected.view(torch.uint8))


def block_of(head: int) -> BlockWeights:
    """A block of which only the norms of the heads are real."""
    linear = PackedLinear(torch.empty(0), torch.empty(0), None)
    norms = [drawn("random", 1, head, seed)[0] for seed in range(10, 14)]
    streams = [StreamWeights(linear, linear, linear, linear, *norms[2 * index : 2 * index + 2]) for index in range(2)]
    return BlockWeights(*streams, number(BLOCK))
