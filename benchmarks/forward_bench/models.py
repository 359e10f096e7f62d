"""The models that are measured, all with the same random weights, and what one forward of each is given."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from diffusers import QwenImageTransformer2DModel
from diffusers.models.transformers.transformer_qwenimage import QwenImageTransformerBlock
from memory_bench.full_size import RandomSource, transformer_source
from qied_client.installing import install_extra
from torch import Tensor, nn

from forward_bench.setting import Setting, Size
from qied.engine.transformer.transformer import Forward, Transformer, load_transformer
from qied.engine.weights.sources import WeightReader
from qied.planning.plan import FP8_ATTENTION, Execution

Precision = Literal["fp8", "fp8-attention", "int8", "int8-attention", "bf16", "fp8-storage"]
"""``-attention``: the attention is in FP8 as well."""
RING_SLOTS = 3
SIGMAS = (0.9, 0.6)
"""Forwards that are timed take turns between two steps of a schedule, as those of an edit do."""
_BLOCKS = "transformer_blocks."


def source(setting: Setting) -> RandomSource:
    """Weights, the same ones for every model of a setting on a device."""
    return transformer_source(setting.config, torch.device(setting.device))


def ours(
    setting: Setting, precision: Precision, resident: int | None = None, weights: RandomSource | None = None
) -> Transformer:
    """The project's transformer; ``resident`` blocks stay, all of them if None, and the others stream."""
    device = torch.device(setting.device)
    layers = setting.layers
    kept = layers if resident is None else resident
    backends = setting.attention if device.type == "cuda" else ()
    in_fp8 = precision.endswith("-attention")
    numbers = precision.removesuffix("-attention")
    execution = Execution(
        device="cuda" if device.type == "cuda" else "cpu",
        device_index=0,
        precision=numbers,  # type: ignore[arg-type]
        scaling="rowwise" if numbers.startswith("fp8") else None,
        compute="bf16",
        total_blocks=layers,
        resident_blocks=kept,
        ring_slots=0 if kept == layers else RING_SLOTS,
        text_encoder="resident",
        encode_tile_px=None,
        decode_tile_px=None,
        pin=device.type == "cuda",
        allocator_bytes=0,
        max_reference_pixels=1 << 20,
        attention=(FP8_ATTENTION, *backends) if in_fp8 else backends,
    )
    found = weights or source(setting)
    with torch.no_grad():
        made = load_transformer(setting.config, found, execution, device, WeightReader(found.nbytes, lambda *_: None))
    if in_fp8 and made.operations.fp8_attention is None:
        raise RuntimeError(f"no attention in FP8 runs here: {install_extra('qied[fp8-attention]')}")
    return made


def diffusers_model(setting: Setting, dtype: torch.dtype = torch.bfloat16) -> Any:
    """diffusers' transformer, all of its weights on the device."""
    weights = source(setting)
    model = _without_blocks(setting, weights, dtype)
    with torch.device("meta"):
        blocks = nn.ModuleList(_block(setting) for _ in range(setting.layers))
    names = (name for name in weights.names() if name.startswith(_BLOCKS))
    tensors = {name.removeprefix(_BLOCKS): weights.read(name).to(dtype) for name in names}
    blocks.load_state_dict(tensors, assign=True)
    model.transformer_blocks = blocks
    return model.eval().requires_grad_(False)


def diffusers_a_block_at_a_time(setting: Setting, weights: RandomSource, dtype: torch.dtype) -> Any:
    """diffusers' transformer in any type with one block on the device, which is filled anew for each layer."""
    model = _without_blocks(setting, weights, dtype)
    # The list of modules makes way for what looks like one: its forward only goes through it.
    del model.transformer_blocks
    model.transformer_blocks = _BlockAtATime(setting, weights, dtype)
    return model.eval().requires_grad_(False)


