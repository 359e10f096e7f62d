"""Facts of a model as data: native sizes, defaults and presets, read from profiles/models/*.toml."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import tomli
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from qied_client.errors import ConfigError

from qied.resources import profiles_folder


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Preset(_Strict):
    """Named settings that a request can refer to; a field that the request sets itself wins."""

    steps: int = Field(ge=1, le=200)
    true_cfg_scale: float = Field(ge=1.0, le=20.0)
    description: str


class Geometry(_Strict):
    """Sizes in pixels that the model was trained at."""

    vae_pixels: int = Field(ge=1024, description="area to which a reference is resized for the VAE")
    vision_pixels: int = Field(ge=1024, description="area to which a reference is resized for the vision encoder")
    side_multiple: int = Field(default=16, description="target sides are multiples of this")
    reference_multiple: int = Field(default=32, description="sides of resized references are multiples of this")
    max_references: int = Field(default=3, ge=1, le=8)
    max_target_pixels: int = Field(ge=1024)


class Architecture(_Strict):
    """Counts from which memory and cost are estimated; all from the checkpoint's own configuration."""

    layers: int
    inner_dim: int
    mlp_dim: int
    joint_dim: int
    latent_channels: int = 16
    vae_factor: int = 8
    vae_base_dim: int
    parameters: int = Field(description="transformer, text encoder and VAE together")


class ModelProfile(_Strict):
    """One model's facts. Sizes are pixels, ``template_tokens`` counts prompt template tokens that are dropped."""

    name: str
    title: str
    source: str = Field(description="where the weights come from, shown to people")
    geometry: Geometry
    architecture: Architecture
    template_tokens: int = 64
    max_prompt_tokens: int = 1024
    default_preset: str
    default_negative_prompt: str = " "
    presets: dict[str, Preset]

    def preset(self, name: str | None) -> Preset:
        """Return the preset ``name``, or the default one; raises KeyError for an unknown name."""
        return self.presets[self.default_preset if name is None else name]


def load_profile(path: Path) -> ModelProfile:
    """Read one model profile; raises ConfigError that names file, key and what is allowed."""
    try:
        with path.open("rb") as file:
            profile = ModelProfile.model_validate(tomli.load(file))
    except (tomli.TOMLDecodeError, ValidationError, OSError) as error:
        raise ConfigError(f"{path}: {error}", "Correct the profile, or remove it.") from error
    if profile.default_preset not in profile.presets:
        raise ConfigError(
            f"{path}: default_preset: {profile.default_preset!r} is none of {sorted(profile.presets)}.",
            "Name one of the presets of the same file.",
        )
    return profile


@cache
def shipped_profiles() -> dict[str, ModelProfile]:
    """All model profiles that ship with qied, by name."""
    found = [load_profile(path) for path in sorted((profiles_folder() / "models").glob("*.toml"))]
    return {profile.name: profile for profile in found}
