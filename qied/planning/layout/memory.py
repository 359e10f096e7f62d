"""Bytes that a plan takes on the device, as a sum of parts with units; the factors are measured, see ``calibration``.

Weights are counted exactly. An arena is what a phase needs beyond weights and states at its peak; phases run one at a
time on a device, so a plan holds the largest arena once and the state of every edit.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal

from qied_client.protocol import limits

from qied.planning.edits.workload import Workload
from qied.planning.layout.block_layout import BlockShape, block_bytes
from qied.planning.layout.calibration import DEVICES, Factors
from qied.planning.layout.forward_layout import (
    VALUES,
    Tokens,
    TransformerShape,
    arena_layout,
    attention_bytes,
    region_bytes,
)
from qied.planning.plan import Execution, PreviewDecoder, Scaling, TextPrecision
from qied.planning.profiles.model_profile import Matrices, ModelProfile
from qied.planning.profiles.tile_grid import tile_grid

FP32 = 4
STORED = 2
"""Bytes of a weight of the text encoder as checkpoints have it."""
TextEncoder = Literal["resident", "streamed"]
RING_SLOTS = 3
"""Slots of the ring that streamed blocks pass through: one computes, one is full, one fills."""
STREAMED_SLOTS = 2
"""Layers of a streamed text encoder on the device at once: the one that runs, and the one copied meanwhile."""
ENCODE_CANVAS = 1
"""Bytes of a picture's latents for each of its pixels: 16 channels FP32 for 8 x 8 pixels."""
DECODE_CANVAS = 12
"""Bytes of a result for each of its pixels: 3 channels FP32."""
STEPS_HELD = 2
"""Steps whose modulation an edit has on the device at once: the one that runs, and the next one."""
CAST_BYTES = 16 * 1024 * 1024
"""Bytes of the FP32 copies by way of which numbers are cast, a chunk at a time."""
_CASTS = 4
"""Chunks in FP32 that exist at once where torch's own kernels compute an operation."""


@dataclass(frozen=True)
class Precisions:
    """How numbers are stored and computed: ``precision`` of the blocks' weights, ``compute`` of everything else.

    With ``fp8_attention`` the attention is in FP8 as well.
    """

    precision: Literal["fp8", "int8", "fp8-storage", "bf16", "fp32"]
    scaling: Scaling | None
    compute: Literal["bf16", "fp32"]
    fp8_attention: bool = False

    @property
    def takes_second(self) -> bool:
        """Whether blocks in BF16 can be run next to these: all that is not in blocks is shared."""
        return self.compute == "bf16" and self.precision != "bf16"

    @property
    def element_bytes(self) -> int:
        """Bytes of one activation, and of one weight outside the blocks."""
        return 2 if self.compute == "bf16" else FP32


@dataclass(frozen=True)
class Tiles:
    """Sides of the VAE's tiles in pixels; None is untiled."""

    encode: int | None
    decode: int | None


@dataclass(frozen=True)
class Weights:
    """Bytes of weights on the device: ``rest`` is what every plan needs besides the blocks."""

    block: int
    rest: int
    text_encoder: int


@dataclass(frozen=True)
class PhaseBytes:
    """Bytes of each phase at its peak, beyond weights and states."""

    encode_prompt: int
    encode_image: int
    modulation: int
    denoise: int
    preview: int
    decode: int

    @property
    def peak(self) -> int:
        """Bytes of the largest phase."""
        return max(self.encode_prompt, self.encode_image, self.modulation, self.denoise, self.preview, self.decode)


@dataclass(frozen=True)
class Footprint:
    """Bytes of one edit: ``state`` for as long as it is held, ``arena`` at the peak of its largest phase."""

    state: int
    arena: int


def largest_of(passes: Iterable[Footprint]) -> Footprint:
    """Bytes of an edit of several passes, of which each begins when the one before it holds nothing more."""
    feet = tuple(passes)
    return Footprint(max(foot.state for foot in feet), max(foot.arena for foot in feet))