class _BlockAtATime:
    """The blocks in order; each is gone when the next one is asked for."""

    def __init__(self, setting: Setting, weights: RandomSource, dtype: torch.dtype) -> None:
        self._setting = setting
        self._weights = weights
        self._dtype = dtype

    def __iter__(self) -> Iterator[nn.Module]:
        for layer in range(self._setting.layers):
            prefix = f"{_BLOCKS}{layer}."
            names = (name for name in self._weights.names() if name.startswith(prefix))
            tensors = {name.removeprefix(prefix): self._weights.read(name).to(self._dtype) for name in names}
            with torch.device("meta"):
                block = _block(self._setting)
            block.load_state_dict(tensors, assign=True)
            yield block.eval().requires_grad_(False)


def _without_blocks(setting: Setting, weights: RandomSource, dtype: torch.dtype) -> Any:
    model: Any = QwenImageTransformer2DModel.from_config({**setting.config, "num_layers": 0})
    names = (name for name in weights.names() if not name.startswith(_BLOCKS))
    model.load_state_dict({name: weights.read(name).to(dtype) for name in names}, assign=True)
    return model


def _block(setting: Setting) -> nn.Module:
    config = setting.config
    heads, width = config["num_attention_heads"], config["attention_head_dim"]
    block: nn.Module = QwenImageTransformerBlock(setting.inner, heads, width, zero_cond_t=True)
    return block


@dataclass(frozen=True)
class Inputs:
    """What one edit of a size puts into a forward: ``latents`` FP32 [1, target tokens, 64], one for each of SIGMAS.

    ``references`` [1, reference tokens, 64] and ``embeddings`` [1, text tokens, hidden] are BF16.
    """

    latents: tuple[Tensor, ...]
    references: Tensor
    embeddings: Tensor
    shapes: list[tuple[int, int, int]]


def inputs(setting: Setting, size: Size, seed: int = 0) -> Inputs:
    """Random inputs, the same ones for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    device, config = torch.device(setting.device), setting.config
    shapes = setting.shapes(size)
    target, *references = (rows * columns for _, rows, columns in shapes)

    def drawn(tokens: int, channels: int, dtype: torch.dtype) -> Tensor:
        return torch.randn((1, tokens, channels), generator=generator).to(device, dtype)

    return Inputs(
        latents=tuple(drawn(target, config["in_channels"], torch.float32) for _ in SIGMAS),
        references=drawn(sum(references), config["in_channels"], torch.bfloat16),
        embeddings=drawn(setting.text_tokens, config["joint_attention_dim"], torch.bfloat16),
        shapes=shapes,
    )


def forwards(transformer: Transformer, given: Inputs) -> list[Forward]:
    """The forwards of an edit: one for each of SIGMAS, all with the same rotation."""
    making = transformer.modulation_table(torch.tensor(SIGMAS))
    while True:
        try:
            next(making)
        except StopIteration as made:
            table = made.value
            break
    rotation = transformer.rotation(given.shapes, given.embeddings.shape[1])
    return [
        Forward(
            latents=latents,
            references=given.references,
            embeddings=given.embeddings,
            rotation=rotation,
            modulation=transformer.step_rows(table).step(step),
        )
        for step, latents in enumerate(given.latents)
    ]


def diffusers_call(model: Any, given: Inputs, step: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """Call diffusers' transformer as its QwenImageEditPlusPipeline does; returns [1, target tokens, 64]."""
    latents = given.latents[step]
    # The pipeline's latents are of the model's type. What reads the same numbers as ours rounds them as ours does.
    target = latents.to(torch.bfloat16).to(dtype)
    hidden = torch.cat([target, given.references.to(dtype)], dim=1)
    timestep = torch.full((1,), SIGMAS[step], dtype=torch.float32, device=hidden.device).to(torch.bfloat16).to(dtype)
    output: Tensor = model(
        hidden_states=hidden,
        timestep=timestep,
        guidance=None,
        encoder_hidden_states_mask=None,
        encoder_hidden_states=given.embeddings.to(dtype),
        img_shapes=[given.shapes],
        attention_kwargs={},
        return_dict=False,
    )[0]
    return output[:, : latents.shape[1]]
