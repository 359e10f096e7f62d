"""Writes the line per module of docs/architecture.md from the modules' docstrings; ``--check`` only compares."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

from generated_part import update

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "architecture.md"
_ROOTS = {"qied_client": ROOT / "client" / "qied_client", "qied": ROOT / "qied"}


def lines() -> str:
    """A table for each package: its modules, and the first line of each one's docstring."""
    parts = []
    for name, root in _ROOTS.items():
        for folder in [root, *sorted(path for path in root.rglob("*") if (path / "__init__.py").is_file())]:
            package = ".".join((name, *folder.relative_to(root).parts))
            rows = [
                f"| `{path.stem}` | {_first_line(path)} |"
                for path in sorted(folder.glob("*.py"))
                if path.stem != "__init__"
            ]
            heading = f"### {package}\n\n{_first_line(folder / '__init__.py')}\n"
            parts.append(
                heading + ("\n| module | what lives there |\n| --- | --- |\n" + "\n".join(rows) + "\n") * bool(rows)
            )
    return "\n".join(parts)


def _first_line(path: Path) -> str:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return docstring.split("\n", maxsplit=1)[0].replace("``", "`")


if __name__ == "__main__":
    sys.exit(update(PAGE, "modules", lines()))
