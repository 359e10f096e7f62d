"""The error of a LoRA that cannot be used: which file, what of it, and what to do."""

from __future__ import annotations

from qied_client.errors import ModelUnsupported

GET_ANOTHER = "Download the file again, or leave this LoRA out."
OTHER_MODEL = "Use a LoRA that was made for the model that is served, or leave this one out."


def unusable(file: str, what: str, remedy: str = GET_ANOTHER) -> ModelUnsupported:
    """The error to raise. ``file`` is relative to its LoRA folder, since users of the daemon get to see it."""
    return ModelUnsupported(f"The LoRA file {file} cannot be used: {what}.", remedy)
