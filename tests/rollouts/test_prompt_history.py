"""Running statistics per prompt: worked examples, and a state that comes back bit by bit."""

import json

import pytest

from selfreward.errors import ConfigError, RecipeError
from selfreward.rollouts.prompt_history import RunningStats, smoothed_rate


def test_momentum_by_hand():
    stats = RunningStats(momentum=0.5)
    stats.update("a", length=10)
    assert stats.get("a", "length") == 10
    stats.update("a", length=20, passed=0.25)
    assert stats.get("a", "length") == pytest.approx((0.25 * 10 + 0.5 * 20) / 0.75)
    assert stats.get("a", "passed") == 0.25
    assert (stats.count("a", "length"), stats.count("a", "passed"), stats.count("b", "length")) == (2, 1, 0)


def test_window_and_plain_mean_by_hand():
    window, plain = RunningStats(window=2), RunningStats()
    for value in (10, 20, 30):
        window.update("a", length=value)
        plain.update("a", length=value)
    assert window.get("a", "length") == 25
    assert plain.get("a", "length") == 20
    assert window.count("a", "length") == plain.count("a", "length") == 3


@pytest.mark.parametrize("kind", [{"momentum": 0.0}, {"window": 1}])
def test_the_last_visit_only(kind):
    stats = RunningStats(**kind)
    stats.update("a", length=3)
    stats.update("a", length=7)
    assert stats.get("a", "length") == 7


def test_a_prompt_never_seen():
    stats = RunningStats()
    assert stats.get("a", "length", 5.0) == 5.0
    assert stats.mean("length", 4.0) == 4.0
    with pytest.raises(KeyError, match="'a' has no running 'length'"):
        stats.get("a", "length")
    with pytest.raises(KeyError, match="no prompt"):
        stats.mean("length")
    stats.update("a", length=2)
    stats.update("b", length=4, passed=1)
    assert stats.mean("length") == 3
    assert stats.mean("passed") == 1
    assert stats.prompts() == ["a", "b"] and "a" in stats and "c" not in stats and len(stats) == 2


@pytest.mark.parametrize("kind", [{"momentum": 0.9}, {"window": 3}, {}])
def test_state_survives_json_bit_by_bit(kind):
    stats = RunningStats(**kind)
    for i in range(7):
        stats.update(f"p{i % 2}", length=1 / (i + 3), passed=i / 7)
    again = RunningStats(**kind)
    again.load_state_dict(json.loads(json.dumps(stats.state_dict())))
    for each in (stats, again):
        each.update("p0", length=0.1)
    assert again.state_dict() == stats.state_dict()
    assert again.get("p0", "length") == stats.get("p0", "length")


def test_errors_speak():
    with pytest.raises(ConfigError, match="not both"):
        RunningStats(momentum=0.5, window=2)
    with pytest.raises(ConfigError, match=r"\[0, 1\)"):
        RunningStats(momentum=1.0)
    with pytest.raises(ConfigError, match="1 or more"):
        RunningStats(window=0)
    with pytest.raises(RecipeError, match="'length' of prompt 'a'"):
        RunningStats().update("a", length=float("nan"))
    with pytest.raises(ConfigError, match="window=None"):
        RunningStats(momentum=0.5).load_state_dict(RunningStats(momentum=0.6).state_dict())


def test_smoothed_rate():
    assert smoothed_rate(0, 8) == pytest.approx(0.1)
    assert smoothed_rate(8, 8) == pytest.approx(0.9)
    assert smoothed_rate(0, 0) == 0.5
