"""Balance scores and schedules by hand."""

from __future__ import annotations

import pytest

from selfreward.errors import ConfigError
from selfreward.recipes.common.balance import (
    BalanceChoice,
    Cell,
    Scored,
    balance,
    balance_grid,
    balance_score,
    best_cell,
    choose_configuration,
)
from selfreward.recipes.common.schedules import cycle_starts, schedule, steps_between, trend


def test_balance_of_one_question():
    assert balance(4, 5, 8) == pytest.approx(0.4)  # half of what is wanted, four fifths pure
    assert balance(12, 16, 8) == 0.75  # enough of them: purity alone
    assert balance(8, 8, 8) == 1 and balance(0, 7, 8) == 0 and balance(0, 0, 8) == 0
    with pytest.raises(ConfigError, match="right=3, kept=2"):
        balance(3, 2, 8)


def test_balance_score_is_a_mean_over_questions():
    # (.4 + 1 + 0) / 3; the released code leaves out the question of which nothing is kept.
    assert balance_score([4, 8, 0], [5, 8, 0]) == pytest.approx(1.4 / 3)
    assert balance_score([4, 8, 0], [5, 8, 0], empty="skip") == pytest.approx(0.7)
    assert balance_score([], []) == balance_score([0], [0], empty="skip") == 0


def test_the_grid_filters_each_temperature_once():
    cold = [[Scored("a", 1.0, True), Scored("a", 1.0, True), Scored("b", 0.2, False)]]
    warm = [[Scored("a", 1.0, True), Scored("c", 0.8, True), Scored("d", 0.6, False), Scored("e", -0.5, False)]]
    cells = {(c.temperature, c.threshold): c for c in balance_grid({0.5: cold, 1.0: warm}, (0.0, 0.7), wanted=2)}
    assert cells[0.5, 0.0] == (0.5, 0.0, 0.25, 2, 1)  # 1 right of 2 distinct: .5 * .5
    assert cells[0.5, 0.7] == (0.5, 0.7, 0.5, 1, 1)  # 1 of 1: .5 * 1
    assert cells[1.0, 0.0].score == pytest.approx(2 / 3)  # 2 of 3
    assert cells[1.0, 0.7].score == 1.0
    assert best_cell(list(cells.values()))[:2] == (1.0, 0.7)
    (capped,) = balance_grid({1.0: warm}, (0.0,), wanted=2, cap=1)
    assert capped.kept == 1 and capped.score == 0.5
    with pytest.raises(ConfigError, match="grid is empty"):
        best_cell([])


def test_the_search_for_a_configuration_counts_what_it_costs():
    asked = []

    def draw(temperature):
        asked.append(temperature)
        return [[Scored("a", 1.0, True), Scored("b", temperature, temperature > 0.7)], [Scored("c", 0.9, True)]]

    found = choose_configuration(draw, [0.5, 0.8], [0.0, 0.6], wanted=2)
    # Cool: 1 of 2 and 1 of 1, (.25 + .5) / 2, or behind .6 both pure, .5. Warm: 2 of 2 and 1 of 1, .75.
    assert [c.score for c in found.cells] == pytest.approx([0.375, 0.5, 0.75, 0.75])
    assert found.best[:3] == (0.8, 0.0, 0.75) and found.samples == 6 and asked == [0.5, 0.8]


def test_what_is_tried():
    assert steps_between(-1, 1, 0.5) == [-1, -0.5, 0, 0.5, 1] and steps_between(1, 1, 0.1) == [1]
    with pytest.raises(ConfigError, match="nothing to try"):
        steps_between(1.0, 0.5, 0.1)


@pytest.mark.parametrize(
    "kind,values",
    [
        ("constant", [1, 1, 1, 1, 1, 1]),
        ("linear", [1, 0.75, 0.5, 0.25, 0, 0]),
        ("cosine", [1, 0.853553, 0.5, 0.146447, 0, 0]),
        ("step", [1, 1, 0, 0, 0, 0]),
    ],
)
def test_schedules_at_every_step(kind, values):
    coefficient = schedule(kind, 1.0, 0.0, 5)
    assert [coefficient(step) for step in range(1, 7)] == pytest.approx(values, abs=1e-6)
    assert schedule(kind, 0.3, 0.9, 1)(1) in (0.3, 0.9)


def test_schedules_that_cannot_be():
    with pytest.raises(ConfigError, match="Did you mean 'cosine'"):
        schedule("cosin", 1, 0, 5)
    with pytest.raises(ConfigError, match="0 steps"):
        schedule("linear", 1, 0, 0)


def test_trend():
    assert trend([1, 2, 4]) == 1.5 and trend([3]) == trend([]) == 0 and trend([2, 2]) == 0


def test_where_cycles_begin():
    assert [s for s in range(1, 14) if cycle_starts(s, 3, 12, 3)] == [3, 6, 9]
    assert [s for s in range(1, 4) if cycle_starts(s, 1, 3, 3)] == [1, 2, 3]
    assert [s for s in range(1, 4) if cycle_starts(s, 2, 3, 9)] == [2, 3]
    with pytest.raises(ConfigError, match="cycles is 0"):
        cycle_starts(1, 2, 3, 0)


def test_a_blind_choice_costs_as_much_and_does_not_look():
    import torch

    cells = [Cell(0.5, 0.0, 0.1, 4.0, 2.0), Cell(1.0, 0.0, 0.9, 8.0, 8.0)]
    choice = BalanceChoice(cells[1], cells, 12)
    drawn = [choice.blind(torch.Generator().manual_seed(i)) for i in range(20)]
    assert {c.best for c in drawn} == set(cells) and all(c.samples == 12 for c in drawn)
    assert choice.stats() == {"balance/score": 0.9, "balance/kept": 8.0, "balance/right": 8.0, "balance/samples": 12.0}
