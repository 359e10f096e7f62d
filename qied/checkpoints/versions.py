"""Which model of the family a transformer is: what shows it, and where model.version may decide.

2509, 2511, 2512 and their siblings have the same tensors, and each gives wrong pictures when it is run as another.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from qied.checkpoints.all_in_one import rapid_version
from qied.loras.lightning import named_version
from qied.planning.model_profile import MODEL_VERSION

SERVED: Final = "2511"
UNTOLD: Final = (
    "It does not say whether it is 2509 or 2511: to serve it as 2511, set model.version (--model-version 2511)"
)
_OFFICIAL: Final = re.compile(
    r"qwen[-_. ]?image(?P<edit>[-_. ]?edit)?(?:[-_. ](?:bf16|fp16|fp32|fp8|e4m3fn|e5m2|scaled|mixed|fp8mixed|int8|gguf|"
    r"q\d\w*|[km]|s|l|lightning|\d{1,2}steps?|v\d[\d.]*))*",
    re.IGNORECASE | re.ASCII,
)
"""A name of the first models, which had no version: nothing but the model and how it is stored."""
_SIBLINGS: Final = {
    "layered": "Qwen-Image-Layered",
    "firered": "FireRed-Image-Edit",
    "edit.?plus": "Qwen-Image-Edit-Plus (2509)",
}
"""Models of the same tensors whose names have no version."""

Shown = Literal["tensor", "configuration", "name"]


@dataclass(frozen=True)
class Evidence:
    """What a transformer is said to be (``version``, 2511 or 2509, say; else its name), and what shows it.

    A tensor, or a configuration that the model's maker wrote, proves it. A name proves nothing, but may contradict.
    """

    version: str | None = None
    shown_by: Shown | None = None

    @property
    def proven(self) -> bool:
        """Whether it is 2511 for sure."""
        return self.version == SERVED and self.shown_by in ("tensor", "configuration")

    @property
    def contradicts(self) -> bool:
        """Whether it has the name of another model."""
        return self.shown_by == "name" and self.version != SERVED

    @property
    def merit(self) -> int:
        """How well it is known to be 2511; the lower, the better."""
        return 0 if self.proven else 1 if self.version == SERVED else 2

    def problem(self, said: str) -> str | None:
        """Why a transformer that was found is not served as 2511, a sentence; ``said`` is model.version.

        What the configuration says counts for files that say nothing themselves, and for none that is named
        otherwise: only who names the file can know that its name is wrong.
        """
        if self.proven:
            return None
        if self.contradicts:
            return (
                f"By its name it is {self.version}, which has the same tensors as 2511, but is not run. If the name is "
                "wrong, name the file: --model FILE --model-version 2511."
            )
        named = "By its name it is 2511, which proves nothing. " if self.version == SERVED else ""
        return None if said else f"{named}{UNTOLD}."


UNKNOWN: Final = Evidence()


def named_model(name: str, metadata: Mapping[str, str], folder: str = "") -> str | None:
    """Which model a file is named for, by its name, its title, or the folder that it lies in; None where none tells.

    A version where there is one, else the name of the model.
    """
    stem = name.rpartition("/")[2]
    if (rapid := rapid_version(stem)) is not None:
        return rapid
    for text in (stem, folder):
        for sign, model in _SIBLINGS.items():
            if re.search(sign, text, re.IGNORECASE) and not MODEL_VERSION.search(text):
                return model
        if (version := named_version(text, metadata if text is stem else {})) is not None:
            return version
    official = _OFFICIAL.fullmatch(stem.rpartition(".")[0] or stem)
    if official is not None:
        return "the first Qwen-Image-Edit" if official["edit"] else "Qwen-Image, which makes pictures from text alone"
    return None
