"""``qied profile``: the hardware profiles, shipped ones and your own, and what they choose."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any

import typer
from qied_client.cli.failures import failures_as_text
from qied_client.errors import ConfigError
from rich.console import Console
from rich.table import Table
from rich.text import Text

from qied.hardware.snapshot import capability_text
from qied.hardware.user_folders import user_config_folder
from qied.planning.profiles.hardware_profile import (
    LoadedProfile,
    Match,
    all_hardware_profiles,
    shipped_hardware_profiles,
)

profile = typer.Typer(help="Show hardware profiles: the settings chosen for each card.", no_args_is_help=True)

_MIB = 1024**2
_WIDE = 116
"""Columns from which the list has room for titles."""

Folder = Annotated[
    Path | None,
    typer.Option(help="Folder of your own profiles; default: profiles/hardware in qied's configuration folder."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def user_profiles_folder() -> Path:
    """Where this user's own hardware profiles lie, one ``NAME.toml`` each; it need not exist.

    Raises ConfigError where there is no home folder.
    """
    return user_config_folder() / "profiles" / "hardware"


@profile.command("list")
def list_profiles(folder: Folder = None, as_json: AsJson = False) -> None:
    """List all hardware profiles, by the cards that they are for."""
    with failures_as_text():
        own = folder or user_profiles_folder()
        loaded = sorted(all_hardware_profiles(own), key=_place)
    console = Console(highlight=False, markup=False)
    if as_json:
        console.print_json(json.dumps([_document(each) for each in loaded]))
        return
    widths = [min(max(map(len, column)), 24) for column in zip(*map(_identity, loaded), strict=True)]
    for cards, group in groupby(loaded, key=lambda each: _cards(each.profile.match)):
        console.print(Text(cards, style="bold"))
        console.print(_table(group, widths, console.width >= _WIDE))
        console.print()
    for line in _legend(loaded, own):
        console.print(line, style="dim", soft_wrap=True)


@profile.command()
def show(
    name: Annotated[str, typer.Argument(help="Profile name, as listed.")],
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Show one profile with its reasons and its file, which is a start for one of your own."""
    with failures_as_text():
        loaded = sorted(all_hardware_profiles(folder or user_profiles_folder()), key=_place)
        known = {each.profile.name: each for each in loaded}
        if name not in known:
            raise ConfigError(
                f"No hardware profile {name!r}; known are {', '.join(known)}.", "See 'qied profile list'."
            )
    found = known[name]
    console = Console(highlight=False, markup=False)
    if as_json:
        console.print_json(json.dumps(_document(found)))
        return
    console.print(Text.assemble((found.profile.name, "bold"), f"  {found.profile.title}"))
    console.print(Text(f"{_origin(found)}: {found.path}", style="dim"), soft_wrap=True)
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    for key, value in _facts(found).items():
        table.add_row(Text(key, style="cyan"), value)
    console.print()
    console.print(table)
    for paragraph in filter(None, found.profile.notes.strip().split("\n\n")):
        console.print()
        console.print(" ".join(paragraph.split()))


def _identity(loaded: LoadedProfile) -> tuple[str, str, str]:
    """The first three columns: name with its mark, memory, precision order."""
    profile = loaded.profile
    return profile.name + _mark(loaded), _memory(profile.match), ", ".join(profile.choose.precision)


def _table(group: Iterable[LoadedProfile], widths: Iterable[int], titles: bool) -> Table:
    """Table of one group; ``widths`` of the first three columns are shared, so that groups stand in line."""
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 1, 0, 0))
    for header, width in zip(("name", "memory, GiB", "precision, in order"), widths, strict=True):
        table.add_column(header, overflow="fold", min_width=width)
    for header in ("MP", "ref MP", "edits"):
        table.add_column(header, justify="right", no_wrap=True)
    if titles:
        table.add_column("title")
    for loaded in group:
        choose = loaded.profile.choose
        name, memory, precision = _identity(loaded)
        caps = [_megapixels(pixels).removesuffix(" MP") for pixels in (choose.max_pixels, choose.max_reference_pixels)]
        title = [loaded.profile.title] if titles else []
        table.add_row(Text(name, style="cyan"), memory, precision, *caps, str(choose.session_limit), *title)
    return table


