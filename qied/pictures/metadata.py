"""How an edit was made, as text inside the resulting picture."""

from __future__ import annotations

import io
import json
from dataclasses import asdict, dataclass
from typing import Final

from PIL import ExifTags, Image, PngImagePlugin
from pydantic import TypeAdapter
from qied_client.picture_header.header import PictureLimits, read_header

import qied
from qied.edit import EditSpec

_JSON_KEY: Final = "qied"
_TEXT_KEY: Final = "parameters"
_JSON_PREFIX: Final = "qied:"
_UTF16: Final = b"UNICODE\0"
_SRGB_PERCEPTUAL: Final = b"\0"


@dataclass(frozen=True)
class OutputMetadata:
    """What a person needs to make the same edit again; ``width`` and ``height`` are pixels of the result.

    ``loras`` are names with their strengths.
    """

    prompt: str
    negative_prompt: str | None
    seed: int
    steps: int
    true_cfg_scale: float
    width: int
    height: int
    model: str
    version: str = qied.__version__
    loras: tuple[tuple[str, float], ...] = ()

    @classmethod
    def of(cls, spec: EditSpec, model: str) -> OutputMetadata:
        """Describe the result of ``spec`` by the model called ``model``."""
        return cls(
            prompt=spec.prompt,
            negative_prompt=spec.negative_prompt,
            seed=spec.seed,
            steps=spec.steps,
            true_cfg_scale=spec.true_cfg_scale,
            width=spec.width,
            height=spec.height,
            model=model,
            loras=tuple((lora.name, lora.strength) for lora in spec.loras),
        )

    def as_text(self) -> str:
        """The lines that picture tools of artists show: the prompts, then all settings in one line."""
        negative = [f"Negative prompt: {self.negative_prompt}"] if self.negative_prompt else []
        loras = "".join(f"LoRA: {name} ({strength:g}), " for name, strength in self.loras)
        settings = (
            f"Steps: {self.steps}, CFG scale: {self.true_cfg_scale:g}, Seed: {self.seed}, "
            f"Size: {self.width}x{self.height}, Model: {self.model}, {loras}Version: qied {self.version}"
        )
        return "\n".join([self.prompt, *negative, settings])

    def as_json(self) -> str:
        """All fields as one line of ASCII, the same for equal metadata."""
        return json.dumps(asdict(self), sort_keys=True)


def png_chunks(metadata: OutputMetadata) -> PngImagePlugin.PngInfo:
    """The PNG text chunks "parameters" (readable) and "qied" (JSON), and the mark that colours are sRGB."""
    chunks = PngImagePlugin.PngInfo()
    chunks.add(b"sRGB", _SRGB_PERCEPTUAL)
    chunks.add_itxt(_TEXT_KEY, _without_nul(metadata.as_text()).encode("utf-8", "replace"))
    chunks.add_itxt(_JSON_KEY, metadata.as_json())
    return chunks


def exif_block(metadata: OutputMetadata) -> bytes:
    """An Exif block with the readable text as user comment and the JSON, marked "qied:", as image description."""
    exif = Image.Exif()
    exif[ExifTags.Base.ImageDescription] = _JSON_PREFIX + metadata.as_json()
    comment = _without_nul(metadata.as_text()).encode("utf-16-be", "replace")
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = _UTF16 + comment
    return exif.tobytes()


def _without_nul(text: str) -> str:
    """``text`` with NUL, which ends a PNG text for many readers, as a space."""
    return text.replace("\0", " ")


def read_metadata(data: bytes, limits: PictureLimits | None = None) -> OutputMetadata | None:
    """Read back what qied wrote into a PNG or WebP; None where there is nothing of it, or nothing whole.

    No pixel of a PNG is decoded. Raises a PictureError if ``data`` is not a picture that qied accepts.
    """
    header = read_header(io.BytesIO(data), limits or PictureLimits())
    if header.format == "jpeg":
        return None
    try:
        with Image.open(io.BytesIO(data), formats=[header.format]) as picture:
            stored = _stored_json(picture)
        return None if stored is None else _OUTPUT_METADATA.validate_json(stored, strict=True)
    except (OSError, SyntaxError, ValueError):
        return None


def _stored_json(picture: Image.Image) -> str | None:
    text = picture.info.get(_JSON_KEY)
    if isinstance(text, str):
        return str(text)
    description = picture.getexif().get(ExifTags.Base.ImageDescription) if "exif" in picture.info else None
    if isinstance(description, str) and description.startswith(_JSON_PREFIX):
        return description.removeprefix(_JSON_PREFIX)
    return None


_OUTPUT_METADATA: Final = TypeAdapter(OutputMetadata)
