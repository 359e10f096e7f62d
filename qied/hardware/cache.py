"""Small documents kept in the user's cache folder: facts that are expensive to collect."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from qied.disk_sync import replace_file

Kept = TypeVar("Kept", bound=BaseModel)
Key = Mapping[str, str | int | None]

_SCHEMA = 1


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int
    key: dict[str, str | int | None]
    value: dict[str, object]


class FactCache:
    """One kind of facts under ``folder``. What is missing, of another key, schema or shape, or unreadable, is None.

    With ``read_only`` nothing is kept.
    """

    def __init__(self, folder: Path, kind: str, *, read_only: bool = False) -> None:
        self._folder = folder
        self._kind = kind
        self._read_only = read_only

    def load(self, key: Key, model: type[Kept]) -> Kept | None:
        """The facts stored under exactly this key."""
        try:
            document = _Document.model_validate_json(self.path(key).read_bytes())
            if document.schema_version != _SCHEMA or document.key != dict(key):
                return None
            return model.model_validate_json(json.dumps(document.value))
        except (OSError, ValidationError):
            return None

    def store(self, key: Key, value: BaseModel) -> None:
        """Keep ``value``. A folder that cannot be written to costs measuring again next time, nothing else."""
        if self._read_only:
            return
        document = _Document(schema_version=_SCHEMA, key=dict(key), value=value.model_dump(mode="json"))
        with suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            replace_file(self.path(key), document.model_dump_json(indent=2).encode())

    def path(self, key: Key) -> Path:
        """Where the facts of ``key`` are kept."""
        digest = hashlib.sha256(json.dumps(dict(key), sort_keys=True).encode()).hexdigest()
        return self._folder / f"{self._kind}-{digest[:16]}.json"
