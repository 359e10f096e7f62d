from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
import tomli
from qied_client.picture_header.header import PictureLimits

import qied.builtin
from qied.pictures.decode import decode

FOLDER = Path(qied.builtin.__file__).parent
DRAWING = Path(qied.__file__).parent.parent / "tools" / "demo_scene.py"


def test_the_demo_names_a_picture_an_instruction_and_a_seed() -> None:
    demo = tomli.loads((FOLDER / "demo.toml").read_text(encoding="utf-8"))
    assert set(demo) == {"picture", "prompt", "seed"}
    assert demo["prompt"] == "make the red heart blue"
    assert isinstance(demo["seed"], int)
    assert (FOLDER / demo["picture"]).is_file()


def test_the_demo_picture_is_what_its_script_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("demo_scene", DRAWING)
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "demo_scene", script)
    spec.loader.exec_module(script)
    picture = decode(FOLDER / "demo.png", PictureLimits())
    assert picture.size == (256, 256)
    assert picture.getpixel((128, 128)) == (220, 40, 40)
    assert picture.tobytes() == script.draw(script.DEMO_SCENE).tobytes()
