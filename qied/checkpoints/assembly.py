"""Assembles a whole model around a single transformer file: finds the parts that go with it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from qied_client.errors import ConfigError, ModelNotFound, ModelUnsupported
from qied_client.system_failures import expanded

from qied.checkpoints.checkpoint import Checkpoint
from qied.checkpoints.comfyui import Installation, Kind
from qied.checkpoints.expected import (
    expected_shapes,
    faults,
    faults_of,
    faults_together,
    fitting_profiles,
    nearest_profile,
)
from qied.checkpoints.hub_cache import PULL
from qied.checkpoints.llama.vision_tower import GET_TOWER, LANGUAGE_ALONE, files_of_encoder
from qied.checkpoints.names import PartRole
from qied.checkpoints.part_file import PartFile, read_part, usable_part
from qied.checkpoints.pipeline_folder import REMEDY, STEMS, checkpoint_of, has_vocabulary, weight_files
from qied.checkpoints.small_files import is_file, is_folder
from qied.checkpoints.versions import known_to, of_kind
from qied.planning.profiles.model_profile import ModelProfile, shipped_profiles
from qied.resources import model_configuration
from qied.weights.problems import BadFile
from qied.weights.stored import QUANTISED

PULL_TOKENIZER: Final = f"{PULL}-tokenizer"
_TITLES: Final[dict[PartRole, str]] = {"transformer": "transformer", "text_encoder": "text encoder", "vae": "VAE"}
_OF_WAN: Final = re.compile(r"(?<![a-z])wan(?:video|vae)?(?![a-z])", re.IGNORECASE)
_OF_QWEN: Final = re.compile(r"qwen", re.IGNORECASE)
_ALTERED: Final = re.compile(r"abliterat|uncensor|heretic", re.IGNORECASE)
"""Text encoders of the same tensors that somebody trained or changed after their makers."""


@dataclass(frozen=True)
class NamedParts:
    """Parts that the configuration names, "" for those that are to be looked for.

    Files, folders of a component, or pipeline folders; ``version`` is what an unmarked transformer is said to be.
    """

    text_encoder: str = ""
    vae: str = ""
    tokenizer: str = ""
    version: str = ""

    @property
    def replaced(self) -> tuple[str, ...]:
        """Names of the parts that are named, as a pipeline folder has them."""
        parts = {"text_encoder": self.text_encoder, "vae": self.vae, "tokenizer": self.tokenizer}
        return tuple(part for part, named in parts.items() if named)


@dataclass(frozen=True)
class Places:
    """Where parts are looked for: pipeline folders, then ComfyUI's."""

    pipelines: Sequence[Path] = ()
    installations: Sequence[Installation] = ()


@dataclass(frozen=True)
class PartFiles:
    """The files of a whole part, and how densely its matrices are kept: see ``_density``."""

    files: tuple[Path, ...]
    density: int

    @property
    def is_altered(self) -> bool:
        """Whether it is not as its makers left it, by its name."""
        return _ALTERED.search(self.files[0].name) is not None


def assemble(
    transformer: Path, named: NamedParts, places: Places, profile: ModelProfile | None = None
) -> tuple[Checkpoint, ModelProfile]:
    """Find what belongs to a transformer's file; of several text encoders, one of the transformer's kind of precision.

    ``profile``: the model to assemble, else the one whose shapes it has. Raises ModelNotFound that names the part
    and how to get it, ModelUnsupported for a file of another model, and ConfigError for a named part that is none.
    """
    part = usable_part(transformer, "transformer")
    if part.is_shard:
        raise ModelUnsupported(
            f"{transformer} is only one part of a transformer that is split over several files.",
            "Name the folder of the whole model.",
        )
    model = _model_of(part, named.version, profile)
    encoder = _part("text_encoder", named.text_encoder, places, model, part)
    vae = _part("vae", named.vae, places, model, part)
    settings = model_configuration(model.configuration or model.name)
    if settings is None:
        raise ModelUnsupported(
            f"{transformer} is a single file, and the profile {model.name!r} has no configuration for its parts.",
            "Use a folder in diffusers' layout.",
        )
    weights = {"transformer": (transformer,), "text_encoder": encoder, "vae": vae}
    tokenizer = _tokenizer(named.tokenizer, places, settings)
    checkpoint = checkpoint_of(transformer, weights, settings, tokenizer, part.steps)
    return replace(checkpoint, keeps_schedule=part.keeps_schedule), model


def exchange(checkpoint: Checkpoint, named: NamedParts, profile: ModelProfile) -> Checkpoint:
    """A whole checkpoint with its parts replaced by those that the configuration names."""
    nowhere = Places()
    if named.text_encoder:
        files = _part("text_encoder", named.text_encoder, nowhere, profile, None)
        checkpoint = replace(checkpoint, text_encoder=tuple(map(str, files)))
    if named.vae:
        files = _part("vae", named.vae, nowhere, profile, None)
        checkpoint = replace(checkpoint, vae=tuple(map(str, files)))
    if named.tokenizer:
        checkpoint = replace(checkpoint, tokenizer=str(_named_tokenizer(named.tokenizer)))
    return checkpoint


