"""The result of planning: a Plan, or a Refusal with its cause and remedy."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from qied_client.protocol import limits

from qied.planning.edits.pictures import DECODING_ROOM, LEAST_RESULTS, LEAST_ROOM, RESULT_PIXEL, RESULTS_ROOM

Scaling = Literal["rowwise", "tensorwise"]
TextPrecision = Literal["stored", "int8-storage", "fp8-storage"]
"""How matrices of the text encoder's layers are kept: as their files have them, or in 8 bits, expanded for products."""
FP8_ATTENTION = "fp8"
"""What the names of an execution's attention begin with where it is in FP8."""
ARENA = "arena"
"""Name of the part that the largest unit of work needs."""


@dataclass(frozen=True)
class PreviewDecoder:
    """The tiny autoencoder that decodes previews: its file's name and what it costs.

    ``values`` are numbers that exist at once for each pixel of the picture, ``operations`` those for each pixel.
    """

    name: str
    parameters: int
    values: int
    operations: int


@dataclass(frozen=True)
class SecondPrecision:
    """The precision that passes may name besides the daemon's own, and how its blocks pass through the device.

    On a card all of its blocks stream through ``ring_slots`` slots of their own; ``pin`` asks for pinned host memory.
    """

    precision: Literal["bf16"]
    ring_slots: int
    pin: bool


@dataclass(frozen=True)
class Execution:
    """The plan's orders to the engine; bytes are those of the device.

    ``precision`` is fp8, int8, fp8-storage, bf16 or fp32; ``compute`` the dtype of activations. ``resident_blocks`` of
    ``total_blocks`` stay on the device, the others pass through ``ring_slots`` slots. A tile of None means untiled;
    tiles are sides in pixels. ``allocator_bytes`` bounds what torch may take (0: no bound). ``pin`` asks for pinned
    host memory for blocks and modulation tables. ``attention`` names the backends that were proven, the fastest first;
    () leaves the choice to torch. It begins with ``FP8_ATTENTION`` where that is used, and then continues with those of
    the compute type.
    ``sweep_bytes`` bounds what the steps of several edits take that pass the blocks together (see
    ``planning.layout.memory.step_bytes``); with 0, and where all blocks are resident, every edit's step goes alone.
    ``text_encoder_precision`` is how the layers of a streamed text encoder are kept. ``preview_decoder``: what decodes
    previews; None for the linear map.
    With ``stored_block_bytes``, those of the largest block as its file has it, streamed blocks are kept so in host
    memory, and expanded on the device each time. ``second`` is the precision that passes may name besides this one.
    """

    device: Literal["cuda", "cpu"]
    device_index: int
    precision: Literal["fp8", "int8", "fp8-storage", "bf16", "fp32"]
    scaling: Scaling | None
    compute: Literal["bf16", "fp32"]
    total_blocks: int
    resident_blocks: int
    ring_slots: int
    text_encoder: Literal["resident", "streamed"]
    encode_tile_px: int | None
    decode_tile_px: int | None
    pin: bool
    allocator_bytes: int
    max_reference_pixels: int
    attention: tuple[str, ...] = ()
    sweep_bytes: int = 0
    stored_block_bytes: int = 0
    text_encoder_precision: TextPrecision = "stored"
    preview_decoder: PreviewDecoder | None = None
    second: SecondPrecision | None = None

    @property
    def of_second(self) -> Execution:
        """How the blocks of the second precision are run: as a worker of that precision runs them, all streamed."""
        assert self.second is not None
        streams = self.device == "cuda"
        return replace(
            self,
            precision=self.second.precision,
            scaling=None,
            resident_blocks=0 if streams else self.total_blocks,
            ring_slots=self.second.ring_slots,
            pin=self.second.pin,
            attention=self.attention[1:] if self.fp8_attention else self.attention,
            stored_block_bytes=0,
            second=None,
        )

    @property
    def fp8_attention(self) -> bool:
        return self.attention[:1] == (FP8_ATTENTION,)

    @property
    def sweeps(self) -> bool:
        """Whether steps of several edits may pass the blocks together, so that each is copied once for all of them."""
        return self.sweep_bytes > 0 and self.resident_blocks < self.total_blocks


