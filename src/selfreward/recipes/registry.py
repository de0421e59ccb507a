"""Recipes by name. No table lists them; a recipe is found in one of four places:

* a file of this package: ``recipes/FAMILY/some_name.py`` (or ``lab/arms/some_name.py``) holds the recipe ``some-name``;
* another installed package that names it in its entry points, in the group ``selfreward.recipes``, with the recipe's
  name on the left and ``package.module`` or ``package.module:Class`` on the right;
* a file of the user's: ``path/to/file.py``, or ``path/to/file.py:Class`` where it defines several;
* a class at hand, see :func:`recipe_class`.

Names are listed without importing anything; a recipe's module is imported when the recipe is asked for.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from selfreward.errors import ConfigError, RecipeError, nearest
from selfreward.runtime.at_hand import at_hand, hand_over, is_here, remember

if TYPE_CHECKING:
    from selfreward.recipes.base import Recipe

# Packages whose files are recipes. The second is there if the lab is installed.
PLACES = ("selfreward.recipes", "selfreward.lab.arms")
GROUP = "selfreward.recipes"
# Published systems that are a building block under another name go by their slug, too.
ALIASES = {"self-certainty": "certainty"}
CONTROLS = ("gold", "random", "format-only")


def discover() -> dict[str, str]:
    """Name to module of the recipes in :data:`PLACES`, read from the names of files; nothing is imported."""
    found: dict[str, str] = {}
    for place in PLACES:
        try:
            spec = importlib.util.find_spec(place)
        except ModuleNotFoundError:
            continue
        for root in (spec.submodule_search_locations or []) if spec else []:
            for path in sorted(Path(root).rglob("*.py")):
                parts = path.relative_to(root).with_suffix("").parts
                shared = place == PLACES[0] and (len(parts) == 1 or parts[0] == "common")
                if path.stem != "__init__" and not shared:
                    found[path.stem.replace("_", "-")] = ".".join((place, *parts))
    return found | {alias: found[name] for alias, name in ALIASES.items()}


RECIPES: dict[str, str] = discover()


@cache
def plugins() -> dict[str, list[EntryPoint]]:
    """The recipes that other installed packages bring: name to its entry points; nothing is imported."""
    found: dict[str, list[EntryPoint]] = {}
    for point in entry_points(group=GROUP):
        found.setdefault(point.name, []).append(point)
    return found


def recipe_class(spec: str | type[Recipe]) -> type[Recipe]:
    """The class of a recipe.

    Args:
        spec: a name, ``path/to/file.py`` (optionally ``path/to/file.py:Class``), or the class itself.

    Raises:
        ConfigError: for an unknown name, with the nearest valid one, or a name that two packages claim.
        RecipeError: if what is named cannot be imported or is no recipe.
    """
    if not isinstance(spec, str):
        return _checked(spec)
    if is_here(spec):
        return _checked(at_hand(spec, "recipe"))
    path, _, wanted = spec.partition(":")
    if path.endswith(".py"):
        from selfreward.runtime.user_code import load_module

        return _chosen(load_module(Path(path), "Recipe"), wanted, path)
    found = plugins()
    if spec in found:
        return _from_plugin(spec, found[spec])
    if spec not in RECIPES:
        raise ConfigError(f"There is no recipe {spec!r}.{nearest(spec, {*RECIPES, *found})}")
    own = _defined(importlib.import_module(RECIPES[spec])).values()
    return next(c for c in own if c.name == ALIASES.get(spec, spec))


def recipe_spec(recipe: str | type[Recipe]) -> str:
    """What a configuration calls a recipe: a text that :func:`recipe_class` answers with the same class.

    That is the recipe's name where the registry knows it, else ``path/to/file.py:Class``. A class from no file, or from
    the script that is running, is found again in this process only: whoever resumes its run hands it over again.

    Raises:
        RecipeError: for something that is no recipe.
    """
    if isinstance(recipe, str):
        return recipe
    cls = _checked(recipe)
    if RECIPES.get(cls.name) == cls.__module__ or any(
        cls.__module__ == point.module for point in plugins().get(cls.name, ())
    ):
        return cls.name
    module = sys.modules.get(cls.__module__)
    file = getattr(module, "__file__", None)
    if cls.__module__ == "__main__" or file is None or getattr(module, cls.__name__, None) is not cls:
        return hand_over(cls, cls.__name__)
    return remember(cls, f"{Path(file).resolve()}:{cls.__name__}")


def reward_spec(function: Callable[..., Any]) -> str:
    """What a configuration calls the recipe ``reward`` for a function at hand.

    Raises:
        ConfigError: for something that cannot be called.
    """
    from selfreward.recipes.custom.reward import reward_recipe

    made = reward_recipe(function)
    return hand_over(made, made.function)


def load_recipe(spec: str | type[Recipe], options: Mapping[str, Any] | None = None) -> Recipe:
    """Build a recipe with its hyperparameters.

    Raises:
        ConfigError: on an unknown hyperparameter, with the nearest valid one, or a value of the wrong type.
        RecipeError: as :func:`recipe_class` does.
    """
    from selfreward.runtime.options import coerce_fields

    cls = recipe_class(spec)
    found = cls(**coerce_fields(cls, options or {}, where=f"recipe {cls.name!r}"))
    if getattr(found, "group_size", 1) < 1:
        raise ConfigError(f"recipe {cls.name!r}: group_size is {found.group_size}; it must be 1 or more.")  # type: ignore[attr-defined]
    try:
        inspect.signature(found.collect).bind("policy", "prompts", "run")
    except TypeError:
        raise RecipeError(f"Recipe {cls.name!r} must have a method collect(self, policy, prompts, run).") from None
    return found


def hyperparameters(spec: str | type[Recipe]) -> dict[str, Any]:
    """Names and defaults of a recipe's hyperparameters."""
    return {f.name: f.default for f in dataclasses.fields(recipe_class(spec)) if f.init}


