"""ComfyUI's folders: where its models lie, `extra_model_paths.yaml` included, and the vocabulary that it brings."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import yaml

from qied.checkpoints.small_files import files_below, is_file, is_folder, read_text
from qied.weights.problems import BadFile

Kind = Literal["transformer", "text_encoder", "vae", "lora", "tiny_autoencoder", "upscaler"]

KINDS: Final[dict[Kind, tuple[str, ...]]] = {
    "transformer": ("diffusion_models", "unet", "checkpoints"),
    "text_encoder": ("text_encoders", "clip"),
    "vae": ("vae",),
    "lora": ("loras",),
    "tiny_autoencoder": ("vae_approx",),
    "upscaler": ("upscale_models",),
}
"""Folders of each kind below ``models``, today's name first; in ``checkpoints`` people keep single transformers too."""
SUFFIXES: Final = (".safetensors", ".sft", ".gguf")
"""Endings of weight files: safetensors, and those that people take for them."""
_SPLIT: Final = "split_files"
"""Where repositories of files for ComfyUI have what goes into its ``models``."""
PATHS_FILE: Final = "extra_model_paths.yaml"
_TOKENIZER: Final = Path("comfy", "text_encoders", "qwen25_tokenizer")
_VOCABULARY: Final = ("vocab.json", "merges.txt", "tokenizer_config.json")
_MAX_PATHS_FILE_BYTES: Final = 256 * 1024


@dataclass(frozen=True)
class Installation:
    """One ComfyUI: its folders of each kind, and the folder of Qwen2.5's vocabulary where it has one.

    ``problem`` is a sentence on an extra_model_paths.yaml that cannot be followed.
    """

    root: Path
    folders: Mapping[Kind, tuple[Path, ...]]
    tokenizer: Path | None
    problem: str | None = None

    def files(self, kind: Kind) -> list[Path]:
        """Files of a kind, at every depth, as ComfyUI lists them; one that several links lead to counts once."""
        found: dict[str, Path] = {}
        for folder in self.folders[kind]:
            for file in files_below(folder, SUFFIXES):
                found.setdefault(os.path.realpath(file), file)
        return list(found.values())


def installations(environ: Mapping[str, str], home: Path) -> list[Installation]:
    """Those that are named by COMFYUI_PATH or COMFYUI_DIR, and those in the usual places."""
    named = [expanded(environ[key], home) for key in ("COMFYUI_PATH", "COMFYUI_DIR") if environ.get(key)]
    usual = [home / "ComfyUI", home / "comfyui", home / "Documents" / "ComfyUI"]
    roots = dict.fromkeys(named + usual)
    return [installation(root, home) for root in roots if is_folder(root)]


def installation(root: Path, home: Path) -> Installation:
    """The installation in ``root``, which may also be its ``models`` folder alone, or a download of split files."""
    split = root / _SPLIT
    models = root if _is_models(root) else split if _is_models(split) else root / "models"
    above = root.parent if _is_models(root) else root
    folders: dict[Kind, list[Path]] = {kind: [models / name for name in names] for kind, names in KINDS.items()}
    problem = None
    try:
        sections = extra_model_paths(read_text(above / PATHS_FILE, _MAX_PATHS_FILE_BYTES))
    except BadFile as error:
        sections, problem = [], f"{above / PATHS_FILE} is left out: {error.what}."
    for section in sections:
        base = above / _resolved("".join(section.get("base_path", [])), home)
        for kind, names in KINDS.items():
            folders[kind] += [base / _resolved(path, home) for name in names for path in section.get(name, [])]
    tokenizer = above / _TOKENIZER
    whole = all(is_file(tokenizer / name) for name in _VOCABULARY)
    unique = {kind: tuple(dict.fromkeys(paths)) for kind, paths in folders.items()}
    return Installation(root, unique, tokenizer if whole else None, problem)


def installation_around(file: Path, home: Path) -> Installation | None:
    """The installation that a transformer's file lies in, by the names of the folders above it; None for no such."""
    for folder in file.parents:
        if folder.name in KINDS["transformer"]:
            return installation(folder.parent, home)
    return None


def is_installation(folder: Path) -> bool:
    """Whether a folder looks like ComfyUI's, or like its ``models``."""
    return any(_is_models(each) for each in (folder, folder / "models", folder / _SPLIT))


def expanded(path: str, home: Path) -> Path:
    """A path with ~ for the person's home."""
    return home / path[2:] if path.startswith("~/") else home if path == "~" else Path(path)


def _resolved(path: str, home: Path) -> Path:
    """A path of extra_model_paths.yaml, with variables of the environment as well."""
    return expanded(os.path.expandvars(path), home)


def extra_model_paths(text: str) -> list[dict[str, list[str]]]:
    """Read ComfyUI's extra_model_paths.yaml: for each section, the paths under each key, one or several lines.

    Values that are no paths, such as ``is_default: true``, are passed over. Raises BadFile for a text that is not
    YAML, or has no sections, or names what cannot be a path.
    """
    try:
        content = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark is not None else ""
        raise BadFile(f"it is not YAML{where} ({getattr(error, 'problem', None) or type(error).__name__})") from None
    if not isinstance(content, dict | None):
        raise BadFile("it has no sections with paths")
    sections = (content or {}).values()
    return [
        {str(key): _paths(value) for key, value in section.items()} for section in sections if isinstance(section, dict)
    ]


def _paths(value: Any) -> list[str]:
    lines = value.splitlines() if isinstance(value, str) else value if isinstance(value, list) else ()
    found = [line.strip() for line in lines if isinstance(line, str) and line.strip()]
    if wrong := next((path for path in found if "\0" in path), None):
        raise BadFile(f"{wrong[:120]!r} is not a path: in double quotes, \\0 stands for a zero byte")
    return found


def _is_models(folder: Path) -> bool:
    return any(is_folder(folder / name) for name in KINDS["transformer"])
