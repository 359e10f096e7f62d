"""Which of the models of the same tensors a name speaks of: of a file, a title, or a repository."""

from __future__ import annotations

import re
from typing import Final

from qied.planning.profiles.model_profile import MODEL_VERSION, versions

_OFFICIAL: Final = re.compile(
    r"qwen[-_. ]?image(?P<edit>[-_. ]?edit)?(?:[-_. ](?:bf16|fp16|fp32|fp8|e4m3fn|e5m2|scaled|mixed|fp8mixed|int8|gguf|"
    r"q\d\w*|[km]|s|l|lightning|\d{1,2}steps?|v\d[\d.]*))*",
    re.IGNORECASE | re.ASCII,
)
"""A name of the first models, which had no version: nothing but the model and how it is stored."""
_FIRERED: Final = re.compile(r"firered\D*?(?P<version>1[._]?[01])(?!\d)", re.IGNORECASE | re.ASCII)
_OTHERS: Final = {
    "layered": "Qwen-Image-Layered",
    "firered": "FireRed-Image-Edit",
    "edit.?plus": "2509",
}
"""Models whose names have no version of Qwen's, by a sign of each; their own versions are looked for before."""


def model_named(text: str) -> str | None:
    """The model that a name without its folders speaks of, as model.version calls it; None where none tells.

    For a model that is not run it is the model's name, or its version. A suffix such as ``.gguf`` is passed over.
    """
    if (firered := _FIRERED.search(text)) is not None:
        return f"firered-1.{firered['version'][-1]}"
    found = MODEL_VERSION.search(text)
    if found is not None:
        return found[1]
    for sign, model in _OTHERS.items():
        if re.search(sign, text, re.IGNORECASE):
            return model
    stem = re.sub(r"\.(safetensors|sft|gguf)$", "", text, flags=re.IGNORECASE)
    official = _OFFICIAL.fullmatch(stem)
    if official is None:
        return None
    return "edit" if official["edit"] else "qwen-image"


def called(version: str) -> str:
    """What people call a model: by its number where it has one, else by its name."""
    profile = versions().get(version)
    if profile is None or version.isdecimal():
        return version
    return f"the first {profile.title}" if version == "edit" else profile.title
