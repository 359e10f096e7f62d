"""``qied profile``: what it lists and shows, at 80 columns and as JSON."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from qied.cli.profiles import profile, user_profiles_folder
from qied.planning.profiles.hardware_profile import HardwareProfile, shipped_hardware_profiles

SHIPPED = shipped_hardware_profiles()
MINE = """\
name = "mine"
title = "The [old] card"
[match]
capability_from = [8, 6]
names = ["RTX 3090$"]
[choose]
precision = ["bf16"]
reserve_bytes = 1_073_741_824
max_pixels = 1_048_576
max_reference_pixels = 589_824
session_limit = 4
"""


@pytest.fixture
def run(monkeypatch):
    """Runs ``qied profile`` in a terminal of 80 columns without colour."""
    monkeypatch.setenv("COLUMNS", "80")
    return lambda *arguments: CliRunner().invoke(profile, [str(each) for each in arguments])


@pytest.fixture
def own(tmp_path):
    """A folder with a profile of its own and one that replaces a shipped one."""
    (tmp_path / "mine.toml").write_text(MINE, encoding="utf-8")
    text = next(each.path for each in SHIPPED if each.profile.name == "blackwell-180gb").read_text(encoding="utf-8")
    (tmp_path / "blackwell-180gb.toml").write_text(text, encoding="utf-8")
    return tmp_path


def row(output: str, name: str) -> list[str]:
    return next(line.split() for line in output.splitlines() if line.split()[:1] == [name])


def test_the_list_has_every_profile_on_one_line_of_at_most_80_columns(run, own):
    done = run("list", "--folder", own)
    assert done.exit_code == 0
    lines = [line.rstrip() for line in done.stdout.splitlines()]
    assert max(len(line) for line in lines if str(own) not in line) <= 80
    for loaded in SHIPPED:
        choose = loaded.profile.choose
        (line,) = [line for line in lines if line.split()[:1] == [loaded.profile.name]]
        assert ", ".join(choose.precision) in line
        assert line.endswith(f" {choose.session_limit}")


def test_the_list_goes_by_capability_and_then_by_memory_and_ends_with_the_processor(run, tmp_path):
    lines = [line.rstrip() for line in run("list", "--folder", tmp_path).stdout.splitlines()]
    start = lines.index("capability 8.0 to 8.8")
    assert [line.split()[0] for line in lines[start + 2 : start + 6]] == [
        "ampere-8gb", "ampere-10gb", "ampere-12gb", "ampere-16gb",
    ]  # fmt: skip
    headings = [line for line in lines if line.startswith(("capability", "no CUDA"))]
    assert headings[0] == "capability 7.5 to 7.9"
    assert headings[-2:] == ["capability 10.0 and later", "no CUDA card"]


def test_your_own_profiles_are_marked_and_the_marks_explained(run, own):
    output = run("list", "--folder", own).stdout
    assert row(output, "mine")[:3] == ["mine", "+", "any"]
    assert row(output, "blackwell-180gb")[1] == "*"
    assert "capability 8.6 and later, named RTX 3090$" in output
    assert "* yours, instead of the shipped one of this name" in output
    assert "+ yours; takes precedence over shipped ones" in output


def test_without_any_of_your_own_the_list_says_where_they_would_lie(run, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    output = run("list").stdout
    assert output.splitlines()[-1] == f"Your own: {user_profiles_folder()} (no such folder yet)"
    assert " *" not in output
    assert "yours" not in output


def test_titles_are_listed_where_the_terminal_has_room_for_them(run, own, monkeypatch):
    assert "The [old] card" not in run("list", "--folder", own).stdout
    monkeypatch.setenv("COLUMNS", "130")
    assert "The [old] card" in run("list", "--folder", own).stdout


def test_the_list_as_json_holds_whole_profiles_and_where_they_came_from(run, own):
    documents = {each["name"]: each for each in json.loads(run("list", "--folder", own, "--json").stdout)}
    assert len(documents) == len(SHIPPED) + 1
    marks = {name: (each["origin"], each["replaces_shipped"]) for name, each in documents.items()}
    assert marks.pop("mine") == ("user", False)
    assert marks.pop("blackwell-180gb") == ("user", True)
    assert set(marks.values()) == {("shipped", False)}
    for loaded in SHIPPED:
        document = documents[loaded.profile.name]
        content = {key: document[key] for key in HardwareProfile.model_fields}
        assert HardwareProfile.model_validate(content) == loaded.profile


@pytest.mark.parametrize("loaded", SHIPPED, ids=lambda loaded: loaded.profile.name)
def test_a_profile_is_shown_with_its_file_its_values_and_its_reasons(run, tmp_path, loaded):
    output = run("show", loaded.profile.name, "--folder", tmp_path).stdout
    said = " ".join(output.split())
    assert f"{loaded.profile.name} {loaded.profile.title} shipped: {loaded.path} " in said
    assert " ".join(loaded.profile.notes.split()) in said
    choose = loaded.profile.choose
    assert f"precision {', then '.join(choose.precision)} " in said
    assert f"at most {choose.max_pixels:,} pixels" in said
    assert f"{choose.reserve_bytes // 1024**2:,} MiB" in said
    assert ("int8 and fp8-storage compute in" in said) == ("fp8-storage" in choose.precision)


def test_a_profile_is_shown_as_json(run, own):
    document = json.loads(run("show", "mine", "--folder", own, "--json").stdout)
    assert document["choose"]["max_reference_pixels"] == 589_824
    assert (document["origin"], document["path"]) == ("user", str(own / "mine.toml"))


def test_an_unknown_name_is_refused_with_those_that_are_known(run, tmp_path):
    done = run("show", "rtx", "--folder", tmp_path)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert "config_error No hardware profile 'rtx'; known are turing-8gb, turing-11gb, " in done.stderr


def test_a_broken_profile_of_your_own_is_refused_with_its_line(run, own):
    (own / "mine.toml").write_text(MINE.replace("session_limit = 4", "session_limit = 0"), encoding="utf-8")
    done = run("list", "--folder", own)
    assert done.exit_code == 2
    assert f"{own / 'mine.toml'}:11: choose.session_limit: Input should be greater than or equal to 1" in done.stderr
