"""What files and folders are, from names, headers and small texts alone: `qied inspect` and `qied models`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from qied_client.errors import ModelNotFound, ModelUnsupported

from qied.checkpoints.expected import agreement, faults_of, faults_together, fitting_profiles, nearest_profile
from qied.checkpoints.llama.vision_tower import GET_TOWER, LANGUAGE_ALONE, tower_of
from qied.checkpoints.names import Role
from qied.checkpoints.part_file import WORDS, PartFile, part_role, read_part
from qied.checkpoints.pipeline_folder import STEMS, check_pipeline, missing_parts, pipeline_evidence, weight_files
from qied.checkpoints.report import Layout, Report
from qied.checkpoints.small_files import is_file, is_folder
from qied.checkpoints.versions import Evidence, known_to, of_kind
from qied.loras.contents import read_contents
from qied.loras.keys import foreign_method, is_change
from qied.planning.profiles.model_names import called
from qied.planning.profiles.model_profile import ModelProfile, shipped_profiles
from qied.weights.header import Header, read_header
from qied.weights.problems import BadFile
from qied.weights.stored import Precision, precision_of

_SAME_MODEL = 0.1
"""Where fewer of a file's tensors agree with any model, in name and shape, it belongs to none of them."""


def inspect(path: Path, version: str = "") -> Report:
    """Tell what a file or a folder is; any problems are in the report.

    ``version`` is model.version: what transformers are that say nothing themselves.
    """
    profiles = shipped_profiles()
    try:
        if is_folder(path):
            return _folder(path, profiles)
        return _file(path, profiles, version)
    except BadFile as problem:
        return Report(path, bytes=_size([path]), problems=(f"{sentence(problem.what)} {problem.remedy}",))


def sentence(clause: str) -> str:
    """A clause as a sentence of a report; a name at its beginning stays as it is."""
    first = clause.partition(" ")[0]
    return (clause[:1].upper() + clause[1:] if first.isalpha() else clause) + "."


def _file(path: Path, profiles: Mapping[str, ModelProfile], version: str) -> Report:
    header = read_header(path)
    if part_role(header) is None and any(_is_lora_name(name) for name in header.tensors):
        return _lora(path, header, profiles)
    part = read_part(path)
    found = fitting_profiles(part, profiles)
    role: Role = "checkpoint" if part.sections else part.role
    report = Report(path, role, part.layout, part.precision, None, part.steps, _size([path]))
    if not found:
        nearest = nearest_profile(part, profiles)
        if agreement(part, nearest) < _SAME_MODEL:
            fault = next(faults_of(part, nearest))
            what = f"it is the {WORDS[part.role]} of another model, by its tensors: {fault}"
            return replace(report, problems=(sentence(what),))
        problems = tuple(sentence(f"as a part of {nearest.title}: {fault}") for fault in faults_of(part, nearest))
        return replace(report, problems=problems)
    if part.half == "language" and tower_of(part) is None:
        return replace(report, model=found[0].name, problems=(f"{sentence(LANGUAGE_ALONE)} {GET_TOWER}",))
    if part.role != "transformer":
        return replace(report, model=found[0].name)
    report = replace(report, version=part.evidence.version, shown_by=part.evidence.shown_by)
    if others := _faults_of_sections(path, part, found[0]):
        return replace(report, problems=others)
    problem = part.evidence.problem(version, known_to(found))
    if problem is not None:
        return replace(report, problems=(problem,))
    model = of_kind(found, part.evidence.runs_as(version) or "")
    return replace(report, model=model.name if model is not None else None)


def _faults_of_sections(path: Path, transformer: PartFile, profile: ModelProfile) -> tuple[str, ...]:
    """What is wrong with the other parts that lie in a transformer's file."""
    parts = (read_part(path, role) for role in transformer.sections if role != "transformer")
    return tuple(f"{part.role}: {fault}." for part in parts for fault in faults_of(part, profile))


def _is_lora_name(name: str) -> bool:
    return is_change(name) or "lora" in name.lower()


def _lora(path: Path, header: Header, profiles: Mapping[str, ModelProfile]) -> Report:
    names = list(header.tensors)
    report = Report(path, "lora", _lora_layout(names), None, bytes=_size([path]))
    report = replace(report, precision=_lora_precision(header))
    foreign = next((method for name in names if (method := foreign_method(name)) is not None), None)
    report = replace(report, method=foreign)
    said: dict[str, str] = {}
    for profile in _of_each_size(profiles):
        try:
            contents = read_contents(path, path.name, profile.architecture)
        except ModelUnsupported as error:
            said[profile.title] = error.message
        else:
            note = contents.note
            alike = [other for other in profiles.values() if other.architecture == profile.architecture]
            own = of_kind(alike, contents.version or "") or profile
            return replace(
                report,
                model=own.name,
                lightning_steps=contents.steps,
                method=" + ".join(contents.methods),
                notes=(note,) if note else (),
            )
    if len(set(said.values())) == 1:
        return replace(report, problems=(next(iter(said.values())),))
    return replace(report, problems=tuple(f"For {title}: {message}" for title, message in said.items()))


