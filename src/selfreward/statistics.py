"""Numbers with their uncertainty: pure functions on numpy arrays, seeded where they draw.

A prompt is the unit of sampling. Completions of one prompt are correlated, so every interval over a
test set resamples *prompts* (a cluster bootstrap), never completions. Over training runs the unit is
the seed, and with a handful of seeds only Student's t is wide enough.

Intervals are at 95 % unless a ``level`` is given. Undefined values are NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


class Estimate(NamedTuple):
    """A value and its confidence interval."""

    value: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        return (self.high - self.low) / 2


UNKNOWN = Estimate(math.nan, math.nan, math.nan)


# ---------------------------------------------------------------- several samples per prompt


def pass_at_k(n: int, correct: int, k: int) -> float:
    """Probability that at least one of ``k`` samples is correct, given ``correct`` of ``n`` were.

    The unbiased estimator 1 - C(n-c, k) / C(n, k) of Chen et al. 2021 (arXiv:2107.03374), eq. 1, as a
    product, which never overflows.
    """
    if not 0 <= correct <= n:
        raise ValueError(f"{correct} correct of {n} samples is impossible.")
    if not 1 <= k <= n:
        raise ValueError(f"pass@{k} needs at least {k} samples (and k >= 1); there are {n}.")
    if n - correct < k:
        return 1.0
    return 1.0 - math.prod(1.0 - k / i for i in range(n - correct + 1, n + 1))


def maj_at_k(
    classes: Sequence[int | None], correct: Collection[int], k: int, *, draws: int = 512, seed: int = 0
) -> float:
    """Probability that the majority of ``k`` samples is a correct answer.

    The expectation over all ``k``-subsets of the samples: exact when there are at most ``draws`` of
    them, else over ``draws`` random ones. A tie is broken at random, so it counts as the share of the
    leaders that are correct. Samples without an answer do not vote; a subset without votes is wrong.

    Args:
        classes: answer class of each of the ``n`` samples, None where there is no answer.
        correct: the classes that are correct (normally one or none).
    """
    n = len(classes)
    if not 1 <= k <= n:
        raise ValueError(f"maj@{k} needs at least {k} samples (and k >= 1); there are {n}.")
    names = sorted({c for c in classes if c is not None})
    right = np.array([name in correct for name in names], dtype=bool)
    if not right.any():
        return 0.0
    votes_N_C = np.array([[c == name for name in names] for c in classes], dtype=np.int64)
    if math.comb(n, k) <= draws:
        subsets = np.array(list(combinations(range(n), k)))
    else:
        subsets = np.random.default_rng(seed).random((draws, n)).argpartition(k - 1, axis=1)[:, :k]
    counts = votes_N_C[subsets].sum(axis=1)
    leaders = (counts == counts.max(axis=1, keepdims=True)) & (counts > 0)
    return float(((leaders & right).sum(axis=1) / np.maximum(leaders.sum(axis=1), 1)).mean())


# ---------------------------------------------------------------- intervals


def normal_quantile(level: float) -> float:
    """The two-sided quantile z with P(|Z| <= z) = ``level``."""
    return _bisect(lambda z: math.erf(z / math.sqrt(2)), level, 0.0, 40.0)


def t_quantile(df: int, level: float = 0.95) -> float:
    """The two-sided quantile t with P(|T| <= t) = ``level`` for Student's t with ``df`` degrees.

    The distribution function is the finite series of Abramowitz & Stegun 26.7.3 and 26.7.4 in
    theta = atan(t / sqrt(df)).
    """
    if df < 1:
        raise ValueError(f"Student's t needs at least 1 degree of freedom, not {df}.")

    def central(theta: float) -> float:
        cos2 = math.cos(theta) ** 2
        first = 2 if df % 2 else 1
        term, total = (math.cos(theta), 0.0) if df % 2 else (1.0, 0.0)
        for j in range(first, df, 2):
            total += term
            term *= cos2 * j / (j + 1)
        total *= math.sin(theta)
        return 2 / math.pi * (theta + total) if df % 2 else total

    return math.sqrt(df) * math.tan(_bisect(central, level, 0.0, math.pi / 2))


def wilson(successes: float, n: int, level: float = 0.95) -> Estimate:
    """A share with the score interval of Wilson 1927, which stays honest at 0 and at ``n``."""
    if n == 0:
        return UNKNOWN
    z, p = normal_quantile(level), successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return Estimate(p, min(p, max(0.0, centre - half)), max(p, min(1.0, centre + half)))


def bootstrap(
    statistic: Callable[[NDArray[np.int64]], float], n: int, *, draws: int = 1000, seed: int = 0, level: float = 0.95
) -> Estimate:
    """The percentile bootstrap of any statistic of ``n`` clusters.

    Args:
        statistic: maps indices ``[n]`` of the chosen clusters (with repetition) to a number. Draws on
            which it is undefined (NaN) are left out.
    """
    if n == 0:
        return UNKNOWN
    rng = np.random.default_rng(seed)
    value = statistic(np.arange(n))
    drawn = np.array([statistic(rng.integers(0, n, n)) for _ in range(draws)])
    return Estimate(value, *_percentiles(drawn, level))


def bootstrap_mean(values: ArrayLike, *, draws: int = 1000, seed: int = 0, level: float = 0.95) -> Estimate:
    """The mean of one value per prompt, with its cluster-bootstrap interval. NaN values are left out."""
    v = _defined(values)
    if v.size == 0:
        return UNKNOWN
    rng = np.random.default_rng(seed)
    means = np.array([v[rng.integers(0, v.size, v.size)].mean() for _ in range(draws)])
    return Estimate(float(v.mean()), *_percentiles(means, level))


def share(values: ArrayLike, *, seed: int = 0, level: float = 0.95) -> Estimate:
    """The mean of one value in [0, 1] per prompt.

    Where every prompt is either 0 or 1 this is a plain proportion and gets Wilson's interval: the
    bootstrap would claim certainty when all prompts agree.
    """
    v = _defined(values)
    if np.isin(v, (0.0, 1.0)).all():
        return wilson(float(v.sum()), v.size, level)
    return bootstrap_mean(v, seed=seed, level=level)


def mean_interval(values: ArrayLike, level: float = 0.95) -> Estimate:
    """The mean over seeds with Student's t interval; unbounded (NaN ends) for a single seed."""
    v = _defined(values)
    if v.size < 2:
        return Estimate(float(v[0]), math.nan, math.nan) if v.size else UNKNOWN
    mean = float(v.mean())
    half = t_quantile(v.size - 1, level) * float(v.std(ddof=1)) / math.sqrt(v.size)
    return Estimate(mean, mean - half, mean + half)