def check_weights(checkpoint: Checkpoint, profile: ModelProfile) -> None:
    """Raise ModelUnsupported where the headers of a checkpoint's files show that they are not those of the model."""
    files: dict[PartRole, tuple[str, ...]] = {
        "transformer": checkpoint.transformer,
        "text_encoder": checkpoint.text_encoder,
        "vae": checkpoint.vae,
    }
    for role, own in files.items():
        parts = [usable_part(Path(file), role) for file in own]
        fault = next(faults_together(parts, profile), None)
        if fault is not None:
            where = parts[0].path if len(parts) == 1 else parts[0].path.parent
            raise ModelUnsupported(
                f"{where} cannot be used as the {_TITLES[role]} of {profile.title}: {fault}.", REMEDY
            )


def missing_for(transformer: Path, named: NamedParts, places: Places) -> tuple[str, ...]:
    """Names of the parts that a transformer's file lacks; what is wrong with the file itself is not asked here."""
    try:
        part = read_part(transformer, "transformer")
    except BadFile:
        return ()
    model = nearest_profile(part, shipped_profiles())
    wanted: list[PartRole] = [] if named.text_encoder else ["text_encoder"]
    wanted += [] if named.vae else ["vae"]
    wanted = [role for role in wanted if role not in part.sections]
    lacking = [_TITLES[role] for role in wanted if next(_candidates(role, places, model), None) is None]
    settings = model_configuration(model.configuration or model.name)
    if not named.tokenizer and _found_tokenizer(places, settings) is None:
        lacking.append("tokenizer")
    return tuple(lacking)


def _model_of(part: PartFile, said: str, wanted: ModelProfile | None) -> ModelProfile:
    """The model that a transformer is run as. ``wanted``, a profile that was named, says it as model.version does."""
    profiles = {wanted.name: wanted} if wanted is not None else shipped_profiles()
    found = fitting_profiles(part, profiles)
    if not found:
        nearest = nearest_profile(part, profiles)
        fault = next(faults(part.tensors, expected_shapes(nearest, part.role), whole=True))
        raise ModelUnsupported(
            f"{part.path} cannot be used as the transformer of {nearest.title}: {fault}.",
            "Download the file again, or use one of this model.",
        )
    said = said or (wanted.version if wanted is not None else "")
    known = known_to(found)
    # Whoever names the file and says what it is knows that its name is wrong.
    problem = part.evidence.problem(said, known) if not said or part.evidence.proven else None
    if problem is not None:
        raise ModelUnsupported(
            f"{part.path} is not served. {problem}",
            "Say what it is with model.version (--model-version), or name another file.",
        )
    version = part.evidence.runs_as(said) or ""
    model = of_kind(found, version)
    if model is None:
        raise ModelUnsupported(
            f"{part.path} has the tensors of {found[0].title}, of which there is no {version}.",
            f"Set model.version to what it is: {', '.join(known)}.",
        )
    return model


def _part(
    role: PartRole, named: str, places: Places, model: ModelProfile, transformer: PartFile | None
) -> tuple[Path, ...]:
    if named:
        return _named_part(role, named, model)
    if transformer is not None and role in transformer.sections:
        return _own_section(transformer.path, role, model)
    found = list(_candidates(role, places, model))
    if not found:
        if role == "text_encoder" and (half := _half(places)) is not None:
            raise ModelNotFound(f"{half} cannot be used: {LANGUAGE_ALONE}.", GET_TOWER)
        if role == "vae" and (other := _vae_of_wan(places)) is not None:
            raise ModelNotFound(
                f"No VAE of {model.title} was found: {other} is one of Wan by its name, which has the same tensors.",
                f"Get the one of Qwen-Image (qwen_image_vae.safetensors, or {PULL}), or name one with model.vae.",
            )
        raise ModelNotFound(
            f"{transformer.path if transformer else 'It'} is only a transformer, and no {_TITLES[role]} of "
            f"{model.title} was found next to it.",
            f"Name one with model.{role}, or get the whole model: {PULL}",
        )
    wanted = 0 if transformer is None else _density([transformer])
    return min(found, key=lambda one: (one.is_altered, abs(one.density - wanted))).files


def _own_section(path: Path, role: PartRole, model: ModelProfile) -> tuple[Path, ...]:
    """The transformer's own file, which holds this part as well; raises ModelUnsupported where that is damaged."""
    part = usable_part(path, role)
    fault = next(faults_of(part, model), None)
    if fault is not None:
        raise ModelUnsupported(
            f"{path} cannot be used as the {_TITLES[role]} of {model.title}: {fault}.",
            f"Name another one with model.{role}, or download the file again.",
        )
    return (path,)


def _half(places: Places) -> Path | None:
    """A language model's file that lacks its vision tower."""
    for file in (file for one in places.installations for file in one.files("text_encoder")):
        try:
            files_of_encoder(file)
        except BadFile as problem:
            if problem.what == LANGUAGE_ALONE:
                return file
    return None


