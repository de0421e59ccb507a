"""A recipe has the options that it reads and no others; what a mode would ignore is refused."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from types import CodeType

import pytest

from selfreward.errors import ConfigError, RecipeError
from selfreward.recipes.base import Recipe
from selfreward.recipes.grpo import GRPO
from selfreward.recipes.registry import RECIPES, hyperparameters, load_recipe, recipe_class
from selfreward.training.config import make_config
from selfreward.training.launch import resolve_defaults, task_of


def mentioned(cls: type[Recipe]) -> Iterator[str]:
    """Names in the code of a recipe and its bases."""
    for part in cls.__mro__[: cls.__mro__.index(Recipe)]:
        for name, method in vars(part).items():
            if inspect.isfunction(method) and name not in ("__init__", "__repr__", "__eq__"):
                yield from named_in(method.__code__)


def named_in(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from named_in(inner)
        elif isinstance(inner, tuple):  # rest-mcts hands the names of its options to getattr
            yield from (name for name in inner if isinstance(name, str))


@pytest.mark.parametrize("name", RECIPES)
def test_every_option_is_read(name):
    unread = set(hyperparameters(name)) - set(mentioned(recipe_class(name)))
    assert not unread
    if issubclass(recipe_class(name), GRPO):
        assert set(mentioned(recipe_class(name))) & {"credit", "learn_from"}, "nothing reads advantage"


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("gold", "loss", "gspo"),
        ("gold", "clip_low", 0.31),
        ("gold", "entropy_bonus", 0.5),
        ("spiral", "normalise", "grpo"),
        ("covo", "clip_high", 0.31),
        ("cream", "beta", 0.7),
        ("scpo", "kl", 0.7),
        ("flr", "kl", 0.7),
        ("b-star", "normalise", "grpo"),
        ("self-training", "normalise", "grpo"),
        ("distill-rewards", "clip_low", 0.31),
    ],
)
def test_an_option_reaches_the_objective(name, option, value):
    usual, other = load_recipe(name).objective(16), load_recipe(name, {option: value}).objective(16)
    assert repr(usual) != repr(other) and repr(value) in repr(other)


@pytest.mark.parametrize(
    ("name", "setting", "words"),
    [
        ("cream", "kl=0.1", "There is no option 'kl'"),
        ("rest-mcts", "group_size=4", "There is no option 'group_size'"),
        ("spiral", "advantage=centred", "There is no option 'advantage'"),
        ("pair-sft", "group_sise=4", "Did you mean 'group_size'"),
        ("sdpo", "clip_high=0.3", "a share, mix above 0"),
        ("rlsf", "clip_high=0.3", "belong to learn=ppo"),
        ("rise", "advantage=centred", "belongs to estimator=group"),
        ("covo", "advantage=centred", "covo: advantage=centred belongs to baseline=group"),
        ("serl", "advantage=centred", "serl: advantage=centred belongs to baseline=group"),
    ],
)
def test_an_option_that_would_change_nothing_is_refused(name, setting, words):
    with pytest.raises(ConfigError, match=words):
        make_config({"recipe": name}, [setting])


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("sdpo", {"mix": 0.5, "clip_high": 0.3}),
        ("rlsf", {"learn": "ppo", "clip_high": 0.3}),
        ("rise", {"estimator": "group", "advantage": "centred"}),
        ("serl", {"baseline": "group", "advantage": "centred"}),
    ],
)
def test_an_option_that_another_one_brings_to_life_is_taken(name, options):
    loaded = load_recipe(name, options)
    assert {key: getattr(loaded, key) for key in options} == options


@pytest.mark.parametrize(("name", "options"), [("covo", {}), ("serl", {}), ("rise", {})])
def test_what_is_charged_in_the_reward_is_not_charged_in_the_objective(name, options):
    kind = "estimator" if name == "rise" else "baseline"
    terms = {
        how: [t.name for t in load_recipe(name, {"kl": 0.1, **how_options}).objective(16)]
        for how, how_options in (("reward", {}), ("objective", {kind: "group"}))
    }
    assert terms == {"reward": ["policy_gradient"], "objective": ["policy_gradient", "kl"]}


def test_a_task_recommends_to_those_who_have_the_option():
    config = make_config({"recipe": "vote", "model": "embedded:chain-sure"})
    task = task_of(config)
    assert task.settings["kl"] == 0.1 and task.settings["group_size"] == 16
    assert resolve_defaults(config, task).options == {"kl": 0.1, "group_size": 16}
    for recipe, options in (("pair-sft", {"group_size": 16}), ("self-training", {})):
        config = make_config({"recipe": recipe, "model": "embedded:chain-sure"})
        assert resolve_defaults(config, task).options == options


def test_a_recipe_without_an_objective_says_what_to_subclass():
    class Mine(Recipe):
        pass

    assert Mine.name == "mine"
    with pytest.raises(RecipeError, match=r"Mine has no method objective.*subclass selfreward\.recipes\.grpo\.GRPO"):
        Mine().objective(16)
    with pytest.raises(RecipeError, match="Mine has no method collect"):
        Mine().collect(None, [], None)
