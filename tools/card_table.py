"""Writes the table of cards in docs/guide.md from the golden plans; ``--check`` only compares."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from generated_part import update

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "guide.md"
PLANS = ROOT / "tests" / "planning" / "golden" / "plans"
CARDS = {
    "rtx-4060-8gb": "RTX 4060, 8 GB",
    "rtx-2080-ti-11gb": "RTX 2080 Ti, 11 GB",
    "rtx-3060-12gb": "RTX 3060, 12 GB",
    "rtx-4070-ti-12gb": "RTX 4070 Ti, 12 GB",
    "rtx-4080-16gb": "RTX 4080, 16 GB",
    "rtx-3090-24gb": "RTX 3090, 24 GB",
    "rtx-4090-24gb": "RTX 4090, 24 GB",
    "rtx-5090-32gb": "RTX 5090, 32 GB",
    "a100-40gb": "A100, 40 GB",
    "h100-80gb": "H100, 80 GB",
}


def table() -> str:
    """A row for each card: what its plan says."""
    head = "| card | precision | blocks that stay | results up to | edits at once | host memory |\n"
    return head + "| --- | --- | --- | --- | --- | --- |\n" + "".join(_row(name) for name in CARDS)


def _row(name: str) -> str:
    plan: dict[str, Any] = json.loads((PLANS / f"{name}.json").read_text(encoding="utf-8"))
    side = round(plan["max_pixels"] ** 0.5)
    blocks = f"{plan['blocks']['resident']} of {plan['blocks']['total']}"
    cells = (
        CARDS[name],
        plan["precision"],
        blocks,
        f"{side} x {side}",
        str(plan["sessions"]["at_max_pixels"]),
        f"{plan['host_bytes'] / 1e9:.0f} GB",
    )
    return "| " + " | ".join(cells) + " |\n"


if __name__ == "__main__":
    sys.exit(update(PAGE, "cards", table()))
