"""ComfyUI's folders: where its models lie, `extra_model_paths.yaml` included, and the vocabulary that it brings."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from qied.checkpoints.small_files import entries, is_file, is_folder, read_text

Kind = Literal["transformer", "text_encoder", "vae", "lora"]

KINDS: Final[dict[Kind, tuple[str, ...]]] = {
    "transformer": ("diffusion_models", "unet"),
    "text_encoder": ("text_encoders", "clip"),
    "vae": ("vae",),
    "lora": ("loras",),
}
"""Folders of each kind below ``models``, today's name first."""
_TOKENIZER: Final = Path("comfy", "text_encoders", "qwen25_tokenizer")
_VOCABULARY: Final = ("vocab.json", "merges.txt", "tokenizer_config.json")
_MAX_PATHS_FILE_BYTES: Final = 256 * 1024
_COMMENT: Final = re.compile(r"(^|\s)#.*")


@dataclass(frozen=True)
class Installation:
    """One ComfyUI: its folders of each kind, and the folder of Qwen2.5's vocabulary where it has one."""

    root: Path
    folders: Mapping[Kind, tuple[Path, ...]]
    tokenizer: Path | None

    def files(self, kind: Kind) -> list[Path]:
        """Files of a kind, safetensors and those that people take for them, one level of folders deep."""
        found = [file for folder in self.folders[kind] for file in _weights(folder)]
        return list(dict.fromkeys(found))


def installations(environ: Mapping[str, str], home: Path) -> list[Installation]:
    """Those that are named by COMFYUI_PATH or COMFYUI_DIR, and those in the usual places."""
    named = [expanded(environ[key], home) for key in ("COMFYUI_PATH", "COMFYUI_DIR") if environ.get(key)]
    usual = [home / "ComfyUI", home / "comfyui", home / "Documents" / "ComfyUI"]
    roots = dict.fromkeys(named + usual)
    return [installation(root, home) for root in roots if is_folder(root)]


def installation(root: Path, home: Path) -> Installation:
    """The installation in ``root``, which may also be its ``models`` folder alone."""
    models = root if _is_models(root) else root / "models"
    above = root.parent if _is_models(root) else root
    folders: dict[Kind, list[Path]] = {kind: [models / name for name in names] for kind, names in KINDS.items()}
    text = read_text(above / "extra_model_paths.yaml", _MAX_PATHS_FILE_BYTES)
    for section in extra_model_paths(text):
        base = above / expanded(os.path.expandvars("".join(section.get("base_path", []))), home)
        for kind, names in KINDS.items():
            folders[kind] += [base / path for name in names for path in section.get(name, [])]
    tokenizer = above / _TOKENIZER
    whole = all(is_file(tokenizer / name) for name in _VOCABULARY)
    return Installation(
        root, {kind: tuple(dict.fromkeys(paths)) for kind, paths in folders.items()}, tokenizer if whole else None
    )


def installation_around(file: Path, home: Path) -> Installation | None:
    """The installation that a transformer's file lies in, by the names of the folders above it; None for no such."""
    for folder in file.parents:
        if folder.name in KINDS["transformer"]:
            return installation(folder.parent, home)
    return None


def is_installation(folder: Path) -> bool:
    """Whether a folder looks like ComfyUI's, or like its ``models``."""
    return _is_models(folder) or _is_models(folder / "models")


def expanded(path: str, home: Path) -> Path:
    """A path with ~ for the person's home."""
    return home / path[2:] if path.startswith("~/") else Path(path)


def extra_model_paths(text: str) -> list[dict[str, list[str]]]:
    """Read ComfyUI's extra_model_paths.yaml: for each section, the paths under each key.

    Only what that file uses is understood: sections at the margin, "key: path" inside them, and "key: |" with one
    path a line below. Other lines are passed over.
    """
    sections: list[dict[str, list[str]]] = []
    block: tuple[int, list[str]] | None = None
    for line in text.splitlines():
        content = line.strip()
        indent = len(line) - len(line.lstrip())
        if not content or content.startswith("#"):
            continue
        if block is not None and indent > block[0]:
            block[1].append(_COMMENT.sub("", content).strip())
            continue
        key, colon, value = content.partition(":")
        value = _COMMENT.sub("", value).strip().strip("\"'")
        block = None
        if colon and indent == 0:
            sections.append({})
        elif colon and sections:
            paths = sections[-1].setdefault(key.strip(), [])
            if value.startswith(("|", ">")):
                block = (indent, paths)
            elif value:
                paths.append(value)
    return sections


def _is_models(folder: Path) -> bool:
    return any(is_folder(folder / name) for name in KINDS["transformer"])


_SUFFIXES: Final = (".safetensors", ".gguf")


def _weights(folder: Path) -> Iterable[Path]:
    for entry in entries(folder):
        if entry.suffix in _SUFFIXES:
            if is_file(entry):
                yield entry
        elif is_folder(entry):
            yield from (file for file in entries(entry) if file.suffix in _SUFFIXES and is_file(file))
