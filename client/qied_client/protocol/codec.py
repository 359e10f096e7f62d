"""Frames to messages and back: ``type``, a msgpack header of at most 16 KiB, and at most one body."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgpack

from qied_client.errors import InvalidRequest, ProtocolError
from qied_client.protocol import limits
from qied_client.protocol.fields import FieldError, read, write
from qied_client.protocol.message import Message

Registry = Mapping[bytes, type[Message]]


def registry(*kinds: type[Message]) -> Registry:
    """Table of the message classes that one side understands, by their type frame."""
    table = {kind.TYPE: kind for kind in kinds}
    assert len(table) == len(kinds), "two message classes share a type frame"
    return table


def encode(message: Message, version: int = limits.VERSION) -> list[bytes | memoryview]:
    """Frames of a message for a peer of that version: the type, the header and, where it has one, the body.

    Raises ProtocolError for a header that is too large, or a value that msgpack does not have.
    """
    try:
        header = msgpack.packb(write(message, first=version < 2))
    except (TypeError, ValueError, OverflowError) as error:
        name = message.TYPE.decode()
        raise ProtocolError(f"{name} has a field that cannot be sent: {error}.", "Correct this field.") from None
    if len(header) > limits.HEADER_BYTES:
        raise ProtocolError(
            f"The header of {message.TYPE.decode()} has {len(header)} bytes; the limit is {limits.HEADER_BYTES}.",
            "Send less text in one message.",
        )
    frames: list[bytes | memoryview] = [message.TYPE, header]
    if message.body is not None:
        frames.append(message.body)
    return frames


def decode(frames: Sequence[bytes | memoryview], known: Registry) -> Message:
    """Message of the frames, every field checked.

    Raises ProtocolError, or InvalidRequest where the wrong field is one of an edit request. Either error carries
    ``details["id"]`` when the header's own ``id`` was readable, so that the answer can refer to it.
    """
    if not 2 <= len(frames) <= limits.MESSAGE_FRAMES:
        raise ProtocolError(f"A message has 2 or {limits.MESSAGE_FRAMES} frames, not {len(frames)}.")
    kind = known.get(bytes(frames[0][:16]))
    if kind is None:
        raise ProtocolError(f"Unknown message type {bytes(frames[0][:16])!r}.", "See docs/protocol.md.")
    header = _unpack(frames[1])
    name = kind.TYPE.decode()
    try:
        message = read(kind, header)
        return message.with_body(frames[2] if len(frames) == limits.MESSAGE_FRAMES else None)
    except FieldError as error:
        inside = error.path.startswith("request.")
        path = error.path.removeprefix("request.")
        raised = InvalidRequest if inside else ProtocolError
        wrong = raised(f"{path}: {error.problem}." if inside else f"{name}: {error}.", "Correct this field.")
        wrong.details["field"] = path
        identifier = header.get("id")
        if type(identifier) is int and 0 <= identifier < 2**63:
            wrong.details["id"] = identifier
        raise wrong from None


def _unique(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        raise ProtocolError("A header has the same key twice.")
    return mapping


def _unpack(frame: bytes | memoryview) -> dict[str, Any]:
    if len(frame) > limits.HEADER_BYTES:
        raise ProtocolError(f"A header has {len(frame)} bytes; the limit is {limits.HEADER_BYTES}.")
    try:
        header = msgpack.unpackb(
            frame,
            raw=False,
            strict_map_key=True,
            object_pairs_hook=_unique,
            max_str_len=limits.HEADER_BYTES,
            max_bin_len=0,
            max_array_len=1024,
            max_map_len=256,
            max_ext_len=0,
        )
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise ProtocolError(f"A header is not valid msgpack: {str(error)[:120] or type(error).__name__}.") from None
    if not isinstance(header, dict):
        raise ProtocolError(f"A header must be a mapping, not {type(header).__name__}.")
    return header
