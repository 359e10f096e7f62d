"""Checks of single fields, and dataclasses that are read from untrusted mappings by them.

A wire dataclass annotates each field with ``Annotated[type, check]``. ``read`` builds it from a mapping: unknown keys,
missing keys and values outside their bounds are errors that name the field, the limit and what was seen.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Any, TypeVar, get_type_hints

from qied_client.protocol import limits

T = TypeVar("T")

_HASH = re.compile(r"[0-9a-f]{64}")
_IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class FieldError(ValueError):
    """A value that its field does not allow; ``path`` names the field from the outside in."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = path
        self.problem = problem

    def inside(self, outer: str) -> FieldError:
        """Return the same error seen from the enclosing field ``outer``."""
        between = "." if self.path and not self.path.startswith("[") else ""
        return FieldError(f"{outer}{between}{self.path}", self.problem)


def _seen(value: object) -> str:
    if value is not None and not isinstance(value, (bool, int, float, str, bytes)):
        return type(value).__name__
    if isinstance(value, int) and value.bit_length() > 128:
        return f"a number of {value.bit_length()} bits"
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


@dataclass(frozen=True)
class Int:
    """An integer from ``low`` to ``high``, both included, and a multiple of ``multiple``."""

    low: int
    high: int
    multiple: int = 1

    def __call__(self, value: object) -> int:
        if type(value) is not int:
            raise FieldError("", f"must be an integer, not {_seen(value)}")
        if not self.low <= value <= self.high:
            raise FieldError("", f"must be {self.low} to {self.high}, not {_seen(value)}")
        if value % self.multiple:
            raise FieldError("", f"must be a multiple of {self.multiple}, not {value}")
        return value


@dataclass(frozen=True)
class Real:
    """A finite number from ``low`` to ``high``; integers are taken, NaN and infinities are not."""

    low: float
    high: float

    def __call__(self, value: object) -> float:
        if type(value) not in (int, float):
            raise FieldError("", f"must be a number, not {_seen(value)}")
        if not self.low <= value <= self.high:  # type: ignore[operator]
            raise FieldError("", f"must be a number from {self.low:g} to {self.high:g}, not {_seen(value)}")
        return float(value)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Text:
    """Text of at most ``limit`` UTF-8 bytes without NUL; surrogates cannot occur in valid UTF-8."""

    limit: int
    empty: bool = False

    def __call__(self, value: object) -> str:
        if not isinstance(value, str):
            raise FieldError("", f"must be text, not {_seen(value)}")
        try:
            size = len(value.encode())
        except UnicodeEncodeError:
            raise FieldError("", "must be valid Unicode text") from None
        if size > self.limit:
            raise FieldError("", f"must be at most {self.limit} bytes of UTF-8, but has {size}")
        if "\0" in value:
            raise FieldError("", "must not contain NUL")
        if not self.empty and not value.strip():
            raise FieldError("", "must not be empty")
        return value


@dataclass(frozen=True)
class Identifier:
    """A name of letters, digits, ``.``, ``_`` and ``-`` that starts with a letter or digit."""

    limit: int

    def __call__(self, value: object) -> str:
        if not isinstance(value, str) or len(value) > self.limit or not _IDENTIFIER.fullmatch(value):
            raise FieldError("", f"must be 1 to {self.limit} letters, digits, '.', '_' or '-', not {_seen(value)}")
        return value


@dataclass(frozen=True)
class NameInFolder:
    """A file's name below a folder, at most ``limit`` UTF-8 bytes: parts that start with no dot, ``/`` between them."""

    limit: int

    def __call__(self, value: object) -> str:
        text = Text(self.limit)(value)
        parts = text.split("/")
        well_formed = all(part == part.strip() and part[:1] not in ("", ".") for part in parts)
        if not (well_formed and text.isprintable() and "\\" not in text):
            raise FieldError("", f"must be a name such as 'style' or 'folder/style', not {_seen(value)}")
        return text


@dataclass(frozen=True)
class Hash:
    """A SHA-256 digest as 64 lower-case hexadecimal digits."""

    def __call__(self, value: object) -> str:
        if not isinstance(value, str) or not _HASH.fullmatch(value):
            raise FieldError("", f"must be a SHA-256 hash of 64 lower-case hex digits, not {_seen(value)}")
        return value


@dataclass(frozen=True)
class Flag:
    """True or false."""

    def __call__(self, value: object) -> bool:
        if not isinstance(value, bool):
            raise FieldError("", f"must be true or false, not {_seen(value)}")
        return value


@dataclass(frozen=True)
class OneOf:
    """One of a few texts."""

    allowed: tuple[str, ...]

    def __call__(self, value: object) -> str:
        if not isinstance(value, str) or value not in self.allowed:
            raise FieldError("", f"must be one of {', '.join(self.allowed)}, not {_seen(value)}")
        return value


@dataclass(frozen=True)
class Maybe:
    """Null, or what ``check`` allows."""

    check: Callable[[object], Any]

    def __call__(self, value: object) -> Any:
        return None if value is None else self.check(value)


