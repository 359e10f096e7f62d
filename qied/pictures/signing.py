"""C2PA manifests for results: the library that writes them runs in a process of its own for each picture.

It is native code that reads the inputs, which come from strangers; a crash or an endless loop there costs one signature
and nothing else. An assignment is a JSON order after its length, then the result and each input after theirs.
"""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import BinaryIO, Final

from PIL import Image
from qied_client.errors import ConfigError, SetupError
from qied_client.installing import install_extra
from qied_client.picture_file.marks import COMPOSITE

import qied
from qied.config.output import Marking

FRAME: Final = struct.Struct(">Q")
_MODULE: Final = "qied.pictures.signing_child"
_TIMEOUT_S: Final = 60.0


@dataclass(frozen=True)
class SigningOrder:
    """What a manifest says, and the files it is signed with."""

    certificate: str
    key: str
    time_url: str
    media_type: str
    source_type: str
    title: str
    version: str


@dataclass(frozen=True)
class Assignment:
    """An order, the result's file, and the (media type, bytes) of each input."""

    order: SigningOrder
    picture: bytes
    ingredients: tuple[tuple[str, bytes], ...]


class NotSigned(Exception):
    """A manifest could not be written; the text says why."""


def signed(
    picture: bytes,
    media_type: str,
    ingredients: Sequence[tuple[str, bytes]],
    marking: Marking,
    source_type: str,
    title: str,
) -> bytes:
    """The picture's file with a C2PA manifest. ``ingredients`` are the (media type, bytes) of its inputs.

    ``source_type`` is IPTC's DigitalSourceType, ``title`` what the manifest calls the picture. Raises NotSigned.
    """
    order = SigningOrder(
        marking.c2pa_certificate,
        marking.c2pa_key,
        marking.c2pa_time_url,
        media_type,
        source_type,
        title,
        qied.__version__,
    )
    parts = [json.dumps(asdict(order)).encode(), picture]
    for kind, data in ingredients:
        parts += [kind.encode(), data]
    sent = b"".join(FRAME.pack(len(part)) + part for part in parts)
    try:
        done = subprocess.run(
            [sys.executable, "-m", _MODULE], input=sent, capture_output=True, timeout=_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise NotSigned(f"signing took more than {_TIMEOUT_S:g} s") from None
    if done.returncode != 0:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise NotSigned(lines[-1][:300] if lines else f"the signing process ended with status {done.returncode}")
    return _frame(io.BytesIO(done.stdout))


def read_assignment(source: BinaryIO) -> Assignment:
    """What ``signed`` sends."""
    order = SigningOrder(**json.loads(_frame(source)))
    picture = _frame(source)
    ingredients = []
    while head := source.read(FRAME.size):
        kind = source.read(FRAME.unpack(head)[0]).decode()
        ingredients.append((kind, _frame(source)))
    return Assignment(order, picture, tuple(ingredients))


def check_signing(marking: Marking) -> None:
    """Sign a small picture, so that a certificate that is of no use is found before the first edit.

    Raises SetupError where the library is missing, and ConfigError with the reason of the failure.
    """
    if not marking.signs:
        return
    target = io.BytesIO()
    Image.new("RGB", (16, 16)).save(target, "PNG")
    try:
        signed(target.getvalue(), "image/png", (), marking, COMPOSITE, "test")
    except NotSigned as reason:
        if "c2pa" in str(reason) and "ModuleNotFoundError" in str(reason):
            raise SetupError(
                "output.c2pa_certificate needs the package c2pa-python.", f"Install it: {install_extra('qied[c2pa]')}"
            ) from None
        raise ConfigError(
            f"output.c2pa_certificate, output.c2pa_key: a picture cannot be signed with them: {reason}.",
            "Give a PEM file with the certificate and those above it, and one with its private key without a password.",
        ) from None


def _frame(source: BinaryIO) -> bytes:
    (length,) = FRAME.unpack(source.read(FRAME.size))
    return source.read(length)
