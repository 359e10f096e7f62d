"""Facts of a model as data: native sizes, defaults and presets, read from profiles/models/*.toml."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Final, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field
from qied_client.protocol import limits

from qied.edit import MOST_CONTEXT, Schedule
from qied.planning.profiles.profile_files import ProfileFile, read_profile_file
from qied.resources import profiles_folder

MODEL_VERSION: Final = re.compile(r"(?<!\d)(25\d\d)(?!\d)", re.ASCII)
"""The version of Qwen-Image-Edit in a name, such as 2509 or 2511."""
DEFAULT_MODEL: Final = "qwen-image-edit-2511"
"""The profile of the model that is served, and planned for, where nothing names another one."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Preset(_Strict):
    """Named settings that a request can refer to; a field that the request sets itself wins.

    ``loras`` are used at full strength, in addition to those of the request; one that is in both has the request's
    strength. ``lightning`` wants weights that were distilled to so many steps: a Lightning LoRA of the daemon's folders
    is taken, unless the transformer is distilled itself. ``precision`` is the one that it is meant for; another one
    will do.
    """

    steps: int = Field(ge=1, le=200)
    true_cfg_scale: float = Field(ge=1.0, le=20.0)
    description: str
    loras: tuple[str, ...] = Field(default=(), max_length=limits.LORAS)
    schedule: Schedule = "model"
    lightning: int | None = Field(default=None, ge=1, le=99)
    precision: Literal["fp8", "int8", "fp8-storage", "bf16", "fp32"] | None = None


class Geometry(_Strict):
    """Sizes in pixels that the model was trained at."""

    vae_pixels: int = Field(1024 * 1024, ge=1024, description="area to which a reference is resized for the VAE")
    vision_pixels: int = Field(
        384 * 384, ge=1024, description="area to which a reference is resized for the vision encoder"
    )
    side_multiple: int = Field(default=16, description="target sides are multiples of this")
    reference_multiple: int = Field(default=32, description="sides of resized references are multiples of this")
    max_references: int = Field(default=3, ge=0, le=8, description="0 for a model that makes pictures from text alone")
    max_target_pixels: int = Field(ge=1024)
    crop_context: float = Field(
        default=1.0,
        gt=0.0,
        le=MOST_CONTEXT,
        description="how many times a region's longer side its crop has on each side where a redraw leaves that open",
    )
    default_size: tuple[int, int] = Field((0, 0), description="sides of a result that no reference gives an aspect")

    @property
    def takes_pictures(self) -> bool:
        """Whether the model edits pictures; else it makes them from text alone."""
        return self.max_references > 0

    @property
    def least_references(self) -> int:
        """Pictures that a request needs: one to edit, or none."""
        return min(self.max_references, 1)

    @property
    def references_in_words(self) -> str:
        """How many pictures a request may have: ``no picture``, ``1 picture`` or ``1 to 3 pictures``."""
        if self.max_references <= 1:
            return "1 picture" if self.max_references else "no picture"
        return f"1 to {self.max_references} pictures"


class Matrices(NamedTuple):
    """Parameters of the matrices of a layer, and rows of all of them together."""

    parameters: int
    rows: int


