"""Filters keep or drop whole groups and count what they dropped."""

from __future__ import annotations

import pytest
import torch

from selfreward.credit.filters import (
    finished,
    has_spread,
    informative_share,
    keep,
    length_band,
    quorum,
    resample,
    reward_band,
)
from selfreward.errors import ConfigError, RecipeError
from selfreward.types import Group, Prompt, Segment, Trajectory


def group(
    rewards: list[float], lengths: list[int] | None = None, done: list[bool] | None = None, **meta: object
) -> Group:
    prompt = Prompt("p", text="?")
    n = len(rewards)
    made = Group(
        "p",
        prompt,
        [
            Trajectory(prompt, [Segment("solver", torch.zeros(length), trainable=True, finished=ended)])
            for length, ended in zip(lengths or [1] * n, done or [True] * n, strict=True)
        ],
        meta=dict(meta),
    )
    made.reward_with(rewards)
    return made


EASY, HARD, HALF, RARE = group([1, 1, 1, 1]), group([0, 0, 0, 0]), group([1, 1, 0, 0]), group([1, *[0] * 9])


def test_each_drop_is_counted_once_under_the_first_refusal() -> None:
    kept = keep([EASY, HARD, HALF, RARE], {"zero_variance": has_spread(), "band": reward_band(0.2, 0.8)})
    assert kept.groups == [HALF]
    assert kept.dropped == {"zero_variance": 2, "band": 1}
    assert kept.stats() == {"filter/kept": 0.25, "filter/zero_variance": 2.0, "filter/band": 1.0}


def test_nothing_seen_is_nothing_kept() -> None:
    assert keep([], {"zero_variance": has_spread()}).share == 0


def test_band_includes_its_ends() -> None:
    assert reward_band(0.2, 0.8)(group([1, 0, 0, 0, 0]))
    assert not reward_band(0.2, 0.8)(group([1, 1, 1, 1, 1]))
    with pytest.raises(ConfigError, match="smaller first"):
        reward_band(0.8, 0.2)


def test_length_and_finished() -> None:
    assert length_band(2, 4)(group([0, 0], lengths=[1, 5]))
    assert not length_band(2, 4)(group([0, 0], lengths=[1, 9]))
    half = group([0, 0], done=[True, False])
    assert finished(0.5)(half)
    assert not finished(0.6)(half)


def test_quorum_reads_what_the_recipe_left_or_computes() -> None:
    voted = group([1], vote={"share": 0.5})
    assert quorum(0.5)(voted)
    assert not quorum(0.6)(voted)
    assert quorum(0.5, share=lambda g: sum(g.rewards) / len(g))(HALF)
    with pytest.raises(RecipeError, match=r"group 'p'"):
        quorum()(group([1], share=0.5))


def test_informative_share() -> None:
    assert informative_share([EASY, HARD, HALF, RARE]) == 0.5


def test_dynamic_sampling_draws_until_there_is_enough() -> None:
    draws = iter([[EASY, HALF], [HARD, RARE, HALF], [HALF]])
    kept = resample(lambda: next(draws), {"zero_variance": has_spread()}, target=2, rounds=3)
    assert kept.groups == [HALF, RARE]
    assert kept.dropped == {"zero_variance": 2, "surplus": 1}
    assert kept.share == 2 / 5
    assert next(draws) == [HALF]


def test_dynamic_sampling_gives_up() -> None:
    kept = resample(lambda: [EASY, HALF], {"zero_variance": has_spread()}, target=5, rounds=3)
    assert len(kept.groups) == 3
    assert kept.dropped == {"zero_variance": 3, "surplus": 0}
