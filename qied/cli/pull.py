"""``qied pull``: gets a model or a LoRA by name from the Hugging Face hub."""

from __future__ import annotations

import json
import os
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer
from qied_client.cli.exit_status import INTERRUPTED
from qied_client.cli.failures import failures_as_text
from qied_client.errors import InvalidRequest
from qied_client.system_failures import expanded
from qied_client.text import file_size
from rich.console import Console
from rich.table import Table
from rich.text import Text

from qied.checkpoints.pipeline_folder import missing_parts
from qied.cli.machine import usual_config
from qied.cli.progress import PullProgress
from qied.config import load_config
from qied.doctor.words import some
from qied.loras.catalogue import SUFFIX
from qied.loras.lightning import lightning_steps
from qied.planning.profiles.model_profile import DEFAULT_MODEL, Download, shipped_downloads, shipped_profiles

if TYPE_CHECKING:
    from qied.downloads.pull import Pull


def pull(
    name: Annotated[str | None, typer.Argument(help="What to download; without it, list what is available.")] = None,
    to: Annotated[Path | None, typer.Option(help="Download to this folder, not to the Hugging Face cache.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="Only this part; may be repeated.")] = None,
    config: Annotated[Path | None, typer.Option(help="Configuration file; default: ./qied.toml if it exists.")] = None,
) -> None:
    """Download a model by name: only files that are needed and missing. Repeat the command to resume."""
    with failures_as_text():
        downloads = shipped_downloads()
        if name is None:
            Console(highlight=False).print(_table(downloads))
            return
        if name not in downloads:
            raise InvalidRequest(f"There is no {name!r} to pull.", f"Available: {', '.join(downloads)}.", field="name")
        reserve = load_config(usual_config(config), os.environ, {}).config.storage.free_reserve_bytes
        folder = None if to is None else expanded(to).absolute()
        _pull(name, downloads[name], folder, only or [], reserve)


def _pull(name: str, download: Download, to: Path | None, only: list[str], reserve: int) -> None:
    # The hub's library takes as long to import as the rest of a command, and no other command needs it.
    from huggingface_hub import constants

    from qied.downloads.pull import carry_out, prepare

    told = Console(stderr=True, highlight=False, markup=False)
    prepared = prepare(download, cache=Path(constants.HF_HUB_CACHE).absolute(), folder=to, only=only)
    told.print(Text(_in_short(prepared)), soft_wrap=True)
    if prepared.missing.bytes:
        licence = f"Licence: {download.licence}, as its makers say at {constants.ENDPOINT}/{download.repository}"
        told.print(Text(licence), soft_wrap=True)
    try:
        with PullProgress() as progress:
            found = carry_out(prepared, reserve, progress)
    except KeyboardInterrupt:
        told.print("\nStopped. What was downloaded is kept: the same command resumes from there.", soft_wrap=True)
        raise typer.Exit(INTERRUPTED) from None
    out = Console(highlight=False, markup=False)
    for line in _next_steps(name, download, prepared, found, to is None):
        out.print(Text(line), soft_wrap=True)


def _table(downloads: dict[str, Download]) -> Table:
    table = Table("name", "what it is", box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name, download in downloads.items():
        what = Text.assemble(download.description, "\n", (f"{download.repository}, {download.licence}", "dim"))
        table.add_row(Text(name, style="cyan"), what)
    return table


def _in_short(prepared: Pull) -> str:
    """What is about to happen: ``Qwen/... at 0123456789ab: 29 files of 57.7 GB, 12.1 GB still to fetch``."""
    listing, wanted, left = prepared.listing, prepared.wanted, prepared.missing.bytes
    all_of_them = f"{len(wanted)} files of" if len(wanted) != 1 else "one file of"
    rest = f"{file_size(left)} still to download" if left else "all of it there"
    size = file_size(sum(file.bytes for file in wanted))
    return f"{listing.repository} at {listing.commit[:12]}: {all_of_them} {size}, {rest}"


def _next_steps(name: str, download: Download, prepared: Pull, folder: Path, in_cache: bool) -> list[str]:
    """Where the files are, and what to do with them."""
    if download.kind == "lora":
        return [f"In {folder}", *_use_lora(name, prepared.wanted[0].path, folder)]
    if download.kind == "model":
        if lacking := missing_parts(folder):
            again = f"qied pull {name}" + ("" if in_cache else f" --to {quote(str(folder))}")
            return [f"In {folder}", f"Still missing: {some(lacking)}. To get all of it: {again}"]
        found_unasked = in_cache and name == DEFAULT_MODEL
        return [f"In {folder}", "Serve it: qied serve" + ("" if found_unasked else f" --model {quote(str(folder))}")]
    return [f"In {folder}"]


def _use_lora(name: str, file: str, folder: Path) -> list[str]:
    owner = next(profile for profile in shipped_profiles().values() if name in profile.downloads)
    command = "edit" if owner.geometry.takes_pictures else "generate"
    steps = lightning_steps(file, {})
    settings = f" --steps {steps} --cfg 1" if steps else ""
    return [
        "Add that folder to model.loras in qied.toml, and restart the daemon:",
        f"  loras = [{json.dumps(str(folder), ensure_ascii=False)}]",
        f"then: qied {command} ... --lora {file.removesuffix(SUFFIX)}{settings}",
    ]
