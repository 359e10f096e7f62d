"""Which model a daemon serves: the configured one, or one that is found; the built-in one only by name."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from qied_client.errors import ConfigError, ModelNotFound, ModelUnsupported

from qied.config import ModelConfig
from qied.discovery import choose_model, explain_missing, find_models
from qied.loras.catalogue import Catalogue, find_loras
from qied.planning.model_profile import ModelProfile, load_profile, shipped_profiles
from qied.resources import builtin_loras_folder, builtin_model_folder

BUILTIN = "builtin"


@dataclass(frozen=True)
class ServedModel:
    """A model folder in diffusers' layout, its profile, the profile's name or path for the worker, and its LoRAs."""

    folder: Path
    profile: ModelProfile
    profile_name: str
    loras: Catalogue = field(default_factory=Catalogue)


def locate_model(config: ModelConfig, environ: Mapping[str, str], home: Path) -> ServedModel:
    """Find the model to serve.

    Raises ModelNotFound with how to get one, ModelUnsupported where no profile fits, ConfigError for a bad profile or
    a folder of LoRAs that is not there.
    """
    if config.path == BUILTIN:
        return with_loras(builtin_model_folder(), shipped_profiles()[BUILTIN], BUILTIN, config)
    beside: tuple[Path, ...] = ()
    if config.path:
        folder = Path(config.path).expanduser().resolve()
        if not (folder / "model_index.json").is_file():
            raise ModelNotFound(
                f"{folder} is no model folder: it has no model_index.json.",
                "Give a folder in diffusers' layout, or 'builtin' for the small built-in model.",
            )
    else:
        found = find_models(environ, home)
        chosen = choose_model(found)
        if chosen is None:
            raise ModelNotFound(explain_missing(found))
        folder = chosen.path
        beside = chosen.loras
    profile, name = _profile(config.profile, folder)
    return with_loras(folder, profile, name, config, beside)


def with_loras(
    folder: Path, profile: ModelProfile, profile_name: str, config: ModelConfig, beside: Sequence[Path] = ()
) -> ServedModel:
    """A model with the LoRAs of the configured folders, of those ``beside`` it, and of the built-in model its own.

    Raises ConfigError for a configured folder that is not there.
    """
    folders = [Path(named).expanduser().absolute() for named in config.loras]
    if missing := next((named for named in folders if not named.is_dir()), None):
        raise ConfigError(f"model.loras: {missing} is no folder.", "Correct the path, or leave it out.")
    own = [builtin_loras_folder()] if profile_name == BUILTIN else []
    return ServedModel(folder, profile, profile_name, find_loras([*folders, *beside, *own], profile.architecture))


def _profile(wanted: str, folder: Path) -> tuple[ModelProfile, str]:
    shipped = shipped_profiles()
    if wanted in shipped:
        return shipped[wanted], wanted
    if wanted:
        path = Path(wanted).expanduser()
        if not path.is_file():
            raise ConfigError(
                f"model.profile: {wanted!r} is neither a profile nor a file.",
                f"Profiles: {', '.join(sorted(shipped))}.",
            )
        return load_profile(path), str(path)
    return _fitting_profile(folder, shipped)


def _fitting_profile(folder: Path, shipped: Mapping[str, ModelProfile]) -> tuple[ModelProfile, str]:
    try:
        facts = json.loads((folder / "transformer" / "config.json").read_text(encoding="utf-8"))
        shape = (facts["num_layers"], facts["num_attention_heads"] * facts["attention_head_dim"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelUnsupported(
            f"{folder}/transformer/config.json cannot be used: {error!r}.", "Download the model again."
        ) from error
    for name, profile in shipped.items():
        if shape == (profile.architecture.layers, profile.architecture.inner_dim):
            return profile, name
    raise ModelUnsupported(
        f"No profile fits {folder}: {shape[0]} layers of {shape[1]}.",
        f"Name one with model.profile; there are {', '.join(sorted(shipped))}.",
    )