@dataclass(frozen=True)
class MemoryModel:
    """The bytes of one model in one kind of numbers on one kind of device.

    ``stored_block``: bytes of its largest block in files of GGUF; 0 for others. ``text_precision`` is how the layers of
    a streamed text encoder are kept, ``preview`` what decodes previews, None for the linear map. With ``second`` the
    blocks are held in BF16 as well, for passes that name it; a step of those needs less of the arena than any other.
    ``copied_text_weights``: how many weights of a streamed text encoder are copied, and not mapped.
    """

    profile: ModelProfile
    numerics: Precisions
    device: Literal["cuda", "cpu"]
    stored_block: int = 0
    text_precision: TextPrecision = "stored"
    preview: PreviewDecoder | None = None
    second: bool = False
    copied_text_weights: int = 0

    @property
    def factors(self) -> Factors:
        """The measured factors of the device."""
        return DEVICES[self.device]

    def weights(self, text_encoder: TextEncoder) -> Weights:
        """Weights of one block, of what is always there, and of a text encoder held so.

        A streamed text encoder keeps its small parts on the device; its layers pass through in the arena of the phase.
        """
        facts, element = self.profile.architecture, self.numerics.element_bytes
        text = facts.text_encoder
        vae_element = FP32 if self.device == "cpu" else element
        rest = facts.rest_parameters * element + facts.vae_parameters * vae_element + text.rest_parameters * element
        if text_encoder == "streamed":
            rest += self._text_scales
        if self.preview is not None:
            rest += self.preview.parameters * vae_element
        layers = text.layers * text.layer_parameters + text.vision_layers * text.vision_layer_parameters
        held = (layers + text.embedding_parameters) * element if text_encoder == "resident" else 0
        return Weights(self._block, rest, held)

    def state(self, work: Workload) -> int:
        """Bytes that an edit holds between its units of work: latents, references, embeddings, rope, modulation."""
        facts, element = self.profile.architecture, self.numerics.element_bytes
        copies = 3 if work.masked else 1
        latents = work.target_tokens * facts.token_channels * FP32 * copies
        source = work.target_tokens * facts.token_channels * element if work.masked else 0
        # The references stay in the session's cache one by one, and once more behind each other for the steps.
        references = 2 * work.reference_tokens * facts.token_channels * element
        prompts = (2 if work.guided else 1) * work.text_tokens * facts.joint_dim * element
        vision = work.references * work.vision_tokens * facts.text_encoder.hidden * element
        rope = (work.tokens + (work.text_tokens if work.guided else 0)) * facts.head_dim * FP32
        return latents + source + references + prompts + vision + rope + self._step_rows()

    def arena(self, work: Workload, tiles: Tiles, text_encoder: TextEncoder) -> PhaseBytes:
        """Bytes of each phase at its peak, for exactly this edit."""
        grid = tile_grid(work.width, work.height, tiles.decode)
        return self._arena(work, tiles, text_encoder, decoded_at_once=grid.width * grid.height)

    def largest_arena(self, work: Workload, tiles: Tiles, text_encoder: TextEncoder) -> PhaseBytes:
        """Bytes of each phase at its peak, for this edit and every smaller one.

        A picture a little larger than a tile is cut into smaller ones, so a smaller picture can take more at once.
        """
        return self._arena(work, tiles, text_encoder, decoded_at_once=_at_once(work.target_pixels, tiles.decode))

    def vae_bytes(self, way: Literal["encode", "decode"], pixels: int, at_once: int) -> int:
        """Bytes of the VAE on a picture of ``pixels``, ``at_once`` of them in one tile: the tile's, and the canvas."""
        factors = self.factors
        element = FP32 if self.device == "cpu" else self.numerics.element_bytes
        width = factors.encode_width if way == "encode" else factors.decode_width
        network = int(at_once * self.profile.architecture.vae_base_dim * element * width)
        return network + pixels * (ENCODE_CANVAS if way == "encode" else DECODE_CANVAS)

    def decode_room(self, width: int, height: int, tile_px: int | None) -> int:
        """Bytes that decoding a picture of this size takes, which upscaling it has as well."""
        grid = tile_grid(width, height, tile_px)
        return self.vae_bytes("decode", width * height, grid.width * grid.height)

    def _preview(self, pixels: int, at_once: int) -> int:
        """Bytes of a preview while it is decoded: the tile's, and colours of the whole picture, also as levels.

        Latents that it is made of are counted with the edit's state.
        """
        if self.preview is None:
            return 0
        element = FP32 if self.device == "cpu" else self.numerics.element_bytes
        return at_once * self.preview.values * element + pixels * 2 * DECODE_CANVAS

    def graphs(self, work: Workload) -> int:
        """Bytes that CUDA graphs of blocks hold for good, where ``work`` is the largest edit.

        They keep the attention's result, which torch allocates while they are recorded, and what CUDA keeps of them.
        """
        if self.device == "cpu" or self.numerics.compute != "bf16":
            return 0
        held = attention_bytes(self.shape, forwards_of(work)[0]) + self.factors.graphs
        return held * (2 if self.second else 1)

    def footprint(self, work: Workload, tiles: Tiles, text_encoder: TextEncoder) -> Footprint:
        """State and arena of exactly this edit, with what the allocator loses."""
        return self._footprint(work, self.arena(work, tiles, text_encoder))

    def largest_footprint(self, work: Workload, tiles: Tiles, text_encoder: TextEncoder) -> Footprint:
        """State and arena that hold this edit and every smaller one."""
        return self._footprint(work, self.largest_arena(work, tiles, text_encoder))

    def _footprint(self, work: Workload, arena: PhaseBytes) -> Footprint:
        lost = int(arena.peak * self.factors.fragmentation) + self.factors.fragments
        return Footprint(self.state(work), arena.peak + lost)

    def _arena(self, work: Workload, tiles: Tiles, text_encoder: TextEncoder, decoded_at_once: int) -> PhaseBytes:
        encoded = max(work.reference_pixels, work.target_pixels if work.masked else 0)
        return PhaseBytes(
            encode_prompt=self._encode_prompt(work, text_encoder),
            encode_image=self.vae_bytes("encode", encoded, _at_once(encoded, tiles.encode)),
            modulation=self._modulation(),
            denoise=self._denoise(work),
            preview=self._preview(work.target_pixels, decoded_at_once),
            decode=self.vae_bytes("decode", work.target_pixels, decoded_at_once),
        )

    @property
    def streams_stored(self) -> bool:
        """Whether streamed blocks stay as their file has them, and are expanded on the device each time.

        A ring of such blocks and the one that is expanded then take no more than a ring of expanded ones. One scale
        for a whole tensor would need all of the tensor in FP32 as well.
        """
        small = RING_SLOTS * self.stored_block <= (RING_SLOTS - 1) * self._block
        return self.device == "cuda" and self.stored_block > 0 and small and self.numerics.scaling != "tensorwise"

    @property
    def host_block(self) -> int:
        """Bytes of a streamed block in host memory."""
        return self.stored_block if self.streams_stored else self._block

    def host_bytes(self, streamed_blocks: int, text_encoder: TextEncoder) -> int:
        """Bytes of host memory of a worker that streams so many blocks; what is mapped from files is not counted."""
        fixed = self.factors.host_process + self.factors.host_tables + self.second_host_bytes
        return fixed + streamed_blocks * self.host_block + self.copied_text_bytes(text_encoder)

    def copied_text_bytes(self, text_encoder: TextEncoder) -> int:
        """Bytes of a text encoder's weights in host memory besides those that are mapped."""
        return self.copied_text_weights * self.numerics.element_bytes if text_encoder == "streamed" else 0

    @property
    def second_host_bytes(self) -> int:
        """Bytes of host memory that the blocks of a second precision take: on a card all of them stream."""
        layers = self.profile.architecture.layers
        return layers * self._second_block if self.second and self.device == "cuda" else 0

    @property
    def second_device_bytes(self) -> int:
        """Bytes of the device that a second precision takes: the ring of its blocks, on a CPU all of them."""
        layers = self.profile.architecture.layers
        return (RING_SLOTS if self.device == "cuda" else layers) * self._second_block if self.second else 0

    @cached_property
    def _second_block(self) -> int:
        return block_bytes(self.profile.architecture, "bf16", None, "bf16")

    @cached_property
    def _block(self) -> int:
        numerics = self.numerics
        return block_bytes(self.profile.architecture, numerics.precision, numerics.scaling, numerics.compute)

    def _encode_prompt(self, work: Workload, held: TextEncoder) -> int:
        """The language model's widest point is its MLP: gate, up and their product, plus a few hidden states."""
        text, element, factors = self.profile.architecture.text_encoder, self.numerics.element_bytes, self.factors
        sequence = work.text_tokens + self.profile.template_tokens
        language = sequence * (text.hidden * factors.text_hidden_width + text.mlp_dim * 3)
        vision = 4 * work.vision_tokens * (text.vision_hidden * factors.vision_width + text.vision_mlp_dim * 3)
        slots = 0
        if held == "streamed":
            slots = max(
                self._slots(text.layer_parameters, text.layer_matrices),
                self._slots(text.vision_layer_parameters, text.vision_layer_matrices),
            )
        return int(max(language, vision) * element) + slots

    def _slots(self, parameters: int, matrices: Matrices) -> int:
        """Bytes of the slots that layers pass through, and of one expanded layer where they have to be expanded."""
        element = self.numerics.element_bytes
        if self.text_precision == "stored":
            # As it is stored, in 16 bits.
            return parameters * (STREAMED_SLOTS * STORED + (element if element != STORED else 0))
        stored = matrices.parameters + (parameters - matrices.parameters) * STORED
        expanded = matrices.parameters if element == STORED else parameters
        return STREAMED_SLOTS * stored + expanded * element + CAST_BYTES

    @cached_property
    def _text_scales(self) -> int:
        """Bytes of the scales of a streamed text encoder's rows, which stay on the device."""
        text = self.profile.architecture.text_encoder
        rows = text.layers * text.layer_matrices.rows + text.vision_layers * text.vision_layer_matrices.rows
        return 0 if self.text_precision == "stored" else rows * FP32

    def _modulation(self) -> int:
        """Half of a block's modulation weights on their way through, and what the longest schedule makes of them."""
        facts, element = self.profile.architecture, self.numerics.element_bytes
        rows = (limits.STEPS + 1) * 7 * facts.inner_dim
        return (facts.modulation_parameters // 2 + rows) * element

    def _step_rows(self) -> int:
        """Modulation of the steps that are held (two streams of each block, and the last norm), and of timestep 0."""
        facts = self.profile.architecture
        step = 2 * facts.layers * VALUES + 2
        reference = facts.layers * VALUES if self.profile.zero_cond_t else 0
        return (STEPS_HELD * step + reference) * facts.inner_dim * self.numerics.element_bytes

    def _denoise(self, work: Workload) -> int:
        """The arena of a step, the attention's result, and casts to FP32 in chunks of 16 MiB, a few at a time."""
        step = _step_memory(self.shape, forwards_of(work), work.lora_width)
        return int((step + _CASTS * CAST_BYTES) * self.factors.denoise)

    @cached_property
    def shape(self) -> TransformerShape:
        """What the arena of a step depends on."""
        facts, numerics = self.profile.architecture, self.numerics
        shape = BlockShape(facts.inner_dim, facts.mlp_dim, facts.head_dim)
        return TransformerShape(shape, facts.layers, numerics.precision, numerics.compute, numerics.fp8_attention)


@lru_cache(maxsize=4096)
def _step_memory(shape: TransformerShape, forwards: tuple[Tokens, ...], lora_width: int) -> int:
    """The arena of a step and the attention's result; a plan asks for the same ones a hundred times."""
    return arena_layout(shape, forwards, lora_width).nbytes + attention_bytes(shape, forwards[0])


def forwards_of(work: Workload) -> tuple[Tokens, ...]:
    """The forwards of one step: one for each prompt."""
    tokens = Tokens(work.text_tokens, work.target_tokens, work.reference_tokens)
    return (tokens,) * (2 if work.guided else 1)


def step_bytes(shape: TransformerShape, forwards: Iterable[Tokens]) -> int:
    """Bytes that the forwards of one edit's step hold while others pass the same block: in a sweep they add up.

    All else of a step is there for one forward at a time.
    """
    return sum(region_bytes(shape, tokens) for tokens in forwards)


def model_of(execution: Execution, profile: ModelProfile) -> MemoryModel:
    """The memory model that an execution runs by."""
    numerics = Precisions(execution.precision, execution.scaling, execution.compute, execution.fp8_attention)
    return MemoryModel(
        profile,
        numerics,
        execution.device,
        text_precision=execution.text_encoder_precision,
        preview=execution.preview_decoder,
        second=execution.second is not None,
    )


def _at_once(pixels: int, tile: int | None) -> int:
    """Most pixels that the VAE sees at once of a picture of so many, of any aspect."""
    return pixels if tile is None else min(pixels, tile * tile)
