"""Hardware profiles: the settings for each card, as data, read from profiles/hardware/*.toml."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from math import inf
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field
from qied_client.errors import ConfigError
from qied_client.text import GIB

from qied.hardware.snapshot import capability_text
from qied.planning.profiles.profile_files import Key, read_profile_file
from qied.planning.profiles.tile_grid import MIN_TILE_PX
from qied.resources import profiles_folder

Precision = Literal["fp8", "int8", "fp8-storage", "bf16", "cpu"]
Capability = tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0, le=9)]]
"""CUDA compute capability, major and minor; NVIDIA writes the minor one as a single digit (sm_89, sm_120)."""

FP8_UNITS_FROM = (8, 9)
"""First capability whose matrix units multiply FP8 (``torch._scaled_mm``)."""
BF16_UNITS_FROM = (8, 0)
"""First capability whose matrix units multiply BF16."""
TILE_MULTIPLE = 32
"""Sides of VAE tiles are multiples of this many pixels, as are those of resized references."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Match(_Strict):
    """Which cards a profile is for: every given condition holds. ``device`` cpu is for machines without a card.

    Capabilities are inclusive; memory is GiB as NVML reports it, from ``memory_gib_from`` to below ``memory_gib_to``;
    ``names`` are regular expressions of which one is found anywhere in the card's name, case ignored.
    """

    device: Literal["cuda", "cpu"] = "cuda"
    capability_from: Capability | None = None
    capability_to: Capability | None = None
    memory_gib_from: float | None = Field(None, ge=0, allow_inf_nan=False)
    memory_gib_to: float | None = Field(None, gt=0, allow_inf_nan=False)
    names: tuple[Annotated[str, Field(min_length=1)], ...] = ()


class Choice(_Strict):
    """What to choose there. Sizes are pixels, memory bytes."""

    precision: tuple[Precision, ...] = Field(min_length=1, description="in order: the first that is proven and fits")
    compute: Literal["bf16", "fp32"] = Field("bf16", description="what fp8-storage and int8 compute in")
    reserve_bytes: int = Field(ge=0, description="memory of the card left to the desktop and other programs")
    max_pixels: int = Field(ge=65_536, description="cap of a result")
    max_reference_pixels: int = Field(ge=65_536, description="cap of each reference as the VAE sees it")
    min_tile_px: int = Field(MIN_TILE_PX, ge=MIN_TILE_PX, description="smallest side of a VAE tile")
    max_tile_px: int = Field(4096, ge=MIN_TILE_PX, description="largest side of a VAE tile")
    session_limit: int = Field(ge=1, le=256, description="edits held at once")
    residency: Literal["resident-first", "streamed"] = Field(
        "resident-first", description="keep as many blocks as fit, or stream all of them"
    )


