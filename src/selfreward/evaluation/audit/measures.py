"""How good is a score at telling right from wrong inside a group? Pure functions on lists of arrays.

``scores`` and ``truths`` have one float array ``[G]`` per group; a score of NaN is a completion that the
signal had no value for, a truth of NaN one without a label. Truth may be graded in [0, 1]. Every interval
resamples groups, because completions of one prompt are not independent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from selfreward.statistics import (
    UNKNOWN,
    Estimate,
    auroc,
    bootstrap,
    bootstrap_mean,
    brier,
    expected_calibration_error,
    pairwise_accuracy,
    ranks,
    share,
)

Array = NDArray[np.float64]
Arrays = Sequence[Array]
# Pooled statistics sort all completions in every draw; 200 draws put the ends of an interval within a hundredth.
POOLED_DRAWS = 200
FLAT = 1e-6
FEWEST = 5


def is_flat(score: Array) -> bool:
    """Whether a group's values do not differ, so that a group baseline leaves no gradient."""
    known = score[~np.isnan(score)]
    return known.size < 2 or float(known.std()) <= FLAT * max(1.0, float(np.abs(known).max()))


def flat_share(scores: Arrays) -> Estimate:
    """Share of groups without signal."""
    return share([float(is_flat(s)) for s in scores])


def missing_share(scores: Arrays) -> float:
    """Share of completions without a value."""
    total = sum(s.size for s in scores)
    return sum(int(np.isnan(s).sum()) for s in scores) / total if total else math.nan


def saturation(scores: Arrays) -> float:
    """Share of completions within 5 % of the top of the signal's range over everything that was scored."""
    values = np.concatenate([s[~np.isnan(s)] for s in scores] or [np.zeros(0)])
    if values.size == 0:
        return math.nan
    low, high = float(values.min()), float(values.max())
    return float((values >= high - 0.05 * (high - low)).mean())


def within_group_pairs(scores: Arrays, truths: Arrays, seed: int = 0) -> Estimate:
    """Share of pairs with different truth that the score orders rightly, ties one half; mean over groups.

    With fewer than five groups that have such a pair the interval is everything: resampling them would claim certainty.
    Example: scores ``[3, 2, 1]``, truths ``[1, 0, 1]``: 1 of the 2 pairs, 0.5.
    """
    values = [_on_known(pairwise_accuracy, s, t) for s, t in zip(scores, truths, strict=True)]
    found = share(values, seed=seed)
    if sum(not math.isnan(v) for v in values) < FEWEST and not math.isnan(found.value):
        return Estimate(found.value, 0.0, 1.0)
    return found


def pooled_auroc(scores: Arrays, truths: Arrays, seed: int = 0) -> Estimate:
    """AUROC over all completions of all prompts; graded truth counts as right above one half."""
    return _pooled(auroc, scores, truths, seed)


def calibration(scores: Arrays, truths: Arrays, seed: int = 0) -> dict[str, Estimate]:
    """``ece`` and ``brier`` of scores that are meant as probabilities."""
    return {
        "ece": _pooled(expected_calibration_error, scores, truths, seed),
        "brier": _pooled(brier, scores, truths, seed),
    }


def top_truth(score: Array, truth: Array) -> float:
    """Expected truth of the best-scored completion, ties broken at random.

    A group without any value gives a random completion: what a selector would do.
    """
    known = ~np.isnan(score)
    if np.isnan(truth).any():
        return math.nan
    if not known.any():
        return float(truth.mean())
    best = np.nanmax(score)
    return float(truth[known & (score >= best - FLAT * max(1.0, abs(best)))].mean())


def label_truth(score: Array, truth: Array, classes: Sequence[int | None]) -> float:
    """Truth of the label that the signal elects, see :func:`elected`; an abstention is not right."""
    if np.isnan(truth).any():
        return math.nan
    label = elected(score, classes)
    members = [float(t) for t, c in zip(truth, classes, strict=True) if c is not None and c == label]
    return math.fsum(members) / len(members) if members else 0.0


