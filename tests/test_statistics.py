"""Each statistic on an example small enough to check by hand, then against an independent implementation."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfreward import statistics as s

# Four samples of one prompt: two right (class 0), one wrong, one without an answer.
CLASSES = [0, 1, 0, None]


def test_pass_at_k_is_the_share_of_subsets_with_a_correct_sample() -> None:
    assert s.pass_at_k(4, 2, 1) == pytest.approx(1 / 2)
    assert s.pass_at_k(4, 2, 2) == pytest.approx(5 / 6)  # only {3, 4} of the six pairs misses
    assert s.pass_at_k(4, 2, 3) == 1.0
    assert s.pass_at_k(4, 0, 4) == 0.0
    assert 0 < s.pass_at_k(10_000, 1, 5_000) < 1


@pytest.mark.parametrize(("n", "correct", "k"), [(4, 2, 0), (4, 2, 5), (4, 5, 1), (4, -1, 1)])
def test_pass_at_k_refuses_the_impossible(n: int, correct: int, k: int) -> None:
    with pytest.raises(ValueError):
        s.pass_at_k(n, correct, k)


@given(st.integers(1, 9), st.data())
def test_pass_at_k_agrees_with_counting(n: int, data: st.DataObject) -> None:
    c, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    hits = [any(i < c for i in subset) for subset in combinations(range(n), k)]
    assert s.pass_at_k(n, c, k) == pytest.approx(np.mean(hits))


def test_maj_at_k_by_hand() -> None:
    assert s.maj_at_k(CLASSES, {0}, 4) == 1.0
    assert s.maj_at_k(CLASSES, {1}, 4) == 0.0
    # One sample: right half of the time. The one that does not answer is wrong, not left out.
    assert s.maj_at_k(CLASSES, {0}, 1) == 0.5
    # Pairs 01 02 03 12 13 23 -> tie, right, right, tie, wrong, right.
    assert s.maj_at_k(CLASSES, {0}, 2) == pytest.approx((0.5 + 1 + 1 + 0.5 + 0 + 1) / 6)
    assert s.maj_at_k([None, None], {0}, 2) == 0.0
    assert s.maj_at_k([0, 0, 1], set(), 3) == 0.0


def test_maj_at_k_by_sampling_is_seeded_and_near_the_exact_value() -> None:
    classes = [0] * 9 + [1] * 7
    exact = s.maj_at_k(classes, {0}, 5, draws=10_000)
    drawn = s.maj_at_k(classes, {0}, 5, draws=2000, seed=3)
    assert drawn == s.maj_at_k(classes, {0}, 5, draws=2000, seed=3)
    assert abs(drawn - exact) < 0.05


def test_quantiles_agree_with_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    assert s.normal_quantile(0.95) == pytest.approx(stats.norm.ppf(0.975))
    for df in (1, 2, 3, 4, 7, 30, 101):
        for level in (0.5, 0.9, 0.95, 0.99):
            assert s.t_quantile(df, level) == pytest.approx(stats.t.ppf((1 + level) / 2, df), rel=1e-9)


def test_wilson_agrees_with_scipy_and_is_never_empty() -> None:
    stats = pytest.importorskip("scipy.stats")
    for hits, n in [(0, 10), (3, 10), (10, 10), (77, 200)]:
        value, low, high = s.wilson(hits, n)
        ci = stats.binomtest(hits, n).proportion_ci(method="wilson")
        assert (low, high) == pytest.approx((ci.low, ci.high), abs=1e-9)
        assert low <= value <= high and low < high
    assert math.isnan(s.wilson(0, 0).value)


def test_mean_interval_by_hand() -> None:
    value, low, high = s.mean_interval([0.90, 0.92, 0.94])  # sd .02, t(2) = 4.303
    assert value == pytest.approx(0.92)
    assert high - value == pytest.approx(4.3027 * 0.02 / math.sqrt(3), rel=1e-4)
    assert value - low == pytest.approx(high - value)
    single = s.mean_interval([0.5])
    assert single.value == 0.5 and math.isnan(single.low)
    assert math.isnan(s.mean_interval([]).value)


def test_paired_differences_remove_what_the_pair_shares() -> None:
    before, after = [0.1, 0.5, 0.9], [0.2, 0.6, 1.0]
    assert s.paired_seeds(before, after) == pytest.approx((0.1, 0.1, 0.1))
    assert s.paired_prompts(before, after) == pytest.approx((0.1, 0.1, 0.1))
    with pytest.raises(ValueError, match="same length"):
        s.paired_seeds([0.1], [0.1, 0.2])


def test_bootstrap_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    covered = []
    for trial in range(200):
        prompts = rng.beta(2, 3, size=80)  # mean 0.4
        _, low, high = s.bootstrap_mean(prompts, draws=300, seed=trial)
        covered.append(low <= 0.4 <= high)
    assert 0.89 <= np.mean(covered) <= 0.99


def test_bootstrap_mean_is_the_bootstrap_of_the_mean() -> None:
    v = np.array([0.0, 0.25, 0.5, 1.0, 0.75])
    assert s.bootstrap_mean(v, seed=7) == pytest.approx(s.bootstrap(lambda i: float(v[i].mean()), 5, seed=7))
    assert s.bootstrap_mean([0.5, math.nan]).value == 0.5
    assert math.isnan(s.bootstrap_mean([]).value)


def test_share_is_not_certain_because_all_prompts_agree() -> None:
    assert s.share([1.0] * 20) == pytest.approx(s.wilson(20, 20))
    assert s.share([1.0] * 20).low < 0.9
    assert s.share([0.5, 1.0, 0.25] * 9) == pytest.approx(s.bootstrap_mean([0.5, 1.0, 0.25] * 9))


def test_calibration_by_hand() -> None:
    confidence, correct = [0.95, 0.95, 0.55, 0.55], [1, 1, 1, 0]
    # Bin .9-1: |1 - .95| = .05; bin .5-.6: |.5 - .55| = .05.
    assert s.expected_calibration_error(confidence, correct) == pytest.approx(0.05)
    assert s.brier(confidence, correct) == pytest.approx((0.05**2 * 2 + 0.45**2 + 0.55**2) / 4)
    assert [b.size for b in s.reliability([0.0, 0.1, 0.100001, 1.0], [0, 0, 1, 1])] == [2, 1, 1]
    assert math.isnan(s.expected_calibration_error([], [])) and math.isnan(s.brier([], []))


def test_auroc_by_hand_and_against_its_definition() -> None:
    assert s.auroc([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1]) == pytest.approx(0.75)
    assert s.auroc([1, 1, 1, 1], [0, 1, 0, 1]) == 0.5
    assert math.isnan(s.auroc([1, 2], [1, 1]))
    rng = np.random.default_rng(1)
    score, truth = rng.integers(0, 5, 60), rng.integers(0, 2, 60)
    pairs = [(a > b) + 0.5 * (a == b) for a in score[truth == 1] for b in score[truth == 0]]
    assert s.auroc(score, truth) == pytest.approx(np.mean(pairs))
    assert s.pairwise_accuracy(score, truth) == pytest.approx(np.mean(pairs))


def test_pairwise_accuracy_accepts_graded_truth() -> None:
    # Pairs (0,1) right, (0,2) right, (1,2) tied score.
    assert s.pairwise_accuracy([0.1, 0.5, 0.5], [0.0, 0.4, 0.9]) == pytest.approx(2.5 / 3)
    assert math.isnan(s.pairwise_accuracy([0.1, 0.2], [1, 1]))


def test_within_group_accuracy_ignores_differences_between_groups() -> None:
    # The second group scores far higher and is all wrong at the top; only orders inside a group count.
    estimate = s.within_group_accuracy([[0, 1], [10, 11], [5, 5]], [[0, 1], [1, 0], [1, 1]])
    assert estimate.value == 0.5
    assert estimate.low <= 0.5 <= estimate.high


def test_spearman_agrees_with_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(2)
    x = rng.integers(0, 6, 50).astype(float)
    y = x + rng.normal(0, 2, 50)
    estimate = s.spearman_interval(x, y)
    assert estimate.value == pytest.approx(stats.spearmanr(x, y).statistic)
    assert estimate.low < estimate.value < estimate.high
    assert estimate == s.spearman_interval(x, y)
    assert math.isnan(s.spearman([1, 1, 1], [1, 2, 3]))


def test_correlation_inside_groups_by_hand():
    from selfreward.statistics import within_group_correlation

    # Centred: [.5, -.5, .5, -.5] against [.5, -.5, 0, 0]: 0.5 / sqrt(1 * 0.5).
    assert within_group_correlation([[1, 0], [1, 0]], [[1, 0], [0, 0]]) == pytest.approx(0.5**0.5)
    assert within_group_correlation([[1, 0], [5, 5]], [[0, 1], [1, 0]]) == pytest.approx(-(0.5**0.5))
    assert within_group_correlation([[1, None, 0]], [[2, 9, 0]]) == pytest.approx(1.0)
    assert within_group_correlation([[1, 1]], [[0, 1]]) is None
