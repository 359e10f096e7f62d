"""Which model a daemon serves: the configured one, or one that is found; the built-in one only by name."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from qied_client.errors import ConfigError, ModelNotFound, ModelUnsupported, QiedError

from qied.checkpoints.assembly import NamedParts, Places, assemble, check_weights, exchange, expanded_path
from qied.checkpoints.checkpoint import Checkpoint
from qied.checkpoints.comfyui import SUFFIXES, installation, installation_around, installations, is_installation
from qied.checkpoints.file_bytes import copied_text_weights, stored_block_bytes
from qied.checkpoints.hub_cache import PULL, known_name
from qied.checkpoints.part_file import read_part
from qied.checkpoints.pipeline_folder import pipeline_checkpoint, pipeline_evidence, read_json
from qied.checkpoints.places import (
    best_models,
    choose_model,
    find_models,
    in_comfyui,
    most_likely_first,
    nothing_to_serve,
    places,
)
from qied.checkpoints.small_files import entries, is_file, is_folder
from qied.checkpoints.versions import UNKNOWN, Evidence, named_model, of_kind
from qied.config import ModelConfig
from qied.edit import warnings_within_limits
from qied.loras.catalogue import Catalogue, find_loras
from qied.planning.profiles.model_names import called
from qied.planning.profiles.model_profile import ModelProfile, load_profile, shipped_profiles, versions
from qied.resources import builtin_loras_folder, builtin_model_folder, builtin_upscalers_folder
from qied.serving.tiny_autoencoder import TinyAutoencoder, tiny_autoencoder_of
from qied.upscalers.catalogue import Upscalers, find_upscalers
from qied.weights.problems import BadFile
from qied.weights.stored import PLAIN, precision_of

BUILTIN = "builtin"
_SHOWN = 3
_SIXTEEN_BITS_AND_MORE = ("bf16", "fp16", "fp32")


@dataclass(frozen=True)
class ServedModel:
    """A model, its profile, the profile's name or path for the worker, and its LoRAs.

    ``origin`` is what people know it by: a pipeline folder, or the file of its transformer, which ``assembled`` has the
    other parts of. ``parts`` are those that the configuration names in the place of the folder's own. ``evidence``
    shows which of the models of the same tensors it is. ``tiny``: what decodes its previews. ``upscalers`` are the
    upscaling models that its edits may use.
    """

    origin: Path
    profile: ModelProfile
    profile_name: str
    loras: Catalogue = field(default_factory=Catalogue)
    parts: NamedParts = field(default_factory=NamedParts)
    assembled: Checkpoint | None = None
    evidence: Evidence = UNKNOWN
    tiny: TinyAutoencoder = field(default_factory=TinyAutoencoder)
    upscalers: Upscalers = field(default_factory=Upscalers)

    def checkpoint(self) -> Checkpoint:
        """The files to load; raises ModelNotFound, ModelUnsupported or ConfigError where they are not all there."""
        found = self.assembled
        if found is None:
            found = exchange(pipeline_checkpoint(self.origin, self.parts.replaced), self.parts, self.profile)
        return replace(found, tiny_autoencoder=str(self.tiny.path or ""))

    def check_weights(self) -> None:
        """Raise as :meth:`checkpoint`, and where the files' headers show that they are damaged or of another model."""
        check_weights(self.checkpoint(), self.profile)

    @property
    def lightning_steps(self) -> int | None:
        """Steps that the transformer itself is distilled to; None for a plain one."""
        return self.assembled.lightning_steps if self.assembled is not None else None

    @property
    def keeps_schedule(self) -> bool:
        """Whether a distilled transformer runs on the plain noise schedule all the same."""
        return self.assembled is not None and self.assembled.keeps_schedule

    @property
    def stored_block_bytes(self) -> int:
        """Bytes of the transformer's largest block in files of GGUF; 0 for others."""
        assembled = self.assembled
        if assembled is None:
            return 0
        return stored_block_bytes([Path(file) for file in assembled.transformer], self.profile.architecture)

    @property
    def told(self) -> str:
        """Its title, and what shows that it is this model."""
        if self.profile_name == BUILTIN:
            return self.profile.title
        return f"{self.profile.title}, {self.evidence.reason(self.parts.version)}"

    @property
    def text_encoder_quantised(self) -> str:
        """That the text encoder's files hold quantised weights, a clause; "" for 16 bits, or where nothing is known."""
        stored = self._stored("text_encoder")
        return "" if stored is None or stored in PLAIN else f"its files hold {stored}"

    def copied_text_weights(self, *, quantised: bool) -> int:
        """How many weights of its text encoder are copied into host memory where it streams."""
        try:
            files = self.checkpoint().text_encoder
        except QiedError:
            return 0
        return copied_text_weights(map(Path, files), quantised=quantised)

    @property
    def not_bf16(self) -> str:
        """That the transformer's files hold less than BF16, a clause; "" for 16 bits and more, or if it is unknown."""
        stored = self._stored("transformer")
        return "" if stored in (None, *_SIXTEEN_BITS_AND_MORE) else f"the files of the model hold {stored}"

    def _stored(self, part: Literal["text_encoder", "transformer"]) -> str | None:
        """The precision of a part's files; None where nothing is known."""
        try:
            found = self.checkpoint()
            files = found.text_encoder if part == "text_encoder" else found.transformer
            parts = [read_part(Path(file), part) for file in files]
        except (QiedError, BadFile):
            return None
        return precision_of({name: one for each in parts for name, one in each.tensors.items()})

    @property
    def warnings(self) -> tuple[str, ...]:
        """That the model's name contradicts the version it is served as: every picture would look wrong."""
        name = known_name(self.origin)
        named, served = named_model(name, {}), self.profile.version or self.parts.version
        if named is None or not served or named == served or self.evidence.shown_by == "tensor":
            return ()
        warning = (
            f"The model is named {name}, but is served as {called(served)}. If it is {called(named)}, every picture "
            f"comes out wrong: the daemon's owner should serve a model of {called(served)}."
        )
        return warnings_within_limits([warning])


