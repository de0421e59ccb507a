"""Read-outs of judge output: from what a judge wrote, or would write, to numbers. No model is called here.

A judge that cannot be parsed is an event, not a zero: every parser returns None then, and
:func:`apply_parse_policy` turns None into what the recipe chose, and counts it.

Sources: score in an ``<answer>`` block, SSR-Zero (arXiv 2505.16637) with the scale of GEMBA-DA;
expected score over the scale's tokens, G-Eval (2303.16634).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from selfreward.data.answers import MultipleChoice, last_match, last_tagged

ParsePolicy = Literal["zero", "drop", "mean", "penalty"]

_SCORE = re.compile(r"(?:(?<![\w.)\]])[-\u2212])?(?<![\w.])[0-9]+(?:\.[0-9]+)?")
_OUT_OF = re.compile(r"([0-9])\s?(?:/|out of)\s?([0-9]+(?:\.[0-9]+)?)(?![\w/])")


def parse_score(text: str, low: float = 0, high: float = 100) -> float | None:
    """The score in the last ``<answer>`` block, or, without a block, the last number of the text.

    Examples: ``"<answer>85</answer>"``, ``"good: 85/100"`` and ``"Score: 85."`` are 85;
    ``"<answer>high</answer>"``, ``"850"`` and ``""`` are None. ``85/100`` is read as 85 only where
    100 is ``high``. A value outside of ``[low, high]`` is a failure, not clipped: a judge that
    answers 1000 did not understand the scale.
    """
    block = last_tagged(text, "answer")
    if block is None and "<answer>" in text:
        return None
    scale = _OUT_OF.sub(lambda m: m[1] if float(m[2]) == high else m[0], text if block is None else block)
    found = last_match(_SCORE, scale)
    if found is None:
        return None
    value = float(found[0].replace("\u2212", "-"))
    return value if low <= value <= high else None


def parse_verdict(text: str, options: Sequence[str]) -> str | None:
    """Which of ``options`` a judge chose (``yes``/``no``, ``A``/``B``/``tie``), or None.

    Example: ``parse_verdict("A is shorter, but I prefer B", ["A", "B"])`` is ``"B"``.
    """
    return MultipleChoice(tuple(options)).extract(text)


def expected_score(probs_N_K: Tensor, values_K: Tensor | Sequence[float]) -> Tensor:
    """``sum_k p_k v_k / sum_k p_k``, shape ``[N]`` (G-Eval, 2303.16634).

    Finer than a sampled score: sampled scores tie, and tied rewards have no gradient.
    Example: probabilities ``[.25, .75]`` of the values ``[0, 100]`` give 75.

    Args:
        probs_N_K: probability of each of K score tokens per judged item; may sum to less than 1.
        values_K: the number that each token means.
    """
    values = torch.as_tensor(values_K, dtype=probs_N_K.dtype, device=probs_N_K.device)
    assert probs_N_K.ndim == 2, f"probabilities must be [N, K], got {tuple(probs_N_K.shape)}"
    assert values.shape == probs_N_K.shape[1:], f"{probs_N_K.shape[1]} probabilities but {values.numel()} values"
    mass = probs_N_K.sum(-1)
    assert bool((mass > 0).all()), "a row of probabilities has no mass on any score"
    return (probs_N_K * values).sum(-1) / mass


def mean_of(scores: Sequence[float | None]) -> float | None:
    """Mean of the scores that could be parsed; None when none could."""
    parsed = [s for s in scores if s is not None]
    return math.fsum(parsed) / len(parsed) if parsed else None


def wins_matrix(comparisons: Sequence[tuple[int, int, float | None]], n: int) -> Tensor:
    """``[N, N]`` mean outcome of "i was shown first, j second": 1 first won, 0 second won, 0.5 tie.

    NaN where a pair was not compared in that order, or no comparison of it could be parsed.
    """
    outcomes: dict[tuple[int, int], list[float]] = {}
    for i, j, outcome in comparisons:
        assert i != j and 0 <= i < n and 0 <= j < n, f"comparison ({i}, {j}) among {n} candidates"
        if outcome is not None:
            outcomes.setdefault((i, j), []).append(outcome)
    wins = torch.full((n, n), torch.nan)
    for (i, j), values in outcomes.items():
        wins[i, j] = math.fsum(values) / len(values)
    return wins


def pairwise_scores(wins_N_N: Tensor) -> Tensor:
    """Share of its comparisons that each candidate wins, ``[N]`` in [0, 1].

    The two orders of a pair are averaged first, so a judge that always prefers the first answer
    gives everyone 0.5. Example: 0 beats 1 and 2, 1 beats 2: ``[1, .5, 0]``. A candidate without any
    comparison gets 0.5.
    """
    assert wins_N_N.ndim == 2 and wins_N_N.shape[0] == wins_N_N.shape[1], f"got {tuple(wins_N_N.shape)}"
    n = wins_N_N.shape[0]
    both = torch.stack([wins_N_N, 1 - wins_N_N.T])
    pair = both.nanmean(0).masked_fill(torch.eye(n, dtype=torch.bool, device=wins_N_N.device), torch.nan)
    return pair.nanmean(1).nan_to_num(nan=0.5)


def escape(text: str, tags: Sequence[str]) -> str:
    """Text of a candidate that cannot break out of its place in a judge template.

    Args:
        text: written by the model that is being judged.
        tags: what the template uses: tag names (``"answer"``: ``<answer>``, ``</ANSWER >`` and so on
            become ``[answer]``, ``[/ANSWER ]``) and literal markers (``"####"``, ``"<|im_end|>"``:
            broken up by a space).

    Applying it twice changes nothing more.
    """
    for tag in tags:
        mark = tag.strip()
        if re.fullmatch(r"\w[\w-]*", mark):
            pattern = re.compile(rf"<(\s*/?\s*{re.escape(mark)}\b[^<>]*)>?", re.IGNORECASE)
            text = pattern.sub(lambda m: f"[{m[1]}]", text)
        elif len(mark) > 1:
            # A loop, because breaking one marker in "#####" leaves another one behind it.
            while mark in text:
                text = text.replace(mark, f"{mark[0]} {mark[1:]}")
        else:
            text = text.replace(mark, " ") if mark else text
    return text


def apply_parse_policy(
    scores: Sequence[float | None], policy: ParsePolicy, penalty: float | None = None
) -> tuple[list[float | None], int]:
    """What scores that could not be parsed become, and how many there were.

    Example: ``[80, None, 60]`` becomes ``[80, 0, 60]`` (zero), ``[80, 70, 60]`` (mean).

    Args:
        scores: None marks a failure.
        policy: ``"zero"``: 0. ``"penalty"``: the value of ``penalty``. ``"mean"``: the mean of the
            group's parsed scores, so the item neither gains nor loses under a group baseline (0 when
            nothing was parsed). ``"drop"``: stays None, and the caller takes the item out of its group.
    """
    failures = sum(s is None for s in scores)
    if policy == "drop":
        return list(scores), failures
    if policy == "zero":
        fill = 0.0
    elif policy == "mean":
        fill = mean_of(scores) or 0.0
    elif policy == "penalty":
        if penalty is None:
            raise ValueError("policy='penalty' needs a penalty.")
        fill = penalty
    else:
        raise ValueError(f"Unknown parse policy {policy!r}; there are zero, drop, mean and penalty.")
    return [fill if s is None else s for s in scores], failures
