"""The base of all messages, and texts cut to what the wire carries."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from qied_client.protocol import limits
from qied_client.protocol.fields import FieldError, Scalars, body_field

if TYPE_CHECKING:
    from typing_extensions import Self


def cut_text(text: str, limit: int) -> str:
    """Return the beginning of a text that fits ``limit`` bytes of UTF-8, without what the wire does not carry."""
    return text.replace("\0", "").encode(errors="replace")[:limit].decode(errors="ignore")


def fitting(details: Mapping[str, object]) -> dict[str, Any]:
    """Details with their texts cut, without those that the wire does not carry."""
    fitting: dict[str, Any] = {}
    for key, value in details.items():
        entry = {key: cut_text(value, limits.SCALAR_BYTES) if isinstance(value, str) else value}
        with suppress(FieldError):
            fitting.update(Scalars()(entry))
        if len(fitting) == limits.SCALARS:
            break
    return fitting


@dataclass(frozen=True)
class Message:
    """Base of all messages. ``TYPE`` is the first frame; a field checked by ``Body`` is the third."""

    TYPE: ClassVar[bytes] = b""

    @property
    def body(self) -> bytes | memoryview | None:
        """Bytes of the third frame, or None."""
        found = body_field(type(self))
        return (getattr(self, found[0]) or None) if found else None

    def with_body(self, body: bytes | memoryview | None) -> Self:
        """Return the message with the third frame in place; raises FieldError where it is not allowed or missing."""
        found = body_field(type(self))
        if found is None:
            if body is not None:
                raise FieldError("body", "this message has none")
            return self
        name, check = found
        try:
            return replace(self, **{name: check(body if body is not None else b"")})
        except FieldError as error:
            raise error.inside(name) from None
