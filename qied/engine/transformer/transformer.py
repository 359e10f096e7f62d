"""The transformer: packed blocks, modulation by table, and the sweeps that give velocities."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import torch
from diffusers import QwenImageTransformer2DModel
from qied_client.errors import ModelUnsupported
from torch import Tensor
from torch.nn import functional

from qied.checkpoints.pipeline_folder import REMEDY
from qied.engine.block.arena import Arena, Region, make_arena
from qied.engine.block.graphs import Runner
from qied.engine.block.packed import BLOCKS, contents_of, pack_block, stored_shapes
from qied.engine.block.stored import stored_blocks
from qied.engine.copying.streams import streams_of
from qied.engine.disk.cache import NO_CACHES, DiskCaches
from qied.engine.lora.branches import NO_LORAS, NOTHING_AROUND, AroundLoras, BlockLoras
from qied.engine.ops.choice import Executor, choose_executor
from qied.engine.transformer.block_forward import run_block
from qied.engine.transformer.modulation import Modulation, ModulationLora, modulation_names
from qied.engine.transformer.modulation_cache import kept_tables
from qied.engine.transformer.modulation_table import ModulationTable, StepModulation, StepRows
from qied.engine.transformer.residency import Blocks
from qied.engine.transformer.rope import LatentShape, Rope, Rotation, comfyui_positions
from qied.engine.weights.building import SkipRandomInit, blaming
from qied.engine.weights.sources import FileSource, TensorSource, WeightReader, check_names
from qied.planning.layout.block_layout import BlockLayout, BlockShape, block_layout
from qied.planning.layout.forward_layout import ArenaLayout, Tokens, TransformerShape, arena_layout
from qied.planning.plan import Execution
from qied.weights.stored import E4M3, INT8

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
MODULATION_CACHE_BYTES = 1 << 30
"""Memory of the host for modulation tables: five schedules of 40 steps of the full model in BF16."""

_MLP_RATIO = 4
_TARGET = 1
"""The target's place among the kinds of tokens in an arena's modulation."""
_AXES = 3
"""Rotary positions have a frame, a row and a column."""


@dataclass(frozen=True)
class Forward:
    """One forward of a sweep: ``latents`` FP32 [1, target tokens, C * 4] and what they are seen together with.

    ``references`` [1, reference tokens, C * 4] and ``embeddings`` [1, text tokens, hidden] are of the compute type;
    the text's rotations may be those of more tokens than it has. ``loras`` has an entry for each block, or none at all;
    ``around`` are those of the linears around the blocks.
    """

    latents: Tensor
    references: Tensor
    embeddings: Tensor
    rotation: Rotation
    modulation: StepModulation
    loras: Sequence[BlockLoras] = ()
    around: AroundLoras = NOTHING_AROUND

    @property
    def tokens(self) -> Tokens:
        """How many tokens go through the blocks."""
        return Tokens(self.embeddings.shape[1], self.latents.shape[1], self.references.shape[1])

    @property
    def lora_width(self) -> int:
        """Values of a token between the two matrices of a LoRA, at most."""
        return max((block.width for block in self.loras), default=0)


class Transformer:
    """QwenImageTransformer2DModel run by the project's own executor. Nothing of it changes while edits run."""

    def __init__(
        self,
        embedders: Any,
        blocks: Blocks,
        modulation: Modulation,
        executor: Executor,
        shape: TransformerShape,
        device: torch.device,
    ) -> None:
        self._embedders = embedders
        self.blocks = blocks
        self.modulation = modulation
        self.operations = executor.operations
        self._runner: Runner = executor.runner
        self.shape = shape
        """What the arena of a step depends on."""
        self._device = device
        self._copies = streams_of(device)
        self._rope = Rope(embedders.config.axes_dims_rope)
        self._behind_last = torch.tensor([shape.layers], dtype=torch.int32, device=device)

    @property
    def device_bytes(self) -> int:
        """Bytes of weights on the device: resident blocks, the ring, and all that is not part of a block."""
        outside: int = sum(weight.nbytes for weight in self._embedders.parameters())
        return self.blocks.device_bytes + outside

    @property
    def host_bytes(self) -> int:
        """Bytes in host memory besides those: streamed blocks and modulation tables."""
        return self.blocks.host_bytes + self.modulation.host_bytes

    def layout_of(self, execution: Execution) -> BlockLayout:
        """How one block of this model lies in memory in the precision of an execution."""
        return _layout(self._embedders, execution)

    def with_blocks(self, blocks: Blocks, execution: Execution) -> Transformer:
        """The same transformer with other blocks, run as ``execution`` says; all else is shared."""
        shape = _shape(blocks.layout, execution)
        executor = choose_executor(execution, shape, self._device)
        return Transformer(self._embedders, blocks, self.modulation, executor, shape, self._device)

    def rotation(self, shapes: Sequence[LatentShape], text_tokens: int, *, as_comfyui: bool = False) -> Rotation:
        """Rotations of a target and its references in tokens, and of the longest text of an edit."""
        if as_comfyui:
            return self._rope.rotation_at(comfyui_positions(shapes, text_tokens), self._device)
        return self._rope.rotation(shapes, text_tokens, self._device)

    def modulation_table(
        self, sigmas: Tensor, loras: Sequence[ModulationLora] = ()
    ) -> Generator[tuple[int, int], None, ModulationTable]:
        """Make the table of a schedule (FP32 [steps], without the final 0) with these LoRAs, unless it is kept.

        Yields (blocks done, blocks in all) every some blocks: a new table takes seconds.
        """
        return self.modulation.table(sigmas, loras)

    def step_rows(self, table: ModulationTable) -> StepRows:
        """Begin to bring the rows of an edit's steps to the device."""
        return StepRows(table, self._device, self._copies, at_zero=self._embedders.config.zero_cond_t)

    def velocities(self, forwards: Sequence[Forward]) -> list[Tensor]:
        """Return the velocity FP32 [1, target tokens, C * 4] of each forward.

        They share one sweep over the blocks, so that a streamed block is copied once for all of them. What each gives
        does not depend on the others.
        """
        tokens = tuple(forward.tokens for forward in forwards)
        width = max(forward.lora_width for forward in forwards)
        arena = make_arena(_laid_out(self.shape, tokens, width), tokens, self._device)
        with self.blocks.sweep() as blocks:
            for forward, region in zip(forwards, arena.regions, strict=True):
                self._enter(forward, region)
            places = [(arena.address, tokens, width, index) for index in range(len(forwards))]
            for block, weights in enumerate(blocks):
                end = -1 if block == 0 else 1 if block == self.shape.layers - 1 else 0
                for forward, region, place in zip(forwards, arena.regions, places, strict=True):
                    loras = forward.loras[block] if forward.loras else NO_LORAS
                    launch = partial(run_block, self.operations, weights, region, arena.workspace, block, loras)
                    # A slot holds one block after the other: which one it is, kernels read from the slot.
                    self._runner.run((place, weights.number.data_ptr(), end, loras.key), launch)
            return [
                self._velocity(region, arena, forward.around)
                for forward, region in zip(forwards, arena.regions, strict=True)
            ]

    def _enter(self, forward: Forward, region: Region) -> None:
        """Embed latents and text as the residual streams, and bring what the blocks read to the region."""
        text = region.tokens.text
        latents = torch.cat([forward.latents.to(forward.references.dtype), forward.references], dim=1)
        embedders = self._embedders
        torch.addmm(embedders.img_in.bias, latents[0], embedders.img_in.weight.t(), out=region.residual[text:])
        normed = embedders.txt_norm(forward.embeddings[0])
        torch.addmm(embedders.txt_in.bias, normed, embedders.txt_in.weight.t(), out=region.residual[:text])
        for scaled in forward.around.img_in:
            scaled.add_to(region.residual[text:], latents[0])
        for scaled in forward.around.txt_in:
            scaled.add_to(region.residual[:text], normed)
        for rows, rotation in (
            (region.rotation[:text], forward.rotation.text[:text]),
            (region.rotation[text:], forward.rotation.image),
        ):
            rows.copy_(torch.view_as_real(rotation).flatten(1))
        modulation = forward.modulation
        for kind, values in enumerate((modulation.text, modulation.target, modulation.reference)):
            region.modulation[:-1, kind].copy_(values)
        # diffusers has the scale of the last norm first.
        region.modulation[-1, _TARGET, :2].copy_(modulation.out.flip(0))

    def _velocity(self, region: Region, arena: Arena, around: AroundLoras) -> Tensor:
        normed = self.operations.norm(region, arena.workspace, self.shape.layers, self._behind_last, "out")
        assert normed.image is not None
        projection = self._embedders.proj_out
        velocity = functional.linear(normed.image.values, projection.weight, projection.bias)
        for scaled in around.proj_out:
            scaled.add_to(velocity, normed.image.values)
        return velocity.float().unsqueeze(0)


