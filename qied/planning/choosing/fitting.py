"""The highest rung of the ladder that fits a budget, with its parts and tiles. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

from qied.planning.edits.loras import NO_LORAS, LoraRoom
from qied.planning.edits.workload import Workload, largest_workload
from qied.planning.layout.memory import RING_SLOTS, Footprint, MemoryModel, TextEncoder, Tiles
from qied.planning.layout.tile_size import largest_tiles
from qied.planning.plan import ARENA, Part
from qied.planning.profiles.hardware_profile import Choice
from qied.planning.profiles.model_profile import ModelProfile

FIRST_SESSIONS = 8
"""Sessions that come before resident blocks: a state is some 30 MB, a block 230 MB."""
_EIGHTHS_FROM = 4
"""The smallest cap worth serving is half the native side."""


@dataclass(frozen=True)
class Rung:
    """Caps in pixels, edits held at once, blocks that stay on the device, and how the text encoder is held."""

    max_pixels: int
    max_reference_pixels: int
    sessions: int
    resident: int
    text_encoder: Literal["resident", "streamed"] = "streamed"


def ladder(model: ModelProfile, choice: Choice, max_active: int) -> list[Rung]:
    """All rungs from the lowest, for a profile's choice; ``max_active`` of 0 leaves the session limit to it."""
    native = min(model.geometry.vae_pixels, choice.max_pixels)
    top = min(model.geometry.max_target_pixels, choice.max_pixels)
    limit = min(choice.session_limit, max_active or choice.session_limit)
    reference = min(model.geometry.vae_pixels, choice.max_reference_pixels)
    rungs = [Rung(cap, min(cap, reference), 1, 0) for cap in _caps(model.geometry.vae_pixels, native)]
    _climb(rungs, "sessions", range(2, min(FIRST_SESSIONS, limit) + 1))
    if choice.residency == "resident-first":
        _climb(rungs, "resident", range(1, model.architecture.layers + 1))
    _climb(rungs, "max_pixels", [cap for cap in _caps(model.geometry.vae_pixels, top) if cap > native])
    _climb(rungs, "sessions", range(FIRST_SESSIONS + 1, limit + 1))
    if choice.residency == "resident-first":
        rungs.append(replace(rungs[-1], text_encoder="resident"))
    return rungs


def _climb(rungs: list[Rung], name: str, values: Sequence[int]) -> None:
    for value in values:
        rungs.append(replace(rungs[-1], **{name: value}))  # type: ignore[arg-type]