def _facts(loaded: LoadedProfile) -> dict[str, str]:
    match, choose = loaded.profile.match, loaded.profile.choose
    facts = {
        "for": _cards(match),
        "memory": "any" if _memory(match) == "any" else f"{_memory(match)} GiB",
        "precision": ", then ".join(choose.precision),
    }
    if {"int8", "fp8-storage"} & set(choose.precision):
        facts["int8 and fp8-storage compute in"] = choose.compute
    return facts | {
        "reserve": f"{choose.reserve_bytes / _MIB:,.0f} MiB",
        "result": f"at most {choose.max_pixels:,} pixels ({_megapixels(choose.max_pixels)})",
        "reference": f"at most {choose.max_reference_pixels:,} pixels ({_megapixels(choose.max_reference_pixels)})",
        "VAE tiles": f"{choose.min_tile_px} to {choose.max_tile_px} pixels a side",
        "edits held at once": str(choose.session_limit),
        "blocks": "as many stay as fit" if choose.residency == "resident-first" else "all of them stream",
    }


def _cards(match: Match) -> str:
    """Which cards, without their memory: ``capability 8.0 to 8.8, named 3090``."""
    if match.device == "cpu":
        return "no CUDA card"
    low, high = match.capability_from, match.capability_to
    if low is None and high is None:
        found = "any capability"
    elif low == high:
        found = f"capability {capability_text(low or (0, 0))}"
    else:
        found = f"capability {capability_text(low or (0, 0))} {f'to {capability_text(high)}' if high else 'and later'}"
    return found + (f", named {' or '.join(match.names)}" if match.names else "")


def _memory(match: Match) -> str:
    low, high = match.memory_gib_from, match.memory_gib_to
    if not low and high is None:
        return "any"
    if not low:
        return f"below {high:g}"
    return f"from {low:g}" if high is None else f"{low:g}-{high:g}"


def _megapixels(pixels: int) -> str:
    return f"{pixels / 1_000_000:.2f} MP"


def _place(loaded: LoadedProfile) -> tuple[bool, tuple[int, int], str, float, str]:
    """Where a profile stands in the list: cards by capability and memory, the processor last."""
    match = loaded.profile.match
    cards = match.device == "cpu", match.capability_from or (0, 0), _cards(match)
    return *cards, match.memory_gib_from or 0.0, loaded.profile.name


def _document(loaded: LoadedProfile) -> dict[str, Any]:
    where = {"origin": loaded.origin, "replaces_shipped": _replaces(loaded), "path": str(loaded.path)}
    return where | loaded.profile.model_dump(mode="json")


def _replaces(loaded: LoadedProfile) -> bool:
    shipped = {each.profile.name for each in shipped_hardware_profiles()}
    return loaded.origin == "user" and loaded.profile.name in shipped


def _mark(loaded: LoadedProfile) -> str:
    return "" if loaded.origin == "shipped" else " *" if _replaces(loaded) else " +"


def _origin(loaded: LoadedProfile) -> str:
    if loaded.origin == "shipped":
        return "shipped"
    return "yours, instead of the shipped one" if _replaces(loaded) else "yours"


def _legend(loaded: Iterable[LoadedProfile], own: Path) -> list[str]:
    marks = {_mark(each) for each in loaded}
    lines = []
    if " +" in marks:
        lines.append("+ yours; takes precedence over shipped ones")
    if " *" in marks:
        lines.append("* yours, instead of the shipped one of this name")
    return [*lines, f"Your own: {own}{'' if own.is_dir() else ' (no such folder yet)'}"]
