"""One file per method. ``load_recipe`` finds a recipe by name, or in a user's own file."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfreward.errors import ConfigError, RecipeError, nearest

if TYPE_CHECKING:
    from selfreward.recipes.base import Recipe


# Packages whose files are recipes. The second comes with the lab: arms of proofs, and inhabitants of the zoo.
PLACES = ("selfreward.recipes", "selfreward.lab.arms")
ALIASES = {"self-certainty": "certainty"}


def discover() -> dict[str, str]:
    """Name to module, read from the files' names; nothing is imported."""
    found: dict[str, str] = {}
    for place in PLACES:
        try:
            spec = importlib.util.find_spec(place)
        except ModuleNotFoundError:
            spec = None
        for root in (spec.submodule_search_locations or []) if spec else []:
            for path in sorted(Path(root).rglob("*.py")):
                parts = path.relative_to(root).with_suffix("").parts
                shared = place == PLACES[0] and (len(parts) == 1 or parts[0] == "common")
                if path.stem != "__init__" and not shared:
                    found[path.stem.replace("_", "-")] = ".".join((place, *parts))
    return found | {alias: found[name] for alias, name in ALIASES.items()}


RECIPES: dict[str, str] = discover()
CONTROLS = ("gold", "random", "format-only")


def recipe_class(name: str) -> type[Recipe]:
    """The class of a named recipe, or of ``path/to/file.py`` (optionally ``file.py:ClassName``).

    Raises:
        ConfigError: for an unknown name, with the nearest valid one.
        RecipeError: if the user's file cannot be imported or defines no recipe.
    """
    path, _, wanted = name.partition(":")
    if path.endswith(".py"):
        return _from_file(Path(path), wanted)
    if name not in RECIPES:
        raise ConfigError(f"There is no recipe {name!r}.{nearest(name, RECIPES)}")
    module = importlib.import_module(RECIPES[name])
    from selfreward.recipes.base import Recipe

    return next(
        c
        for c in vars(module).values()
        if isinstance(c, type) and issubclass(c, Recipe) and c.__module__ == module.__name__ and c.name
    )


def load_recipe(name: str, options: Mapping[str, Any] | None = None) -> Recipe:
    """Build a recipe with its hyperparameters.

    Raises:
        ConfigError: on an unknown hyperparameter or a value of the wrong type.
        RecipeError: on one that would change nothing, because the recipe never reads it.
    """
    recipe = make_recipe(name, options)
    for key, default in hyperparameters(name).items():
        reason = recipe.unread().get(key)
        if reason and key in (options or {}) and getattr(recipe, key) != default:
            raise RecipeError(
                f"Recipe {name!r} never reads {key}, so {key}={getattr(recipe, key)} would change nothing: {reason}. "
                f"Leave {key} out."
            )
    return recipe


def make_recipe(name: str, options: Mapping[str, Any] | None = None) -> Recipe:
    """As :func:`load_recipe`, whether or not all options are read."""
    from selfreward.runtime.options import coerce_fields

    cls = recipe_class(name)
    return cls(**coerce_fields(cls, options or {}, where=f"recipe {name!r}"))


def hyperparameters(name: str) -> dict[str, Any]:
    """Names and defaults of a recipe's hyperparameters."""
    return {f.name: f.default for f in dataclasses.fields(recipe_class(name)) if f.init}


def _from_file(path: Path, wanted: str) -> type[Recipe]:
    from selfreward.recipes.base import Recipe
    from selfreward.runtime.user_code import load_module

    module = load_module(path, "Recipe")
    found = {
        n: c
        for n, c in vars(module).items()
        if isinstance(c, type) and issubclass(c, Recipe) and c.__module__ == module.__name__
    }
    if wanted:
        if wanted not in found:
            raise RecipeError(f"{path} defines no recipe {wanted!r}.{nearest(wanted, found)}")
        return found[wanted]
    if len(found) != 1:
        raise RecipeError(
            f"{path} defines {len(found)} recipes ({', '.join(found) or 'subclass selfreward.recipes.base.Recipe'}); "
            f"name one: {path}:ClassName."
        )
    return next(iter(found.values()))
