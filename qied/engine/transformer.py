"""The transformer: packed blocks, modulation by table, and the sweeps that give velocities."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import QwenImageTransformer2DModel
from qied_client.errors import ModelUnsupported
from torch import Tensor
from torch.nn import functional

from qied.checkpoints.pipeline_folder import REMEDY
from qied.engine.block_forward import Streams, run_block
from qied.engine.checkpoint import SkipRandomInit, blaming
from qied.engine.host_memory import Courier
from qied.engine.lora.branches import NO_LORAS, BlockLoras
from qied.engine.modulation import Modulation, ModulationLora, ModulationTable, StepModulation, modulation_names
from qied.engine.ops.attention import Attention
from qied.engine.ops.linear import linear_kind
from qied.engine.ops.norms import modulated_norm
from qied.engine.ops.operations import Operations, TorchOperations
from qied.engine.packed_block import pack_block, stored_names
from qied.engine.packed_cache import PackedCache, contents_of
from qied.engine.residency import Blocks
from qied.engine.rope import LatentShape, Rope, Rotation
from qied.engine.sources import SafetensorsSource, TensorSource, WeightReader, check_names
from qied.planning.block_layout import BlockLayout, BlockShape, block_layout
from qied.planning.plan import Execution

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
MODULATION_CACHE_BYTES = 1 << 30
"""Memory of the host for modulation tables: five schedules of 40 steps of the full model in BF16."""

_BLOCKS = "transformer_blocks."
_MLP_RATIO = 4
_AXES = 3
"""Rotary positions have a frame, a row and a column."""


@dataclass(frozen=True)
class Forward:
    """One forward of a sweep: ``latents`` FP32 [1, target tokens, C * 4] and what they are seen together with.

    ``references`` [1, reference tokens, C * 4] and ``embeddings`` [1, text tokens, hidden] are of the compute type;
    the text's rotations may be those of more tokens than it has. ``loras`` has an entry for each block, or none at all.
    """

    latents: Tensor
    references: Tensor
    embeddings: Tensor
    rotation: Rotation
    modulation: StepModulation
    loras: Sequence[BlockLoras] = ()

    @property
    def tokens(self) -> int:
        """Tokens of target, references and text."""
        return self.latents.shape[1] + self.references.shape[1] + self.embeddings.shape[1]


class Transformer:
    """QwenImageTransformer2DModel run by the project's own executor. Nothing of it changes while edits run."""

    def __init__(
        self,
        embedders: Any,
        blocks: Blocks,
        modulation: Modulation,
        operations: Operations,
        device: torch.device,
        *,
        pin: bool,
    ) -> None:
        self._embedders = embedders
        self._blocks = blocks
        self._modulation = modulation
        self._operations = operations
        self._device = device
        self._courier = Courier(device, pin)
        self._rope = Rope(embedders.config.axes_dims_rope)

    @property
    def device_bytes(self) -> int:
        """Bytes of weights on the device: resident blocks, the ring, and what is not part of a block."""
        outside: int = sum(weight.nbytes for weight in self._embedders.parameters())
        return self._blocks.device_bytes + outside

    @property
    def host_bytes(self) -> int:
        """Bytes in the host's memory beside those: streamed blocks and modulation tables."""
        return self._blocks.host_bytes + self._modulation.host_bytes

    def rotation(self, shapes: Sequence[LatentShape], text_tokens: int) -> Rotation:
        """Rotations of a target and its references in tokens, and of the longest text of an edit."""
        return self._rope.rotation(shapes, text_tokens, self._device)

    def modulation_table(
        self, sigmas: Tensor, loras: Sequence[ModulationLora] = ()
    ) -> Generator[tuple[int, int], None, ModulationTable]:
        """Make the table of a schedule (FP32 [steps], without the final 0) with these LoRAs, unless it is kept.

        Yields (blocks done, blocks in all) every some blocks: a new table takes seconds.
        """
        return self._modulation.table(sigmas, loras)

    def step_modulation(self, table: ModulationTable, step: int) -> StepModulation:
        """Bring the rows of one step, counted from 0, to the device."""
        return table.step(step, self._courier)

    def velocities(self, forwards: Sequence[Forward]) -> list[Tensor]:
        """Return the velocity FP32 [1, target tokens, C * 4] of each forward.

        They share one sweep over the blocks, so that a streamed block is copied once for all of them. What each gives
        does not depend on the others.
        """
        with self._blocks.sweep() as blocks:
            swept = [self._embed(forward) for forward in forwards]
            last = self._modulation.layers - 1
            for block, weights in enumerate(blocks):
                for forward, streams in zip(forwards, swept, strict=True):
                    loras = forward.loras[block] if forward.loras else NO_LORAS
                    run_block(
                        self._operations,
                        weights,
                        streams,
                        forward.modulation,
                        block,
                        is_last=block == last,
                        loras=loras,
                    )
            return [
                self._velocity(streams, forward.modulation) for forward, streams in zip(forwards, swept, strict=True)
            ]

    def _embed(self, forward: Forward) -> Streams:
        latents = torch.cat([forward.latents.to(forward.references.dtype), forward.references], dim=1)
        image = self._embedders.img_in(latents[0])
        text = self._embedders.txt_in(self._embedders.txt_norm(forward.embeddings[0]))
        return Streams(image, text, forward.latents.shape[1], forward.rotation)

    def _velocity(self, streams: Streams, modulation: StepModulation) -> Tensor:
        scale, shift = modulation.out
        normed = modulated_norm(streams.image[: streams.target_tokens], shift, scale)
        projection = self._embedders.proj_out
        return functional.linear(normed, projection.weight, projection.bias).float().unsqueeze(0)


