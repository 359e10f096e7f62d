"""A real daemon with the built-in model, and the nodes in a small host of ComfyUI's API."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from qied.resources import builtin_model_folder
from tests.comfyui.host import Host
from tests.daemon.conftest import DaemonProcess, start_daemon

__all__ = ["start_daemon"]

PACKAGE = Path(__file__).resolve().parents[2] / "comfyui"
SCENE = builtin_model_folder().parent / "demo.png"


@pytest.fixture(scope="session")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    """The daemon that nodes find without being told."""
    home = tmp_path_factory.mktemp("studio") / "home"
    daemon = DaemonProcess(home, engine="qied.engine.serving:load", environ={}).start()
    yield daemon
    daemon.kill()


@contextmanager
def loaded(folder: Path) -> Iterator[Host]:
    """The host with the package, until it is left."""
    folder.mkdir()
    host = Host(folder)
    Image.open(SCENE).convert("RGB").save(host.input / "scene.png")
    host.load(PACKAGE)
    yield host
    host.part("daemon.connections").CONNECTIONS.close()
    host.unload()


@pytest.fixture
def comfy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """ComfyUI's host with the package loaded, and the scene as ``scene.png``; no daemon is there."""
    monkeypatch.setenv("QIED_KEY", str(tmp_path / "none.key.json"))
    with loaded(tmp_path / "comfyui") as host:
        yield host


@pytest.fixture
def studio_comfy(studio: DaemonProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """The same with the daemon."""
    monkeypatch.setenv("QIED_KEY", str(studio.key))
    with loaded(tmp_path / "comfyui") as host:
        yield host
