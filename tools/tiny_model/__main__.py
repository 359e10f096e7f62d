"""The built-in model: ``preview`` draws random edits, ``train`` makes the weights, ``export`` writes what is shipped.

    python -m tools.tiny_model train --folder runs/full
    python -m tools.tiny_model export --folder runs/full --out qied/builtin

With several GPUs: ``torchrun --nproc-per-node 2 -m tools.tiny_model train ...``.
A run that was broken off, or that ``--minutes`` ended, goes on where it was when the command is given again.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random

from rich.console import Console

from tools.tiny_model.contact_sheet import contact_sheet, truth_entries
from tools.tiny_model.edits import Edit, sample_edit, sample_session
from tools.tiny_model.phrasings import REFERENCE_TASKS, TASKS
from tools.tiny_model.stage import STAGES


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
    train = commands.add_parser("train", help="train every part, or go on with a run")
    train.add_argument("--folder", dest="run", type=Path, required=True, help="folder of this training")
    train.add_argument("--budget", choices=("full", "smoke"), default="full")
    train.add_argument("--minutes", type=float, default=float("inf"), help="stop and save after so long")
    train.add_argument("--device", default=None, help="default: cuda where there is one, else cpu")
    train.add_argument("--workers", type=int, default=None, help="processes that draw edits")
    train.add_argument("--only", nargs="+", choices=STAGES, help="stages to run (default: all)")
    train.set_defaults(fail=train.error)
    export = commands.add_parser("export", help="write the pipeline folder and the LoRAs of a finished run")
    export.add_argument("--folder", dest="run", type=Path, required=True)
    export.add_argument("--out", type=Path, required=True, help="folder that gets model/ and loras/")
    export.set_defaults(fail=export.error)
    options = parser.parse_args(arguments)
    if options.command == "preview":
        contact_sheet(truth_entries(preview_edits(options.seed))).save(options.out)
    elif options.command == "train":
        _train(options)
    else:
        _export(options)


def _train(options: argparse.Namespace) -> None:
    import torch

    from tools.tiny_model.budgets import BUDGETS
    from tools.tiny_model.ranks import join, leave
    from tools.tiny_model.training import AnotherBudgetError, OutOfTimeError, Run

    ranks = join()
    device = torch.device(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    until = time.monotonic() + 60 * options.minutes
    run = Run(options.run, BUDGETS[options.budget], device, until, options.workers, ranks)
    console = Console(quiet=not ranks.leads)
    try:
        run.train(console, tuple(options.only or STAGES))
    except OutOfTimeError as reason:
        console.print(f"Time is up: {reason}. The same command goes on from there.")
    except AnotherBudgetError as error:
        options.fail(str(error))
    finally:
        leave()


def _export(options: argparse.Namespace) -> None:
    from tools.tiny_model.export import export_loras, export_pipeline, unfinished

    if missing := unfinished(options.run):
        options.fail(f"{options.run} is no finished training: {', '.join(missing)} of it is not there")
    size = export_pipeline(options.run, options.out / "model") + export_loras(options.run, options.out / "loras")
    Console().print(f"{size / 1e6:.1f} MB in {options.out}")


if __name__ == "__main__":
    main()