def load_transformer(
    config: dict[str, Any],
    source: TensorSource,
    execution: Execution,
    device: torch.device,
    reader: WeightReader,
    packed: PackedCache | None = None,
) -> Transformer:
    """Load the transformer as ``execution`` says, block by block; raises ModelUnsupported.

    ``config`` is diffusers' of QwenImageTransformer2DModel. ``source`` is kept, since modulation tables are made from
    it later. Blocks that have to be quantised come from ``packed``, where they are kept, or go there.
    """
    start, dtype = reader.done, DTYPES[execution.compute]
    embedders = _embedders(config)
    layers = execution.total_blocks
    layout = _layout(embedders, execution)
    outside = [name for name in source.names() if not name.startswith(_BLOCKS)]
    _check_blocks(source, layout, layers)
    reader.fill(embedders, source, outside, device, dtype)
    modulation = Modulation(source, embedders.to(device), layers, device, dtype, MODULATION_CACHE_BYTES)
    blocks = Blocks(layout, execution, device)
    for index in range(layers):
        modulation.check(reader, index)

    def pack(index: int, buffer: Tensor) -> None:
        pack_block(reader, source, f"{_BLOCKS}{index}", layout, buffer, device)

    if packed is not None and layout.quantised and isinstance(source, SafetensorsSource) and not _is_fp8(source):
        share = (start + source.nbytes - reader.done) // layers
        contents = contents_of(source, layout, layers)
        packed.fill(list(blocks.buffers()), contents, pack, lambda _: reader.pass_over(source, share))
    else:
        for index, buffer in enumerate(blocks.buffers()):
            pack(index, buffer)
    reader.finish(source, start)
    operations = TorchOperations(
        linear_kind(execution.precision, layout.scaling, device), Attention(execution.attention)
    )
    return Transformer(embedders, blocks, modulation, operations, device, pin=execution.pin)


def _is_fp8(source: SafetensorsSource) -> bool:
    """Whether most of a file is FP8 as it is: it is then read as fast as what would be kept of it."""
    return source.quantised_bytes() > source.nbytes // 2


def _embedders(config: dict[str, Any]) -> Any:
    """Everything of the transformer but its blocks; what it takes in and gives out, and its timestep embedding."""
    with blaming("transformer/config.json"), SkipRandomInit():
        model: Any = QwenImageTransformer2DModel.from_config({**config, "num_layers": 0})
        axes, head = list(model.config.axes_dims_rope), model.config.attention_head_dim
        fits = len(axes) == _AXES and sum(axes) == head and all(width > 0 and width % 2 == 0 for width in axes)
    if not fits:
        raise ModelUnsupported(
            f"transformer/config.json: axes_dims_rope {axes} should be {_AXES} even numbers that sum to {head}.", REMEDY
        )
    if getattr(model, "zero_cond_t", False) is not True:
        raise ModelUnsupported("The installed diffusers drops zero_cond_t.", "Install diffusers 0.37 or newer.")
    return model.eval().requires_grad_(False)


def _layout(embedders: Any, execution: Execution) -> BlockLayout:
    shape = BlockShape(embedders.inner_dim, _MLP_RATIO * embedders.inner_dim, embedders.config.attention_head_dim)
    return block_layout(shape, execution.precision, execution.scaling, execution.compute)


def _check_blocks(source: TensorSource, layout: BlockLayout, layers: int) -> None:
    expected: set[str] = set()
    for block in range(layers):
        expected.update(stored_names(layout, f"{_BLOCKS}{block}"), modulation_names(block))
    check_names(source, expected, (name for name in source.names() if name.startswith(_BLOCKS)))
