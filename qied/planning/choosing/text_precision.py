"""How the matrices of a text encoder's layers are kept where these stream: in 8 bits, unless something is against it.

INT8 goes before FP8: with a scale for each row it errs a third as much, and little more than a computation in BF16
does by itself (``docs/quality.md``, "Text encoder"). Both are expanded for the products, which any card can do.
"""

from __future__ import annotations

from typing import Literal

from qied_client.text import gib

from qied.planning.plan import TextPrecision
from qied.planning.profiles.model_profile import ModelProfile
from qied.planning.wishes import Wishes

_STORED_BYTES = 2
_WORTH_TELLING = 100_000_000
_NAMES: dict[TextPrecision, str] = {"int8-storage": "INT8", "fp8-storage": "FP8"}


def streamed_text_precision(wishes: Wishes, as_stored: str) -> TextPrecision:
    """How layers that stream are kept; ``as_stored`` says why they cannot be quantised, "" where they can."""
    if as_stored or wishes.text_encoder_precision == "stored":
        return "stored"
    return "int8-storage" if wishes.text_encoder_precision == "auto" else wishes.text_encoder_precision


def asks_for_eight_bits(wishes: Wishes) -> bool:
    """Whether a person wants 8 bits, wherever the text encoder would fit without."""
    return wishes.text_encoder_precision in _NAMES


def text_precision_reasons(
    model: ModelProfile, wishes: Wishes, as_stored: str, held: Literal["resident", "streamed"]
) -> list[str]:
    """What 8 bits save where layers stream, or why they are as stored."""
    if held == "resident":
        return []
    precision = streamed_text_precision(wishes, as_stored)
    if precision == "stored":
        why = as_stored or "asked for"
        return [f"text encoder streams as it is stored: {why}"]
    before, after = streamed_text_bytes(model, "stored"), streamed_text_bytes(model, precision)
    return [
        f"text encoder streams in {_NAMES[precision]}: its layers take {gib(after)} of host memory and of each copy to "
        f"the card, for {gib(before)} in 16 bits"
    ]


def copied_text_reasons(copied_bytes: int) -> list[str]:
    """What a streamed text encoder takes of host memory besides its mapped file, if that is more than its biases."""
    if copied_bytes < _WORTH_TELLING:
        return []
    why = "its files have them in more than 16 bits, or in pieces"
    return [f"{gib(copied_bytes)} of the text encoder are copied into host memory: {why}"]


def text_precision_warnings(wishes: Wishes, as_stored: str) -> list[str]:
    """Why 8 bits that were asked for are not used; none where they are, or were not asked for."""
    if not as_stored or not asks_for_eight_bits(wishes):
        return []
    wished = wishes.text_encoder_precision
    return [f"model.text_encoder_precision is {wished}, but the text encoder is used as it is stored: {as_stored}."]


def streamed_text_bytes(model: ModelProfile, precision: TextPrecision) -> int:
    """Bytes of a text encoder's layers where they lie in host memory, stored in 16 bits or quantised."""
    text = model.architecture.text_encoder
    parameters = text.layers * text.layer_parameters + text.vision_layers * text.vision_layer_parameters
    matrices = text.layers * text.layer_matrices.parameters + text.vision_layers * text.vision_layer_matrices.parameters
    return parameters * _STORED_BYTES - (0 if precision == "stored" else matrices * (_STORED_BYTES - 1))
