"""Shaping: one worked example per function, then its invariants."""

import math

import pytest
import torch

from selfreward.errors import ConfigError
from selfreward.signals.shaping import (
    centred_sigmoid,
    clip,
    mix,
    overlong_penalty,
    potential_differences,
    relative_length_penalty,
    shortest_bonus,
    unit_scale,
    with_weakest_step,
    z_score,
)


def same(actual, expected):
    torch.testing.assert_close(actual, torch.tensor(expected, dtype=actual.dtype))


def test_scales():
    same(clip([-2, 0.5, 3], 0, 1), [0, 0.5, 1])
    same(unit_scale([0, 85, 100]), [0, 0.85, 1])
    same(unit_scale([1, 5], 1, 5), [0, 1])
    same(z_score([1, 3]), [-1, 1])
    same(z_score([2, 2, 2]), [0, 0, 0])
    same(z_score([7]), [0])


def test_centred_sigmoid_ignores_a_shift():
    up = 1 / (1 + math.exp(-1))
    same(centred_sigmoid([-1, 1]), [1 - up, up])
    same(centred_sigmoid([99, 101]), [1 - up, up])
    same(centred_sigmoid([-10, 10], temperature=10), [1 - up, up])


def test_potential_differences_telescope():
    phi = [0.2, 0.5, 0.4, 0.0]
    same(potential_differences(phi), [0.3, -0.1, -0.4])
    same(potential_differences([1, 1], discount=0.9), [-0.1])
    # Whatever the path, the discounted sum is fixed by its ends: no policy gains from the shaping.
    discount = 0.9
    shaped = potential_differences(phi, discount)
    total = sum(discount**t * float(f) for t, f in enumerate(shaped))
    assert total == pytest.approx(discount**3 * phi[3] - phi[0])


def test_length_terms():
    same(relative_length_penalty([50, 150]), [0.5, -0.5])
    same(relative_length_penalty([1, 1, 10], bound=1), [0.75, 0.75, -1])
    same(relative_length_penalty([0, 0]), [0, 0])
    same(shortest_bonus([10, 30, 20, 5], [1, 1, 1, 0]), [1, 0, 0.5, 0])
    same(shortest_bonus([10, 30], [0, 1]), [0, 1])
    same(shortest_bonus([10, 30], [0, 0]), [0, 0])
    same(overlong_penalty([70, 80, 90, 100, 120], limit=100, buffer=20), [0, 0, -0.5, -1, -1])


def test_mix():
    terms = {"judge": [1, 0], "format": [1, 1]}
    same(mix({"judge": 1, "format": 0.5}, terms), [1.5, 0.5])
    same(mix({"judge": 1, "format": 0.5}, terms, gates=[[1, 0]], closed=-1), [1.5, -1])


def test_an_undefined_term_is_harmless_behind_a_gate_or_without_weight():
    nan = float("nan")
    same(mix({"a": 1}, {"a": [2, nan]}, gates=[[1, 0]]), [2, 0])
    same(mix({"a": 0, "b": 1}, {"a": [nan, nan], "b": [1, 2]}), [1, 2])


def test_mix_names_what_does_not_fit():
    with pytest.raises(ConfigError, match=r"'jugde', which does not exist. Did you mean 'judge'"):
        mix({"jugde": 1}, {"judge": [1]})
    with pytest.raises(ConfigError, match="'format' has no weight"):
        mix({"judge": 1}, {"judge": [1], "format": [1]})
    with pytest.raises(AssertionError, match="differ in length"):
        mix({"a": 1, "b": 1}, {"a": [1], "b": [1, 2]})


def test_the_weakest_step_is_added_to_the_outcome():
    # -5 / 5 = -1 takes all of the outcome away; 2.5 / 5 adds a half; no step counts as the worst; 40 / 5 is clipped.
    assert with_weakest_step([1, 1, 1, 0], [[2, -5], [2.5], [], [40, 50]]) == [0, 1.5, 0, 1]