@lru_cache(maxsize=64)
def _laid_out(shape: TransformerShape, tokens: tuple[Tokens, ...], lora_width: int) -> ArenaLayout:
    """Layouts are the same in every step of an edit."""
    return arena_layout(shape, tokens, lora_width)


def load_transformer(
    config: dict[str, Any],
    source: TensorSource,
    execution: Execution,
    device: torch.device,
    reader: WeightReader,
    caches: DiskCaches = NO_CACHES,
) -> Transformer:
    """Load the transformer as ``execution`` says, block by block; raises ModelUnsupported.

    ``config`` is diffusers' of QwenImageTransformer2DModel. ``source`` is kept, since modulation tables are made from
    it later. Blocks that have to be quantised come from ``caches``, where they are kept, or go there.
    """
    start, dtype = reader.done, DTYPES[execution.compute]
    embedders = _embedders(config)
    layers = execution.total_blocks
    layout = _layout(embedders, execution)
    outside = [name for name in source.names() if not name.startswith(BLOCKS)]
    _check_blocks(source, layout, layers)
    reader.fill(embedders, source, outside, device, dtype)
    modulation = Modulation(
        source,
        embedders.to(device),
        layers,
        device,
        dtype,
        MODULATION_CACHE_BYTES,
        pin=execution.pin,
        kept=kept_tables(caches.modulation, source, device),
    )
    for index in range(layers):
        modulation.check(reader, index)
    blocks = load_blocks(source, layout, execution, device, reader, caches, begun=start)
    reader.finish(source, start)
    shape = _shape(layout, execution)
    executor = choose_executor(execution, shape, device)
    return Transformer(embedders, blocks, modulation, executor, shape, device)