def locate_model(config: ModelConfig, environ: Mapping[str, str], home: Path) -> ServedModel:
    """Find the model to serve, its LoRAs, and the upscaling models of the configured folders and of ComfyUI.

    Raises ModelNotFound with how to get one or the part of it that is missing, ModelUnsupported where no profile fits
    or a file is of another model, ConfigError for a bad profile or a named part or folder that is not there.
    """
    served = _find(config, environ, home)
    return replace(served, upscalers=_upscalers(config, environ, home, served))


def _upscalers(config: ModelConfig, environ: Mapping[str, str], home: Path, served: ServedModel) -> Upscalers:
    folders = _upscaler_folders(config)
    around = installation_around(served.origin, home) if is_file(served.origin) else None
    found = [*([around] if around is not None else []), *installations(environ, home)]
    beside = [folder for each in found for folder in each.folders["upscaler"]]
    return find_upscalers([*folders, *beside, *_own_upscalers(served.profile_name)])


def _upscaler_folders(config: ModelConfig) -> list[Path]:
    """The configured folders; raises ConfigError for one that is not there."""
    folders = [expanded_path("model.upscalers", named) for named in config.upscalers]
    if missing := next((named for named in folders if not is_folder(named)), None):
        raise ConfigError(f"model.upscalers: {missing} is not a folder.", "Correct the path, or leave it out.")
    return folders


def _own_upscalers(profile_name: str) -> list[Path]:
    return [builtin_upscalers_folder()] if profile_name == BUILTIN else []


def _find(config: ModelConfig, environ: Mapping[str, str], home: Path) -> ServedModel:
    if config.path == BUILTIN:
        return _served(builtin_model_folder(), shipped_profiles()[BUILTIN], BUILTIN, config, Places())
    if not config.path:
        found = find_models(environ, home, named_parts(config))
        chosen = choose_model(found, config.version)
        if chosen is None:
            raise nothing_to_serve(found)
        return _located(chosen.path, config, places(environ, home), chosen.loras)
    path = expanded_path("model.path", config.path)
    where = places(environ, home)
    if is_folder(path) and not is_file(path / "model_index.json") and is_installation(path):
        path = _only_one(path, home, where, named_parts(config))
    around = installation_around(path, home) if is_file(path) else None
    if around is not None:
        others = (one for one in where.installations if one.folders != around.folders)
        where = Places(where.pipelines, (around, *others))
    return _located(path, config, where, around.folders["lora"] if around is not None else ())


def without_files(profile: ModelProfile, name: str, config: ModelConfig) -> ServedModel:
    """A model that is only planned for, with the LoRAs and upscalers that are configured."""
    upscalers = find_upscalers([*_upscaler_folders(config), *_own_upscalers(name)])
    return ServedModel(Path(), profile, name, _loras(config, (), name, profile), upscalers=upscalers)


def named_parts(config: ModelConfig) -> NamedParts:
    """The parts that the configuration names."""
    return NamedParts(config.text_encoder, config.vae, config.tokenizer, config.version)


def _only_one(folder: Path, home: Path, where: Places, named: NamedParts) -> Path:
    """The transformer to serve of a ComfyUI folder that was named; raises ModelNotFound for none, or for a choice.

    Parts that are missing are told when it is assembled.
    """
    found = [replace(model, missing=()) for model in in_comfyui(installation(folder, home), where, named)]
    best = best_models(found, named.version)
    if len(best) == 1:
        return best[0].path
    if best:
        names = ", ".join(model.path.name for model in best)
        raise ModelNotFound(
            f"{folder} has {len(best)} transformers that can be served: {names}.",
            f"Name one of them, such as --model {shlex.quote(str(best[0].path))}.",
        )
    if not found:
        raise ModelNotFound(
            f"{folder} has no transformer of Qwen-Image-Edit.", f"Get one ({PULL}), or name another folder."
        )
    first = most_likely_first(found)[0]
    more = f" {len(found) - 1} more cannot be served either: see 'qied inspect'." if len(found) > 1 else ""
    raise ModelNotFound(
        f"{folder} has no transformer that can be served. {first.path.name}: {first.problems[0]}{more}",
        "Name the file to serve with --model, and what it is with --model-version: 2511, say.",
    )


