"""``recipes``: the recipes that come with the client, and their stages."""

from __future__ import annotations

import json
from dataclasses import asdict

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from qied_client.cli.failures import failures_as_text
from qied_client.cli.options import AsJson
from qied_client.recipes import Recipe, shipped_recipes


def recipes(as_json: AsJson = False) -> None:
    """List the recipes that 'batch --recipe' and 'edit --recipe' take by name."""
    with failures_as_text():
        rows = shipped_recipes()
        console = Console(highlight=False)
        if as_json:
            console.print_json(json.dumps([asdict(row) for row in rows]))
            return
        console.print(recipes_table(rows))


def recipes_table(rows: list[Recipe]) -> Table:
    """Recipes as text."""
    table = Table(
        Column("recipe", no_wrap=True),
        Column("stages", overflow="fold"),
        Column("about", overflow="fold"),
        box=None,
        pad_edge=False,
        padding=(0, 2, 0, 0),
        header_style="bold",
    )
    for row in rows:
        table.add_row(Text(row.name, "bold"), " -> ".join(row.kinds), Text(row.about))
    return table
