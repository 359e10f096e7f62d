"""``edit``, ``ps`` and ``cancel``: the same under ``qied-client`` and under ``qied``."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from qied_client.aio.job import named
from qied_client.cli import edit_options as o
from qied_client.cli.failures import failures_as_text
from qied_client.cli.progress import EditProgress
from qied_client.cli.status import seconds, show_status
from qied_client.client import Client
from qied_client.errors import InvalidRequest, QiedError, UnreachableError
from qied_client.results import Result

Key = Annotated[Path | None, typer.Option("--key", help="Key file; default: QIED_KEY, else the local daemon's.")]
Address = Annotated[str | None, typer.Option(help="Daemon address, instead of the one in the key file.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def add_client_commands(app: typer.Typer) -> None:
    """Add the commands to a command line."""
    app.command()(edit)
    app.command()(ps)
    app.command()(cancel)


def edit(
    images: Annotated[list[Path], typer.Argument(help="One to three pictures: PNG, JPEG or WebP.")],
    prompt: Annotated[str, typer.Argument(help="What to change, in words.")],
    out: o.Out,
    negative: o.Negative = None,
    seed: o.Seed = None,
    steps: o.Steps = None,
    cfg: o.Cfg = None,
    width: o.Width = None,
    height: o.Height = None,
    preset: o.Preset = None,
    precision: o.Precision = None,
    lora: o.Lora = None,
    mask: o.Mask = None,
    fit: o.Fit = False,
    priority: o.Priority = 0,
    job: Annotated[str | None, typer.Option(help="Job id; the same id again resumes the same job.")] = None,
    key: Key = None,
    address: Address = None,
    as_json: AsJson = False,
) -> None:
    """Edit pictures and save the result."""
    with failures_as_text():
        options = o.edit_options(
            out=out,
            negative=negative,
            seed=seed,
            steps=steps,
            cfg=cfg,
            width=width,
            height=height,
            preset=preset,
            precision=precision,
            lora=lora,
            mask=mask,
            fit=fit,
            priority=priority,
        )
        with Client(key, address=address) as client:
            result = _edit(client, images, prompt, out, job, options)
        show_result(result, out, as_json)


def _edit(
    client: Client, images: list[Path], prompt: str, out: Path, job_id: str | None, options: dict[str, Any]
) -> Result:
    with EditProgress() as progress:
        job = client.submit(list(images), prompt, job_id=job_id, on_progress=progress, **options)
        try:
            for news in job.events():
                progress(news)
            result = job.result(on_progress=progress)
        except KeyboardInterrupt:
            with suppress(QiedError):
                job.cancel()
            raise
        except UnreachableError as error:
            raise named(error, job.id, f"Then get its picture by the same command and --job {job.id}.") from error
    try:
        result.save(out)
    except InvalidRequest as error:
        raise named(error, job.id, f"Then get the picture by the same command and --job {job.id}.") from error
    with suppress(QiedError):
        job.release()
    return result


def show_result(result: Result, out: Path, as_json: bool) -> None:
    """Print where a result is, and how it was made."""
    console = Console(highlight=False)
    if as_json:
        facts = asdict(result)
        del facts["bytes"]
        console.print_json(json.dumps({"path": str(out), **facts}))
        return
    took = result.timings.get("held_ms", 0)
    turn = "" if result.turn is None else f"  turn {result.turn}"
    made = f"  seed {result.seed}  {seconds(round(took))}" if result.job else ""
    facts_text = f"  {result.width}x{result.height}{turn}{made}"
    console.print(Text.assemble((str(out), "bold"), facts_text), soft_wrap=True)


def ps(
    everyone: Annotated[bool, typer.Option("--all", help="With the ids of all users' jobs; for the owner.")] = False,
    key: Key = None,
    address: Address = None,
    as_json: AsJson = False,
) -> None:
    """Show what the daemon is doing: workers and their memory, jobs, queue, sessions."""
    with failures_as_text():
        with Client(key, address=address, patience=3.0) as client:
            report = client.status(everyone=everyone)
        console = Console(highlight=False)
        if as_json:
            console.print_json(json.dumps(asdict(report)))
        else:
            show_status(console, report)


def cancel(
    job: Annotated[str, typer.Argument(help="Job id, as shown by 'ps'; the owner may cancel any USER/JOB.")],
    key: Key = None,
    address: Address = None,
) -> None:
    """Cancel a job; repeating it is harmless."""
    user, _, name = job.rpartition("/")
    with failures_as_text():
        with Client(key, address=address) as client:
            answer = client.cancel(name, user=user or None)
        Console(highlight=False).print(Text(f"{job}: {answer}"), soft_wrap=True)
