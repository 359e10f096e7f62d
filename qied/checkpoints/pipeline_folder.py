"""A folder in diffusers' pipeline layout: its required files, its weight files, and which are missing."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from qied_client.errors import ModelNotFound, ModelUnsupported

from qied.checkpoints.checkpoint import Checkpoint
from qied.checkpoints.hub_cache import PULL
from qied.checkpoints.small_files import entries, is_file, read_object
from qied.weights.problems import BadFile

PIPELINE: Final = "QwenImageEditPlusPipeline"
OTHER_PIPELINES: Final = {
    "QwenImageEditPipeline": "Qwen-Image-Edit, the first one",
    "QwenImagePipeline": "Qwen-Image, which makes pictures from text alone",
    "QwenImage21Pipeline": "Qwen-Image-2.1",
}
"""Pipelines of the family that are not run, and what they are."""
REMEDY: Final = f"Download the model again: {PULL}."
STEMS: Final = {"transformer": "diffusion_pytorch_model", "text_encoder": "model", "vae": "diffusion_pytorch_model"}
"""Names of weight files without their ends: those of diffusers, and those of transformers."""
CONFIGS: Final = {
    "transformer": "config.json",
    "text_encoder": "config.json",
    "vae": "config.json",
    "scheduler": "scheduler_config.json",
    "tokenizer": "tokenizer_config.json",
    "processor": "preprocessor_config.json",
}
"""The file that says what a part is."""


def pipeline_checkpoint(folder: Path, without: Collection[str] = ()) -> Checkpoint:
    """The files of a whole folder; raises ModelNotFound if one is missing, ModelUnsupported for another model.

    Weights of the parts in ``without`` are not looked for: others take their place.
    """
    check_pipeline(folder)
    weights = {part: () if part in without else weight_files(folder / part, stem) for part, stem in STEMS.items()}
    return checkpoint_of(folder, weights, folder, folder / "tokenizer")


def has_vocabulary(folder: Path) -> bool:
    """Whether a folder holds a tokenizer: its settings, and the vocabulary in either form."""
    forms = (("tokenizer.json",), ("vocab.json", "merges.txt"))
    settings = is_file(folder / CONFIGS["tokenizer"])
    return settings and any(all(is_file(folder / name) for name in names) for names in forms)


def checkpoint_of(
    origin: Path, weights: Mapping[str, Sequence[Path]], settings: Path, tokenizer: Path, steps: int | None = None
) -> Checkpoint:
    """The checkpoint of these ``weights`` by part, with the configurations of the pipeline folder ``settings``."""
    transformer, text_encoder, vae = (tuple(str(file) for file in weights[part]) for part in STEMS)
    return Checkpoint(
        origin=str(origin),
        transformer=transformer,
        text_encoder=text_encoder,
        vae=vae,
        transformer_config=str(settings / "transformer" / CONFIGS["transformer"]),
        text_encoder_config=str(settings / "text_encoder" / CONFIGS["text_encoder"]),
        vae_config=str(settings / "vae" / CONFIGS["vae"]),
        scheduler_config=str(settings / "scheduler" / CONFIGS["scheduler"]),
        processor_config=str(settings / "processor" / CONFIGS["processor"]),
        tokenizer=str(tokenizer),
        lightning_steps=steps,
    )


def check_pipeline(folder: Path) -> None:
    """Raise ModelNotFound where the folder holds no pipeline, ModelUnsupported where it is one of another model."""
    index = folder / "model_index.json"
    if not is_file(index):
        raise ModelNotFound(
            f"{folder} is not a diffusers pipeline folder: it has no model_index.json.",
            "Name the folder that holds model_index.json, transformer/, text_encoder/ and vae/.",
        )
    name = read_json(index).get("_class_name")
    if name != PIPELINE:
        is_of = f", which belongs to {OTHER_PIPELINES[str(name)]}" if str(name) in OTHER_PIPELINES else ""
        raise ModelUnsupported(
            f"{index} names the pipeline {name}{is_of}; this version runs {PIPELINE}.",
            f"Use Qwen/Qwen-Image-Edit-2511: {PULL}.",
        )


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; raises ModelNotFound where it is missing, ModelUnsupported where it cannot be read."""
    if not is_file(path):
        raise ModelNotFound(f"{path} is missing.", REMEDY)
    try:
        return read_object(path)
    except BadFile as problem:
        raise ModelUnsupported(f"{path} cannot be used: {problem.what}.", REMEDY) from problem


def weight_files(base: Path, stem: str) -> tuple[Path, ...]:
    """Weight files of the component folder ``base``: what its index names, else the one file.

    Raises ModelNotFound by file name. ``stem``: see ``STEMS``.
    """
    index = base / f"{stem}.safetensors.index.json"
    single = base / f"{stem}.safetensors"
    if not is_file(index):
        if not is_file(single):
            raise ModelNotFound(f"{base} has neither {index.name} nor {single.name}.", REMEDY)
        return (single,)
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ModelUnsupported(f"{index} has no weight_map.", REMEDY)
    for name in weight_map.values():
        if not isinstance(name, str) or Path(name).name != name:
            raise ModelUnsupported(f"{index}: {name!r} in the weight_map does not name a file next to it.", REMEDY)
    names = sorted(set(weight_map.values()))
    missing = [name for name in names if not is_file(base / name)]
    if missing:
        raise ModelNotFound(f"{index.name} lists {len(names)} files; missing in {base}: {', '.join(missing)}.", REMEDY)
    return tuple(base / name for name in names)


def missing_parts(folder: Path, without: Collection[str] = ()) -> tuple[str, ...]:
    """Files that a folder names but does not hold, relative to it, sorted; empty for a whole one.

    Weights and vocabulary of the parts in ``without`` may be missing.
    """
    try:
        index = read_object(folder / "model_index.json")
    except BadFile:
        return ("model_index.json",)
    components = [name for name, kind in index.items() if isinstance(kind, list) and None not in kind]
    return tuple(sorted({part for name in components for part in _missing_of(folder, name, without)}))


def _missing_of(folder: Path, component: str, without: Collection[str]) -> Iterator[str]:
    """Configuration, shards and weights that one component lacks."""
    part = folder / Path(component).name
    if component not in CONFIGS:
        if not entries(part):
            yield f"{part.name}/"
        return
    if component == "tokenizer" and component in without:
        return
    if not is_file(part / CONFIGS[component]):
        yield f"{component}/{CONFIGS[component]}"
    if component not in STEMS or component in without:
        return
    files = entries(part)
    indices = [file for file in files if file.name.endswith(".safetensors.index.json")]
    if not indices and not any(file.suffix == ".safetensors" and is_file(file) for file in files):
        yield f"{component}/*.safetensors"
    for index in indices:
        yield from (f"{component}/{name}" for name in _shards(index) if not is_file(part / name))


def _shards(index: Path) -> list[str]:
    """File names in a weight index; the index itself where it cannot be read, a name no file has."""
    try:
        weight_map = read_object(index).get("weight_map")
    except BadFile:
        weight_map = None
    if not isinstance(weight_map, dict) or not weight_map:
        return [f"{index.name} (unreadable)"]
    return sorted({Path(str(name)).name for name in weight_map.values()})
