"""Writes the line per package of docs/architecture.md from the packages' docstrings; ``--check`` only compares."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

from generated_part import update

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "architecture.md"
_ROOTS = {"qied_client": ROOT / "client" / "qied_client", "qied": ROOT / "qied", "comfyui": ROOT / "comfyui"}


def table() -> str:
    """A row for each package: its name, and the first line of its docstring."""
    head = "| package | what it is |\n| --- | --- |\n"
    return head + "".join(f"| `{name}` | {_first_line(folder)} |\n" for name, folder in packages().items())


def packages() -> dict[str, Path]:
    """Folders of all packages by their names, the client's first."""
    found = {}
    for name, root in _ROOTS.items():
        for folder in [root, *sorted(path for path in root.rglob("*") if (path / "__init__.py").is_file())]:
            found[".".join((name, *folder.relative_to(root).parts))] = folder
    return found


def _first_line(folder: Path) -> str:
    docstring = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))) or ""
    return docstring.split("\n", maxsplit=1)[0].replace("``", "`")


if __name__ == "__main__":
    sys.exit(update(PAGE, "packages", table()))