def _caps(native: int, top: int) -> list[int]:
    """Areas of squares whose sides are eighths of the native side, up to ``top``, which is the last one."""
    caps = []
    eighths = _EIGHTHS_FROM
    while native * eighths * eighths // 64 < top:
        caps.append(native * eighths * eighths // 64)
        eighths += 1
    return [*caps, top]


LORAS = "LoRAs"
"""Name of the part that is kept for LoRAs."""
GRAPHS = "graphs"
"""Name of the part that CUDA graphs of blocks hold."""
SECOND = "second precision"
"""Name of the part that the blocks of a second precision take."""


@dataclass(frozen=True)
class Fit:
    """A rung that fits: ``index`` counts from the ladder's foot, ``parts`` sum up to ``peak`` bytes."""

    index: int
    rung: Rung
    tiles: Tiles
    parts: tuple[Part, ...]

    @property
    def peak(self) -> int:
        """Bytes of the device at most."""
        return sum(part.bytes for part in self.parts)


@dataclass(frozen=True)
class Fitter:
    """Fits one model in one kind of numbers to budgets.

    ``cache_bytes`` are kept for turns of sessions, ``loras`` for LoRAs where there are any.
    """

    memory: MemoryModel
    choice: Choice
    cache_bytes: int
    loras: LoraRoom = NO_LORAS
    _footprints: dict[object, Footprint] = field(default_factory=dict, repr=False, compare=False)
    _graph_bytes: dict[object, int] = field(default_factory=dict, repr=False, compare=False)

    def best(self, rungs: Sequence[Rung], budget: int) -> Fit | None:
        """Return the highest rung within ``budget`` bytes, its tiles as large as the rest allows; None if none fits."""
        for index in range(len(rungs) - 1, -1, -1):
            rung = rungs[index]
            if self.needed(rung) <= budget:
                fits = partial(self._fits, rung, budget)
                tiles = largest_tiles(fits, self._whole("decode", rung), self._whole("encode", rung), self.choice)
                return Fit(index, rung, tiles, self.parts(rung, tiles))
        return None

    def needed(self, rung: Rung) -> int:
        """Bytes that a rung takes with the smallest tiles."""
        return self._peak(rung, Tiles(self.choice.min_tile_px, self.choice.min_tile_px))

    def parts(self, rung: Rung, tiles: Tiles) -> tuple[Part, ...]:
        """Parts of a rung's peak in bytes, in the order in which people read them."""
        optional = (GRAPHS, LORAS, SECOND)
        return tuple(Part(name, size) for name, size in self._sizes(rung, tiles) if size or name not in optional)

    def _sizes(self, rung: Rung, tiles: Tiles) -> tuple[tuple[str, int], ...]:
        """Names and bytes of all parts; a plan is found by weighing hundreds of rungs and tiles, so nothing more."""
        memory, layers = self.memory, self.memory.profile.architecture.layers
        weights = memory.weights(rung.text_encoder)
        ring = 0 if rung.resident == layers or memory.device == "cpu" else RING_SLOTS
        foot = self._footprint(rung.max_pixels, rung.max_reference_pixels, rung.text_encoder, tiles)
        return (
            ("context", memory.factors.context + memory.factors.workspace),
            (GRAPHS, self._graphs(rung.max_pixels, rung.max_reference_pixels)),
            ("small weights", weights.rest),
            ("resident blocks", rung.resident * weights.block),
            ("ring", ring * weights.block),
            (SECOND, memory.second_device_bytes),
            ("text encoder", weights.text_encoder),
            (ARENA, foot.arena),
            ("sessions", rung.sessions * foot.state),
            ("caches", self.cache_bytes),
            (LORAS, self.lora_bytes),
        )

    @property
    def lora_bytes(self) -> int:
        """Bytes that are kept for LoRAs."""
        return self.loras.parameters * self.memory.numerics.element_bytes

    def work(self, rung: Rung) -> Workload:
        """The largest edit that a rung admits."""
        return largest_workload(self.memory.profile, rung.max_pixels, rung.max_reference_pixels, self.loras.width)

    def _footprint(self, pixels: int, reference_pixels: int, text_encoder: TextEncoder, tiles: Tiles) -> Footprint:
        """The largest edit's footprint, which is the same on many rungs."""
        key = (pixels, reference_pixels, text_encoder, tiles)
        if key not in self._footprints:
            work = largest_workload(self.memory.profile, pixels, reference_pixels, self.loras.width)
            self._footprints[key] = self.memory.largest_footprint(work, tiles, text_encoder)
        return self._footprints[key]

    def _graphs(self, pixels: int, reference_pixels: int) -> int:
        """What graphs hold where edits are of this size, which is the same on many rungs."""
        key = (pixels, reference_pixels)
        if key not in self._graph_bytes:
            work = largest_workload(self.memory.profile, pixels, reference_pixels, self.loras.width)
            self._graph_bytes[key] = self.memory.graphs(work)
        return self._graph_bytes[key]

    def _fits(self, rung: Rung, budget: int, tiles: Tiles) -> bool:
        return self._peak(rung, tiles) <= budget

    def _peak(self, rung: Rung, tiles: Tiles) -> int:
        return sum(size for _, size in self._sizes(rung, tiles))

    def _whole(self, way: str, rung: Rung) -> int:
        work = self.work(rung)
        return work.target_pixels if way == "decode" else max(work.reference_pixels, work.target_pixels)
