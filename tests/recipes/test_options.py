"""An option that changes nothing is refused, and the recipes say truly which ones those are."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import pytest

from selfreward.errors import RecipeError
from selfreward.recipes.base import LEARNER, Recipe
from selfreward.recipes.registry import RECIPES, load_recipe, make_recipe, recipe_class
from selfreward.training.config import make_config
from selfreward.training.launch import resolve_defaults, task_of

OTHER = {
    "advantage": "leave_one_out",
    "loss": "gspo",
    "normalise": "grpo",
    "clip_low": 0.31,
    "clip_high": 0.31,
    "kl": 0.7,
    "entropy_bonus": 0.5,
}
VARIANTS = [
    *((name, {}) for name in RECIPES if name != "reward"),
    ("rise", {"estimator": "group"}),
    ("sdpo", {"mix": 0.5}),
    ("sdpo", {"imitate": True}),
    ("sdpo", {"kl": 0.1}),
    ("scpo", {"kl": 0.1}),
    ("flr", {"kl": 0.1}),
    ("rlsf", {"learn": "ppo"}),
    ("rlsf", {"learn": "sft"}),
    ("distill-rewards", {"reward": "vote"}),
    ("covo", {"baseline": "group"}),
    ("serl", {"baseline": "group"}),
    ("self-rewarding-lm", {"learn": "seed"}),
]


def objective(name: str, options: dict) -> str:
    return repr(make_recipe(name, options).objective(16))


def mentioned(cls: type[Recipe]) -> Iterator[str]:
    """Names in the code of a recipe, without its objective and what it says of itself."""
    for part in cls.__mro__[: cls.__mro__.index(Recipe)]:
        for name, method in vars(part).items():
            if inspect.isfunction(method) and name not in ("objective", "unread", "__init__", "__repr__", "__eq__"):
                yield from method.__code__.co_names
                for inner in method.__code__.co_consts:
                    yield from getattr(inner, "co_names", ())


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_what_a_recipe_does_not_read_is_what_it_says(name, options):
    recipe = make_recipe(name, options)
    unread, words = recipe.unread(), set(mentioned(recipe_class(name)))
    assert not set(unread) & set(options) and all(hasattr(recipe, key) for key in unread)
    base = objective(name, options)
    for key in LEARNER:
        other = "dr_grpo" if getattr(recipe, key) == OTHER[key] else OTHER[key]
        matters = objective(name, {**options, key: other}) != base
        if key in unread:
            assert not matters, f"{key} changes the objective"
        elif key == "advantage":
            assert words & {"credit", "learn_from"}, "nothing reads advantage"
        else:
            assert matters or key in words, f"nothing reads {key}"


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("cream", {"kl": 0.1}, "'cream' never reads kl, so kl=0.1 would change nothing: it learns from pairs"),
        ("rest-mcts", {"group_size": 4}, "samples, branch and rounds"),
        ("sdpo", {"clip_high": 0.3}, "mix=0"),
        ("rlsf", {"kl": 0.1}, "never reads kl"),
        ("spiral", {"advantage": "centred"}, "baseline takes its place"),
    ],
)
def test_an_option_that_would_change_nothing_is_refused(name, options, words):
    with pytest.raises(RecipeError, match=words):
        make_config({"recipe": name}, [f"{k}={v}" for k, v in options.items()])
    defaults = {key: getattr(recipe_class(name), key) for key in options}
    assert load_recipe(name, defaults) is not None


def test_an_option_that_another_one_brings_to_life_is_taken():
    assert load_recipe("sdpo", {"mix": 0.5, "clip_high": 0.3}).clip_high == 0.3
    assert load_recipe("rlsf", {"learn": "ppo", "kl": 0.1}).kl == 0.1


def test_a_task_recommends_to_those_who_read_it():
    config = make_config({"recipe": "rlsf", "model": "embedded:chain-sure"})
    task = task_of(config)
    assert task.settings["kl"] == 0.1
    assert "kl" not in resolve_defaults(config, task).options
    config = make_config({"recipe": "rlsf", "model": "embedded:chain-sure", "options": {"learn": "ppo"}})
    assert resolve_defaults(config, task).options["kl"] == 0.1
