"""The picture that comes with the built-in model, and what to ask of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tomli


@dataclass(frozen=True)
class Scene:
    """A picture file, a prompt that the built-in model knows, and the seed of the demo."""

    path: Path
    prompt: str
    seed: int


def read_scene() -> Scene:
    """The scene of ``qied demo``."""
    folder = Path(__file__).parent
    facts = tomli.loads((folder / "demo.toml").read_text(encoding="utf-8"))
    return Scene(folder / facts["picture"], facts["prompt"], facts["seed"])
