import gc
import weakref
from collections.abc import Callable, Generator

import pytest
import torch
from diffusers import QwenImageTransformer2DModel
from torch import Tensor

from qied.engine.block.packed import block_tensors
from qied.engine.transformer.modulation_table import ModulationTable
from qied.engine.transformer.transformer import Forward, Transformer
from qied.engine.weights.quantise import dequantise
from qied.engine.weights.sources import TensorSource
from qied.planning.layout import forward_layout
from qied.resources import builtin_model_folder


def made(making: Generator[tuple[int, int], None, ModulationTable]) -> ModulationTable:
    """Let a table be made to its end."""
    while True:
        try:
            next(making)
        except StopIteration as end:
            table: ModulationTable = end.value
            return table


Make = Callable[..., Transformer]
Inputs = Callable[..., object]
PRECISIONS = [
    pytest.param({"precision": "fp32"}, id="fp32"),
    pytest.param({"precision": "bf16", "compute": "bf16"}, id="bf16"),
    pytest.param({"precision": "fp8", "scaling": "rowwise", "compute": "bf16"}, id="fp8-rowwise"),
    pytest.param({"precision": "fp8", "scaling": "tensorwise", "compute": "bf16"}, id="fp8-tensorwise"),
    pytest.param({"precision": "fp8-storage", "compute": "bf16"}, id="fp8-storage"),
]
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


def dtype_of(changes: dict[str, str]) -> torch.dtype:
    return DTYPES[changes.get("compute", "fp32")]


def velocity(transformer: Transformer, forward: Forward) -> Tensor:
    with torch.inference_mode():
        return transformer.velocities([forward])[0]


def relative_error(value: Tensor, expected: Tensor) -> float:
    return float((value - expected).norm() / expected.norm())


@pytest.fixture(scope="module")
def original() -> Callable[..., Tensor]:
    """The velocity as diffusers' own class gives it."""
    models: dict[torch.dtype, QwenImageTransformer2DModel] = {}

    def run(scene: object, dtype: torch.dtype) -> Tensor:
        if dtype not in models:
            model = QwenImageTransformer2DModel.from_pretrained(
                builtin_model_folder() / "transformer", torch_dtype=dtype
            )
            models[dtype] = model.requires_grad_(False)
        output = models[dtype](
            hidden_states=torch.cat([scene.latents, scene.references], dim=1).to(dtype),
            timestep=scene.sigmas[scene.step].reshape(1),
            encoder_hidden_states=scene.embeddings.to(dtype),
            encoder_hidden_states_mask=None,
            img_shapes=[list(scene.shapes)],
            return_dict=False,
        )[0]
        return output[:, : scene.latents.shape[1]].float()

    return run


def test_in_fp32_a_forward_equals_that_of_diffusers(make_transformer: Make, inputs: Inputs, original: Callable) -> None:
    transformer = make_transformer()
    for seed, target, reference in ((0, (16, 16), (16, 12)), (1, (8, 14), (9, 7)), (4, (5, 5), (16, 16))):
        scene = inputs(seed, target, reference)
        assert (
            relative_error(
                velocity(transformer, scene.forward(transformer, torch.float32)), original(scene, torch.float32)
            )
            < 1e-5
        )


def test_in_bf16_a_forward_rounds_where_that_of_diffusers_rounds(
    make_transformer: Make, inputs: Inputs, original: Callable
) -> None:
    transformer = make_transformer(precision="bf16", compute="bf16")
    scene = inputs()
    ours = velocity(transformer, scene.forward(transformer, torch.bfloat16))
    theirs, exact = original(scene, torch.bfloat16), original(scene, torch.float32)
    # The same bits, where products of one size sum in the order of those of another.
    assert relative_error(ours, theirs) < 0.05 * relative_error(theirs, exact)


@pytest.mark.parametrize(
    ("changes", "limit"),
    [
        ({"precision": "fp8", "scaling": "rowwise", "compute": "bf16"}, 0.01),
        ({"precision": "fp8", "scaling": "tensorwise", "compute": "bf16"}, 0.01),
        ({"precision": "fp8-storage", "scaling": "rowwise", "compute": "fp32"}, 0.005),
    ],
    ids=["fp8-rowwise", "fp8-tensorwise", "fp8-storage"],
)
def test_in_fp8_a_forward_is_a_few_percent_from_fp32(
    make_transformer: Make, random_weights: TensorSource, inputs: Inputs, changes: dict[str, str], limit: float
) -> None:
    transformer, exact, scene = make_transformer(random_weights, **changes), make_transformer(random_weights), inputs()
    error = relative_error(
        velocity(transformer, scene.forward(transformer, dtype_of(changes))),
        velocity(exact, scene.forward(exact, torch.float32)),
    )
    assert 0.001 < error < limit


@pytest.mark.parametrize(("blocks", "slots"), [(0, 3), (1, 2), (3, 2), (5, 2)])
@pytest.mark.parametrize("changes", PRECISIONS)
def test_streaming_any_number_of_blocks_changes_no_bit(
    make_transformer: Make, inputs: Inputs, changes: dict[str, str], blocks: int, slots: int
) -> None:
    scenes = [inputs(0, (4, 5), (3, 3)), inputs(1, (3, 4), (4, 5))]

    def run(**placement: int) -> list[Tensor]:
        transformer = make_transformer(**changes, **placement)
        forwards = [scene.forward(transformer, dtype_of(changes)) for scene in scenes]
        # Two edits in turns.
        return [velocity(transformer, forwards[index]) for index in (0, 1, 0)]

    streamed = run(resident_blocks=blocks, ring_slots=slots)
    assert all(torch.equal(one, two) for one, two in zip(run(), streamed, strict=True))