class TextEncoderFacts(_Strict):
    """Counts of the text encoder, Qwen2.5-VL without its language head."""

    layers: int
    hidden: int
    mlp_dim: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    vision_layers: int
    vision_hidden: int
    vision_mlp_dim: int

    @property
    def layer_parameters(self) -> int:
        """Parameters of one decoder layer."""
        width = self.heads * self.head_dim
        kv_width = self.kv_heads * self.head_dim
        attention = 2 * self.hidden * width + 2 * self.hidden * kv_width + width + 2 * kv_width
        return attention + 3 * self.hidden * self.mlp_dim + 2 * self.hidden

    @property
    def vision_layer_parameters(self) -> int:
        """Parameters of one block of the vision tower."""
        hidden, mlp = self.vision_hidden, self.vision_mlp_dim
        return 4 * hidden * (hidden + 1) + 3 * hidden * mlp + 2 * mlp + 3 * hidden

    @property
    def layer_matrices(self) -> Matrices:
        """The matrices of one decoder layer: queries, keys, values, their output, gate, up and down."""
        width, kv_width = self.heads * self.head_dim, self.kv_heads * self.head_dim
        parameters = 2 * self.hidden * (width + kv_width) + 3 * self.hidden * self.mlp_dim
        return Matrices(parameters, width + 2 * kv_width + 2 * self.hidden + 2 * self.mlp_dim)

    @property
    def vision_layer_matrices(self) -> Matrices:
        """The matrices of one block of the vision tower: queries, keys and values in one, output, gate, up and down."""
        hidden, mlp = self.vision_hidden, self.vision_mlp_dim
        return Matrices(4 * hidden * hidden + 3 * hidden * mlp, 5 * hidden + 2 * mlp)

    @property
    def embedding_parameters(self) -> int:
        """Parameters of the table of token embeddings."""
        return self.vocabulary * self.hidden

    @property
    def rest_parameters(self) -> int:
        """Parameters that are neither in a layer nor in the table: patch embedding, merger, final norm."""
        merged = 4 * self.vision_hidden
        patches = 3 * 2 * 14 * 14 * self.vision_hidden
        return patches + self.vision_hidden + merged * (merged + 1) + self.hidden * (merged + 1) + self.hidden


class Architecture(_Strict):
    """Counts from which memory and cost are computed; all from the checkpoint's own configuration."""

    layers: int
    inner_dim: int
    head_dim: int
    mlp_dim: int
    joint_dim: int
    latent_channels: int = 16
    vae_base_dim: int
    vae_parameters: int = Field(description="parameters of the VAE restricted to single frames")
    text_encoder: TextEncoderFacts

    @property
    def token_channels(self) -> int:
        """Channels of one token: 2 x 2 latent cells."""
        return 4 * self.latent_channels

    @property
    def rest_parameters(self) -> int:
        """Parameters of the transformer outside its blocks: projections in and out, time embedding, last norm."""
        inner = self.inner_dim
        projections = (self.token_channels + 1) * inner + (self.joint_dim + 1) * inner + self.joint_dim
        time = (256 + 1) * inner + (inner + 1) * inner
        return projections + time + 2 * inner * (inner + 1) + (inner + 1) * self.token_channels

    @property
    def modulation_parameters(self) -> int:
        """Parameters of one block's ``img_mod`` and ``txt_mod``."""
        return 2 * 6 * self.inner_dim * (self.inner_dim + 1)

    @property
    def block_parameters(self) -> int:
        """Parameters of one block without its modulation: 12 linears and the norms of queries and keys."""
        inner, mlp = self.inner_dim, self.mlp_dim
        return 2 * (4 * inner * (inner + 1) + 2 * inner * mlp + mlp + inner) + 4 * self.head_dim


class PromptTemplate(_Strict):
    """The frame of a prompt that the model was trained with, in the chat format of Qwen2.5-VL.

    The user's turn has ``picture`` once for each reference, with ``{number}`` from 1, and then the prompt.
    """

    system: str = Field(min_length=1, description="text of the system's turn")
    picture: str = Field("", description="what stands for one picture; empty for a model that takes none")


