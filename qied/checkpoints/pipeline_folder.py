"""A folder in diffusers' pipeline layout: its required files, its weight files, and which are missing."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from qied_client.errors import ModelNotFound, ModelUnsupported

from qied.checkpoints.checkpoint import Checkpoint
from qied.checkpoints.hub_cache import PULL, known_name
from qied.checkpoints.small_files import entries, is_file, read_object
from qied.checkpoints.versions import MARKED, UNKNOWN, Evidence, pipeline_version
from qied.planning.profiles.model_names import model_named
from qied.planning.profiles.model_profile import versions
from qied.weights.problems import BadFile

OTHER_PIPELINES: Final = {
    "QwenImage21Pipeline": "Qwen-Image-2.1",
    "QwenImageLayeredPipeline": "Qwen-Image-Layered",
}
"""Pipelines of the family that are not run, and what they are."""
REMEDY: Final = f"Download the model again: qied pull and its name, such as {PULL}."
STEMS: Final = {"transformer": "diffusion_pytorch_model", "text_encoder": "model", "vae": "diffusion_pytorch_model"}
"""Names of weight files without their ends: those of diffusers, and those of transformers."""
SHARD: Final = re.compile(r"-\d{5}-of-\d{5}(\.[\w-]+)?\.(safetensors|sft)$")
"""The end of the name of one of several files that hold a part together."""
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
    run = sorted({profile.pipeline for profile in versions().values()})
    if name not in run:
        is_of = f", which belongs to {OTHER_PIPELINES[str(name)]}" if str(name) in OTHER_PIPELINES else ""
        raise ModelUnsupported(
            f"{index} names the pipeline {name}{is_of}; this version runs {', '.join(run)}.",
            f"Use Qwen/Qwen-Image-Edit-2511: {PULL}.",
        )
    if model_named(known_name(folder)) == MARKED and sets_zero_cond_t(folder / "transformer") is False:
        raise ModelUnsupported(
            f"{folder} is named {MARKED}, but its transformer/config.json does not set zero_cond_t: it is another "
            "model, or was converted by diffusers before 0.37.",
            f"Get the model again ({PULL}); if it is another one, give the folder its name.",
        )


def pipeline_evidence(folder: Path) -> Evidence:
    """Which of the models of the same tensors a pipeline folder holds, and what shows it."""
    try:
        pipeline = str(read_object(folder / "model_index.json").get("_class_name"))
    except BadFile:
        return UNKNOWN
    return pipeline_version(pipeline, sets_zero_cond_t(folder / "transformer") is True, known_name(folder))


def sets_zero_cond_t(folder: Path) -> bool | None:
    """Whether diffusers' configuration next to a transformer sets what makes 2511 different; None without any."""
    try:
        return read_object(folder / CONFIGS["transformer"]).get("zero_cond_t") is True
    except BadFile:
        return None


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

    Files with a variant in their names, such as ``diffusion_pytorch_model.bf16.safetensors``, count where there are no
    plain ones. Raises ModelNotFound by file name, and ModelUnsupported for an index that cannot be used, or for
    several variants. ``stem``: see ``STEMS``.
    """
    name = _weights_name(base, stem)
    if name is None:
        raise ModelNotFound(f"{base} has neither {stem}.safetensors.index.json nor {stem}.safetensors.", REMEDY)
    if name.endswith(".safetensors"):
        return (base / name,)
    index = base / name
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


def _weights_name(base: Path, stem: str) -> str | None:
    """The index or the one file of a component: the plain one, else the one variant; None where there is none.

    Raises ModelUnsupported for several variants.
    """
    for plain in (f"{stem}.safetensors.index.json", f"{stem}.safetensors"):
        if is_file(base / plain):
            return plain
    variants = (r"\.safetensors\.index\.([\w-]+)\.json", r"\.([\w-]+)\.safetensors(?:\.index\.json)?")
    form = re.compile(rf"{re.escape(stem)}(?:{'|'.join(variants)})", re.ASCII)
    found: dict[str, str] = {}
    for file in entries(base):
        variant = form.fullmatch(file.name)
        if variant is None or SHARD.search(file.name) or not is_file(file):
            continue
        name = variant[1] or variant[2]
        if name not in found or file.suffix == ".json":
            found[name] = file.name
    if len(found) > 1:
        raise ModelUnsupported(
            f"{base} has the weights in {len(found)} variants: {', '.join(sorted(found))}.",
            f"Move all but one of them away, or give the wanted one the plain name {stem}.safetensors.",
        )
    return next(iter(found.values()), None)


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
    try:
        name = _weights_name(part, STEMS[component])
    except ModelUnsupported:
        return
    if name is None:
        yield f"{component}/{STEMS[component]}.safetensors"
    elif name.endswith(".json"):
        yield from (f"{component}/{shard}" for shard in _shards(part / name) if not is_file(part / shard))


def _shards(index: Path) -> list[str]:
    """File names in a weight index; the index itself where it cannot be read, a name no file has."""
    try:
        weight_map = read_object(index).get("weight_map")
    except BadFile:
        weight_map = None
    if not isinstance(weight_map, dict) or not weight_map:
        return [f"{index.name} (unreadable)"]
    return sorted({Path(str(name)).name for name in weight_map.values()})