class HardwareProfile(_Strict):
    """One kind of card, and the reasons for its numbers in ``notes``. ``name`` is also the file's name."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    title: str
    notes: str = ""
    match: Match
    choose: Choice


@dataclass(frozen=True)
class LoadedProfile:
    """A profile and where it came from: shipped with qied, or written by the user."""

    profile: HardwareProfile
    origin: Literal["shipped", "user"]
    path: Path


class Contradiction(NamedTuple):
    """A value that cannot be intended, and what to do about it."""

    key: Key
    problem: str
    remedy: str


def load_hardware_profile(path: Path) -> HardwareProfile:
    """Read one profile; raises ConfigError ``FILE:LINE: KEY: problem`` for the first value that is wrong."""
    file = read_profile_file(path)
    profile = file.validated(HardwareProfile)
    if profile.name != path.stem:
        raise file.refusal(
            ("name",),
            f"{profile.name!r} is not the file's name, {path.stem!r}.",
            "Give both the same name, so that no two profiles of a folder share one.",
        )
    for found in contradictions(profile):
        raise file.refusal(found.key, found.problem, found.remedy)
    return profile


@cache
def shipped_hardware_profiles() -> tuple[LoadedProfile, ...]:
    """All hardware profiles that ship with qied, sorted by name."""
    return _load_folder(profiles_folder() / "hardware", "shipped")


def all_hardware_profiles(user_folder: Path | None) -> tuple[LoadedProfile, ...]:
    """Shipped profiles, and the ``*.toml`` of ``user_folder`` (which need not exist), which replace those they name.

    Raises ConfigError for a file that cannot be used.
    """
    own = _load_folder(user_folder, "user") if user_folder is not None and _is_there(user_folder) else ()
    replaced = {loaded.profile.name for loaded in own}
    return own + tuple(loaded for loaded in shipped_hardware_profiles() if loaded.profile.name not in replaced)


def _is_there(folder: Path) -> bool:
    """Whether a folder exists; raises ConfigError where that may not be known."""
    try:
        return folder.exists()
    except OSError as error:
        raise ConfigError(
            f"{folder} cannot be searched: {error.strerror}.", "Give yourself access, or set XDG_CONFIG_HOME."
        ) from error


def match_profile(
    profiles: Iterable[LoadedProfile],
    device: Literal["cuda", "cpu"],
    compute_capability: tuple[int, int] | None,
    memory_bytes: int | None,
    name: str,
) -> LoadedProfile | None:
    """Return the profile for a card (or for ``device`` cpu, with None, None and ""), or None where none is for it.

    The user's go before shipped ones, then those that name the card, then those with a memory range, then those with
    a capability; among equals the narrower memory range, then the first by name. Pure. ``memory_bytes`` is all
    memory of the card as NVML reports it. What is None, unknown, meets no condition.
    """
    fitting = [
        loaded for loaded in profiles if fits(loaded.profile.match, device, compute_capability, memory_bytes, name)
    ]
    return min(fitting, key=_rank, default=None)


def fits(
    match: Match,
    device: Literal["cuda", "cpu"],
    compute_capability: tuple[int, int] | None,
    memory_bytes: int | None,
    name: str,
) -> bool:
    """Whether a card meets every condition of ``match``; arguments as for ``match_profile``."""
    if match.device != device:
        return False
    if match.capability_from is not None or match.capability_to is not None:
        low, high = match.capability_from or (0, 0), match.capability_to
        if compute_capability is None or compute_capability < low:
            return False
        if high is not None and compute_capability > high:
            return False
    if match.memory_gib_from is not None or match.memory_gib_to is not None:
        least, below = _memory_range(match)
        if memory_bytes is None or not least * GIB <= memory_bytes < below * GIB:
            return False
    return not match.names or any(re.search(pattern, name, re.IGNORECASE) for pattern in match.names)


def contradictions(profile: HardwareProfile) -> Iterator[Contradiction]:
    """What a profile says against itself or against the hardware that it is for."""
    yield from _of_match(profile.match)
    yield from _of_precision(profile.match, profile.choose)
    yield from _of_tiles(profile.choose)


def _of_match(match: Match) -> Iterator[Contradiction]:
    least, below = _memory_range(match)
    if match.capability_from and match.capability_to and match.capability_from > match.capability_to:
        first, last = capability_text(match.capability_from), capability_text(match.capability_to)
        problem = f"{first} is later than capability_to {last}."
        yield Contradiction(("match", "capability_from"), problem, "Swap them; both are inclusive.")
    if least >= below:
        problem = f"{least:g} is not below memory_gib_to {below:g}."
        yield Contradiction(("match", "memory_gib_from"), problem, "The range ends just below memory_gib_to.")
    for number, pattern in enumerate(match.names):
        try:
            re.compile(pattern)
        except re.error as error:
            problem = f"{pattern!r} is not a regular expression: {error}."
            yield Contradiction(("match", "names", number), problem, "Put a backslash before special characters.")
    if match.device == "cpu":
        for key in match.model_fields_set - {"device"}:
            yield Contradiction(("match", key), 'device "cpu" is not a card and has none.', "Remove it.")


def _of_precision(match: Match, choose: Choice) -> Iterator[Contradiction]:
    key: Key = ("choose", "precision")
    if len(set(choose.precision)) < len(choose.precision):
        yield Contradiction(key, f"{', '.join(choose.precision)} lists one twice.", "List each of them once.")
    for number, precision in enumerate(choose.precision):
        if (precision == "cpu") != (match.device == "cpu"):
            allowed = "cpu" if match.device == "cpu" else "fp8, int8, fp8-storage and bf16"
            problem = f'{precision} is not for device "{match.device}", which has {allowed}.'
            yield Contradiction((*key, number), problem, "Remove it, or correct match.device.")
    if match.device == "cpu":
        return
    if "fp8" in choose.precision:
        yield from _needs(match, FP8_UNITS_FROM, key, "fp8 needs", "Or use fp8-storage.")
    if "bf16" in choose.precision:
        yield from _needs(match, BF16_UNITS_FROM, key, "bf16 needs", "Or use fp8-storage with compute fp32.")
    if "fp8-storage" in choose.precision and choose.compute == "bf16":
        yield from _needs(match, BF16_UNITS_FROM, ("choose", "compute"), "bf16 needs", 'Or use "fp32".')


def _needs(match: Match, needed: tuple[int, int], key: Key, what: str, instead: str) -> Iterator[Contradiction]:
    if match.capability_from is None:
        given = "match.capability_from is not given"
    elif match.capability_from < needed:
        given = f"match.capability_from is {capability_text(match.capability_from)}"
    else:
        return
    problem = f"{what} capability {capability_text(needed)} or later, and {given}."
    yield Contradiction(key, problem, f"Set match.capability_from to [{needed[0]}, {needed[1]}] or later. {instead}")


def _of_tiles(choose: Choice) -> Iterator[Contradiction]:
    for key in ("min_tile_px", "max_tile_px"):
        if getattr(choose, key) % TILE_MULTIPLE:
            problem = f"{getattr(choose, key)} is not a multiple of {TILE_MULTIPLE}."
            yield Contradiction(("choose", key), problem, "Round it.")
    if choose.min_tile_px > choose.max_tile_px:
        problem = f"{choose.min_tile_px} is larger than max_tile_px {choose.max_tile_px}."
        yield Contradiction(("choose", "min_tile_px"), problem, "Swap them.")


def _load_folder(folder: Path, origin: Literal["shipped", "user"]) -> tuple[LoadedProfile, ...]:
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix == ".toml" and not path.name.startswith("."))
    except OSError as error:
        raise ConfigError(f"{folder}: {error.strerror}.", "Make it a readable folder of profiles.") from error
    return tuple(LoadedProfile(load_hardware_profile(path), origin, path) for path in paths)


def _rank(loaded: LoadedProfile) -> tuple[bool, int, float, str]:
    match = loaded.profile.match
    least, below = _memory_range(match)
    by_memory = match.memory_gib_from is not None or match.memory_gib_to is not None
    by_capability = match.capability_from is not None or match.capability_to is not None
    kind = 0 if match.names else 1 if by_memory else 2 if by_capability else 3
    return loaded.origin != "user", kind, below - least, loaded.profile.name


def _memory_range(match: Match) -> tuple[float, float]:
    """GiB from, and GiB below; 0 and infinity where not given."""
    return match.memory_gib_from or 0.0, inf if match.memory_gib_to is None else match.memory_gib_to
