"""What the outputs of nodes stand for, while a workflow is turned into requests: nothing is computed."""

from __future__ import annotations

from dataclasses import dataclass

from qied_client.workflows.files import MaskFile, PictureFile

Size = tuple[int, int]


@dataclass(frozen=True)
class Lora:
    """A LoRA's file, as a loader names it, its strength, and the loader's id."""

    file: str
    strength: float
    node: str


@dataclass(frozen=True)
class Model:
    """A transformer by its file. ``shift`` and ``cfg_norm`` are None where no node sets them."""

    file: str
    node: str
    loras: tuple[Lora, ...] = ()
    shift: float | None = None
    cfg_norm: float | None = None
    before_cfg: bool = False


@dataclass(frozen=True)
class TextEncoder:
    """A text encoder by its file."""

    file: str


@dataclass(frozen=True)
class Autoencoder:
    """A VAE by its file."""

    file: str


@dataclass(frozen=True)
class Upscaler:
    """An upscaling model by its file."""

    file: str
    node: str


@dataclass(frozen=True)
class Shown:
    """A picture that goes into an edit. ``size`` is what ComfyUI would have made of it, in pixels; None: not known.

    ``uncut`` is the file before FluxKontextImageScale took its middle, where that is all that was done to it.
    """

    file: PictureFile
    size: Size | None
    uncut: PictureFile | None = None


@dataclass(frozen=True)
class Prompt:
    """A prompt with its pictures. ``read`` are those the text encoder sees, ``kept`` those that the VAE encodes.

    ``zeroed``: whether nothing of it is left, as ConditioningZeroOut does.
    """

    text: str
    node: str
    read: tuple[Shown, ...] = ()
    kept: tuple[Shown, ...] = ()
    zeroed: bool = False


@dataclass(frozen=True)
class Latents:
    """Where sampling begins: an empty picture of ``size``, or ``start``; ``mask`` marks what is drawn."""

    size: Size | None
    node: str
    count: int = 1
    start: Shown | None = None
    mask: MaskFile | None = None


@dataclass(frozen=True)
class Noise:
    """The noise of a seed; ``on``: whether there is any."""

    seed: int
    on: bool = True


@dataclass(frozen=True)
class Guidance:
    """What a sampler is guided by; ``negative`` is None where nothing is guided away from."""

    model: Model
    positive: Prompt
    negative: Prompt | None
    scale: float


@dataclass(frozen=True)
class Sampler:
    """A sampler by ComfyUI's name."""

    name: str


@dataclass(frozen=True)
class Sigmas:
    """A schedule by ComfyUI's name: ``steps`` of it, the last ones where ``denoise`` is below 1."""

    scheduler: str
    steps: int
    denoise: float = 1.0


@dataclass(frozen=True)
class Pass:
    """A pass over what was drawn, or over a picture: the last ``steps`` of ``steps / denoise``, as in KSampler."""

    denoise: float
    steps: int
    seed: int


@dataclass(frozen=True)
class Edit:
    """An edit, as its sampler has it: the latents of its result.

    ``passes`` go over the result one after the other; with ``over_start`` there is no first drawing, and they go over
    the picture that the latents begin from.
    """

    node: str
    guidance: Guidance
    seed: int
    steps: int
    latents: Latents
    passes: tuple[Pass, ...] = ()
    over_start: bool = False


@dataclass(frozen=True)
class Result:
    """A picture to save: an edit's, upscaled where ``upscaler`` is given, or an upscaled picture."""

    source: Edit | Shown | OwnEdit
    upscaler: Upscaler | None = None


@dataclass(frozen=True)
class OwnLoras:
    """LoRAs by the daemon's own names, with their strengths."""

    chosen: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class OwnRegion:
    """A region that is drawn again, as a node of qied has it: left, top, width and height of ``box`` in pixels."""

    options: tuple[tuple[str, object], ...]
    box: tuple[int, int, int, int] | None = None
    mask: MaskFile | None = None


@dataclass(frozen=True)
class OwnRegions:
    """Regions in the order in which they are drawn."""

    regions: tuple[OwnRegion, ...]


@dataclass(frozen=True)
class OwnEdit:
    """An edit as a node of qied has it: ``options`` by the names that they have there."""

    node: str
    prompt: str
    pictures: tuple[Shown, ...]
    options: tuple[tuple[str, object], ...] = ()
    mask: MaskFile | None = None
    canvas: Shown | None = None
    regions: tuple[OwnRegion, ...] = ()
