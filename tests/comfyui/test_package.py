"""What ComfyUI and its registry read of the package: schemas, texts in two languages, help pages, examples."""

from __future__ import annotations

import json
import re
import tomllib
from typing import Any

import pytest
from packaging.requirements import Requirement
from PIL import Image
from qied_client import __version__
from qied_client.picture_file.comfyui_nodes import KINDS, SEED

from tests.comfyui import api
from tests.comfyui.conftest import PACKAGE
from tests.comfyui.host import Host
from tools.comfyui_examples import EXAMPLES, as_text, example
from tools.comfyui_pages import LANGUAGES, english, locale_file, with_tables

REPOSITORY = PACKAGE.parent
OWN = ("LoadImage", "SaveImage", "PreviewImage", "PreviewAny")
"""Nodes of ComfyUI itself."""


def locale(language: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(locale_file(language).read_text(encoding="utf-8"))
    return found


def test_the_schemas_are_those_that_graphs_are_written_for(comfy: Host) -> None:
    assert {*comfy.nodes} == {*KINDS} - {*OWN}
    for name, node in comfy.nodes.items():
        schema, kind = node.schema(), KINDS[name]
        required = [each for each in schema.inputs if not each.optional]
        ordered = [*required, *(each for each in schema.inputs if each.optional)]
        sockets = {each.id: each.io_type for each in ordered if not each.is_widget}
        widgets = {each.id: each.default for each in ordered if each.is_widget}
        assert list(sockets.items()) == list(kind.sockets.items()), name
        assert list(widgets.items()) == list(kind.widgets.items()), name
        assert [*kind.outputs.values()] == [each.io_type for each in schema.outputs]
        assert [*kind.outputs] == [each.display_name for each in schema.outputs]
        with_control = [each.id for each in ordered if each.is_widget and "control_after_generate" in each.settings]
        assert with_control == [each for each in kind.widgets if each == SEED]


def test_nodes_keep_no_state_and_say_what_they_are(comfy: Host) -> None:
    for name, node in comfy.nodes.items():
        schema = node.schema()
        assert schema.node_id == name and schema.category == "image/qied" and schema.description.endswith(".")
        copy = api.locked(node, {"unique_id": "1"})
        assert copy.hidden.unique_id == "1" and copy.hidden.prompt is None
        with pytest.raises(AttributeError, match="locked"):
            copy.client = None  # type: ignore[attr-defined]
        for each in (*schema.inputs, *schema.outputs):
            assert re.fullmatch(r"[A-Zasd01-9].*[.]", each.tooltip, re.DOTALL), (name, each.id, each.tooltip)


def test_both_languages_have_every_input_and_output(comfy: Host) -> None:
    assert locale("en") == english(comfy), "run: python -m tools.comfyui_pages"
    chinese = locale("zh")
    for name, texts in locale("en").items():
        other = chinese[name]
        for part in ("inputs", "outputs"):
            assert other[part].keys() == texts[part].keys()
            assert all(each["name"] and re.search("[\u4e00-\u9fff]", each["tooltip"]) for each in other[part].values())
        assert other["display_name"] and other["description"]
    assert chinese.keys() == comfy.nodes.keys()


def test_each_node_has_a_help_page_in_both_languages(comfy: Host) -> None:
    assert comfy.module.WEB_DIRECTORY == "./web"
    for language, headings in LANGUAGES.items():
        for name, texts in locale(language).items():
            page = (PACKAGE / "web" / "docs" / name / f"{language}.md").read_text(encoding="utf-8")
            assert page.startswith(f"# {texts['display_name']}\n") and f"## {headings[0]}\n" in page
            assert page == with_tables(page, texts, language), "run: python -m tools.comfyui_pages"


def test_the_registry_takes_the_package() -> None:
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text(encoding="utf-8"))
    told = project["project"]
    assert re.fullmatch(r"[a-z][a-z0-9-]{0,99}", told["name"]) and "comfyui" not in told["name"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", told["version"])
    assert told["license"] == {"file": "LICENSE"} and told["requires-python"] == ">=3.10"
    (client,) = told["dependencies"]
    assert (PACKAGE / "requirements.txt").read_text(encoding="utf-8") == f"{client}\n"
    wanted = Requirement(client)
    assert wanted.name == "qied-client" and __version__ in wanted.specifier and not wanted.extras
    assert project["tool"]["comfy"].keys() >= {"PublisherId", "DisplayName", "requires-comfyui"}
    assert (PACKAGE / "LICENSE").read_bytes() == (REPOSITORY / "LICENSE").read_bytes()
    readme = (PACKAGE / "README.md").read_text(encoding="utf-8")
    assert all(texts["display_name"] in readme for texts in locale("en").values())


def test_examples_are_as_they_are_written_and_have_pictures() -> None:
    folder = PACKAGE / "example_workflows"
    assert {each.stem for each in folder.glob("*.json")} == {each.stem for each in folder.glob("*.jpg")} == {*EXAMPLES}
    for name in EXAMPLES:
        text = (folder / f"{name}.json").read_text(encoding="utf-8")
        assert text == as_text(example(name)), "run: python -m tools.comfyui_examples"
        with Image.open(folder / f"{name}.jpg") as picture:
            assert picture.format == "JPEG" and picture.width > 256
    used = {node["type"] for name in EXAMPLES for node in example(name).for_page()["nodes"]}
    assert used >= {"QiedServer", "QiedEdit", "QiedLora", "QiedSession", "QiedUpscale", "QiedRedraw"}
