"""Whether the tensors of a part are those of a model: what is missing, left over, or of another shape."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache

from qied.checkpoints.expected import Shapes, text_encoder_shapes, transformer_shapes, vae_shapes
from qied.checkpoints.part_file import PartFile, PartRole
from qied.planning.model_profile import Architecture, ModelProfile
from qied.weights.stored import Stored

_SHOWN = 3


def expected_shapes(profile: ModelProfile, role: PartRole) -> Shapes:
    """Every tensor of a whole part of this model, with its shape."""
    return _shapes(profile.architecture, role)


@cache
def _shapes(facts: Architecture, role: PartRole) -> Shapes:
    if role == "transformer":
        return transformer_shapes(facts)
    return text_encoder_shapes(facts.text_encoder) if role == "text_encoder" else vae_shapes(facts)


def faults(tensors: Mapping[str, Stored], expected: Shapes, *, whole: bool) -> Iterator[str]:
    """What is wrong with a part's tensors, a clause each; a file that is no ``whole`` part need not have all."""
    unknown = sorted(name for name in tensors if name not in expected)
    if unknown:
        yield f"{len(unknown)} tensors are not the model's: {_some(unknown)}"
    for name, tensor in tensors.items():
        wanted = expected.get(name, tensor.entry.shape)
        if tensor.entry.shape != wanted:
            yield f"{tensor.key[:120]!r} is {list(tensor.entry.shape)}, and should be {list(wanted)}"
            break
    missing = [name for name in expected if name not in tensors]
    if whole and missing:
        yield f"{len(missing)} tensors are missing: {_some(missing)}"


def fitting_profiles(part: PartFile, profiles: Mapping[str, ModelProfile]) -> list[ModelProfile]:
    """Models whose tensors these are, as far as they are there."""
    return [
        profile
        for profile in profiles.values()
        if not any(faults(part.tensors, expected_shapes(profile, part.role), whole=not part.is_shard))
    ]


def nearest_profile(part: PartFile, profiles: Mapping[str, ModelProfile]) -> ModelProfile:
    """The model with which most of a part's tensors agree in name and shape."""

    def agreeing(profile: ModelProfile) -> int:
        expected = expected_shapes(profile, part.role)
        return sum(expected.get(name) == tensor.entry.shape for name, tensor in part.tensors.items())

    return max(profiles.values(), key=agreeing)


def _some(found: list[str]) -> str:
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return ", ".join(repr(name[:120]) for name in found[:_SHOWN]) + more
