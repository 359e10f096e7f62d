"""The shape of the packages: names that mean one thing, files and folders of a size that can be overseen."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

PACKAGES = (ROOT / "qied", ROOT / "client/qied_client", ROOT / "comfyui")
MODULES = [path for package in PACKAGES for path in sorted(package.rglob("*.py"))]
MOST_LINES = 550
MOST_MODULES = 16


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_a_public_class_of_the_daemon_has_a_name_of_its_own() -> None:
    found: dict[str, list[str]] = defaultdict(list)
    for path in MODULES:
        if path.is_relative_to(PACKAGES[0]):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    found[node.name].append(name(path))
    assert len(found) > 300
    assert {each: places for each, places in found.items() if len(places) > 1} == {}


def test_no_folder_holds_more_modules_than_can_be_overseen() -> None:
    counts: dict[str, int] = defaultdict(int)
    for path in MODULES:
        counts[name(path.parent)] += path.name != "__init__.py"
    assert {folder: count for folder, count in counts.items() if count > MOST_MODULES} == {}


def test_no_module_is_longer_than_can_be_read_at_once() -> None:
    lengths = {name(path): len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert {path: lines for path, lines in lengths.items() if lines > MOST_LINES} == {}
