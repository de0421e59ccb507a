"""How often is a label right, when nobody knows the truth? Estimates from agreement.

Two labellers that err independently agree when both are right, or when both are wrong in the same way. With
``p`` and ``q`` the chances of being right and ``c`` the chance that two wrong labels coincide,

    agreement = p q + (1 - p)(1 - q) c,   which is   (1 + c) agreement - c = u v   with   u = (1 + c) p - c.

Two labellers of equal quality therefore have ``u = sqrt((1 + c) a - c)``, and a third one that is compared
with one of them has ``u_3 = ((1 + c) a_3 - c) / u``. This is the agreement method of Platanios, Blum and
Mitchell (UAI 2014) for two labels, carried to many by ``c``.

The assumption is independence given the truth. Errors that are *shared* make labels agree, and then the
estimate is too high: two halves of one group share every misreading of the question, another wording only what
does not depend on the wording. And an estimate from halves is one of labels that half as many samples elect.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from selfreward.statistics import UNKNOWN, Estimate, bootstrap

# Above this, unrelated prompts get the same label so often that agreement says nothing.
SAME_EVERYWHERE = 0.6


def collision(labels: Sequence[str | None]) -> float:
    """Probability that the labels of two different prompts are the same. Example: ``a a b`` gives 1/3."""
    counts = Counter(x for x in labels if x is not None)
    n = sum(counts.values())
    return sum(k * (k - 1) for k in counts.values()) / (n * (n - 1)) if n > 1 else math.nan


def wrong_collision(labels: Sequence[str | None]) -> float:
    """Chance ``c`` that two *wrong* labels coincide, from how often labels of unrelated prompts do.

    With ``K`` equally frequent answers unrelated labels coincide in 1/K of the cases, and two wrong ones in
    1/(K-1): ``q / (1 - q)``. For yes and no that is 1: two wrong labels are always the same.
    """
    q = collision(labels)
    return math.nan if math.isnan(q) else min(1.0, q / (1 - q)) if q < 1 else 1.0


def right_from_twins(agreed: Sequence[float], c: float, seed: int = 0) -> Estimate:
    """Chance that a label is right, from its agreement with one of equal quality.

    Example: ten answers, ``c = 1/9``, agreement .73: ``u = sqrt(.7)``, and the label is right in 85 % of cases.
    """
    values = np.asarray(agreed, dtype=float)
    if values.size == 0 or math.isnan(c):
        return UNKNOWN
    return _unit(bootstrap(lambda i: _right(_root((1 + c) * values[i].mean() - c), c), values.size, seed=seed))


def right_from_reference(agreed: Sequence[float], reference: Sequence[float], c: float, seed: int = 0) -> Estimate:
    """Chance that a label is right, from its agreement with an independent label whose own quality is known
    from the agreement ``reference`` with one like it. Prompts are resampled together.

    Undefined where the reference is no better than chance: nothing can be learned from it.
    """
    own, other = np.asarray(agreed, dtype=float), np.asarray(reference, dtype=float)
    if own.size == 0 or math.isnan(c):
        return UNKNOWN

    def of(i: NDArray[np.int64]) -> float:
        u = _root((1 + c) * other[i].mean() - c)
        return _right(((1 + c) * own[i].mean() - c) / u, c) if u > 0.1 else math.nan

    return _unit(bootstrap(of, own.size, seed=seed))


def _root(x: float) -> float:
    return math.sqrt(x) if x > 0 else 0.0


def _right(u: float, c: float) -> float:
    return float(min(1.0, max(0.0, (u + c) / (1 + c))))


def _unit(e: Estimate) -> Estimate:
    return Estimate(*(min(1.0, max(0.0, x)) if not math.isnan(x) else x for x in e))