def paired_seeds(before: ArrayLike, after: ArrayLike, level: float = 0.95) -> Estimate:
    """The mean of ``after - before`` over runs that share a seed, with Student's t interval."""
    return mean_interval(_differences(before, after), level)


def paired_prompts(before: ArrayLike, after: ArrayLike, *, seed: int = 0, level: float = 0.95) -> Estimate:
    """The mean of ``after - before`` over the same prompts, with the cluster-bootstrap interval."""
    return bootstrap_mean(_differences(before, after), seed=seed, level=level)


# ---------------------------------------------------------------- calibration


class Bin(NamedTuple):
    """One bar of a reliability diagram."""

    low: float
    high: float
    size: int
    confidence: float
    accuracy: float


def reliability(confidence: ArrayLike, correct: ArrayLike, bins: int = 10) -> list[Bin]:
    """Non-empty bins of equal width over [0, 1]: ``(0, .1], (.1, .2], ...``; a confidence of 0 joins the first."""
    c, y = _two(confidence, correct)
    which = _bin(c, bins)
    return [
        Bin(b / bins, (b + 1) / bins, int(m.sum()), float(c[m].mean()), float(y[m].mean()))
        for b in range(bins)
        if (m := which == b).any()
    ]


def expected_calibration_error(confidence: ArrayLike, correct: ArrayLike, bins: int = 10) -> float:
    """ECE (Guo et al. 2017, arXiv:1706.04599, eq. 3): mean |accuracy - confidence| over samples, by bin."""
    c, y = _two(confidence, correct)
    return float(np.abs(np.bincount(_bin(c, bins), weights=y - c)).sum() / c.size) if c.size else math.nan


def brier(confidence: ArrayLike, correct: ArrayLike) -> float:
    """Mean squared distance of a confidence from the outcome 0 or 1 (Brier 1950)."""
    c, y = _two(confidence, correct)
    return float(((c - y) ** 2).mean()) if c.size else math.nan


# ---------------------------------------------------------------- does a score rank the truth?


def ranks(values: ArrayLike) -> Array:
    """Ranks from 1; tied values share their mean rank."""
    v = np.asarray(values, dtype=np.float64)
    _, inverse, counts = np.unique(v, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]


def auroc(score: ArrayLike, truth: ArrayLike) -> float:
    """Probability that a random true item scores above a random false one; ties count one half.

    NaN when only one of the two kinds is present.
    """
    s, y = _two(score, truth)
    positive = y > 0.5
    n, p = s.size, int(positive.sum())
    if p in (0, n):
        return math.nan
    return float((ranks(s)[positive].sum() - p * (p + 1) / 2) / (p * (n - p)))