@dataclass(frozen=True)
class Part:
    """One part of a memory budget in bytes, for people: resident blocks, ring, arena, sessions and so on."""

    name: str
    bytes: int


@dataclass(frozen=True)
class Sessions:
    """Edits held at once: the profile's limit, and how many fit at the largest size."""

    limit: int
    at_max_pixels: int


@dataclass(frozen=True)
class Plan:
    """How this machine runs this model. Bytes are those of the device, unless they say host.

    ``sources`` tells for each value where it came from (profile, configuration, command line, measured, computed).
    ``gpu_uuid`` tells cards and their partitions apart, which share an index. ``decoding_bytes`` are those of
    ``host_bytes`` in which pictures are decoded, and ``results_bytes`` those for results that are enlarged, or drawn on
    a canvas.
    """

    model: str
    gpu: str
    profile: str
    precision: Literal["fp8", "int8", "fp8-storage", "bf16", "fp32", "cpu"]
    scaling: Scaling | None
    reasons: tuple[str, ...]
    budget_bytes: int
    predicted_peak_bytes: int
    host_bytes: int
    pinned_bytes: int
    max_pixels: int
    max_reference_pixels: int
    sessions: Sessions
    execution: Execution
    parts: tuple[Part, ...]
    warnings: tuple[str, ...] = ()
    sources: dict[str, str] = field(default_factory=dict)
    gpu_uuid: str | None = None
    decoding_bytes: int = DECODING_ROOM
    results_bytes: int = RESULTS_ROOM

    @property
    def max_result_pixels(self) -> int:
        """The largest result that is enlarged, or drawn on a canvas."""
        return min(limits.PIXELS, self.results_bytes // RESULT_PIXEL)

    def with_least_pictures(self) -> Plan:
        """The same plan with less host memory for pictures, and for results, of which the largest are refused then."""
        decoding, results = min(LEAST_ROOM, self.decoding_bytes), min(LEAST_RESULTS, self.results_bytes)
        saved = self.decoding_bytes - decoding + self.results_bytes - results
        return replace(self, decoding_bytes=decoding, results_bytes=results, host_bytes=self.host_bytes - saved)

    @property
    def arena_bytes(self) -> int:
        """The part that is kept for what one unit of work needs besides weights and states."""
        return sum(part.bytes for part in self.parts if part.name == ARENA)

    def to_json(self) -> dict[str, Any]:
        """The document of ``qied plan --json``."""
        return {
            "schema": 1,
            "model": self.model,
            "gpu": self.gpu,
            "profile": self.profile,
            "precision": self.precision,
            "second_precision": None if self.execution.second is None else self.execution.second.precision,
            "scaling": self.scaling,
            "reasons": list(self.reasons),
            "budget_bytes": self.budget_bytes,
            "predicted_peak_bytes": self.predicted_peak_bytes,
            "blocks": {
                "total": self.execution.total_blocks,
                "resident": self.execution.resident_blocks,
                "streamed": self.execution.total_blocks - self.execution.resident_blocks,
            },
            "host_bytes": self.host_bytes,
            "decoding_bytes": self.decoding_bytes,
            "results_bytes": self.results_bytes,
            "max_result_pixels": self.max_result_pixels,
            "pinned_bytes": self.pinned_bytes,
            "text_encoder": self.execution.text_encoder,
            "text_encoder_precision": self.execution.text_encoder_precision,
            "previews": self.execution.preview_decoder.name if self.execution.preview_decoder else "linear",
            "vae": {"encode_tile_px": self.execution.encode_tile_px, "decode_tile_px": self.execution.decode_tile_px},
            "max_pixels": self.max_pixels,
            "max_reference_pixels": self.max_reference_pixels,
            "sessions": {"limit": self.sessions.limit, "at_max_pixels": self.sessions.at_max_pixels},
            "parts": [{"name": part.name, "bytes": part.bytes} for part in self.parts],
            "sources": dict(self.sources),
            "warnings": list(self.warnings),
        }


@dataclass(frozen=True)
class Refusal:
    """Why nothing can be served here, and what to do; ``code`` is stable."""

    code: str
    message: str
    remedy: str

    def to_json(self) -> dict[str, Any]:
        """The document of ``qied plan --json``."""
        return {"schema": 1, "refused": {"code": self.code, "message": self.message, "remedy": self.remedy}}
