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
from qied_client.cli.failures import failures_as_text
from qied_client.cli.progress import EditProgress
from qied_client.cli.status import seconds, show_status
from qied_client.client import Client
from qied_client.errors import InvalidRequest, QiedError, UnreachableError
from qied_client.results import Result

Key = Annotated[Path | None, typer.Option("--key", help="Key file; default: QIED_KEY, else the local daemon's.")]
Address = Annotated[str | None, typer.Option(help="Daemon address, instead of the one in the key file.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

_FORMATS = {".png": "png", ".webp": "webp"}


def add_client_commands(app: typer.Typer) -> None:
    """Add the commands to a command line."""
    app.command()(edit)
    app.command()(ps)
    app.command()(cancel)


def edit(
    images: Annotated[list[Path], typer.Argument(help="One to three pictures: PNG, JPEG or WebP.")],
    prompt: Annotated[str, typer.Argument(help="What to change, in words.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Output file: .png or .webp.")],
    negative: Annotated[str | None, typer.Option(help="Negative prompt; used only if CFG is above 1.")] = None,
    seed: Annotated[int | None, typer.Option(help="Same seed, same picture; random by default.")] = None,
    steps: Annotated[int | None, typer.Option(help="Denoising steps, 1 to 200.")] = None,
    cfg: Annotated[float | None, typer.Option(help="True CFG scale, 1 to 20; 1 turns it off.")] = None,
    width: Annotated[int | None, typer.Option(help="Width in pixels, a multiple of 16.")] = None,
    height: Annotated[int | None, typer.Option(help="Height in pixels, a multiple of 16.")] = None,
    preset: Annotated[str | None, typer.Option(help="Named settings: preview, draft or final.")] = None,
    precision: Annotated[str | None, typer.Option(help="Fail unless the daemon runs this precision.")] = None,
    lora: Annotated[list[str] | None, typer.Option(help="NAME or NAME:STRENGTH; may be repeated.")] = None,
    mask: Annotated[Path | None, typer.Option(help="Mask picture: white where to edit.")] = None,
    fit: Annotated[bool, typer.Option(help="Shrink the result to the daemon's cap if it is larger.")] = False,
    priority: Annotated[int, typer.Option(help="-10 to 10: which of your own edits goes first.")] = 0,
    job: Annotated[str | None, typer.Option(help="Job id; the same id again resumes the same job.")] = None,
    key: Key = None,
    address: Address = None,
    as_json: AsJson = False,
) -> None:
    """Edit pictures and save the result."""
    with failures_as_text():
        options = {
            "negative_prompt": negative,
            "seed": seed,
            "steps": steps,
            "true_cfg_scale": cfg,
            "width": width,
            "height": height,
            "preset": preset,
            "precision": precision,
            "loras": [_lora(text) for text in lora or ()],
            "mask": mask,
            "on_cap": "fit" if fit else "refuse",
            "output_format": _output_format(out),
            "priority": priority,
        }
        with Client(key, address=address) as client:
            result = _edit(client, images, prompt, out, job, options)
        _show_result(result, out, as_json)


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
        job.release(keep=True)
    return result


def _lora(text: str) -> str | tuple[str, float]:
    name, colon, strength = text.rpartition(":")
    if not colon:
        return text
    try:
        return name, float(strength)
    except ValueError:
        raise InvalidRequest(f"--lora {text}: {strength!r} is not a number.", "Write NAME:0.8.") from None


def _output_format(out: Path) -> str:
    """Format that the name of the result asks for; refuses a place that cannot hold it before anything is started."""
    if out.suffix.lower() not in _FORMATS:
        raise InvalidRequest(f"{out.name}: results are PNG or WebP.", "Choose a name that ends in .png or .webp.")
    if not out.parent.is_dir():
        raise InvalidRequest(f"{out}: there is no folder {out.parent}.", "Create it first, or choose another.")
    return _FORMATS[out.suffix.lower()]


def _show_result(result: Result, out: Path, as_json: bool) -> None:
    console = Console(highlight=False)
    if as_json:
        facts = asdict(result)
        del facts["bytes"]
        console.print_json(json.dumps({"path": str(out), **facts}))
        return
    took = result.timings.get("held_ms", 0)
    facts_text = f"  {result.width}x{result.height}  seed {result.seed}  {seconds(round(took))}"
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