def pairwise_accuracy(score: ArrayLike, truth: ArrayLike) -> float:
    """Share of the pairs with different truth that the score puts in the right order; ties one half.

    The truth may be graded. NaN when no pair differs in truth.
    """
    s, y = _two(score, truth)
    i, j = np.triu_indices(s.size, k=1)
    differs = y[i] != y[j]
    if not differs.any():
        return math.nan
    agreement = np.sign(s[i] - s[j])[differs] * np.sign(y[i] - y[j])[differs]
    return float((agreement + 1).mean() / 2)


def within_group_accuracy(scores: Sequence[ArrayLike], truths: Sequence[ArrayLike], *, seed: int = 0) -> Estimate:
    """Mean over groups of :func:`pairwise_accuracy`: what a group-normalised update gets from a score.

    Every group with at least one informative pair has the same weight, as it has in training.
    """
    return share([pairwise_accuracy(s, t) for s, t in zip(scores, truths, strict=True)], seed=seed)


def spearman(x: ArrayLike, y: ArrayLike) -> float:
    """Rank correlation with mean ranks for ties; NaN when either side is constant."""
    a, b = _two(x, y)
    if a.size < 2:
        return math.nan
    a, b = ranks(a), ranks(b)
    a, b = a - a.mean(), b - b.mean()
    norm = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / norm if norm > 0 else math.nan


def kendall_tau(x: ArrayLike, y: ArrayLike) -> float:
    """Concordant minus discordant pairs, over all pairs: ``2 / (N (N-1)) sum_{i<j} sign((x_i - x_j) (y_i - y_j))``.

    Tau-a: a pair that is tied on either side counts as neither, and still counts as a pair. Example: ``[1, 2, 3]`` and
    ``[1, 3, 2]`` agree on two pairs and disagree on one, 1/3. NaN for fewer than two values.
    """
    a, b = _two(x, y)
    if a.size < 2:
        return math.nan
    i, j = np.triu_indices(a.size, k=1)
    return float((np.sign(a[i] - a[j]) * np.sign(b[i] - b[j])).mean())


def spearman_interval(x: ArrayLike, y: ArrayLike, *, draws: int = 1000, seed: int = 0, level: float = 0.95) -> Estimate:
    """:func:`spearman` with the bootstrap over pairs."""
    a, b = _two(x, y)
    return bootstrap(lambda i: spearman(a[i], b[i]), a.size, draws=draws, seed=seed, level=level)


# ---------------------------------------------------------------- helpers


def within_group_correlation(
    first: Sequence[Sequence[float | None]], second: Sequence[Sequence[float | None]]
) -> float | None:
    """Pooled correlation of two values of the same completions, ``[groups][completions]``. In [-1, 1].

    Both are centred within every group, so that only the differences count that a group baseline learns
    from; a group without differences has no weight. Places with a None on either side are left out.

    Returns:
        None where one side does not differ in any group.

    Example: ``[[1, 0], [1, 0]]`` and ``[[1, 0], [0, 0]]``: 0.5 / sqrt(1 * 0.5) = 0.71.
    """
    cross = ours = theirs = 0.0
    for one, other in zip(first, second, strict=True):
        pairs = [(a, b) for a, b in zip(one, other, strict=True) if a is not None and b is not None]
        if len(pairs) < 2:
            continue
        a0, b0 = (math.fsum(values) / len(pairs) for values in zip(*pairs, strict=True))
        cross += sum((a - a0) * (b - b0) for a, b in pairs)
        ours += sum((a - a0) ** 2 for a, _ in pairs)
        theirs += sum((b - b0) ** 2 for _, b in pairs)
    return cross / math.sqrt(ours * theirs) if ours > 1e-9 and theirs > 1e-9 else None


def _two(first: ArrayLike, second: ArrayLike) -> tuple[Array, Array]:
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.ndim != 1 or a.shape != b.shape:
        raise ValueError(f"Two lists of the same length are needed, not shapes {a.shape} and {b.shape}.")
    return a, b


def _differences(before: ArrayLike, after: ArrayLike) -> Array:
    a, b = _two(before, after)
    return b - a


def _defined(values: ArrayLike) -> Array:
    v = np.asarray(values, dtype=np.float64).ravel()
    return v[~np.isnan(v)]


def _bin(confidence: Array, bins: int) -> NDArray[np.int64]:
    return np.clip(np.searchsorted(np.arange(1, bins) / bins, confidence, side="left"), 0, bins - 1)


def _percentiles(drawn: Array, level: float) -> tuple[float, float]:
    drawn = _defined(drawn)
    if drawn.size == 0:
        return math.nan, math.nan
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _bisect(increasing: Callable[[float], float], target: float, low: float, high: float) -> float:
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if increasing(middle) < target else (low, middle)
    return (low + high) / 2
