"""Manifests as spreadsheets and programs write them, and what is said of each mistake."""

from __future__ import annotations

import csv
import io
import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from qied_client.batch.manifest import rows_of_manifest
from qied_client.batch.problems import Problems
from qied_client.batch.rows import COLUMNS, Row, column_of
from qied_client.errors import InvalidRequest
from qied_client.options import edit_request
from qied_client.options.edit_options import OPTIONS, annotation


def read(path: Path, text: str | bytes, prompt: str = "") -> list[Row]:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    problems = Problems()
    rows = list(rows_of_manifest(path, prompt, {"steps": 9}, problems))
    problems.raise_if_any()
    return rows


def told(path: Path, text: str | bytes, prompt: str = "") -> str:
    with pytest.raises(InvalidRequest) as refused:
        read(path, text, prompt)
    return f"{refused.value.message} | {refused.value.remedy}"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return tmp_path / "rows.csv"


def test_a_row_has_pictures_from_the_manifests_folder_and_options_of_its_own(table: Path) -> None:
    text = "picture,picture2,mask,prompt,seed,steps,cfg,loras,name\na.png,b.png,m.png,night,7,4,1,one:0.5;two,poster\n"
    (row,) = read(table, text)
    folder = table.parent
    assert row.pictures == (str(folder / "a.png"), str(folder / "b.png"))
    assert (row.prompt, row.name, row.where, row.mask) == ("night", "poster", "rows.csv, line 2", str(folder / "m.png"))
    assert dict(row.options) == {
        "mask": str(folder / "m.png"),
        "seed": 7,
        "steps": 4,
        "true_cfg_scale": 1.0,
        "loras": [("one", 0.5), "two"],
    }


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_spreadsheets_separator_and_mark_of_utf8_are_understood(table: Path, separator: str) -> None:
    text = f"\ufeffImage{separator}Prompt\r\na.png{separator}Nacht über Köln\r\n\r\n"
    (row,) = read(table, text)
    assert row.prompt == "Nacht über Köln"


def test_a_first_line_that_names_the_separator_is_no_heading(table: Path) -> None:
    (row,) = read(table, '\ufeffsep=;\r\npicture;prompt\r\na.png;"red, blue"\r\n')
    assert (row.prompt, row.where) == ("red, blue", "rows.csv, line 3")


GIVEN: dict[str, tuple[str, Any]] = {
    "bool": ("no", False),
    "int": ("7", 7),
    "float": ("1,5", 1.5),
    "float | bool": ("0,3", 0.3),
    "Loras": ("one:0.5;two", [["one", 0.5], "two"]),
    "Redraws": ("1,2,30,40,strength=0.3;mask=m.png", [{"box": [1, 2, 30, 40], "strength": 0.3}, {"mask": "m.png"}]),
}
"""Of each type of an option a value as a table has it, and as JSON has it; others are text."""
WORDS = {"size": "same", "upscale": "2x", "on_cap": "fit", "mask_mode": "white", "background": "opaque"}
WORDS |= {"task": "upscale", "compat": "comfyui", "preset": "draft", "precision": "bf16"}


@pytest.mark.parametrize("option", sorted({*COLUMNS} & {*OPTIONS}))
def test_every_option_has_a_column_in_tables_and_a_key_in_json(tmp_path: Path, option: str) -> None:
    kind = annotation(option).removesuffix(" | None")
    assert kind in GIVEN or ("int" not in kind and "float" not in kind), "a type that no cell stands for yet"
    cell, value = GIVEN.get(kind, (WORDS.get(option, "words"),) * 2)
    cell, value = ("yes", True) if option in ("rewrite_prompt", "preemptible") else (cell, value)
    (of_table,) = read(tmp_path / "rows.csv", f'picture;prompt;{option}\na.png;x;"{cell}"\n')
    (of_json,) = read(tmp_path / "rows.jsonl", json.dumps({"picture": "a.png", "prompt": "x", option: value}))
    both = {"width": 7, "height": 7} if option in ("width", "height") else {}
    requests = [edit_request("x", 0, {**row.options, **both}) for row in (of_table, of_json)]
    assert requests[0] == requests[1] and of_table.files() == of_json.files()
    assert requests[0] != edit_request("x", 0, {"steps": 9}) or of_table.others(), "it changes the edit"


def test_masks_of_passes_and_a_canvas_start_at_the_lists_folder_too(table: Path) -> None:
    (row,) = read(table, 'picture,prompt,canvas,redraw\na.png,x,c.png,"1,2,3,4;mask=m.png"\n')
    assert row.files()[1:] == (str(table.parent / "c.png"), str(table.parent / "m.png"))


def test_a_name_in_another_unicode_form_is_the_same_file(table: Path) -> None:
    for written, there in (("NFC", "NFD"), ("NFD", "NFC")):
        file = table.parent / unicodedata.normalize(there, f"caf\u00e9-{there}.png")
        file.touch()
        (row,) = read(table, f"picture,prompt\n{unicodedata.normalize(written, file.name)},x\n")
        assert row.pictures == (str(file),)


