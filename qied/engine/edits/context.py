"""The context that the phases of an edit share: the engine's models, the unit of work, and its held bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from PIL import Image

from qied.edit import EditSpec, PassSpec
from qied.engine.edits.pacing import Pacer
from qied.engine.edits.preview import Previews
from qied.engine.lora.library import LoraLibrary
from qied.engine.models import Models
from qied.engine.upscale.upscaling import UpscalerLibrary
from qied.link.engine_port import Ended, Picture
from qied.pictures.reduced import ReducedPicture, view_of
from qied.planning.edits.crops import Crop
from qied.planning.edits.view import View
from qied.planning.edits.views import Seen, Sight, canvas_view, source_view
from qied.planning.profiles.model_profile import ModelProfile
from qied.scheduling.sweep import StepNeeds, SweepRoom

Phase = Literal["encode_prompt", "encode_image", "prepare_steps", "denoise", "redraw", "decode", "upscale"]


@dataclass(frozen=True)
class Advance:
    """What one unit of work did: number ``step`` of ``steps`` in its phase.

    ``encode_prompt`` is work of the text encoder (its vision tower too), ``encode_image`` of the VAE, ``prepare_steps``
    loads LoRAs and computes the modulation of a schedule. ``preview`` is a small RGB picture; ``image`` is the RGB
    result, which comes with the last unit only. ``ended`` are units of this edit that the device has ended since the
    last Advance, and what they took there (see ``edits.pacing``): on a CPU this very one; on a card, which is
    behind the host, earlier ones, and with the result all that are left.
    """

    phase: Phase
    step: int
    steps: int
    preview: Image.Image | None = None
    image: Image.Image | None = None
    ended: tuple[Ended, ...] = ()

    @property
    def milliseconds(self) -> float:
        """Time of the units that have ended."""
        return sum(unit.milliseconds for unit in self.ended)


@dataclass(frozen=True)
class EngineContext:
    """The context that all edits share and none changes; ``sight`` is how its model sees pictures.

    ``sweep_room`` is what steps that go together may take, None where each goes alone. ``decode_room`` gives the bytes
    that decoding a picture of a width and height may take, and so upscaling it.
    """

    models: Models
    profile: ModelProfile
    preview: Previews
    sight: Sight
    loras: LoraLibrary
    pacer: Pacer
    sweep_room: SweepRoom | None
    upscalers: UpscalerLibrary
    decode_room: Callable[[int, int], int]


class EditInputs:
    """One edit as the phases see it: the spec, and its decoded pictures by hash for as long as they are needed."""

    def __init__(self, spec: EditSpec, pictures: Mapping[str, Picture], sight: Sight) -> None:
        self.spec = spec
        self.loras = tuple(lora for lora in spec.loras if lora.strength)
        self.pictures = dict(pictures)
        self._sight = sight
        self._sizes = {image: picture.size for image, picture in pictures.items()}

    def first_pass(self) -> Drawing:
        """The pass from noise."""
        spec = self.spec
        return Drawing((spec.width, spec.height), spec.steps, self._sight.of_first_pass(spec, self._sizes))

    def drawing_of(self, each: PassSpec) -> Drawing:
        """A pass over a region."""
        crop = self._sight.crop(self.spec, each)
        seen = self._sight.of_pass(self.spec, each, self._sizes)
        return Drawing((crop.width, crop.height), each.steps, seen, each, crop)

    def seen(self, name: str, view: View) -> Image.Image:
        """A view of one of the pictures."""
        picture = self.pictures[name]
        if isinstance(picture, ReducedPicture):
            return picture.view(view)
        assert isinstance(picture, Image.Image), "a picture is whole, or has its views"
        return view_of(picture, view)

    def source(self) -> Image.Image:
        """What a masked edit keeps outside its mask, on the grid of the result."""
        blob = self.spec.images[0]
        return self.seen(blob, source_view(self.spec, self._sizes[blob]))

    def canvas(self) -> Image.Image:
        """The picture that passes are drawn on, where none comes before them."""
        assert self.spec.canvas is not None
        return self.seen(self.spec.canvas, canvas_view(self.spec, self._sizes[self.spec.canvas]))

    def pictures_are_encoded(self) -> None:
        """Drop the pictures, apart from what a masked edit lays its result over; all, where other passes follow."""
        if self.spec.passes:
            return
        needed = (self.spec.images[0], self.spec.mask) if self.spec.mask is not None else ()
        self.pictures = {image: picture for image, picture in self.pictures.items() if image in needed}


@dataclass(frozen=True)
class Drawing:
    """One pass: its grid (width, height) in pixels, the steps of its schedule, and the pictures that it sees.

    A pass over a region has ``over`` and its ``crop``; it begins later in the schedule, from what is drawn over.
    """

    size: tuple[int, int]
    steps: int
    seen: Seen
    over: PassSpec | None = None
    crop: Crop | None = None

    @property
    def first_step(self) -> int:
        """Steps of the schedule that are left out."""
        return 0 if self.over is None else self.steps - self.over.own_steps

    @property
    def precision(self) -> str:
        """The precision that it names, "" for the model's own."""
        return "" if self.over is None else self.over.precision

    @property
    def phase(self) -> Phase:
        """What its steps are called."""
        return "denoise" if self.over is None else "redraw"


class HeldTensor(Protocol):
    """A tensor, or several together."""

    @property
    def nbytes(self) -> int:
        """Bytes on the device."""


@dataclass
class HeldBytes:
    """Bytes of tensors that an edit holds, by what they are; and what its next unit takes, where that is a step."""

    parts: dict[str, int] = field(default_factory=dict)
    step: StepNeeds | None = None

    def hold(self, part: str, *tensors: HeldTensor | None) -> None:
        """Note that ``part`` consists of these tensors from now on."""
        self.parts[part] = sum(tensor.nbytes for tensor in tensors if tensor is not None)

    @property
    def total(self) -> int:
        return sum(self.parts.values())
