"""What files and folders are, from names, headers and small texts alone: `qied inspect` and `qied models`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from qied_client.errors import ModelUnsupported

from qied.checkpoints.expected import expected_shapes, faults, faults_of, fitting_profiles, nearest_profile
from qied.checkpoints.names import Role
from qied.checkpoints.part_file import PartFile, is_told, part_role, read_part
from qied.checkpoints.pipeline_folder import OTHER_PIPELINES, PIPELINE, STEMS, missing_parts
from qied.checkpoints.report import Layout, Report
from qied.checkpoints.small_files import is_file, is_folder, read_object
from qied.checkpoints.vision_tower import GET_TOWER, LANGUAGE_ALONE, tower_of
from qied.loras.contents import parse_key, read_contents
from qied.planning.model_profile import ModelProfile, shipped_profiles
from qied.weights.header import Header, read_header
from qied.weights.problems import BadFile
from qied.weights.stored import Precision, precision_of

UNTOLD: Final = (
    "It does not say whether it is 2509 or 2511: to serve it as 2511, set model.version (--model-version 2511)"
)
_KOHYA: Final = "lora_unet_"


def inspect(path: Path) -> Report:
    """Tell what a file or a folder is; any problems are in the report."""
    profiles = shipped_profiles()
    try:
        if is_folder(path):
            return _folder(path, profiles)
        return _file(path, profiles)
    except BadFile as problem:
        return Report(path, bytes=_size([path]), problems=(sentence(problem.what),))


def sentence(clause: str) -> str:
    """A clause as a sentence of a report."""
    return clause[:1].upper() + clause[1:] + "."


def _file(path: Path, profiles: Mapping[str, ModelProfile]) -> Report:
    header = read_header(path)
    if part_role(header) is None and any(_is_lora_name(name) for name in header.tensors):
        return _lora(path, header, profiles)
    part = read_part(path)
    found = fitting_profiles(part, profiles)
    role: Role = "checkpoint" if part.sections else part.role
    report = Report(path, role, part.layout, part.precision, None, part.steps, _size([path]))
    if not found:
        nearest = nearest_profile(part, profiles)
        problems = tuple(sentence(f"as a part of {nearest.title}: {fault}") for fault in faults_of(part, nearest))
        return replace(report, problems=problems)
    if part.half == "language" and tower_of(part) is None:
        return replace(report, model=found[0].name, problems=(f"{sentence(LANGUAGE_ALONE)} {GET_TOWER}",))
    if part.role != "transformer":
        return replace(report, model=found[0].name)
    if others := _faults_of_sections(path, part, found[0]):
        return replace(report, problems=others)
    if is_told(part):
        return replace(report, model=found[0].name)
    return replace(report, problems=(UNTOLD + ".",))


def _faults_of_sections(path: Path, transformer: PartFile, profile: ModelProfile) -> tuple[str, ...]:
    """What is wrong with the other parts that lie in a transformer's file."""
    parts = (read_part(path, role) for role in transformer.sections if role != "transformer")
    return tuple(f"{part.role}: {fault}." for part in parts for fault in faults_of(part, profile))


def _is_lora_name(name: str) -> bool:
    return parse_key(name) is not None or "lora" in name.lower()


def _lora(path: Path, header: Header, profiles: Mapping[str, ModelProfile]) -> Report:
    names = list(header.tensors)
    report = Report(path, "lora", _lora_layout(names), None, bytes=_size([path]))
    report = replace(report, precision=_lora_precision(header))
    said: list[str] = []
    for profile in profiles.values():
        try:
            contents = read_contents(path, path.name, profile.architecture)
        except ModelUnsupported as error:
            said.append(f"For {profile.title}: {error.message}")
        else:
            return replace(report, model=profile.name, lightning_steps=contents.steps)
    return replace(report, problems=tuple(said))


