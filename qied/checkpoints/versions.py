"""Which of the models of the same tensors a transformer is: what shows it, and where model.version decides.

2511, 2509, 2512 and their siblings have the same tensors, and each gives wrong pictures when it is run as another.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from qied.checkpoints.all_in_one import rapid_version
from qied.loras.lightning import named_version
from qied.planning.profiles.model_names import called, model_named
from qied.planning.profiles.model_profile import ModelProfile, versions

MARKED: Final = "2511"
"""The model whose files have a tensor that says so, and the one that is served where several are as good."""

Shown = Literal["tensor", "configuration", "name"]
_WORDS: Final[Mapping[Shown, str]] = {
    "tensor": "by a tensor of its own",
    "configuration": "by its configuration",
    "name": "by its name",
}


@dataclass(frozen=True)
class Evidence:
    """What a transformer is said to be (``version`` as in model.version, else a model's name), and what shows it.

    A tensor, or a configuration that the model's maker wrote, proves it. A name does not: it counts where files of
    that model have nothing better, which is so for all but 2511.
    """

    version: str | None = None
    shown_by: Shown | None = None

    @property
    def proven(self) -> bool:
        """Whether the file or its folder says itself what it is."""
        return self.version is not None and self.shown_by in ("tensor", "configuration")

    def merit(self, wanted: str) -> int:
        """How well it is known to be the ``wanted`` model; the lower, the better."""
        if self.version == wanted:
            return 0 if self.proven else 1
        return 2 if self.version is None else 3

    def runs_as(self, said: str) -> str | None:
        """The version that it is run as; None where that is not known. ``said`` is model.version, or empty."""
        if self.proven:
            return self.version
        return said or (self.version if self.version != MARKED else None)

    def problem(self, said: str, known: Collection[str]) -> str | None:
        """Why a transformer that was found is not served, a sentence; ``known`` are the models of its tensors.

        What the configuration says counts for files that say nothing themselves, and for none that is named
        otherwise: only who names the file can know that its name is wrong.
        """
        if self.version is None:
            return None if said else untold(known)
        if self.version not in known:
            return (
                f"{_WORDS[self.shown_by or 'name'].capitalize()} it is {called(self.version)}, which has the same "
                f"tensors as {called(next(iter(known)))}, but is not run. {_IF_WRONG}"
            )
        if self.proven:
            return None
        if said and said != self.version:
            return f"By its name it is {called(self.version)}, but model.version says {said}. {_IF_WRONG}"
        return (
            f"By its name it is {MARKED}, which proves nothing. {untold(known)}" if self.runs_as(said) is None else None
        )

    def reason(self, said: str) -> str:
        """What shows which model it is run as, to stand behind the model's title."""
        if not self.proven and said:
            return "as model.version says"
        return _WORDS[self.shown_by] if self.shown_by is not None else "by the profile"


UNKNOWN: Final = Evidence()
_IF_WRONG: Final = (
    f"If the name is wrong, name the file and what it is, such as: --model FILE --model-version {MARKED}."
)


def untold(known: Collection[str]) -> str:
    """That a file could be one of several models of the same tensors, and how to say which."""
    others = [version for version in known if version != MARKED]
    more = f", or to another model of the same tensors: {', '.join(others)}" if others else ""
    return (
        f"It does not say whether it is 2509 or 2511: to serve it as 2511, set model.version "
        f"(--model-version 2511){more}."
    )


def known_to(profiles: Collection[ModelProfile]) -> list[str]:
    """What model.version may say of a file that fits these profiles, the model that is served unasked first."""
    return list(dict.fromkeys(profile.kind for profile in profiles))


def of_kind(profiles: Collection[ModelProfile], version: str) -> ModelProfile | None:
    """The one of these models that is run as ``version``."""
    return next((profile for profile in profiles if profile.kind == version), None)


def pipeline_version(pipeline: str, zero_cond_t: bool, name: str) -> Evidence:
    """Which model a pipeline folder holds, from its class, its transformer's configuration, and its own name.

    Models that differ in nothing but their weights are told apart by the name; one without a telling name counts as
    the first of them.
    """
    alike = [
        version
        for version, profile in versions().items()
        if (profile.pipeline, profile.zero_cond_t) == (pipeline, zero_cond_t)
    ]
    named = model_named(name)
    if not alike:
        return Evidence(named, "name") if named is not None else UNKNOWN
    if named in alike and len(alike) > 1:
        return Evidence(named, "name")
    plain = next((version for version in ("2509", "qwen-image") if version in alike), alike[0])
    return Evidence(plain, "configuration")


def named_model(name: str, metadata: Mapping[str, str], folder: str = "") -> str | None:
    """Which model a file is named for, by its name, its title, or the folder that it lies in; None where none tells.

    A version as in model.version where there is one, else the name of the model.
    """
    stem = name.rpartition("/")[2]
    if (rapid := rapid_version(stem)) is not None:
        return rapid
    return named_version(stem, metadata) or model_named(folder)
