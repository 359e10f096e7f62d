"""The LoRAs of an engine: loaded when an edit needs them, and kept within a limit until others do."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from qied_client.errors import InvalidRequest, UnknownLora
from qied_client.protocol.request import LoraChoice
from torch import Tensor

from qied.engine.lora.branches import AroundLoras, BlockLoras, StreamLoras
from qied.engine.lora.loaded import LoadedLora, load_alone, load_lora
from qied.engine.lora.tensors import check_unchanged, opened
from qied.engine.ops.low_rank import Branch, Scaled
from qied.loras.catalogue import LoraFile, file_of
from qied.loras.changes import Change
from qied.loras.contents import LoraContents, read_contents
from qied.loras.keys import PROJECTIONS, TIMES
from qied.planning.profiles.model_profile import Architecture


class LoraLibrary:
    """LoRAs by name. Those on the device take ``limit_bytes`` at most, also while edits that use them are under way.

    An edit asks for its branches at every step and lets go of them after it, so that those of other edits may take
    their room in between; loading them again gives the same. The least recently used ones go first.
    """

    def __init__(
        self,
        files: Mapping[str, LoraFile],
        architecture: Architecture,
        device: torch.device,
        dtype: torch.dtype,
        limit_bytes: int,
    ) -> None:
        self._files = files
        self._architecture = architecture
        self._device = device
        self._dtype = dtype
        self._limit_bytes = limit_bytes
        self._contents: dict[str, LoraContents] = {}
        self._loaded: OrderedDict[str, LoadedLora] = OrderedDict()

    @property
    def device_bytes(self) -> int:
        return sum(lora.nbytes for lora in self._loaded.values())

    def check(self, choices: Sequence[LoraChoice]) -> None:
        """Look at the files of an edit; raises UnknownLora, ModelUnsupported, or InvalidRequest for too many."""
        for choice in choices:
            if choice.name not in self._files:
                raise UnknownLora(
                    f"The LoRA {choice.name!r} no longer exists.",
                    "Put its file back, and restart the daemon.",
                    field="loras",
                )
            check_unchanged(self._files[choice.name], file_of(choice.name))
        needed = sum(self._nbytes(choice.name) for choice in choices)
        if needed > self._limit_bytes:
            raise InvalidRequest(
                f"loras: these take {needed} bytes; {self._limit_bytes} are reserved for LoRAs.",
                "Name fewer, or raise worker.loras_at_once.",
                field="loras",
            )

    def load(self, choices: Sequence[LoraChoice]) -> Iterator[tuple[int, int]]:
        """Bring the LoRAs of an edit to the device, one between two yields of (done, to be done)."""
        missing = [choice.name for choice in choices if choice.name not in self._loaded]
        for done, name in enumerate(missing, 1):
            self._use(name, {choice.name for choice in choices})
            yield done, len(missing)

    def sizes(self, choices: Sequence[LoraChoice]) -> dict[str, int]:
        """Bytes of each LoRA of an edit, by name, while it is on the device."""
        return {choice.name: self._nbytes(choice.name) for choice in choices}

    def branches(self, choices: Sequence[LoraChoice]) -> tuple[BlockLoras, ...]:
        """Return the branches of each block, for one step; () without any LoRA. Missing LoRAs are loaded."""
        if not choices:
            return ()
        wanted = {choice.name for choice in choices}
        loaded = [(self._use(choice.name, wanted), choice.strength) for choice in choices]
        return tuple(
            BlockLoras(_stream(loaded, block, "image"), _stream(loaded, block, "text"))
            for block in range(self._architecture.layers)
        )

    def around(self, choices: Sequence[LoraChoice]) -> AroundLoras:
        """Return the branches of the linears around the blocks, for one step."""
        wanted = {choice.name for choice in choices}
        loaded = [
            (self._use(choice.name, wanted), choice.strength) for choice in choices if self._known(choice.name).around
        ]

        def beside(linear: str) -> tuple[Scaled, ...]:
            return tuple(Scaled(lora.around[linear], strength) for lora, strength in loaded if linear in lora.around)

        return AroundLoras(*(beside(linear) for linear in PROJECTIONS))

    def modulation(self, choices: Sequence[LoraChoice]) -> tuple[ModulationShare, ...]:
        """Return what LoRAs add to the modulation; those that leave it alone are not among them."""
        return tuple(
            ModulationShare(self, choice.name, choice.strength)
            for choice in choices
            if self._known(choice.name).modulation
        )

    def modulation_branch(self, name: str, block: int | None, module: str) -> Branch | None:
        """Read what a LoRA adds to one linear whose outputs depend on the time alone; None where that is nothing."""
        changes = self._known(name).modulation
        change = next((change for change in changes if (change.block, change.module) == (block, module)), None)
        return None if change is None else self._read_alone(name, change)

    def changes_time(self, name: str) -> bool:
        """Whether a LoRA changes the embedding of the time itself."""
        return any(change.module in TIMES for change in self._known(name).modulation)

    def _use(self, name: str, wanted: set[str]) -> LoadedLora:
        """Return a LoRA on the device, loaded in the room of those that are not wanted now."""
        if name not in self._loaded:
            contents = self._known(name)
            self._make_room(self._nbytes(name), wanted)
            with opened(self._files[name], file_of(name), self._device) as tensors:
                buffer = torch.empty(contents.parameters, dtype=self._dtype, device=self._device)
                self._loaded[name] = load_lora(contents, tensors, buffer, self._architecture.layers)
        self._loaded.move_to_end(name)
        return self._loaded[name]

    def _make_room(self, nbytes: int, wanted: set[str]) -> None:
        for name in [name for name in self._loaded if name not in wanted]:
            if self.device_bytes + nbytes <= self._limit_bytes:
                return
            del self._loaded[name]

    def _known(self, name: str) -> LoraContents:
        if name not in self._contents:
            file = self._files[name]
            check_unchanged(file, file_of(name))
            self._contents[name] = read_contents(file.real_path, file_of(name), self._architecture, file.neighbours)
        return self._contents[name]

    def _nbytes(self, name: str) -> int:
        return self._known(name).parameters * self._dtype.itemsize

    def _read_alone(self, name: str, change: Change) -> Branch:
        with opened(self._files[name], file_of(name), self._device) as tensors:
            buffer = torch.empty(change.parameters, dtype=self._dtype, device=self._device)
            return load_alone(change, tensors, buffer)


@dataclass(frozen=True)
class ModulationShare:
    """See ``transformer.modulation.ModulationLora``; its matrices are read when a table is made, and do not stay."""

    library: LoraLibrary
    name: str
    strength: float

    @property
    def key(self) -> tuple[str, float]:
        """Name and strength: a file does not change while the daemon runs."""
        return self.name, self.strength

    @property
    def changes_time(self) -> bool:
        """See ``ModulationLora``."""
        return self.library.changes_time(self.name)

    def add_to(self, outputs: Tensor, x: Tensor, block: int | None, module: str) -> None:
        """See ``ModulationLora``; raises ModelUnsupported."""
        branch = self.library.modulation_branch(self.name, block, module)
        if branch is not None:
            Scaled(branch, self.strength).add_to(outputs, x)


def _stream(loaded: Sequence[tuple[LoadedLora, float]], block: int, stream: str) -> StreamLoras:
    def beside(linear: str) -> tuple[Scaled, ...]:
        name = f"{stream}.{linear}"
        return tuple(
            Scaled(lora.blocks[block][name], strength) for lora, strength in loaded if name in lora.blocks[block]
        )

    return StreamLoras(beside("qkv"), beside("out"), beside("up"), beside("down"))
