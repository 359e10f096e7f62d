"""The client and the front leave torch out: what they import, and what a running front has mapped."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest
import qied_client

import qied

HEAVY = ("torch", "diffusers", "transformers", "safetensors")
FRONT = ("server", "scheduling", "planning", "link", "cli", "hardware", "pictures", "downloads")
LIGHT = (*HEAVY, "numpy", "PIL", "pydantic", "structlog", "qied")
"""What the client works without, beside torch; its command line has an extra of its own."""


def _modules(package: Path, name: str) -> list[str]:
    return [name, *(found.name for found in pkgutil.walk_packages([str(package)], f"{name}."))]


def _imported(modules: list[str], unwanted: tuple[str, ...]) -> str:
    """Import ``modules`` in a fresh process; returns what of ``unwanted`` came along."""
    script = (
        f"import importlib, sys\nfor name in {modules!r}: importlib.import_module(name)\n"
        f"print(*sorted({{name.partition('.')[0] for name in sys.modules}} & set({unwanted!r})), end='')"
    )
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout


def test_the_client_imports_nothing_heavy():
    modules = _modules(Path(qied_client.__file__).parent, "qied_client")
    extras = ("qied_client.cli", "qied_client.pixels", "qied_client.web")  # for which a user installs more
    library = [name for name in modules if not name.startswith(extras)]
    assert len(library) > 15
    assert _imported(library, LIGHT) == ""
    assert _imported(modules, HEAVY) == ""


@pytest.mark.parametrize("package", FRONT)
def test_no_module_of_the_front_imports_torch(package):
    folder = Path(qied.__file__).parent / package
    modules = _modules(folder, f"qied.{package}")
    assert len(modules) > 1
    assert _imported([*modules, "qied.config", "qied.__main__"], HEAVY) == ""


def test_a_running_front_has_not_mapped_torch_although_its_worker_has(start_daemon, picture):
    daemon = start_daemon(engine="plain_engine:load_beside_torch")
    with daemon.client() as client:
        client.edit(picture, "x", steps=2)
    maps = {pid: Path(f"/proc/{pid}/maps").read_text() for pid in (daemon.pid, daemon.worker_pid)}
    assert "libtorch" in maps[daemon.worker_pid]
    assert "libtorch" not in maps[daemon.pid]