def _lora_precision(header: Header) -> Precision | None:
    """What most bytes of a LoRA are; FP8 without a name of its own counts as a plain cast."""
    sizes: Counter[str] = Counter()
    for entry in header.tensors.values():
        sizes[entry.dtype] += entry.nbytes
    most = sizes.most_common(1)[0][0] if sizes else ""
    return {"BF16": "bf16", "F16": "fp16", "F32": "fp32", "F64": "fp32", "F8_E4M3": "fp8_plain"}.get(most)  # type: ignore[return-value]


def _lora_layout(names: Iterable[str]) -> Layout:
    """Whose names a LoRA has: kohya's underscores, PEFT's A and B, or down and up with dots as Lightning's."""
    first = next(iter(names), "")
    if first.startswith(_KOHYA):
        return "kohya"
    if first.startswith("base_model."):
        return "peft"
    if first.startswith("diffusion_model."):
        return "comfyui"
    if first.startswith("transformer."):
        return "diffusers"
    return "lightx2v" if re.search(r"\.(lora_down|lora_up|alpha)(\.|$)", first) else "peft"


def _folder(path: Path, profiles: Mapping[str, ModelProfile]) -> Report:
    """A pipeline folder; the files that it names itself show what it lacks."""
    if not is_file(path / "model_index.json"):
        raise BadFile("it is a folder without model_index.json, so not a pipeline")
    kind = read_object(path / "model_index.json").get("_class_name")
    files = sorted(file for part in STEMS for file in (path / part).glob("*.safetensors"))
    report = Report(path, "pipeline", "diffusers", bytes=_size(files))
    if kind != PIPELINE:
        what = OTHER_PIPELINES.get(str(kind), f"the pipeline {kind}")
        return replace(report, problems=(f"It is {what}, which qied does not run.",))
    problems = [f"{name} is missing." for name in missing_parts(path)]
    parts, damaged = _read_parts(files)
    problems += damaged
    transformer = [part for part in parts if part.role == "transformer"]
    told = _config_says_2511(path / "transformer")
    if not told:
        problems.append("transformer/config.json does not set zero_cond_t: it is 2509, or an old conversion.")
    profile = _profile_of(parts, profiles)
    if profile is not None:
        problems += _faults_together(parts, profile)
    precisions = precision_of({name: tensor for part in transformer for name, tensor in part.tensors.items()})
    model = profile.name if profile is not None and told else None
    return replace(report, precision=precisions, model=model, problems=tuple(problems))


def _read_parts(files: list[Path]) -> tuple[list[PartFile], list[str]]:
    parts: list[PartFile] = []
    damaged: list[str] = []
    for file in files:
        try:
            parts.append(read_part(file))
        except BadFile as problem:
            damaged.append(f"{file.parent.name}/{file.name}: {problem.what}.")
    return parts, damaged


def _profile_of(parts: list[PartFile], profiles: Mapping[str, ModelProfile]) -> ModelProfile | None:
    transformer = next((part for part in parts if part.role == "transformer"), None)
    return nearest_profile(transformer, profiles) if transformer is not None else None


def _faults_together(parts: list[PartFile], profile: ModelProfile) -> list[str]:
    """Faults of each role over all of its files."""
    found: list[str] = []
    for role in ("transformer", "text_encoder", "vae"):
        own = [part for part in parts if part.role == role]
        tensors = {name: tensor for part in own for name, tensor in part.tensors.items()}
        if own:
            wrong = faults(tensors, expected_shapes(profile, own[0].role), whole=True)
            found += [f"{role}: {fault}." for fault in wrong]
    return found


def _config_says_2511(folder: Path) -> bool:
    """Whether diffusers' configuration next to a transformer sets what makes 2511 different."""
    try:
        return read_object(folder / "config.json").get("zero_cond_t") is True
    except BadFile:
        return False


def _size(paths: Iterable[Path]) -> int:
    total = 0
    for path in paths:
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:
            continue
    return total
