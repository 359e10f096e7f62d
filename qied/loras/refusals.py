"""The error for a LoRA file that cannot be used."""

from __future__ import annotations

from typing import Final

from qied_client.errors import ModelUnsupported

GET_ANOTHER: Final = "Download the file again, or leave this LoRA out."
OTHER_MODEL: Final = "Use a LoRA that was made for the served model, or leave this one out."


def unusable(file: str, what: str, remedy: str = GET_ANOTHER) -> ModelUnsupported:
    """The error to raise. ``file`` is relative to its LoRA folder, since users of the daemon get to see it."""
    return ModelUnsupported(f"The LoRA file {file} cannot be used: {what}.", remedy)
