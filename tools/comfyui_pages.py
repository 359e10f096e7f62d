"""Writes what ComfyUI shows of the nodes from their schemas: the English locale, and the tables of the help pages.

The Chinese locale and the text above the tables are written by hand. ``python -m tools.comfyui_pages``.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tests.comfyui.host import Host

ROOT: Final = Path(__file__).resolve().parents[1]
PACKAGE: Final = ROOT / "comfyui"
LANGUAGES: Final = {"en": ("Inputs", "Outputs"), "zh": ("输入", "输出")}
"""The headings of the tables by language."""


@contextmanager
def host_of_package() -> Iterator[Host]:
    """A host that has loaded the package, in a folder of its own, and finds no daemon."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["QIED_KEY"] = str(Path(folder) / "none.key.json")
        host = Host(Path(folder))
        host.load(PACKAGE)
        try:
            yield host
        finally:
            host.part("daemon.connections").CONNECTIONS.close()
            host.unload()


def english(host: Host) -> dict[str, Any]:
    """The English locale: what the schemas say."""
    found = {}
    for name, node in host.nodes.items():
        schema = node.schema()
        found[name] = {
            "display_name": schema.display_name,
            "description": schema.description,
            "inputs": {each.id: {"name": label(each.id), "tooltip": each.tooltip} for each in schema.inputs},
            "outputs": {
                str(place): {"name": each.display_name, "tooltip": each.tooltip}
                for place, each in enumerate(schema.outputs)
            },
        }
    return found


def label(name: str) -> str:
    """An input's name as people read it."""
    return name.replace("_", " ")


def locale_file(language: str) -> Path:
    """Where ComfyUI looks for the texts of the nodes."""
    return PACKAGE / "locales" / language / "nodeDefs.json"


def as_text(locale: dict[str, Any]) -> str:
    """A locale as its file has it."""
    return json.dumps(locale, ensure_ascii=False, indent=2) + "\n"


def with_tables(page: str, node: dict[str, Any], language: str) -> str:
    """A help page with its tables written anew."""
    inputs, outputs = LANGUAGES[language]
    above = page.partition(f"## {inputs}\n")[0]
    parts = [above.rstrip()]
    for heading, rows in ((inputs, node["inputs"]), (outputs, node["outputs"])):
        table = "\n".join(f"| **{row['name']}** | {row['tooltip']} |" for row in rows.values())
        parts.append(f"## {heading}\n\n| | |\n| --- | --- |\n{table}")
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Write all files that differ."""
    with host_of_package() as host:
        locale_file("en").write_text(as_text(english(host)), encoding="utf-8")
    for language in LANGUAGES:
        for name, node in json.loads(locale_file(language).read_text(encoding="utf-8")).items():
            page = PACKAGE / "web" / "docs" / name / f"{language}.md"
            page.write_text(with_tables(page.read_text(encoding="utf-8"), node, language), encoding="utf-8")


if __name__ == "__main__":
    main()