@pytest.mark.parametrize("changes", PRECISIONS)
def test_forwards_that_share_a_sweep_give_what_each_gives_alone(
    make_transformer: Make, inputs: Inputs, changes: dict[str, str]
) -> None:
    transformer = make_transformer(**changes, resident_blocks=2, ring_slots=2)
    forwards = [inputs(seed, (4, 6 - seed), (3, 4)).forward(transformer, dtype_of(changes)) for seed in range(3)]
    alone = [velocity(transformer, forward) for forward in forwards]
    with torch.inference_mode():
        together = transformer.velocities(forwards)
    assert all(torch.equal(one, two) for one, two in zip(alone, together, strict=True))


def test_expanded_weights_give_exactly_what_such_weights_in_bf16_give(make_transformer: Make, inputs: Inputs) -> None:
    stored = make_transformer(precision="fp8-storage", compute="bf16")
    plain = make_transformer(precision="bf16", compute="bf16")
    for source, target in zip(stored.blocks.buffers(), plain.blocks.buffers(), strict=True):
        packed, expanded = (
            block_tensors(each.blocks.layout, buffer) for each, buffer in ((stored, source), (plain, target))
        )
        for name, values in expanded.items():
            if name.endswith(".weight"):
                scale = packed[name.replace(".weight", ".scale")]
                values.copy_(dequantise(packed[name], scale, torch.bfloat16))
    forward = inputs().forward(stored, torch.bfloat16)
    assert torch.equal(velocity(stored, forward), velocity(plain, forward))


def test_long_pictures_go_through_the_linears_in_parts_with_the_same_result(
    make_transformer: Make, inputs: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    transformer = make_transformer()
    forward = inputs().forward(transformer, torch.float32)
    whole = velocity(transformer, forward)
    monkeypatch.setattr(forward_layout, "SPAN_TOKENS", 17)
    assert relative_error(velocity(transformer, forward), whole) < 1e-5


def test_the_text_goes_through_the_mlp_with_the_first_part_of_the_picture(
    make_transformer: Make, inputs: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    transformer, parts = make_transformer(), []
    forward = inputs().forward(transformer, torch.float32)
    activate = transformer.operations.activate

    def counted(wide: Tensor, text: int, *rest: object, **options: bool) -> object:
        parts.append((len(wide), text))
        return activate(wide, text, *rest, **options)

    monkeypatch.setattr(forward_layout, "SPAN_TOKENS", 192)
    monkeypatch.setattr(transformer.operations, "activate", counted)
    velocity(transformer, forward)
    # 448 tokens of pictures in three parts; of the last block the 256 of the target only.
    assert parts[:3] == [(192 + 37, 37), (128, 0), (128, 0)]
    assert parts[-2:] == [(192, 0), (64, 0)] and len(parts) == 3 * 5 + 2


def test_inputs_are_left_as_they_are(make_transformer: Make, inputs: Inputs) -> None:
    transformer = make_transformer()
    forward = inputs().forward(transformer, torch.float32)
    before = [tensor.clone() for tensor in (forward.latents, forward.references, forward.embeddings)]
    velocity(transformer, forward)
    assert all(
        torch.equal(one, two)
        for one, two in zip(before, (forward.latents, forward.references, forward.embeddings), strict=True)
    )


class Failing:
    """Operations of which the attention fails at the given call."""

    def __init__(self, operations: object, call: int) -> None:
        self._operations = operations
        self._left = call

    def __getattr__(self, name: str) -> object:
        return getattr(self._operations, name)

    def attention(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        self._left -= 1
        if not self._left:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self._operations.attention(q, k, v)


@pytest.mark.parametrize("call", [1, 3, 6])
def test_after_a_forward_that_failed_the_next_one_gives_the_right_result(
    make_transformer: Make, inputs: Inputs, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    transformer = make_transformer(resident_blocks=2, ring_slots=2)
    forward = inputs().forward(transformer, torch.float32)
    expected = velocity(transformer, forward)
    with monkeypatch.context() as patch:
        patch.setattr(transformer, "operations", Failing(transformer.operations, call))
        with pytest.raises(torch.OutOfMemoryError):
            velocity(transformer, forward)
    assert torch.equal(velocity(transformer, forward), expected)


def test_bytes_on_the_device_and_in_the_host_add_up(make_transformer: Make) -> None:
    resident = make_transformer()
    streamed = make_transformer(resident_blocks=2, ring_slots=3)
    block = resident.blocks.layout.nbytes
    assert resident.host_bytes == 0
    assert streamed.host_bytes == 4 * block
    assert resident.device_bytes - streamed.device_bytes == 6 * block - (2 + 3) * block


def test_modulation_tables_count_as_bytes_of_the_host(make_transformer: Make) -> None:
    transformer = make_transformer()
    with torch.inference_mode():
        table = made(transformer.modulation_table(torch.tensor([1.0, 0.5])))
    assert transformer.host_bytes == table.nbytes == 4 * (2 * 6 * 2 * 6 * 256 + 6 * 6 * 256 + 2 * 2 * 256)


def test_a_transformer_that_is_dropped_frees_its_blocks(make_transformer: Make, inputs: Inputs) -> None:
    transformer = make_transformer(resident_blocks=2, ring_slots=2)
    velocity(transformer, inputs().forward(transformer, torch.float32))
    blocks = weakref.ref(transformer.blocks)
    del transformer
    gc.collect()
    assert blocks() is None
