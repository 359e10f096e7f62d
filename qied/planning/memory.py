"""Bytes that a plan takes on the device, as a sum of parts with units; the factors are measured, see ``calibration``.

Weights are counted exactly. An arena is what a phase needs beyond weights and states at its peak; phases run one at a
time on a device, so a plan holds the largest arena once and the state of every edit.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from qied.planning.block_layout import block_bytes
from qied.planning.calibration import DEVICES, Factors
from qied.planning.model_profile import ModelProfile
from qied.planning.plan import Execution, Scaling
from qied.planning.workload import Workload

FP32 = 4
TextEncoder = Literal["resident", "streamed"]
STREAMED_SLOTS = 2
"""Layers of a streamed text encoder that are on the device at once."""
_MODULATED = 3
"""Rows of a block's modulation in one step: image at t, image at 0, text at t."""


@dataclass(frozen=True)
class Numerics:
    """How numbers are stored and computed: ``precision`` of the blocks' weights, ``compute`` of everything else."""

    precision: Literal["fp8", "fp8-storage", "bf16", "fp32"]
    scaling: Scaling | None
    compute: Literal["bf16", "fp32"]

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
    """Bytes of weights on the device: ``rest`` is what no plan can do without, beside the blocks."""

    block: int
    rest: int
    text_encoder: int


@dataclass(frozen=True)
class Arena:
    """Bytes of each phase at its peak, beyond weights and states."""

    encode_prompt: int
    encode_image: int
    modulation: int
    denoise: int
    decode: int

    @property
    def peak(self) -> int:
        """Bytes of the largest phase."""
        return max(self.encode_prompt, self.encode_image, self.modulation, self.denoise, self.decode)


@dataclass(frozen=True)
class Footprint:
    """Bytes of one edit: ``state`` for as long as it is held, ``arena`` at the peak of its largest phase."""

    state: int
    arena: int


@dataclass(frozen=True)
class MemoryModel:
    """The bytes of one model in one kind of numbers on one kind of device."""

    profile: ModelProfile
    numerics: Numerics
    device: Literal["cuda", "cpu"]

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
        layers = text.layers * text.layer_parameters + text.vision_layers * text.vision_layer_parameters
        held = (layers + text.embedding_parameters) * element if text_encoder == "resident" else 0
        return Weights(self._block, rest, held)

    def state(self, work: Workload) -> int:
        """Bytes that an edit holds between its units of work: latents, references, embeddings, rope."""
        facts, element = self.profile.architecture, self.numerics.element_bytes
        copies = 3 if work.masked else 1
        latents = work.target_tokens * facts.token_channels * FP32 * copies
        source = work.target_tokens * facts.token_channels * element if work.masked else 0
        # The references stay in the session's cache one by one, and once more behind each other for the steps.
        references = 2 * work.reference_tokens * facts.token_channels * element
        prompts = (2 if work.guided else 1) * work.text_tokens * facts.joint_dim * element
        vision = work.references * work.vision_tokens * facts.text_encoder.hidden * element
        rope = (work.tokens + (work.text_tokens if work.guided else 0)) * facts.head_dim * FP32
        return latents + source + references + prompts + vision + rope

    def arena(self, work: Workload, tiles: Tiles, text_encoder: TextEncoder) -> Arena:
        """Bytes of each phase at its peak."""
        return Arena(
            encode_prompt=self._encode_prompt(work, text_encoder),
            encode_image=self.vae_bytes("encode", max(work.reference_pixels, _source(work)), tiles.encode),
            modulation=self._modulation(),
            denoise=self._denoise(work),
            decode=self.vae_bytes("decode", work.target_pixels, tiles.decode),
        )

    def vae_bytes(self, way: Literal["encode", "decode"], pixels: int, tile: int | None) -> int:
        """Bytes of the VAE on ``pixels``, in tiles of ``tile`` pixels a side: one tile's, and the canvas beneath."""
        factors = self.factors
        element = FP32 if self.device == "cpu" else self.numerics.element_bytes
        at_once = pixels if tile is None else min(pixels, tile * tile)
        width = factors.encode_width if way == "encode" else factors.decode_width
        network = int(at_once * self.profile.architecture.vae_base_dim * element * width)
        canvas = int(pixels * (factors.encode_canvas if way == "encode" else factors.decode_canvas))
        return network + canvas + factors.workspace

    def footprint(self, work: Workload, tiles: Tiles, text_encoder: TextEncoder) -> Footprint:
        """State and arena of one edit, the allowance for fragmentation included."""
        share = 1 + self.factors.fragmentation
        return Footprint(int(self.state(work) * share), int(self.arena(work, tiles, text_encoder).peak * share))

    def host_bytes(self, streamed_blocks: int) -> int:
        """Bytes of host memory of a worker that streams so many blocks, what is only mapped from files not counted."""
        return self.factors.host_process + self.factors.host_tables + streamed_blocks * self._block

    @cached_property
    def _block(self) -> int:
        numerics = self.numerics
        return block_bytes(self.profile.architecture, numerics.precision, numerics.scaling, numerics.compute)

    def _encode_prompt(self, work: Workload, held: TextEncoder) -> int:
        text, element, factors = self.profile.architecture.text_encoder, self.numerics.element_bytes, self.factors
        sequence = work.text_tokens + self.profile.template_tokens
        patches = 4 * work.vision_tokens
        language = sequence * (text.hidden * factors.text_hidden_width + text.mlp_dim * factors.text_mlp_width)
        vision = patches * (text.vision_hidden * factors.vision_width + 3 * text.vision_mlp_dim)
        slots = 0
        if held == "streamed":
            slots = STREAMED_SLOTS * max(text.layer_parameters, text.vision_layer_parameters) * element
        return int(max(language, vision) * element) + slots + factors.workspace

    def _modulation(self) -> int:
        """One block's modulation weights on their way through, while a schedule's table is computed."""
        parameters = self.profile.architecture.modulation_parameters
        return int(parameters * self.numerics.element_bytes * self.factors.modulation_copies)

    def _denoise(self, work: Workload) -> int:
        facts, element = self.profile.architecture, self.numerics.element_bytes
        widths = self.factors.denoise[self.numerics.precision]
        per_token = facts.inner_dim * widths.inner + facts.mlp_dim * widths.mlp
        dequantised = 0
        if self.numerics.precision == "fp8-storage":
            dequantised = 3 * facts.inner_dim**2 + facts.mlp_dim * facts.inner_dim
        rows = facts.layers * _MODULATED * 6 * facts.inner_dim
        return int((work.tokens * per_token + dequantised + rows) * element) + self.factors.workspace


def model_of(execution: Execution, profile: ModelProfile) -> MemoryModel:
    """The memory model that an execution runs by."""
    numerics = Numerics(execution.precision, execution.scaling, execution.compute)
    return MemoryModel(profile, numerics, execution.device)


def _source(work: Workload) -> int:
    return work.target_pixels if work.masked else 0
