"""What all sections of the configuration have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """One table of qied.toml; a key that it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")
