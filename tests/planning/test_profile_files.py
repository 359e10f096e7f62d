"""Profiles that are read from TOML, and what a wrong one is told: file, line, key."""

from __future__ import annotations

import pytest
import tomli
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field
from qied_client.errors import ConfigError

from qied.planning.profiles.model_profile import load_profile
from qied.planning.profiles.profile_files import key_lines, read_profile_file, written
from qied.resources import profiles_folder


class Size(BaseModel):
    model_config = ConfigDict(extra="forbid")

    width: int = Field(ge=16)
    steps: tuple[int, ...] = ()


class Sizes(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str
    size: Size = Size(width=16)
    more: dict[str, Size] = {}
    list: tuple[Size, ...] = ()


DIFFICULT = '''\
# width = 1
name = """
width = 2
[size]
quote: \\" and a "word""""
"quoted.key" = 'it''s'

[size] # [more]
steps = [ # ] =
    1, 2, # """
    [3],
]
  width = 32
plain.dotted . "third part" = { width = 5, inner = [1,
  2] }

[more."a.b"]
width = 1
[more.c]
[[list]]
width = 1
[[ list ]]
width = 2
[list.below]
deep = 1
'''


def difficult() -> str:
    return DIFFICULT.replace("'it''s'", "'''it''\ns = 1'''")


def test_keys_are_found_on_their_lines_whatever_stands_around_them():
    text = difficult()
    tomli.loads(text)
    assert key_lines(text) == {
        ("name",): 2,
        ("quoted.key",): 6,
        ("size",): 9,
        ("size", "steps"): 10,
        ("size", "width"): 14,
        ("size", "plain", "dotted", "third part"): 15,
        ("more", "a.b"): 18,
        ("more", "a.b", "width"): 19,
        ("more", "c"): 20,
        ("list", 0): 21,
        ("list", 0, "width"): 22,
        ("list", 1): 23,
        ("list", 1, "width"): 24,
        ("list", 1, "below"): 25,
        ("list", 1, "below", "deep"): 26,
    }


def test_windows_line_ends_make_no_difference():
    assert key_lines(difficult().replace("\n", "\r\n")) == key_lines(difficult())


KEYS = st.text("abz_-1. \"\\'#[]=é", min_size=1, max_size=6)
VALUES = st.sampled_from(
    ["1", "'='", '"#"', "[1, # ]\n2]", '"""\na = 1\n[t]\n"""', "{x = 1, y = [{}]}", "'''\n\"'''", "2000-01-01"]
)


def quoted(key: str) -> str:
    return '"' + key.replace("\\", "\\\\").replace('"', '\\"') + '"'


@given(st.dictionaries(KEYS, st.dictionaries(KEYS, VALUES, max_size=4), max_size=4))
def test_every_key_of_any_file_is_found_where_it_was_written(tables):
    text, expected = "", {}
    for table, keys in tables.items():
        expected[(table,)] = text.count("\n") + 1
        text += f"[ {quoted(table)} ] # x = 1\n\n"
        for key, value in keys.items():
            expected[(table, key)] = text.count("\n") + 1
            text += f"  {quoted(key)}\t= {value} # [y]\n"
    assert key_lines(text) == expected
    assert set(tomli.loads(text)) == {key[0] for key in expected}


def refused(tmp_path, text: str) -> str:
    path = tmp_path / "sizes.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        read_profile_file(path).validated(Sizes)
    assert caught.value.remedy
    return caught.value.message.removeprefix(str(path))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name = 'x'\n\n[size]\nwidth = 8\n", ":4: size.width: Input should be greater than or equal to 16, not 8."),
        ("name = 'x'\n\n[size]\nwidht = 8\n", ":4: size.widht: unknown key; known are width, steps."),
        ("name = 'x'\n[more.one]\nx = 8\n", ":3: more.one.x: unknown key; known are width, steps."),
        ("name = 'x'\n[[list]]\nwidth = 16\nx = 1\n", ":4: list[0].x: unknown key; known are width, steps."),
        ("name = 'x'\n[more.one]\n", ":2: more.one.width: missing."),
        ("[size]\nwidth = 16\n", ":1: name: missing."),
        ("name = 'x'\nsize = 3\n", ":2: size: must be a table."),
        ("name = 'x'\n[[size]]\nwidth = 16\n", ":2: size: must be a table."),
        ("name = 'x'\n[size]\nwidth = 16\nsteps = [1,\n'a']\n", ":4: size.steps[1]: Input should be a valid integer"),
        ("name = 'x'\n[size]\nwidth = {}\n".replace("{}", f"'{'long ' * 99}'"), ":3: size.width: Input should be"),
        ("name = 'x'\n[size\n", ":2: "),
        ("name = 'x'\nname = 'y'\n", ":2: Cannot overwrite a value."),
        ("name = 'x'\nmore = {one = {width = 1}}\n", ":2: more.one.width: Input should be greater"),
    ],
    ids=range(13),
)
def test_a_wrong_file_is_refused_with_file_line_and_key(tmp_path, text, said):
    message = refused(tmp_path, text)
    assert message.startswith(said)
    assert len(message) < 250


def test_a_misspelt_table_is_named_rather_than_the_one_that_is_missing(tmp_path):
    assert refused(tmp_path, "nmae = 'x'\n").startswith(":1: nmae: unknown key; known are name, size, more, list.")


def test_files_that_are_no_text_or_cannot_be_read_are_refused_by_name(tmp_path):
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"a = '\xff'")
    for path, said in [
        (binary, "not UTF-8 at byte 5."),
        (tmp_path, "Is a directory."),
        (tmp_path / "absent.toml", "No such file or directory."),
    ]:
        with pytest.raises(ConfigError) as caught:
            read_profile_file(path)
        assert caught.value.message == f"{path}: {said}"


def test_keys_are_written_as_people_write_them():
    assert written(("choose", "precision", 1)) == "choose.precision[1]"


def test_a_model_profile_whose_default_preset_is_none_of_its_own_is_refused_with_its_line(tmp_path):
    text = (profiles_folder() / "models" / "builtin.toml").read_text(encoding="utf-8")
    path = tmp_path / "mine.toml"
    path.write_text(text.replace('default_preset = "final"', 'default_preset = "best"'), encoding="utf-8")
    line = text.splitlines().index('default_preset = "final"') + 1
    with pytest.raises(ConfigError, match=rf"mine\.toml:{line}: default_preset: 'best' is not one of"):
        load_profile(path)