@dataclass(frozen=True)
class ListOf:
    """A list of ``least`` to ``most`` items, returned as a tuple."""

    check: Callable[[object], Any]
    most: int
    least: int = 0

    def __call__(self, value: object) -> tuple[Any, ...]:
        if not isinstance(value, (list, tuple)):
            raise FieldError("", f"must be a list, not {_seen(value)}")
        if not self.least <= len(value) <= self.most:
            raise FieldError("", f"must have {self.least} to {self.most} items, but has {len(value)}")
        items = []
        for index, item in enumerate(value):
            try:
                items.append(self.check(item))
            except FieldError as error:
                raise error.inside(f"[{index}]") from None
        return tuple(items)


@dataclass(frozen=True)
class Scalars:
    """A small mapping from identifiers to scalars: timings and details, whose keys may grow between versions."""

    most: int = limits.SCALARS

    def __call__(self, value: object) -> dict[str, Any]:
        if not isinstance(value, Mapping) or len(value) > self.most:
            raise FieldError("", f"must be a mapping of at most {self.most} entries")
        scalars = {}
        for key, item in value.items():
            name = Identifier(limits.ID_CHARS)(key)
            try:
                scalars[name] = self._scalar(item)
            except FieldError as error:
                raise error.inside(name) from None
        return scalars

    def _scalar(self, item: object) -> object:
        if isinstance(item, str):
            return Text(limits.SCALAR_BYTES, empty=True)(item)
        if item is not None and not isinstance(item, (bool, int, float)):
            raise FieldError("", "must be a number, text, true, false or null")
        if isinstance(item, float) and not math.isfinite(item):
            raise FieldError("", "must be finite")
        if isinstance(item, int) and not -(2**63) <= item < 2**63:
            raise FieldError("", "must have at most 64 bits")
        return item


@dataclass(frozen=True)
class Body:
    """Bytes that travel as a frame of their own: ``least`` to ``most`` of them, no part of the header."""

    least: int
    most: int

    def __call__(self, value: object) -> bytes | memoryview:
        if not isinstance(value, (bytes, memoryview)):
            raise FieldError("", "must be bytes")
        if not self.least <= len(value) <= self.most:
            raise FieldError("", f"must have {self.least} to {self.most} bytes, but has {len(value)}")
        return value


@dataclass(frozen=True)
class Later:
    """A field that came with version 2: left out of what is written while it has its default, and for version 1.

    So peers that do not know it, and hashes that were made without it, do not meet it.
    """

    check: Callable[[object], Any]

    def __call__(self, value: object) -> Any:
        return self.check(value)


@dataclass(frozen=True)
class Nested:
    """A mapping that is read as another wire dataclass."""

    kind: type

    def __call__(self, value: object) -> Any:
        if isinstance(value, self.kind):
            value = write(value)
        return read(self.kind, value)


Check = Callable[[object], Any]
_TABLES: dict[type[Any], dict[str, tuple[Check, bool]]] = {}


def _checks(kind: type[Any]) -> dict[str, tuple[Check, bool]]:
    """Check of each field, and whether it must be given; worked out once for each class."""
    table = _TABLES.get(kind)
    if table is None:
        hints = get_type_hints(kind, include_extras=True)
        table = _TABLES[kind] = {
            field.name: (
                hints[field.name].__metadata__[0],
                field.default is MISSING and field.default_factory is MISSING,
            )
            for field in fields(kind)
        }
    return table


def read(kind: type[T], value: object) -> T:
    """Build the wire dataclass ``kind`` from an untrusted mapping; raises FieldError."""
    if not isinstance(value, Mapping):
        raise FieldError("", f"must be a mapping, not {_seen(value)}")
    checks = _checks(kind)
    unknown = [key for key in value if key not in checks or isinstance(checks[key][0], Body)]
    if unknown:
        raise FieldError(_seen(unknown[0]), f"is not a known key; known are {', '.join(checks)}")
    arguments = {}
    for name, (check, required) in checks.items():
        if name not in value:
            if required and not isinstance(check, Body):
                raise FieldError(name, "is missing")
            continue
        try:
            arguments[name] = check(value[name])
        except FieldError as error:
            raise error.inside(name) from None
    return kind(**arguments)


def checked(value: T) -> T:
    """Return a copy of a wire dataclass that was built in code, every field checked; raises FieldError."""
    return read(type(value), write(value))


def write(value: Any, *, first: bool = False) -> dict[str, Any]:
    """Turn a wire dataclass into the mapping that ``read`` takes; a body and unused later fields stay out.

    ``first``: for a peer that knows the first version only, so that all later fields stay out.
    """
    return {
        name: _plain(getattr(value, name), first)
        for name, (check, _) in _checks(type(value)).items()
        if not isinstance(check, Body) and not (isinstance(check, Later) and (first or _unused(value, name)))
    }


def _unused(value: Any, name: str) -> bool:
    return bool(getattr(value, name) == type(value).__dataclass_fields__[name].default)


def body_field(kind: type[Any]) -> tuple[str, Body] | None:
    """Name and check of the field that travels as a frame of its own, or None."""
    for name, (check, _) in _checks(kind).items():
        if isinstance(check, Body):
            return name, check
    return None


def _plain(value: Any, first: bool) -> Any:
    if isinstance(value, tuple):
        return [_plain(item, first) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return write(value, first=first)
    return value
