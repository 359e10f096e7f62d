"""The recipes that come with the client, found by their names."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Final

from qied_client.errors import InvalidRequest
from qied_client.recipes.recipe import Recipe, read_recipe, recipe_of
from qied_client.recipes.stages import nearest
from qied_client.recipes.toml import tomllib
from qied_client.system_failures import with_home

_FOLDER: Final = files("qied_client") / "recipes" / "shipped"


def shipped_recipes() -> list[Recipe]:
    """All of them, by name."""
    names = sorted(each.name for each in _FOLDER.iterdir() if each.name.endswith(".toml"))
    return [_shipped(name.removesuffix(".toml")) for name in names]


def recipe_named(name: str) -> Recipe:
    """The recipe of a name, or of a file where ``name`` ends in .toml or .json; raises InvalidRequest."""
    if name.lower().endswith((".toml", ".json")):
        return read_recipe(with_home(Path(name)))
    known = [recipe.name for recipe in shipped_recipes()]
    if name not in known:
        raise InvalidRequest(
            f"There is no recipe {name!r}.",
            f"{nearest(name, known, 'Recipes')} One of your own is named by its file: my.toml",
            field="recipe",
        )
    return _shipped(name)


def _shipped(name: str) -> Recipe:
    return recipe_of(tomllib.loads((_FOLDER / f"{name}.toml").read_text(encoding="utf-8")), name, name)