def _of_each_size(profiles: Mapping[str, ModelProfile]) -> list[ModelProfile]:
    """The first of the models of each size: a LoRA that fits one fits all of them."""
    found: list[ModelProfile] = []
    for profile in profiles.values():
        if all(profile.architecture != other.architecture for other in found):
            found.append(profile)
    return found


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
    if "transformer_blocks_" in first.partition(".")[0] or first.startswith(("lora_", "lycoris_")):
        return "kohya"
    if first.startswith("base_model."):
        return "peft"
    if first.startswith(("diffusion_model.", "model.diffusion_model.")):
        return "comfyui"
    if first.startswith("transformer."):
        return "diffusers"
    return "lightx2v" if re.search(r"\.(lora_down|lora_up|alpha)(\.|$)", first) else "peft"


def _folder(path: Path, profiles: Mapping[str, ModelProfile]) -> Report:
    """A pipeline folder; the files that it names itself show what it lacks."""
    if not is_file(path / "model_index.json"):
        raise BadFile(
            "it is a folder without model_index.json, so not a pipeline", "Name a file, or a folder that has one."
        )
    files, problems = _weights(path)
    report = Report(path, "pipeline", "diffusers", bytes=_size(files))
    try:
        check_pipeline(path)
    except (ModelNotFound, ModelUnsupported) as problem:
        return replace(report, problems=(problem.message,))
    evidence = pipeline_evidence(path)
    report = replace(report, version=evidence.version, shown_by=evidence.shown_by)
    problems = [*(f"{name} is missing." for name in missing_parts(path)), *problems]
    parts, damaged = _read_parts(files)
    problems += damaged
    transformer = [part for part in parts if part.role == "transformer"]
    profile = _profile_of(parts, profiles, evidence)
    if profile is not None and evidence.version not in (None, profile.kind):
        problems.append(
            f"It is {called(evidence.version or '')} by its configuration (zero_cond_t, and the pipeline's class), of "
            f"which there is none of the size of {profile.title}."
        )
        return replace(report, problems=tuple(problems))
    if profile is not None:
        problems += _faults_together(parts, profile)
    precisions = precision_of({name: tensor for part in transformer for name, tensor in part.tensors.items()})
    return replace(
        report, precision=precisions, model=profile.name if profile is not None else None, problems=tuple(problems)
    )


def _weights(folder: Path) -> tuple[list[Path], list[str]]:
    """The weight files that would be loaded of a pipeline; where some are missing, all that there are."""
    files: list[Path] = []
    problems: list[str] = []
    for part, stem in STEMS.items():
        try:
            files += weight_files(folder / part, stem)
        except ModelNotFound:
            files += sorted((folder / part).glob("*.safetensors"))
        except ModelUnsupported as problem:
            problems.append(problem.message)
    return files, problems


def _read_parts(files: list[Path]) -> tuple[list[PartFile], list[str]]:
    parts: list[PartFile] = []
    damaged: list[str] = []
    for file in files:
        try:
            parts.append(read_part(file))
        except BadFile as problem:
            damaged.append(f"{file.parent.name}/{file.name}: {problem.what}.")
    return parts, damaged


def _profile_of(parts: list[PartFile], profiles: Mapping[str, ModelProfile], evidence: Evidence) -> ModelProfile | None:
    """The model that a folder holds: of the size of its transformer, and the one that it says."""
    transformer = next((part for part in parts if part.role == "transformer"), None)
    if transformer is None:
        return None
    nearest = nearest_profile(transformer, profiles)
    alike = [profile for profile in profiles.values() if profile.architecture == nearest.architecture]
    return of_kind(alike, evidence.version or "") or nearest


def _faults_together(parts: list[PartFile], profile: ModelProfile) -> list[str]:
    """Faults of each role over all of its files."""
    found: list[str] = []
    for role in STEMS:
        own = [part for part in parts if part.role == role]
        found += [f"{role}: {fault}." for fault in faults_together(own, profile)]
    return found


def _size(paths: Iterable[Path]) -> int:
    total = 0
    for path in paths:
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:
            continue
    return total
