"""Where checkpoints of Qwen-Image-Edit may lie on this machine, which are whole, and what to tell where none is."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

REPOSITORY: Final = "Qwen/Qwen-Image-Edit-2511"
PULL: Final = "qied pull qwen-image-edit-2511"

_COLUMNS: Final = 80
_SHOWN: Final = 3
_MAX_JSON_BYTES: Final = 16 * 1024 * 1024
_MAX_PATHS_FILE_BYTES: Final = 256 * 1024
_WEIGHT_SUFFIXES: Final = (".safetensors", ".gguf")
_TRANSFORMER: Final = re.compile(r"qwen[-_. ]?image[-_. ]?edit", re.IGNORECASE)
_TEXT_ENCODER: Final = re.compile(r"qwen[-_. ]?2[-_. ]?5[-_. ]?vl", re.IGNORECASE)
_VAE: Final = re.compile(r"qwen[-_. ]?image[-_. ]?vae", re.IGNORECASE)
_YAML_COMMENT: Final = re.compile(r"(^|\s+)#.*")
_COMFYUI_KINDS: Final = {
    "transformer": ("diffusion_models", "unet"),
    "text encoder": ("text_encoders", "clip"),
    "VAE": ("vae",),
    "LoRA": ("loras",),
}
_COMPONENT_FILES: Final = {
    "transformer": "config.json",
    "text_encoder": "config.json",
    "vae": "config.json",
    "scheduler": "scheduler_config.json",
    "tokenizer": "tokenizer_config.json",
    "processor": "preprocessor_config.json",
}
_WITH_WEIGHTS: Final = ("transformer", "text_encoder", "vae")

Layout = Literal["diffusers", "comfyui"]


@dataclass(frozen=True)
class FoundModel:
    """One checkpoint on disk: a diffusers folder, or ComfyUI's single file of the transformer.

    ``name`` is a guess from file names. ``missing`` names the parts that are not there, as files of the folder or,
    for ComfyUI, as parts of the model. ``loras`` are the folders that its LoRAs may lie in.
    """

    path: Path
    layout: Layout
    name: str
    missing: tuple[str, ...] = ()
    loras: tuple[Path, ...] = field(default=(), compare=False)

    @property
    def complete(self) -> bool:
        """Whether all parts are there; nothing is read of the weights themselves."""
        return not self.missing


def find_models(environ: Mapping[str, str], home: Path) -> list[FoundModel]:
    """Look in the Hugging Face cache, then in ComfyUI folders; reads names and JSON indices, never weights.

    Folders that are not there or may not be read count as empty.
    """
    found = [model for cache in _hub_caches(environ, home) for model in _in_hub_cache(cache)]
    found += [model for root in _comfyui_roots(environ, home) for model in _in_comfyui(root, home)]
    return list({model.path: model for model in found}.values())


def choose_model(found: Sequence[FoundModel]) -> FoundModel | None:
    """The first complete checkpoint in the diffusers layout, the one that loads today; None where there is none."""
    return next((model for model in found if model.layout == "diffusers" and model.complete), None)


def _hub_caches(environ: Mapping[str, str], home: Path) -> Iterator[Path]:
    """The Hugging Face cache, by the variables and defaults of huggingface_hub."""
    user_cache = Path(environ.get("XDG_CACHE_HOME") or home / ".cache")
    hub_home = Path(environ.get("HF_HOME") or user_cache / "huggingface")
    named = environ.get("HF_HUB_CACHE") or environ.get("HUGGINGFACE_HUB_CACHE")
    yield _expanded(named, home) if named else _expanded(str(hub_home), home) / "hub"


def _expanded(path: str, home: Path) -> Path:
    return home / path[2:] if path.startswith("~/") else Path(path)


def _in_hub_cache(cache: Path) -> Iterator[FoundModel]:
    """Snapshots of the repository, the one that its main branch points to first."""
    folder = cache / f"models--{REPOSITORY.replace('/', '--')}"
    main = _read_text(folder / "refs" / "main", 256).strip()
    snapshots = sorted(_entries(folder / "snapshots"), key=lambda snapshot: (snapshot.name != main, snapshot.name))
    for snapshot in snapshots:
        yield FoundModel(snapshot, "diffusers", REPOSITORY.partition("/")[2].lower(), missing_parts(snapshot))


def missing_parts(folder: Path) -> tuple[str, ...]:
    """Files that a diffusers folder names but does not hold, relative to it, sorted; empty for a whole one."""
    index = _read_json(folder / "model_index.json")
    if index is None:
        return ("model_index.json",)
    components = [name for name, kind in index.items() if isinstance(kind, list) and None not in kind]
    return tuple(sorted({part for name in components for part in _missing_of(folder, name)}))


def _missing_of(folder: Path, component: str) -> Iterator[str]:
    """Configuration, shards and weights that one component lacks."""
    part = folder / Path(component).name
    if component not in _COMPONENT_FILES:
        if not _entries(part):
            yield f"{part.name}/"
        return
    if not _is_file(part / _COMPONENT_FILES[component]):
        yield f"{component}/{_COMPONENT_FILES[component]}"
    if component not in _WITH_WEIGHTS:
        return
    files = _entries(part)
    indices = [file for file in files if file.name.endswith(".safetensors.index.json")]
    if not indices and not any(file.suffix == ".safetensors" and _is_file(file) for file in files):
        yield f"{component}/*.safetensors"
    for index in indices:
        yield from (f"{component}/{name}" for name in _shards(index) if not _is_file(part / name))


def _shards(index: Path) -> list[str]:
    """File names in a weight index; the index itself where it cannot be read, a name no file has."""
    weight_map = (_read_json(index) or {}).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        return [f"{index.name} (unreadable)"]
    return sorted({Path(str(name)).name for name in weight_map.values()})


def _comfyui_roots(environ: Mapping[str, str], home: Path) -> list[Path]:
    named = [_expanded(environ[key], home) for key in ("COMFYUI_PATH", "COMFYUI_DIR") if environ.get(key)]
    usual = [home / "ComfyUI", home / "comfyui", home / "Documents" / "ComfyUI"]
    return list(dict.fromkeys(named + usual))


def _in_comfyui(root: Path, home: Path) -> Iterator[FoundModel]:
    """Transformer files of one installation; the other parts may lie in any of its folders."""
    folders = _model_folders(root, home)
    encoders = _weights(folders["text encoder"], _TEXT_ENCODER)
    vaes = _weights(folders["VAE"], _VAE)
    lacking = tuple(part for part, files in (("text encoder", encoders), ("VAE", vaes)) if not files)
    for file in _weights(folders["transformer"], _TRANSFORMER):
        version = next((version for version in ("2511", "2509") if version in file.name), None)
        name = "qwen-image-edit" + (f"-{version}" if version else "")
        yield FoundModel(file, "comfyui", name, lacking, tuple(folders["LoRA"]))


def _model_folders(root: Path, home: Path) -> dict[str, list[Path]]:
    """Folders of each part: the usual ones and those of extra_model_paths.yaml."""
    folders = {part: [root / "models" / name for name in names] for part, names in _COMFYUI_KINDS.items()}
    text = _read_text(root / "extra_model_paths.yaml", _MAX_PATHS_FILE_BYTES)
    for section in extra_model_paths(text):
        base = root / _expanded("".join(section.get("base_path", [])), home)
        for part, names in _COMFYUI_KINDS.items():
            folders[part] += [base / path for name in names for path in section.get(name, [])]
    return folders


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
            block[1].append(_YAML_COMMENT.sub("", content))
            continue
        key, colon, value = content.partition(":")
        value = _YAML_COMMENT.sub("", value).strip().strip("\"'")
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


def _weights(folders: Sequence[Path], pattern: re.Pattern[str]) -> list[Path]:
    """Weight files whose name matches, in ``folders`` and one level below."""
    files = [entry for folder in folders for entry in _entries(folder)]
    files += [entry for folder in files if folder.suffix not in _WEIGHT_SUFFIXES for entry in _entries(folder)]
    matching = (file for file in files if file.suffix in _WEIGHT_SUFFIXES and pattern.search(file.name))
    return [file for file in dict.fromkeys(matching) if _is_file(file)]


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except (OSError, ValueError):
        return []


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False


def _read_text(path: Path, limit: int) -> str:
    """The text of a small file; empty where it cannot be read or has more than ``limit`` bytes."""
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError:
        return ""
    return data.decode("utf-8", "replace") if len(data) <= limit else ""


def _read_json(path: Path) -> dict[str, object] | None:
    try:
        value = json.loads(_read_text(path, _MAX_JSON_BYTES))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def explain_missing(found: Sequence[FoundModel]) -> str:
    """Tell a person who named no model what was found, why it cannot be used, and what to do; 80 columns wide."""
    lines = ["No model is configured" + (", and none was found." if not found else ". Found on this machine:")]
    for model in found[:_SHOWN]:
        lines += [f"  {_shortened(str(model.path), _COLUMNS - 2)}", f"    {_shortened(_verdict(model), _COLUMNS - 4)}"]
    if len(found) > _SHOWN:
        lines.append(f"  and {len(found) - _SHOWN} more")
    lines += [
        "To get the model (58 GB; a download that was broken off goes on):",
        f"  {PULL}",
        "then start `qied serve` again, or name a folder: `qied serve --model PATH`.",
        "To try qied now with the small model that is built in:",
        "  qied serve --model builtin",
    ]
    return "\n".join(lines)


def _verdict(model: FoundModel) -> str:
    if model.layout == "comfyui":
        return "single file for ComfyUI: qied loads only the diffusers layout so far"
    if model.complete:
        return "complete: serve it with `qied serve --model` and this path"
    more = f" and {len(model.missing) - 1} more" if len(model.missing) > 1 else ""
    return f"incomplete: {model.missing[0]}{more} missing"


def _shortened(text: str, columns: int) -> str:
    """``text`` with its middle left out where it is wider than ``columns``."""
    if len(text) <= columns:
        return text
    tail = (columns - 3) * 2 // 3
    return f"{text[: columns - 3 - tail]}...{text[-tail:]}"
