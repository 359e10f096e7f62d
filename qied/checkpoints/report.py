"""The report on one file or folder: an entry in the document of `qied inspect`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from qied.checkpoints.names import Role
from qied.checkpoints.versions import Shown
from qied.weights.stored import Precision

Layout = Literal["diffusers", "comfyui", "lightx2v", "gguf", "kohya", "peft"]


@dataclass(frozen=True)
class Report:
    """One file, or one pipeline folder.

    ``model`` names the model profile that it belongs to, None where nothing in it tells: a text encoder and a VAE go
    with the model whose shapes they have. ``lightning_steps`` are those that a Lightning LoRA was made for, or a file
    that one was merged into. ``bytes`` are those of all files. ``problems`` are sentences; a file with none can be
    loaded. ``version`` is which of the models of the same tensors a transformer is (2511, 2509, else a name), and
    ``shown_by`` what shows it; a name proves nothing. ``method`` is how a LoRA was trained, such as LoKr; ``notes``
    are sentences on what of a file is not used.
    """

    path: Path
    role: Role | None = None
    layout: Layout | None = None
    precision: Precision | None = None
    model: str | None = None
    lightning_steps: int | None = None
    bytes: int = 0
    problems: tuple[str, ...] = ()
    version: str | None = None
    shown_by: Shown | None = None
    method: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def has_transformer(self) -> bool:
        """Whether it is the file of a transformer, alone or with other parts."""
        return self.role in ("transformer", "checkpoint")

    def to_json(self) -> dict[str, Any]:
        return {
            "path": str(self.path),
            "role": self.role,
            "layout": self.layout,
            "precision": self.precision,
            "model": self.model,
            "lightning_steps": self.lightning_steps,
            "bytes": self.bytes,
            "problems": list(self.problems),
            "version": self.version,
            "shown_by": self.shown_by,
            "method": self.method,
            "notes": list(self.notes),
        }
