"""Workflows in files: JSON, and pictures that carry the workflow or the settings they were made with."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Final

from qied_client.errors import InvalidRequest, SetupError
from qied_client.inputs import picture_bytes
from qied_client.installing import install_extra
from qied_client.picture_metadata import PictureMetadata, read_metadata
from qied_client.workflows.workflow import not_a_workflow

_PICTURES: Final = (".png", ".webp", ".jpg", ".jpeg")
_PROMPT: Final = "prompt"
_WORKFLOW: Final = "workflow"
_MAKE, _MODEL = 0x010F, 0x0110


@dataclass(frozen=True)
class Document:
    """What a file says: a ``workflow`` as JSON gives it, or how qied made the picture, which says more."""

    workflow: Any = None
    made: PictureMetadata | None = None


def read_document(file: str | os.PathLike[str]) -> Document:
    """Read a workflow's file, JSON or a picture; raises InvalidRequest where there is none in it.

    A picture of qied's has its own settings, which are read in place of its graph. Raises SetupError for a picture
    where Pillow is missing.
    """
    path = Path(file).expanduser()
    if path.suffix.lower() in _PICTURES:
        return _of_picture(path)
    try:
        text = path.read_bytes()
    except OSError as error:
        raise InvalidRequest(
            f"{path}: {error.strerror}.", "Give a workflow's file, such as workflow.json.", field="workflow"
        ) from error
    try:
        return Document(json.loads(text))
    except (ValueError, RecursionError) as error:
        raise not_a_workflow(f"{path} is not JSON: {error}.", "Give a file that ComfyUI saved or exported.") from None


def _of_picture(path: Path) -> Document:
    made = read_metadata(path)
    if made is not None:
        return Document(made=made)
    try:
        from PIL import Image
    except ImportError:
        raise SetupError(
            "Reading a picture's workflow needs Pillow.", f"Install it: {install_extra('qied-client[pictures]')}"
        ) from None
    with Image.open(BytesIO(picture_bytes(path))) as image:
        texts = {name: text for name, text in image.info.items() if isinstance(text, str)}
        if "exif" in image.info:
            exif = image.getexif()
            for tag in (_MAKE, _MODEL):
                name, _, text = str(exif.get(tag) or "").partition(":")
                texts.setdefault(name.lower(), text)
    for name in (_PROMPT, _WORKFLOW):  # the first is what ran, with the seed that it ran with
        if texts.get(name):
            try:
                return Document(json.loads(texts[name]))
            except (ValueError, RecursionError):
                continue
    raise not_a_workflow(
        f"{path} has none inside: neither ComfyUI nor qied made it, or another program saved it again.",
        "Give the file as it was saved first, or the workflow's JSON.",
    )
