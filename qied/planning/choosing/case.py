"""The input of planning: the plan request, and the request for one card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from qied.hardware.snapshot import Gpu, Snapshot
from qied.planning.choosing.budget import Budget
from qied.planning.choosing.candidates import Shortlist
from qied.planning.choosing.fitting import Fitter
from qied.planning.choosing.text_precision import streamed_text_precision
from qied.planning.edits.loras import NO_LORAS, LoraRoom
from qied.planning.edits.pictures import CANVAS_PIXELS
from qied.planning.layout.memory import MemoryModel, Precisions
from qied.planning.plan import PreviewDecoder
from qied.planning.profiles.hardware_profile import Choice, LoadedProfile
from qied.planning.profiles.model_profile import ModelProfile
from qied.planning.wishes import Wishes


@dataclass(frozen=True)
class PlanRequest:
    """The request for a plan: a model, the hardware profiles to choose from, a person's wishes, and room for LoRAs.

    ``stored_block``: bytes of the model's largest block in files of GGUF; 0 for others. ``text_encoder_as_stored``: why
    its text encoder cannot be quantised here, a clause; "" where it can. ``copied_text_weights``: how many of its
    weights are copied into host memory where it streams. ``preview``: the tiny autoencoder that decodes previews,
    where there is one. ``second_refused``: why its files give no BF16, a clause; "" where they do.
    ``warnings`` are of the model's files. ``largest_result``: pixels that a result may have when all is done with it.
    """

    model: ModelProfile
    profiles: Sequence[LoadedProfile]
    wishes: Wishes = field(default_factory=Wishes)
    loras: LoraRoom = NO_LORAS
    stored_block: int = 0
    text_encoder_as_stored: str = ""
    copied_text_weights: int = 0
    preview: PreviewDecoder | None = None
    second_refused: str = ""
    warnings: tuple[str, ...] = ()
    largest_result: int = CANVAS_PIXELS


@dataclass(frozen=True)
class CardRequest:
    """One card with everything that is known when it is planned for.

    ``second`` says whether blocks in BF16 are planned next to those of any other precision that allows for it.
    """

    snapshot: Snapshot
    gpu: Gpu
    profile: LoadedProfile
    request: PlanRequest
    listed: Shortlist
    budget: Budget
    second: bool = False

    @property
    def choice(self) -> Choice:
        """What the profile chooses."""
        return self.profile.profile.choose

    def fitter(self, numerics: Precisions) -> Fitter:
        """What fits a kind of numbers to a budget."""
        request = self.request
        text = streamed_text_precision(request.wishes, request.text_encoder_as_stored)
        memory = MemoryModel(
            request.model,
            numerics,
            "cuda",
            stored_block=request.stored_block,
            text_precision=text,
            preview=request.preview,
            second=self.second and numerics.takes_second,
            copied_text_weights=request.copied_text_weights,
        )
        return Fitter(memory, self.choice, self.request.wishes.cache_bytes, self.request.loras)
