"""What is measured: budgets and precisions, each with edits of several sizes, references and guidance."""

from __future__ import annotations

from dataclasses import dataclass

from qied.edit import EditSpec
from qied.planning.wishes import WishedPrecision, Wishes

GB = 10**9


@dataclass(frozen=True)
class Setup:
    """One plan: a budget in bytes (0: all of the card) and a precision.

    ``gguf``: the type of the GGUF file that the transformer comes from; ``host_bytes``: all of the host's memory, as
    the plan is told (0: what the machine has).
    """

    budget_bytes: int
    precision: WishedPrecision
    gguf: str = ""
    host_bytes: int = 0

    def wishes(self) -> Wishes:
        """What is asked of the plan; random weights have no file, so the text encoder is used as it is stored."""
        return Wishes(
            precision=self.precision,
            budget_bytes=self.budget_bytes,
            max_active=1,
            cache_bytes=0,
            text_encoder_precision="stored",
        )

    def __str__(self) -> str:
        return f"{self.budget_bytes // GB or 'all'} GB {self.precision}{' of ' * bool(self.gguf)}{self.gguf}"


@dataclass(frozen=True)
class Case:
    """One edit under a plan: sides in pixels, references of 1024 x 1024."""

    width: int
    height: int
    references: int
    guided: bool
    masked: bool = False
    long_prompt: bool = False

    def spec(self) -> EditSpec:
        """The edit, of two steps: the second one allocates what the first one did."""
        return EditSpec(
            images=tuple(f"{index:064x}" for index in range(self.references)),
            prompt="make the sky a little darker " * (60 if self.long_prompt else 2),
            negative_prompt=" " if self.guided else None,
            seed=1,
            steps=2,
            true_cfg_scale=4.0 if self.guided else 1.0,
            width=self.width,
            height=self.height,
            mask="f" * 64 if self.masked else None,
            preview_every=0,
        )

    def __str__(self) -> str:
        marks = "".join(mark for mark, on in ((" cfg", self.guided), (" mask", self.masked)) if on)
        return f"{self.width}x{self.height} {self.references} ref{marks}{' long' if self.long_prompt else ''}"


SETUPS = (
    Setup(8 * GB, "fp8"),
    Setup(12 * GB, "fp8"),
    Setup(16 * GB, "fp8"),
    Setup(24 * GB, "fp8"),
    Setup(48 * GB, "fp8"),
    Setup(0, "fp8"),
    Setup(12 * GB, "fp8-storage"),
    Setup(24 * GB, "bf16"),
    Setup(48 * GB, "bf16"),
    Setup(0, "bf16"),
)
"""Every budget at which people have cards, in each precision that makes sense there."""

GGUF_SETUPS = (Setup(8 * GB, "fp8", "Q4_K", 16 * 1024**3), Setup(8 * GB, "fp8-storage", "Q4_K", 16 * 1024**3))
"""A small machine with the file that people have for one."""

CASES = (
    Case(512, 512, 1, guided=False),
    Case(1024, 1024, 1, guided=True),
    Case(1024, 1024, 3, guided=True, long_prompt=True),
    Case(1152, 896, 2, guided=False, masked=True),
    Case(2048, 2048, 1, guided=True),
)
"""Edits under each plan, as far as its caps admit them."""
