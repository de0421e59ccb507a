"""Recipes are found by their files, in other packages, in the user's files, or at hand as classes."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import selfreward
from selfreward.errors import ConfigError, RecipeError
from selfreward.recipes import registry
from selfreward.recipes.base import Recipe
from selfreward.recipes.consensus.vote import Vote
from selfreward.recipes.grpo import GRPO
from selfreward.recipes.registry import (
    ALIASES,
    RECIPES,
    hyperparameters,
    load_recipe,
    plugins,
    recipe_class,
    recipe_spec,
)

SOURCE = """
from dataclasses import dataclass
from typing import ClassVar
from selfreward.recipes.grpo import GRPO

@dataclass
class Disagree(GRPO):
    name: ClassVar[str] = "disagree"
    quorum: float = 0.5

@dataclass
class Other(GRPO):
    pass
"""


@dataclass
class AtHand(GRPO):
    quorum: float = 0.5


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Put a distribution with a module and entry points on the path."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def put(distribution: str, module: str, source: str, **points: str) -> None:
        (tmp_path / f"{module}.py").write_text(source)
        info = tmp_path / f"{distribution}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        lines = [f"{name.replace('_', '-')} = {value}" for name, value in points.items()]
        (info / "entry_points.txt").write_text("\n".join(["[selfreward.recipes]", *lines]) + "\n")
        plugins.cache_clear()

    yield put
    plugins.cache_clear()


def test_every_recipe_is_called_as_its_file():
    for name, module in RECIPES.items():
        name = ALIASES.get(name, name)
        assert module.rpartition(".")[2] == name.replace("-", "_")
        assert recipe_class(name).name == name and recipe_class(name).__module__ == module


def test_listing_imports_nothing():
    program = (
        "import sys; from selfreward.recipes.registry import RECIPES, plugins; plugins(); assert RECIPES; "
        "assert not [m for m in sys.modules if m.startswith(('torch', 'selfreward.recipes.consensus'))]"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_an_unknown_name_is_answered_with_the_nearest(install):
    with pytest.raises(ConfigError, match=r"There is no recipe 'voet'. Did you mean 'vote'"):
        recipe_class("voet")
    install("flock", "flock_recipes", SOURCE, disagree="flock_recipes:Disagree")
    with pytest.raises(ConfigError, match="Did you mean 'disagree'"):
        recipe_class("disagre")


def test_an_unknown_option_is_answered_with_the_nearest():
    with pytest.raises(ConfigError, match=r"recipe 'vote' has no key 'quorun'. Did you mean 'quorum'"):
        load_recipe("vote", {"quorun": 1})


def test_another_package_brings_a_recipe(install):
    install("flock", "flock_recipes", SOURCE, disagree="flock_recipes:Disagree", again="flock_recipes")
    assert set(plugins()) == {"disagree", "again"} and "flock_recipes" not in sys.modules
    made = load_recipe("disagree", {"quorum": "0.7"})
    assert type(made).__name__ == "Disagree" and made.quorum == 0.7
    assert recipe_spec(type(made)) == "disagree"
    with pytest.raises(RecipeError, match=r"defines 2 recipes \(Disagree, Other\); name one: flock_recipes:ClassName"):
        recipe_class("again")


def test_a_broken_package_is_a_sentence(install):
    install("broken", "broken_recipes", "import nowhere_to_be_found", lost="broken_recipes", none="broken_recipes:X")
    with pytest.raises(RecipeError, match="Recipe 'lost' of distribution 'broken' cannot be imported from 'broken_rec"):
        recipe_class("lost")
    assert recipe_class("vote") is Vote
    install("empty", "empty_recipes", "x = 1", empty="empty_recipes", number="empty_recipes:x", gone="empty_recipes:y")
    with pytest.raises(RecipeError, match="'empty' of distribution 'empty' defines 0 recipes"):
        recipe_class("empty")
    with pytest.raises(RecipeError, match="1 is no recipe"):
        recipe_class("number")
    with pytest.raises(RecipeError, match="defines no recipe 'y'"):
        recipe_class("gone")


def test_a_name_that_two_claim_is_refused_when_it_is_asked_for(install):
    install("flock", "flock_recipes", SOURCE, vote="flock_recipes:Disagree", mine="flock_recipes:Disagree")
    install("herd", "herd_recipes", SOURCE, mine="herd_recipes:Disagree")
    with pytest.raises(ConfigError, match="several recipes 'vote': of selfreward itself and of distribution 'flock'"):
        recipe_class("vote")
    with pytest.raises(ConfigError, match=r"'mine': of distribution '(flock|herd)' and of distribution '(flock|herd)'"):
        recipe_class("mine")
    assert recipe_class("gold").name == "gold"


def test_a_file_holds_a_recipe(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(SOURCE)
    assert hyperparameters(f"{path}:Disagree")["quorum"] == 0.5
    assert recipe_class(f"{path}:Other").name == "other"
    with pytest.raises(RecipeError, match="defines 2 recipes"):
        recipe_class(str(path))
    with pytest.raises(RecipeError, match=r"defines no recipe 'Disagreed'. Did you mean 'Disagree'"):
        recipe_class(f"{path}:Disagreed")


def test_a_class_is_a_recipe_and_has_a_name_for_the_configuration():
    assert recipe_class(AtHand) is AtHand and AtHand.name == "at-hand"
    assert load_recipe(AtHand, {"quorum": 0.25}).quorum == 0.25
    spec = recipe_spec(AtHand)
    assert spec == f"{Path(__file__).resolve()}:AtHand" and recipe_class(spec) is AtHand
    assert recipe_spec(Vote) == "vote" and recipe_spec("vote") == "vote"
    with pytest.raises(RecipeError, match="is no recipe"):
        recipe_class(int)  # type: ignore[arg-type]


def test_a_class_without_a_file_is_found_again_in_this_process():
    namespace: dict = {"__name__": "typed_in"}
    exec("from selfreward.recipes.grpo import GRPO\nclass Typed(GRPO):\n    pass\n", namespace)
    spec = recipe_spec(namespace["Typed"])
    assert spec == "here:Typed" and recipe_class(spec) is namespace["Typed"]


def test_the_lab_may_be_absent(monkeypatch):
    monkeypatch.setattr(registry, "PLACES", ("selfreward.recipes", "selfreward.lab_that_is_not.arms"))
    found = registry.discover()
    assert "vote" in found and "flawed" not in found and "flawed" in RECIPES
    assert issubclass(recipe_class("flawed"), Recipe) and selfreward.__name__ == "selfreward"
