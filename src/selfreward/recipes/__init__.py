"""One file per method. ``load_recipe`` finds a recipe by name, or in a user's own file."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfreward.errors import ConfigError, RecipeError, nearest

if TYPE_CHECKING:
    from selfreward.recipes.base import Recipe

# Name -> "module:class". Modules are imported only when their recipe is used.
RECIPES: dict[str, str] = {
    "vote": "vote:Vote",
    "co-reward": "co_reward:CoReward",
    "scpo": "scpo:ScPO",
    "self-rewarding-lm": "self_rewarding_lm:SelfRewardingLM",
    "spo": "spo:SPO",
    "cream": "cream:CREAM",
    "t-reg": "t_reg:TReg",
    "temporal-self-rewarding": "temporal_self_rewarding:TemporalSelfRewarding",
    "mm-upt": "mm_upt:MMUPT",
    "certainty": "certainty:Certainty",
    "self-certainty": "certainty:Certainty",
    "judge": "judge:Judge",
    "signal": "named_signal:NamedSignal",
    "reward": "own_reward:OwnReward",
    "ssr-zero": "ssr_zero:SSRZero",
    "ssr-x-zero": "ssr_x_zero:SSRXZero",
    "mbr": "translation_rewards:MinimumBayesRisk",
    "cycle": "translation_rewards:Cycle",
    "true-quality": "translation_rewards:TrueQuality",
    "covo": "covo:CoVo",
    "self-judging": "self_judging:SelfJudging",
    "serl": "serl:SeRL",
    "laser": "laser:LaSeR",
    "self-aligned-reward": "self_aligned_reward:SelfAlignedReward",
    "self-rewarded-efficiency": "self_rewarded_efficiency:SelfRewardedEfficiency",
    "e1-adaptive-effort": "e1_adaptive_effort:AdaptiveEffort",
    "rlsf": "rlsf:RLSF",
    "self-training": "self_training:SelfTraining",
    "teacher-forcing-reward": "teacher_forcing_reward:TeacherForcingReward",
    "distill-rewards": "distill_rewards:DistillRewards",
    "flr": "flr:FLR",
    "knapsack-rl": "knapsack_rl:KnapsackRL",
    "knowrl": "knowrl:KnowRL",
    "rest-mcts": "rest_mcts:RestMCTS",
    "b-star": "b_star:BStar",
    "masa": "masa:MASA",
    "rubric-self-reward": "rubric_self_reward:RubricSelfReward",
    "true-rubric": "rubric_self_reward:TrueRubric",
    "dro-r3": "dro_r3:DirectReasoningOptimization",
    "score": "score:SCoRe",
    "pair-sft": "pair_sft:PairSFT",
    "reflect-retry-reward": "reflect_retry_reward:ReflectRetryReward",
    "rise": "rise:RISE",
    "sdpo": "sdpo:SDPO",
    "computed-tokens": "dro_r3:ComputedTokens",
    "ssrl": "ssrl:SSRL",
    "spiral": "spiral:Spiral",
    "expert-games": "expert_games:ExpertGames",
    "gold": "controls:Gold",
    "random": "controls:Random",
    "format-only": "controls:FormatOnly",
    "flawed": "flawed:Flawed",
    "easy-proposer": "flawed:EasyProposer",
}
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
    module, _, cls = RECIPES[name].partition(":")
    return getattr(importlib.import_module(f"selfreward.recipes.{module}"), cls)


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
    from selfreward.config import coerce_fields

    cls = recipe_class(name)
    return cls(**coerce_fields(cls, options or {}, where=f"recipe {name!r}"))


def hyperparameters(name: str) -> dict[str, Any]:
    """Names and defaults of a recipe's hyperparameters."""
    return {f.name: f.default for f in dataclasses.fields(recipe_class(name)) if f.init}


def _from_file(path: Path, wanted: str) -> type[Recipe]:
    from selfreward.recipes.base import Recipe
    from selfreward.userland import load_module

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