def test_an_empty_cell_leaves_the_batchs_own_option_and_prompt(table: Path) -> None:
    (row,) = read(table, "picture,prompt,steps\na.png,,\n", "for all")
    assert (row.prompt, row.options["steps"]) == ("for all", 9)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("picture,promt\na.png,x\n", "rows.csv, line 1: there is no column 'promt'. | Did you mean 'prompt'?"),
        ("picture,prompt,prompt\na,x,y\n", "rows.csv, line 1: the column 'prompt' is there twice."),
        ("picture,prompt,output_format\na,x,png\n", "no column 'output_format' in a batch. | The names of the results"),
        ("picture,prompt,seed\na.png,x,one\n", "rows.csv, line 2, column seed: 'one' is not a whole number."),
        ("picture,prompt,cfg\na.png,x,one\n", "line 2, column true_cfg_scale: 'one' is not a number."),
        ("picture,prompt,loras\na.png,x,style:hi\n", "column loras: 'hi' is not a number."),
        ("picture,prompt,preemptible\na.png,x,maybe\n", "column preemptible: 'maybe' is neither true nor false."),
        ("picture,prompt\na.png,x,y\n", "line 2: it has 3 cells, and the heading has 2 columns. | Put quotes"),
        ("picture,prompt\n,x\n", "line 2: the picture is missing. | Give a column 'picture'"),
        ("picture\na.png\n", "line 2: the prompt is missing. | Give a column 'prompt'"),
        ("picture,prompt,name\na.png,x,../b\n", "line 2: the name '../b' cannot be a part of a file's name."),
        ("picture,prompt,refine\na.png,x,much\n", "line 2, column refine: 'much' is not a number."),
        ("picture,prompt,redraw\na.png,x,1;2\n", "line 2, column redraw: '1' does not begin with a box. | Write LEFT"),
        ("picture,prompt,redraw\na.png,x,bx=1\n", "line 2: redraw[0]: 'bx' is not an option of a pass."),
        ('picture,prompt\na.png,x\nb.png,"y\nc.png,z\n', "rows.csv, line 3: a quote opens there and is not closed."),
        ('picture,prompt\na.png,"x\ny"\nb.png,\n', "rows.csv, line 4: the prompt is missing."),
        ('picture,prompt,seed\na.png,"x\ny",one\n', "rows.csv, line 2, column seed"),
        ("", "rows.csv is empty. | Its first line names the columns"),
        (b"picture,prompt\na.png,\xe4\n", "is not UTF-8. | Save it as 'CSV UTF-8'"),
    ],
)
def test_a_mistake_in_a_table_is_told_with_line_column_and_remedy(table: Path, text: str | bytes, says: str) -> None:
    assert says in told(table, text)


def test_all_mistakes_are_told_at_once_but_no_more_than_twenty(table: Path) -> None:
    said = told(table, "picture,prompt,seed\n" + "a.png,x,one\n" * 50)
    assert said.startswith("50 problems:\n") and said.count("line") == 20 and "... and 30 more" in said


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"picture": "a.png"', "rows.jsonl, line 1: it is not JSON: "),
        ("[" * 30_000, "rows.jsonl, line 1: it is not JSON: "),
        ("[1]", "line 1: it is not a JSON object."),
        ('{"picture": "a.png", "prompt": "x", "sede": 1}', "there is no column 'sede'. | Did you mean 'seed'?"),
        ('{"picture": "a.png", "image": "b.png", "prompt": "x"}', "two of its keys mean the same."),
        ('{"picture": "a.png", "prompt": "x", "seed": "7"}', 'line 1: seed: "7" has the wrong type.'),
        ('{"picture": 7, "prompt": "x"}', "picture: 7 has the wrong type."),
        ('{"picture": "a.png", "prompt": ["x"]}', 'prompt: ["x"] has the wrong type.'),
    ],
)
def test_a_mistake_in_json_lines_is_told_with_its_line(tmp_path: Path, line: str, says: str) -> None:
    assert says in told(tmp_path / "rows.jsonl", line)


def test_json_lines_take_several_pictures_and_loras_in_every_form(tmp_path: Path) -> None:
    lines = (
        {"picture": ["a.png", "b.png"], "prompt": "x", "lora": loras}
        for loras in ("one", ["one", ["two", 0.5]], {"one": 2})
    )
    rows = read(tmp_path / "rows.jsonl", "\n".join(map(json.dumps, lines)))
    assert [row.options["loras"] for row in rows] == ["one", ["one", ("two", 0.5)], {"one": 2}]
    assert all(len(row.pictures) == 2 for row in rows)


TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=12).filter(str.strip)


@given(
    rows=st.lists(
        st.fixed_dictionaries({"prompt": TEXT, "picture": TEXT, "seed": st.integers(0, 2**40)}), min_size=1, max_size=5
    )
)
def test_what_csv_writes_is_read_back(tmp_path_factory: Any, rows: list[dict[str, Any]]) -> None:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, ["prompt", "picture", "seed"])
    writer.writeheader()
    writer.writerows(rows)
    found = read(tmp_path_factory.mktemp("manifest") / "rows.csv", text.getvalue())
    assert [(row.prompt, row.options["seed"]) for row in found] == [
        (row["prompt"].strip(), row["seed"]) for row in rows
    ]


@pytest.mark.parametrize("name", COLUMNS)
def test_every_column_is_found_however_it_is_written(name: str) -> None:
    assert column_of(f" {name.replace('_', ' ').title()} ") == name