def load_blocks(
    source: TensorSource,
    layout: BlockLayout,
    execution: Execution,
    device: torch.device,
    reader: WeightReader,
    caches: DiskCaches = NO_CACHES,
    *,
    begun: int,
) -> Blocks:
    """Load all blocks as ``execution`` says; raises ModelUnsupported.

    Those that have to be quantised come from ``caches``, where they are kept, or go there. ``begun``: bytes that
    ``reader`` had done when ``source`` was begun.
    """
    layers = execution.total_blocks
    as_stored = partial(stored_blocks, source, layout=layout) if execution.stored_block_bytes else None
    blocks = Blocks(layout, execution, device, as_stored)

    def pack(index: int, buffer: Tensor) -> None:
        if index in blocks.stored:
            blocks.stored[index].fill(reader, source, buffer)
        else:
            pack_block(reader, source, index, layout, buffer, device)

    packed = None if blocks.stored else caches.packed
    if packed is not None and layout.quantised and isinstance(source, FileSource) and not _is_packed(source, layout):
        share = (begun + source.nbytes - reader.done) // layers
        contents = contents_of(source, layout, layers)
        packed.fill(list(blocks.buffers()), contents, pack, lambda _: reader.pass_over(source, share))
    else:
        for index, buffer in enumerate(blocks.buffers()):
            pack(index, buffer)
    return blocks


def _shape(layout: BlockLayout, execution: Execution) -> TransformerShape:
    layers = execution.total_blocks
    return TransformerShape(layout.shape, layers, execution.precision, execution.compute, execution.fp8_attention)


def _is_packed(source: FileSource, layout: BlockLayout) -> bool:
    """Whether most of a file is of the layout's own type: it is then read as fast as what would be kept of it."""
    return source.bytes_of(INT8 if layout.weight == "int8" else E4M3) > source.nbytes // 2


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
    if getattr(model, "zero_cond_t", False) is not bool(config.get("zero_cond_t", False)):
        raise ModelUnsupported("The installed diffusers drops zero_cond_t.", "Install diffusers 0.37 or newer.")
    return model.eval().requires_grad_(False)


def _layout(embedders: Any, execution: Execution) -> BlockLayout:
    shape = BlockShape(embedders.inner_dim, _MLP_RATIO * embedders.inner_dim, embedders.config.attention_head_dim)
    return block_layout(shape, execution.precision, execution.scaling, execution.compute)


def _check_blocks(source: TensorSource, layout: BlockLayout, layers: int) -> None:
    expected: set[str] = set()
    for block in range(layers):
        expected.update((name for name, _ in stored_shapes(layout, block)), modulation_names(block))
    check_names(source, expected, (name for name in source.names() if name.startswith(BLOCKS)))
