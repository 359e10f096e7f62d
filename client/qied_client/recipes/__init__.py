"""Recipes: stages of an edit as data, from the mask to the saved file, which become the options of one edit."""

from qied_client.recipes.recipe import Recipe, read_recipe, require_mask, require_stages
from qied_client.recipes.shipped import recipe_named, shipped_recipes

__all__ = ["Recipe", "read_recipe", "recipe_named", "require_mask", "require_stages", "shipped_recipes"]
