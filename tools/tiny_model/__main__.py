"""Command line: ``python -m tools.tiny_model preview --out sheet.png`` draws random edits with their exact results."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from random import Random

from tools.tiny_model.contact_sheet import contact_sheet, truth_entries
from tools.tiny_model.edits import Edit, sample_edit, sample_session
from tools.tiny_model.phrasings import REFERENCE_TASKS, TASKS


def preview_edits(seed: int) -> list[Edit]:
    """24 edits: two of each single-picture task, one of each with two pictures, and a session of four turns."""
    rng = Random(seed)
    edits = [sample_edit(rng, task) for task in (*TASKS, *TASKS, *REFERENCE_TASKS)]
    return [*edits, *sample_session(rng, 4)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command."""
    parser = argparse.ArgumentParser(prog="python -m tools.tiny_model", description="Data of the built-in model.")
    commands = parser.add_subparsers(dest="command", required=True)
    preview = commands.add_parser("preview", help="draw 24 random edits with their exact results")
    preview.add_argument("--out", type=Path, required=True, help="PNG file to write")
    preview.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    contact_sheet(truth_entries(preview_edits(options.seed))).save(options.out)


if __name__ == "__main__":
    main()