def _vae_of_wan(places: Places) -> Path | None:
    """A VAE that was left out since its name says that it is of another model."""
    return next((file for one in places.installations for file in one.files("vae") if _is_of_wan(file)), None)


def _is_of_wan(file: Path) -> bool:
    """Whether a VAE is Wan's by its name: it has the same tensors as the one of Qwen-Image, and other numbers."""
    return _OF_WAN.search(file.name) is not None and _OF_QWEN.search(file.name) is None


def _density(parts: Sequence[PartFile]) -> int:
    """0 for 16 and 32 bits, 1 for FP8, 2 for GGUF's blocks and NVFP4: people have parts that are alike."""
    precisions = {part.precision or "" for part in parts}
    if precisions & {*QUANTISED, "nvfp4"}:
        return 2
    return 1 if any(precision.startswith(("fp8", "mxfp8")) for precision in precisions) else 0


def _named_part(role: PartRole, named: str, model: ModelProfile) -> tuple[Path, ...]:
    path = expanded_path(f"model.{role}", named)
    try:
        files = _files_at(path, role)
        tensors = {name: tensor for file in files for name, tensor in read_part(file, role).tensors.items()}
        fault = next(faults(tensors, expected_shapes(model, role), whole=True), None)
        if fault is not None:
            raise BadFile(f"it is not the {_TITLES[role]} of {model.title}: {fault}")
    except BadFile as problem:
        raise ConfigError(f"model.{role}: {path} cannot be used: {problem.what}.", problem.remedy) from problem
    except (ModelNotFound, ModelUnsupported) as problem:
        raise ConfigError(f"model.{role}: {problem.message}", problem.remedy) from problem
    return files


def expanded_path(key: str, named: str) -> Path:
    """A path of the configuration; raises ConfigError if its ~ names no user."""
    try:
        return expanded(Path(named)).absolute()
    except RuntimeError as error:
        raise ConfigError(f"{key}: {named} cannot be resolved: {error}.", "Write the full path.") from error


def _files_at(path: Path, role: PartRole) -> tuple[Path, ...]:
    """The files of a part by a path to one file, to the part's folder, or to the whole pipeline's.

    Raises ModelNotFound or ModelUnsupported, naming the missing file, and BadFile for half of a text encoder.
    """
    if is_file(path):
        return files_of_encoder(path.absolute()) if role == "text_encoder" else (path.absolute(),)
    if not is_folder(path):
        raise ModelNotFound(f"{path} does not exist.", "Correct the path.")
    folder = path / role if is_folder(path / role) else path
    return weight_files(folder.absolute(), STEMS[role])


def _candidates(role: PartRole, places: Places, model: ModelProfile) -> Iterator[PartFiles]:
    """Whole parts of the model, first those of ComfyUI's folders, where single files have their companions."""
    kind: Kind = "text_encoder" if role == "text_encoder" else "vae"
    for installation in places.installations:
        for file in installation.files(kind):
            if role == "vae" and _is_of_wan(file):
                continue
            try:
                files = files_of_encoder(file) if role == "text_encoder" else (file,)
            except BadFile:
                continue
            if (found := _fitting(files, role, model)) is not None:
                yield found
    for folder in places.pipelines:
        try:
            files = _files_at(folder, role)
        except (ModelNotFound, ModelUnsupported):
            continue
        if (found := _fitting(files, role, model)) is not None:
            yield found


def _fitting(files: tuple[Path, ...], role: PartRole, model: ModelProfile) -> PartFiles | None:
    try:
        parts = [read_part(file, role) for file in files]
    except BadFile:
        return None
    tensors = {name: tensor for part in parts for name, tensor in part.tensors.items()}
    if any(faults(tensors, expected_shapes(model, role), whole=True)):
        return None
    return PartFiles(files, _density(parts))


def _tokenizer(named: str, places: Places, settings: Path) -> Path:
    if named:
        return _named_tokenizer(named)
    found = _found_tokenizer(places, settings)
    if found is None:
        raise ModelNotFound(
            "No vocabulary was found: single files come without one, and neither ComfyUI nor the Hugging Face cache "
            "has it.",
            f"Get it (11 MB) with: {PULL_TOKENIZER}, or name a folder with model.tokenizer.",
        )
    return found


def _named_tokenizer(named: str) -> Path:
    path = expanded_path("model.tokenizer", named)
    for folder in (path, path / "tokenizer"):
        if has_vocabulary(folder):
            return folder
    raise ConfigError(
        f"model.tokenizer: {path} has no vocabulary.",
        "Name the folder with tokenizer_config.json, vocab.json and merges.txt.",
    )


def _found_tokenizer(places: Places, settings: Path | None) -> Path | None:
    folders: Mapping[Path, None] = dict.fromkeys(
        [
            *([settings / "tokenizer"] if settings is not None else []),
            *(pipeline / "tokenizer" for pipeline in places.pipelines),
            *(one.tokenizer for one in places.installations if one.tokenizer is not None),
        ]
    )
    return next((folder for folder in folders if has_vocabulary(folder)), None)