def elected(score: Array, classes: Sequence[int | None]) -> int | None:
    """The answer class that a score elects: the most frequent one among the best-scored completions.

    None where the values do not differ although the answers do, or nothing has a value: then the signal has no opinion.
    """
    known = [(float(s), c) for s, c in zip(score, classes, strict=True) if not math.isnan(s) and c is not None]
    if not known:
        return None
    best = max(s for s, _ in known)
    top = [c for s, c in known if s >= best - FLAT * max(1.0, abs(best))]
    if is_flat(score) and len(set(top)) > 1:
        return None
    return max(dict.fromkeys(top), key=top.count)


def selection_gain(scores: Arrays, truths: Arrays, seed: int = 0) -> Estimate:
    """How much better than a random completion the best-scored one is, mean over prompts."""
    return bootstrap_mean([top_truth(s, t) - float(t.mean()) for s, t in zip(scores, truths, strict=True)], seed=seed)


def selection_rows(scores: Arrays, truths: Arrays, ks: Sequence[int]) -> Array:
    """Expected truth of the best-scored of ``k`` random completions, ``[P, K]`` for the ``P`` groups with truth.

    Exact: of the ``n`` completions in falling order, number ``j`` is the best of a random ``k`` with
    probability ``C(n - j, k - 1) / C(n, k)``; ties share. NaN where a group has fewer than ``k``.
    """
    rows = []
    for score, truth in zip(scores, truths, strict=True):
        if np.isnan(truth).any():
            continue
        filled = np.where(np.isnan(score), -np.inf, score)
        order = np.argsort(-filled, kind="stable")
        sorted_truth, sorted_score = truth[order], filled[order]
        starts = [0, *(np.flatnonzero(sorted_score[1:] < sorted_score[:-1]) + 1).tolist(), truth.size]
        for a, b in pairwise(starts):
            sorted_truth[a:b] = sorted_truth[a:b].mean()
        weights = [_chances(truth.size, k) for k in ks]
        rows.append([math.nan if w is None else float(w @ sorted_truth) for w in weights])
    return np.array(rows, dtype=float).reshape(len(rows), len(ks))


@cache
def _chances(n: int, k: int) -> Array | None:
    if k > n:
        return None
    return np.array([math.comb(n - j, k - 1) / math.comb(n, k) for j in range(1, n + 1)])


def selection_curve(scores: Arrays, truths: Arrays, ks: Sequence[int]) -> list[float]:
    """Mean over prompts of :func:`selection_rows`, for every ``k``."""
    rows = selection_rows(scores, truths, ks)
    return np.nanmean(rows, axis=0).tolist() if rows.size else []


def overshoot(scores: Arrays, truths: Arrays, ks: Sequence[int], seed: int = 0) -> Estimate:
    """How far the best of many falls below the best of the best ``k``: what pushing the score hard costs.

    Zero where more to choose from is never worse. A score that overshoots here ranks completions well on the whole
    and likes something wrong most of all, which is where optimisation ends (Gao et al. 2023, arXiv 2210.10760).
    """
    rows = selection_rows(scores, truths, ks)
    if not rows.size:
        return UNKNOWN
    best = int(np.nanmean(rows, axis=0).argmax())
    return bootstrap_mean(rows[:, best] - rows[:, -1], seed=seed)


def rank_bins(scores: Arrays, truths: Arrays, bins: int = 5) -> list[tuple[float, float, int]]:
    """Truth by place in the group: ``(middle of the bin, mean truth, completions)`` from the least to the best scored.

    Places run from 0 to 1; tied completions share a place.
    """
    places, values = [], []
    for score, truth in zip(scores, truths, strict=True):
        keep = ~np.isnan(score) & ~np.isnan(truth)
        if keep.sum() < 2:
            continue
        places.append((ranks(score[keep]) - 0.5) / keep.sum())
        values.append(truth[keep])
    if not places:
        return []
    where, what = np.concatenate(places), np.concatenate(values)
    which = np.minimum((where * bins).astype(int), bins - 1)
    return [((b + 0.5) / bins, float(what[m].mean()), int(m.sum())) for b in range(bins) if (m := which == b).any()]


