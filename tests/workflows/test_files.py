"""Workflows in files, and the pictures that they name in folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from qied_client.errors import InvalidRequest
from qied_client.picture_file.contents import Contents
from qied_client.transfers import hash_of
from qied_client.workflows.documents import read_document
from qied_client.workflows.folders import COMFYUI, PictureFolders

from tests.workflows.official import api_edit


@pytest.fixture
def comfyui(tmp_path: Path) -> Path:
    """A folder as ComfyUI has it, with pictures and a workflow."""
    root = tmp_path / "ComfyUI"
    for folder in ("input/sub", "output", "temp", "models", "user/default/workflows"):
        (root / folder).mkdir(parents=True)
    for name in ("input/cat.png", "input/sub/cat.png", "output/out.png", "temp/t.png"):
        Image.new("RGB", (8, 8), (len(name), 0, 0)).save(root / name)
    (tmp_path / "secret.png").write_bytes(b"secret")
    (root / "user/default/workflows/edit.json").write_text(json.dumps(api_edit()))
    return root


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("cat.png", "input/cat.png"),
        ("sub/cat.png", "input/sub/cat.png"),
        ("sub\\cat.png [input]", "input/sub/cat.png"),
        ("out.png [output]", "output/out.png"),
        ("t.png [temp]", "temp/t.png"),
    ],
)
def test_comfyuis_folder_is_found_around_a_workflow(comfyui: Path, name: str, path: str) -> None:
    find = PictureFolders.around(comfyui / "user/default/workflows/edit.json", [], {})
    assert find(name) == comfyui / path
    named = PictureFolders.around(Path("/elsewhere/edit.json"), [], {COMFYUI: str(comfyui)})
    assert named(name) == comfyui / path


def test_named_folders_and_that_of_the_workflow_go_first(comfyui: Path, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    Image.new("RGB", (8, 8)).save(flat / "cat.png")
    assert PictureFolders([flat], comfyui)("sub/cat.png") == flat / "cat.png"
    assert PictureFolders.around(flat / "w.json", [], {})("cat.png") == flat / "cat.png"


@pytest.mark.parametrize("name", ["../../secret.png", "../secret.png", "nothing.png"])
def test_no_file_out_of_the_folders_is_read(comfyui: Path, name: str) -> None:
    find = PictureFolders([comfyui / "input" / "sub"], comfyui)
    with pytest.raises(InvalidRequest) as caught:
        find(name)
    assert caught.value.remedy


def test_an_absolute_name_is_not_read(comfyui: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest):
        PictureFolders([comfyui / "input"])(str(tmp_path / "secret.png"))


def test_a_link_out_of_the_folder_is_not_read(comfyui: Path, tmp_path: Path) -> None:
    (comfyui / "input" / "link.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(InvalidRequest, match="leads out"):
        PictureFolders([comfyui / "input"])("link.png")


def test_a_file_that_the_user_names_is_read_from_anywhere(comfyui: Path, tmp_path: Path) -> None:
    name = str(tmp_path / "secret.png")
    assert PictureFolders([comfyui / "input"], own=[name])(name) == tmp_path / "secret.png"


def test_a_picture_is_found_by_its_hash(comfyui: Path) -> None:
    blob = hash_of((comfyui / "input/cat.png").read_bytes())
    assert PictureFolders([comfyui / "input"])(f"{blob[:12]}.png") == comfyui / "input/cat.png"


def saved(path: Path, **texts: Any) -> Path:
    info = PngInfo()
    for name, text in texts.items():
        info.add_text(name, json.dumps(text))
    Image.new("RGB", (8, 8)).save(path, pnginfo=info)
    return path


def test_a_picture_carries_what_ran(tmp_path: Path) -> None:
    graph = api_edit()
    path = saved(tmp_path / "out.png", prompt=graph, workflow={"nodes": []})
    assert read_document(path).workflow == graph
    assert read_document(saved(tmp_path / "page.png", workflow={"nodes": []})).workflow == {"nodes": []}


def test_a_webp_carries_it_in_exif(tmp_path: Path) -> None:
    graph = api_edit()
    path = tmp_path / "out.webp"
    Image.new("RGB", (8, 8)).save(path, exif=Contents(prompt=json.dumps(graph)).exif())
    assert read_document(path).workflow == graph


@pytest.mark.parametrize("name", ["plain.png", "nothing.json", "bad.json"])
def test_a_file_without_a_workflow_is_refused(tmp_path: Path, name: str) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "plain.png")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(InvalidRequest) as caught:
        read_document(tmp_path / name)
    assert name in caught.value.message and caught.value.remedy