class Download(_Strict):
    """What ``qied pull`` fetches under one name: files of a repository on the Hugging Face hub, by part.

    A pattern has ``*`` and ``?`` as in a shell, where ``*`` goes past ``/``, and must fit at least one file.
    """

    kind: Literal["model", "tokenizer", "lora"] = Field(description="what its files are to the daemon")
    description: str
    repository: str = Field(pattern=r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$")
    licence: str = Field(min_length=1, description="SPDX identifier of the licence that its makers name")
    revision: str = Field("main", min_length=1, description="branch, tag or commit")
    files: dict[str, tuple[str, ...]] = Field(min_length=1, description="patterns by part")


class ModelProfile(_Strict):
    """One model's facts. Sizes are pixels, ``template_tokens`` counts prompt template tokens that are dropped.

    Several models have the same tensors. ``version`` is what this one of them is called in model.version, empty for
    a model of its own; such a model runs like the one of ``runs_like``. ``pipeline`` and ``zero_cond_t`` are what
    diffusers' configurations of it say: the class in model_index.json, and whether references are modulated as at
    timestep 0.
    """

    name: str
    title: str
    source: str = Field(description="where the weights come from, for display")
    version: str = ""
    runs_like: str = "2511"
    repository: str = Field("", description="on the Hugging Face hub; empty: none")
    configuration: str = Field("", description="folder of shipped configurations; empty: that of its own name")
    pipeline: str = "QwenImageEditPlusPipeline"
    zero_cond_t: bool = True
    template: PromptTemplate
    geometry: Geometry
    architecture: Architecture
    template_tokens: int = 64
    max_prompt_tokens: int = 1024
    default_preset: str
    default_negative_prompt: str = " "
    presets: dict[str, Preset]
    downloads: dict[str, Download] = Field(default_factory=dict, description="what can be pulled, by name")

    @property
    def kind(self) -> str:
        """The version as which it runs."""
        return self.version or self.runs_like

    def lightning_download(self, steps: int) -> str | None:
        """The name under which a Lightning LoRA of so many steps can be pulled; None for none."""
        loras = [name for name, each in self.downloads.items() if each.kind == "lora"]
        return next((name for name in loras if name.endswith(f"-{steps}steps")), None)

    def preset(self, name: str | None) -> Preset:
        """Return the preset ``name``, or the default one; raises KeyError for an unknown name."""
        return self.presets[self.default_preset if name is None else name]


def load_profile(path: Path) -> ModelProfile:
    """Read one model profile; raises ConfigError that names file, line, key and the allowed values.

    In the place of its table, ``architecture`` may name a shipped profile that has the same counts. A profile that says
    no version has the one of its name, if there is one.
    """
    file = _with_architecture(read_profile_file(path))
    if "version" not in file.values and (found := MODEL_VERSION.search(str(file.values.get("name", "")))):
        file = replace(file, values={**file.values, "version": found[1]})
    profile = file.validated(ModelProfile)
    if profile.default_preset not in profile.presets:
        raise file.refusal(
            ("default_preset",),
            f"{profile.default_preset!r} is not one of {sorted(profile.presets)}.",
            "Name one of the presets of the same file.",
        )
    if not profile.geometry.takes_pictures and not all(profile.geometry.default_size):
        raise file.refusal(
            ("geometry",),
            "a model without pictures needs default_size.",
            "Add the sides of its usual result, such as default_size = [1024, 1024].",
        )
    return profile


def _with_architecture(file: ProfileFile) -> ProfileFile:
    """The file with the counts of the profile that it names, if it names one."""
    named = file.values.get("architecture")
    if not isinstance(named, str):
        return file
    others = {path.stem: path for path in _shipped_files() if path.stem != file.path.stem}
    counts = read_profile_file(others[named]).values.get("architecture") if named in others else None
    if not isinstance(counts, dict):
        known = [name for name, path in others.items() if "[architecture]" in path.read_text(encoding="utf-8")]
        raise file.refusal(
            ("architecture",),
            f"{named!r} is not a shipped profile with counts of its own.",
            f"Name one of {', '.join(known)}, or write the table.",
        )
    return replace(file, values={**file.values, "architecture": counts})


def _shipped_files() -> list[Path]:
    return sorted((profiles_folder() / "models").glob("*.toml"))


@cache
def shipped_profiles() -> dict[str, ModelProfile]:
    """All model profiles that ship with qied, by name."""
    found = [load_profile(path) for path in _shipped_files()]
    return {profile.name: profile for profile in sorted(found, key=lambda one: one.name != DEFAULT_MODEL)}


def versions() -> dict[str, ModelProfile]:
    """Shipped models of the same tensors, by what model.version calls them, the one that is served unasked first."""
    return {profile.version: profile for profile in shipped_profiles().values() if profile.version}


def shipped_downloads() -> dict[str, Download]:
    """All that can be pulled, by name, in the order of the profiles."""
    return {name: each for profile in shipped_profiles().values() for name, each in profile.downloads.items()}