def _located(path: Path, config: ModelConfig, where: Places, loras: Sequence[Path]) -> ServedModel:
    wanted = _named_profile(config.profile)
    if is_file(path):
        checkpoint, profile = assemble(path, named_parts(config), where, wanted[0] if wanted else None)
        name = wanted[1] if wanted else profile.name
        served = _served(path, profile, name, config, where, loras, checkpoint)
        return replace(served, evidence=read_part(path, "transformer").evidence)
    if not is_file(path / "model_index.json"):
        repository = next(
            (one for one in versions().values() if f"/{config.path}".rstrip("/").endswith(f"/{one.repository}")), None
        )
        if repository is not None:
            raise ModelNotFound(
                f"{config.path} names a repository, not a path on this machine.",
                f"Get it with: qied pull {repository.name}. Then 'qied serve' finds it without --model.",
            )
        if path.is_symlink() and not path.exists():
            raise ModelNotFound(f"{path} is a link to nothing: {path.readlink()}.", "Correct the link or the path.")
        if is_folder(path) and (files := [file.name for file in entries(path) if file.suffix.lower() in SUFFIXES]):
            some = ", ".join(files[:_SHOWN]) + (f" and {len(files) - _SHOWN} more" if len(files) > _SHOWN else "")
            raise ModelNotFound(
                f"{path} is a folder without model_index.json; it holds {some}.", "Name the file of the transformer."
            )
        is_what = "a folder without model_index.json and weight files" if is_folder(path) else "no file or folder"
        raise ModelNotFound(
            f"{path} is not a model: it is {is_what}.",
            "Give a folder in diffusers' layout, a transformer file, ComfyUI's folder, or 'builtin' for the "
            "small built-in model.",
        )
    folder = path.resolve()
    profile, name = wanted or _fitting_profile(folder, shipped_profiles())
    return replace(_served(folder, profile, name, config, where, loras), evidence=pipeline_evidence(folder))


def _served(
    origin: Path,
    profile: ModelProfile,
    name: str,
    config: ModelConfig,
    where: Places,
    beside: Sequence[Path] = (),
    assembled: Checkpoint | None = None,
) -> ServedModel:
    loras = _loras(config, beside, name, profile)
    own = origin if assembled is None else None
    tiny = tiny_autoencoder_of(config.tiny_autoencoder, own, where.installations, profile.architecture.latent_channels)
    return ServedModel(origin, profile, name, loras, named_parts(config), assembled, tiny=tiny)


def _loras(config: ModelConfig, beside: Sequence[Path], profile_name: str, profile: ModelProfile) -> Catalogue:
    """LoRAs of the configured folders, of the folders ``beside``, and of the built-in model its own.

    Raises ConfigError for a configured folder that is not there.
    """
    folders = [expanded_path("model.loras", named) for named in config.loras]
    if missing := next((named for named in folders if not is_folder(named)), None):
        raise ConfigError(f"model.loras: {missing} is not a folder.", "Correct the path, or leave it out.")
    own = [builtin_loras_folder()] if profile_name == BUILTIN else []
    return find_loras([*folders, *beside, *own], profile.architecture)


def _named_profile(wanted: str) -> tuple[ModelProfile, str] | None:
    shipped = shipped_profiles()
    if not wanted:
        return None
    if wanted in shipped:
        return shipped[wanted], wanted
    path = expanded_path("model.profile", wanted)
    if not is_file(path):
        raise ConfigError(
            f"model.profile: {wanted!r} is neither a profile nor a file.",
            f"Profiles: {', '.join(sorted(shipped))}.",
        )
    return load_profile(path), str(path)


def _fitting_profile(folder: Path, shipped: Mapping[str, ModelProfile]) -> tuple[ModelProfile, str]:
    path = folder / "transformer" / "config.json"
    facts = read_json(path)
    try:
        shape = (facts["num_layers"], facts["num_attention_heads"] * facts["attention_head_dim"])
    except (KeyError, TypeError) as error:
        raise ModelUnsupported(f"{path} cannot be used: {error!r}.", "Download the model again.") from error
    alike = [one for one in shipped.values() if shape == (one.architecture.layers, one.architecture.inner_dim)]
    evidence = pipeline_evidence(folder)
    if (found := of_kind(alike, evidence.version or "")) is not None:
        return found, found.name
    if alike:
        raise ModelUnsupported(
            f"{folder} is {called(evidence.version or 'an unknown model')} by its configuration (the pipeline's class, "
            f"and zero_cond_t), of which there is none of the size of {alike[0].title}.",
            "Restore the original configuration files, or name a profile with model.profile.",
        )
    raise ModelUnsupported(
        f"No profile fits {folder}: {shape[0]} layers of {shape[1]}.",
        f"Name one with model.profile; there are {', '.join(sorted(shipped))}.",
    )
