"""Writes the line per module of docs/architecture.md from the modules' docstrings; ``--check`` only compares."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- modules: begin -->", "<!-- modules: end -->"
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


def main() -> int:
    """Write or check; returns the exit status."""
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    wanted = f"{before}{BEGIN}\n\n{lines()}\n{END}{after}"
    if "--check" in sys.argv[1:]:
        return 0 if page == wanted else 1
    PAGE.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