def _from_plugin(name: str, points: list[EntryPoint]) -> type[Recipe]:
    """The recipe that another package brings under this name, if it is the only one who does."""
    owners = [point.dist.name if point.dist else point.value for point in points]
    claims = (["selfreward itself"] if name in RECIPES else []) + [f"distribution {owner!r}" for owner in owners]
    if len(claims) > 1:
        raise ConfigError(
            f"There are several recipes {name!r}: of {' and of '.join(claims)}. Uninstall all but one, or change the "
            f"name in the entry points ({GROUP}) of a package of yours."
        )
    where = f"Recipe {name!r} of {claims[0]}"
    try:
        module, wanted = importlib.import_module(points[0].module), points[0].attr
    except Exception as error:
        raise RecipeError(
            f"{where} cannot be imported from {points[0].value!r}: {type(error).__name__}: {error}"
        ) from error
    return _chosen(module, wanted, where)


def _chosen(module: ModuleType, wanted: str, where: str) -> type[Recipe]:
    """The recipe called ``wanted`` in a module, or the only one that is defined there."""
    found = _defined(module)
    if wanted:
        if not hasattr(module, wanted):
            raise RecipeError(f"{where} defines no recipe {wanted!r}.{nearest(wanted, found)}")
        return _checked(getattr(module, wanted))
    if len(found) != 1:
        raise RecipeError(
            f"{where} defines {len(found)} recipes ({', '.join(found) or 'subclass selfreward.recipes.grpo.GRPO'}); "
            f"name one: {module.__file__ if where.endswith('.py') else module.__name__}:ClassName."
        )
    return next(iter(found.values()))


def _defined(module: ModuleType) -> dict[str, type[Recipe]]:
    """The recipes that a module defines, not those that it imports."""
    from selfreward.recipes.base import Recipe

    here = {n: c for n, c in vars(module).items() if isinstance(c, type) and c.__module__ == module.__name__}
    return {n: c for n, c in here.items() if issubclass(c, Recipe)}


def _checked(cls: Any) -> type[Recipe]:
    from selfreward.recipes.base import Recipe

    if not (isinstance(cls, type) and issubclass(cls, Recipe)):
        raise RecipeError(f"{cls!r} is no recipe: give a name, FILE.py[:Class], or a subclass of {Recipe.__name__}.")
    return cls
