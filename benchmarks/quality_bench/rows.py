"""What is compared: configurations with a name, each one run over one of the fixed sets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from qied.planning.plan import TextPrecision
from qied.planning.profiles.model_profile import ModelProfile

# fmt: off
GgufPrecision = Literal[
    "gguf F16", "gguf Q8_0", "gguf Q6_K", "gguf Q5_K", "gguf Q5_0",
    "gguf Q4_K", "gguf IQ4_XS", "gguf Q4_0", "gguf Q3_K", "gguf Q2_K",
]
# fmt: on
"""The transformer's blocks as a GGUF file of one type has them, expanded to BF16."""
Precision = (
    Literal["fp32", "bf16", "fp8 row-wise", "fp8 attention", "fp8 per tensor", "fp8 plain cast", "fp8 storage", "int8"]
    | GgufPrecision
)
Lora = Literal["lightning", "style"]
Set = Literal["held-out", "two pictures", "turns", "mixed"]
"""Single edits; edits with two pictures; sessions of five turns; single edits of which half have the LoRA."""

STEPS = 20
FEW_STEPS = (8, 4)
CFG_SCALES = (1.0, 2.5)
"""Guidance scales that are compared with the recommended one; 1 is no guidance."""
LIGHTNING_STEPS = 4


@dataclass(frozen=True)
class Row:
    """One configuration. With ``cfg`` above 1 the prompt is compared with an empty one, a single space.

    ``bf16_vae`` leaves the VAE in BF16, as on a card; otherwise it runs in FP32. ``text`` is how the text encoder's
    layers are kept.
    """

    name: str
    precision: Precision
    steps: int
    cfg: float
    lora: Lora | None = None
    set: Set = "held-out"
    bf16_vae: bool = False
    text: TextPrecision = "stored"


MAIN, MIXED, TURNS, VAE = "bf16 20", "bf16 20 mixed style", "bf16 20 turns", "vae"
TEXT = "text encoder"
TEXT_PRECISIONS: tuple[TextPrecision, ...] = ("int8-storage", "fp8-storage")
TEXT_ROWS = tuple(f"bf16 20 text {text}" for text in TEXT_PRECISIONS)
"""Measured apart from the others, with the text encoder's own error."""
STYLE, LIGHTNING = "bf16 20 + style", "bf16 4 + lightning"
ROWWISE, FP8_TURNS = "fp8 row-wise 20", "fp8 row-wise 20 turns"
INT8 = "int8 20"
GGUF_Q8 = "gguf Q8_0 20"
GGUF_PRECISIONS: tuple[GgufPrecision, ...] = get_args(GgufPrecision)
EIGHT_BIT_ROWS = (ROWWISE, "fp8 attention 20", "fp8 per tensor 20", "fp8 plain cast 20", "fp8 storage 20", INT8)


def rows(profile: ModelProfile) -> tuple[Row, ...]:
    """All rows; guidance is what the model's default preset recommends, unless the row's name says another one."""
    cfg = profile.preset(None).true_cfg_scale
    precisions: tuple[Precision, ...] = (
        "fp8 row-wise",
        "fp8 attention",
        "fp8 per tensor",
        "fp8 plain cast",
        "fp8 storage",
        "int8",
        *GGUF_PRECISIONS,
    )
    return (
        Row(MAIN, "bf16", STEPS, cfg),
        *(Row(f"bf16 {steps}", "bf16", steps, cfg) for steps in FEW_STEPS),
        *(Row(f"bf16 {STEPS} cfg {scale:g}", "bf16", STEPS, scale) for scale in CFG_SCALES if scale != cfg),
        Row(LIGHTNING, "bf16", LIGHTNING_STEPS, 1.0, "lightning"),
        Row(STYLE, "bf16", STEPS, cfg, "style"),
        Row(MIXED, "bf16", STEPS, cfg, "style", "mixed"),
        Row("bf16 20 two pictures", "bf16", STEPS, cfg, set="two pictures"),
        Row(TURNS, "bf16", STEPS, cfg, set="turns"),
        Row("bf16 20 bf16 vae", "bf16", STEPS, cfg, bf16_vae=True),
        *(Row(f"{precision} {STEPS}", precision, STEPS, cfg) for precision in precisions),
        Row("fp8 row-wise 4 + lightning", "fp8 row-wise", LIGHTNING_STEPS, 1.0, "lightning"),
        Row(FP8_TURNS, "fp8 row-wise", STEPS, cfg, set="turns"),
        Row("fp32 20", "fp32", STEPS, cfg),
    )


def text_rows(profile: ModelProfile) -> tuple[Row, ...]:
    """Rows with the text encoder's layers in 8 bits."""
    cfg = profile.preset(None).true_cfg_scale
    return tuple(
        Row(name, "bf16", STEPS, cfg, text=text) for name, text in zip(TEXT_ROWS, TEXT_PRECISIONS, strict=True)
    )