def bias(scores: Arrays, nuisance: Arrays, truths: Arrays | None = None, seed: int = 0) -> dict[str, Estimate]:
    """How much of a score is a nuisance (length, format), by rank correlation inside the groups.

    Returns ``correlation`` of score and nuisance, ``explained`` (its square: the share of the score's
    within-group variance that the nuisance alone explains), and, with truths, ``partial``: the correlation of
    score and truth that is left when the nuisance is held fixed. Undefined where one of them never varies.
    """
    rows = []
    for i, (score, other) in enumerate(zip(scores, nuisance, strict=True)):
        truth = np.zeros_like(score) if truths is None else truths[i]
        keep = ~(np.isnan(score) | np.isnan(other) | np.isnan(truth))
        if keep.sum() < 2:
            rows.append(np.zeros(6))
            continue
        s, o, t = (_centred(ranks(v[keep])) for v in (score, other, truth))
        rows.append(np.array([s @ s, o @ o, t @ t, s @ o, s @ t, o @ t]) / keep.sum() ** 2)
    moments = np.array(rows).reshape(-1, 6)

    def of(chosen: NDArray[np.int64], what: str) -> float:
        ss, oo, tt, so, st, ot = moments[chosen].sum(0)
        r = _ratio(so, ss, oo)
        if what == "partial":
            a, b = _ratio(st, ss, tt), _ratio(ot, oo, tt)
            left = (1 - r * r) * (1 - b * b)
            return (a - r * b) / math.sqrt(left) if left > 1e-12 else math.nan
        return r * r if what == "explained" else r

    names = ["correlation", "explained"] + (["partial"] if truths is not None else [])
    n = len(moments)
    return {name: bootstrap(lambda i, w=name: of(i, w), n, draws=POOLED_DRAWS, seed=seed) for name in names}  # type: ignore[misc]


def agreement_matrix(columns: Sequence[Arrays]) -> Array:
    """Rank correlation inside the groups between every two of ``S`` signals, ``[S, S]``; NaN where undefined."""
    count = len(columns)
    total = np.zeros((count, count))
    for group in zip(*columns, strict=True):
        block = np.stack([_centred(ranks(np.nan_to_num(s, nan=-1e300))) for s in group])
        total += block @ block.T / block.shape[1] ** 2
    norm = np.sqrt(np.outer(np.diag(total), np.diag(total)))
    return np.divide(total, norm, out=np.full_like(total, np.nan), where=norm > 0)


# ---- helpers -------------------------------------------------------------------------------------


def _centred(v: Array) -> Array:
    return v - v.mean()


def _ratio(cross: float, a: float, b: float) -> float:
    return float(cross) / math.sqrt(a * b) if a > 0 and b > 0 else math.nan


def _on_known(measure: Callable[[Array, Array], float], score: Array, truth: Array) -> float:
    keep = ~(np.isnan(score) | np.isnan(truth))
    return measure(score[keep], truth[keep]) if keep.sum() >= 2 else math.nan


def _pooled(measure: Callable[[Array, Array], float], scores: Arrays, truths: Arrays, seed: int) -> Estimate:
    pairs = [(s[k], t[k]) for s, t in zip(scores, truths, strict=True) if (k := ~(np.isnan(s) | np.isnan(t))).any()]
    if not pairs:
        return UNKNOWN

    def of(chosen: NDArray[np.int64]) -> float:
        return float(
            measure(np.concatenate([pairs[i][0] for i in chosen]), np.concatenate([pairs[i][1] for i in chosen]))
        )

    return bootstrap(of, len(pairs), draws=POOLED_DRAWS, seed=seed)
