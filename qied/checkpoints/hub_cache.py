"""The Hugging Face cache: snapshots of the models' repositories, as huggingface_hub lays them out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from qied.checkpoints.comfyui import expanded
from qied.checkpoints.small_files import entries, read_text

PULL: Final = "qied pull qwen-image-edit-2511"
"""The command that gets it."""


def hub_cache(environ: Mapping[str, str], home: Path) -> Path:
    """The cache's folder, by the variables and defaults of huggingface_hub."""
    user_cache = Path(environ.get("XDG_CACHE_HOME") or home / ".cache")
    hub_home = Path(environ.get("HF_HOME") or user_cache / "huggingface")
    named = environ.get("HF_HUB_CACHE") or environ.get("HUGGINGFACE_HUB_CACHE")
    return expanded(named, home) if named else expanded(str(hub_home), home) / "hub"


def snapshots(environ: Mapping[str, str], home: Path, repository: str) -> list[Path]:
    """Snapshots of a repository, the one that its main branch points to first."""
    folder = hub_cache(environ, home) / f"models--{repository.replace('/', '--')}"
    main = read_text(folder / "refs" / "main", 256).strip()
    return sorted(entries(folder / "snapshots"), key=lambda snapshot: (snapshot.name != main, snapshot.name))


def known_name(origin: Path) -> str:
    """What people call a model at a path: the repository of a snapshot in the cache, else its file or folder."""
    cached = len(origin.parts) > 2 and origin.parent.name == "snapshots" and origin.parts[-3].startswith("models--")
    return origin.parts[-3].rpartition("--")[2] if cached else origin.name
