"""JSON Schemas of the gateway's values: from the wire's checks where a class has them, else from its types."""

from __future__ import annotations

import types
from dataclasses import fields, is_dataclass
from datetime import datetime
from typing import Any, Union, get_args, get_origin, get_type_hints

from qied_client.protocol import fields as f

Schema = dict[str, Any]

_PLAIN: dict[Any, Schema] = {
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string"},
    bool: {"type": "boolean"},
    dict: {"type": "object"},
    datetime: {"type": "string", "format": "date-time"},
    Any: {},
}


class Schemas:
    """The schemas of classes, each once, to be referred to by the name of its class."""

    def __init__(self) -> None:
        self.components: dict[str, Schema] = {}

    def of(self, kind: type[Any], *without: str) -> Schema:
        """A reference to the schema of a dataclass as JSON has it, but for some of its fields."""
        name = kind.__name__
        if name not in self.components:
            self.components[name] = {}  # a class that refers to itself ends here
            hints = get_type_hints(kind, include_extras=True)
            members = {
                field.name: self._member(hints[field.name]) for field in fields(kind) if field.name not in without
            }
            self.components[name] = {
                "type": "object",
                "description": _plain_text(kind.__doc__ or ""),
                "properties": {name: schema for name, schema in members.items() if schema is not None},
                "required": [name for name, schema in members.items() if schema is not None],
            }
        return {"$ref": f"#/components/schemas/{name}"}

    def checked(self, check: Any) -> Schema:
        """The schema of what a check of the wire takes."""
        match check:
            case f.Int(low, high, multiple):
                grid = {"multipleOf": multiple} if multiple > 1 else {}
                return {"type": "integer", "minimum": low, "maximum": high, **grid}
            case f.Real(low, high):
                return {"type": "number", "minimum": low, "maximum": high}
            case f.Flag():
                return {"type": "boolean"}
            case f.Maybe(inner):
                return {"anyOf": [self.checked(inner), {"type": "null"}]}
            case f.Later(inner):
                return self.checked(inner)
            case f.ListOf(inner, most, least):
                return {"type": "array", "items": self.checked(inner), "minItems": least, "maxItems": most}
            case f.Nested(kind):
                return self.of(kind)
            case f.Scalars(most):
                scalar = {"type": ["string", "number", "boolean", "null"]}
                return {"type": "object", "additionalProperties": scalar, "maxProperties": most}
        return _text(check)

    def _member(self, hint: Any) -> Schema | None:
        """The schema of a field; None for one that travels apart from the header, which JSON does not have."""
        if not hasattr(hint, "__metadata__"):
            return self._typed(hint)
        check = hint.__metadata__[0]
        return None if isinstance(check, f.Body) else self.checked(check)

    def _typed(self, hint: Any) -> Schema:
        origin, inner = get_origin(hint), get_args(hint)
        if origin in (Union, types.UnionType):
            return {"anyOf": [{"type": "null"} if each is type(None) else self._typed(each) for each in inner]}
        if origin in (tuple, list):
            return self._array(inner)
        if is_dataclass(hint) and isinstance(hint, type):
            return self.of(hint)
        return dict(_PLAIN[origin or hint])

    def _array(self, inner: tuple[Any, ...]) -> Schema:
        if len(inner) == 1 or inner[-1] is Ellipsis:
            return {"type": "array", "items": self._typed(inner[0])}
        each = [self._typed(hint) for hint in inner]
        return {"type": "array", "prefixItems": each, "minItems": len(each), "maxItems": len(each)}


def _text(check: Any) -> Schema:
    match check:
        case f.Text(limit, empty):
            return {"type": "string", "maxLength": limit, **({} if empty else {"minLength": 1})}
        case f.Identifier(limit):
            pattern = "^[A-Za-z0-9][A-Za-z0-9._-]*$"
            return {"type": "string", "minLength": 1, "maxLength": limit, "pattern": pattern}
        case f.NameInFolder(limit):
            return {"type": "string", "minLength": 1, "maxLength": limit}
        case f.Hash():
            return {"type": "string", "pattern": "^[0-9a-f]{64}$"}
        case f.OneOf(allowed):
            return {"type": "string", "enum": list(allowed)}
    raise AssertionError(f"no schema for {check!r}")


def _plain_text(docstring: str) -> str:
    return " ".join(docstring.replace("``", "`").split())
