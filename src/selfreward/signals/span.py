"""Certainty of the final answer's tokens alone, and preferences made of it.

RLSF (van Niekerk et al. 2025, arXiv 2507.21931) ranks several traces of one question by how sure the model is
of the answer that each ends in. What a text says on the way, and how improbable its wording is, does not
count. Known to break where a wrong shortcut is as certain as reasoning, and when it is repeated: trained on
its own certainty, a model becomes certain of everything.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from torch import Tensor

from selfreward.pairs import IndexPair

Margin = Literal["exp", "difference", "none"]


def span_confidence(gap_T: Tensor, span: slice) -> float:
    """Mean probability gap (top-1 minus top-2) over the answer's tokens; in [0, 1] (2507.21931).

    Example: gaps ``[.2, .9, .7]`` and the answer at tokens 1 and 2: .8.

    Raises:
        ValueError: for a span without tokens.
    """
    inside = gap_T[span]
    if not inside.numel():
        raise ValueError(f"The answer span {span.start}:{span.stop} holds none of the {gap_T.numel()} tokens.")
    return float(inside.mean())


def confidence_pairs(
    confidences: Sequence[float | None], *, floor: float = 0.9, margin: Margin = "exp"
) -> list[IndexPair]:
    """Every trace with a confidence of at least ``floor`` over every less confident one.

    Example: ``[.95, .2, .9]`` prefers 0 over 1 with margin exp(.75), 0 over 2 with exp(.05), 2 over 1 with exp(.7).

    Args:
        confidences: one per trace; None (no answer) is in no pair.
        margin: ``"exp"`` is exp(c1 - c2) as published. It lies in [1, e], so that even near-ties must be told
            apart by more than one unit of reward; ``"difference"`` is c1 - c2.
    """
    known = [(i, c) for i, c in enumerate(confidences) if c is not None and not math.isnan(c)]

    def gap(high: float, low: float) -> float:
        return {"exp": math.exp(high - low), "difference": high - low, "none": 0.0}[margin]

    return [
        IndexPair(i, j, margin=gap(high, low)) for i, high in known if high >= floor for j, low in known if high > low
    ]
