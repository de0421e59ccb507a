"""Rubric grading: written criteria with points, met or not, to one reward.

The score is that of HealthBench (Arora et al. 2025, arXiv 2505.08775), which "Self-Rewarding Rubric-Based RL for
Open-Ended Reasoning" (arXiv 2509.25534) takes as its reward:
``r = sum_k p_k m_k / sum_{k: p_k > 0} p_k``. No model is called here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from selfreward.errors import DataError

GRADING_TEMPLATE = (
    "You check one response against one criterion of a rubric.\n\n"
    "The request:\n{question}\n\nThe response:\n{response}\n\nThe criterion:\n{criterion}\n\n"
    "Decide whether the response does what the criterion describes. This holds for undesirable criteria, too: "
    "if the criterion names a fault and the response has it, then the criterion is met. If only a part of what "
    "the criterion demands is there, it is not met.\n"
    'Reply with a JSON object and nothing else: {{"explanation": "why", "criteria_met": true or false}}'
)
"""What a model is asked where the task brings no template of its own."""

HOLISTIC_TEMPLATE = (
    "The request:\n{question}\n\nThe response:\n{response}\n\nWhat a response is judged by:\n{rubric}\n\n"
    "How good is the response on the whole? Reply with one number from 0 (worst) to 10 (best) and nothing else."
)
"""The comparison: one score for the whole rubric."""

_VERDICT = re.compile(r'"criteria_met"\s*:\s*(true|false)\b', re.IGNORECASE)


def rubric_score(
    met: Tensor | Sequence[float], points_K: Tensor | Sequence[float], *, low: float | None = 0.0
) -> Tensor:
    """``sum_k p_k m_k / sum_{k: p_k > 0} p_k``, ``[..., K]`` to ``[...]``.

    A full score is 1. Negative points only ever subtract, so the sum can fall below 0. Example: points
    ``[3, 2, -1]`` and criteria met ``[1, 0, 1]`` give ``(3 - 1) / (3 + 2) = 0.4``.

    Args:
        met: 1 where criterion k is met and 0 where not, or the probability of it. NaN: not graded; such a criterion
            leaves both sums.
        points_K: points per criterion, at least one of them positive.
        low: the least score; None leaves negative ones as they are.

    Returns:
        Float ``[...]``; NaN where no graded criterion has positive points.
    """
    points = torch.as_tensor(points_K, dtype=torch.float32)
    values = torch.as_tensor(met, dtype=torch.float32)
    assert points.ndim == 1 and values.shape[-1:] == points.shape, (
        f"{tuple(values.shape)} verdicts for {tuple(points.shape)} points"
    )
    graded = ~values.isnan()
    earned = torch.where(graded, values * points, 0.0).sum(-1)
    possible = torch.where(graded, points.clamp(min=0), 0.0).sum(-1)
    score = torch.where(possible > 0, earned / possible, torch.nan)
    return score if low is None else score.clamp(min=low)


def parse_grade(text: str, yes: str = "", no: str = "") -> bool | None:
    """Whether the grader says that the criterion is met; None where it cannot be read.

    Reads the last JSON object with a boolean ``criteria_met``, in a code fence or among other words; the
    words may be cut off after it. A string ``"true"`` or a number is a failure: a grader that does not keep to the
    form did not understand the question. With ``yes`` and ``no`` a reply that is one of these words counts, too.

    Examples: ``{"explanation": "says so", "criteria_met": true}`` is True; ``criteria met`` is None.
    """
    word = text.strip()
    if yes and word in (yes, no):
        return word == yes
    for found in reversed(list(re.finditer(r"\{", text))):
        try:
            value, _ = json.JSONDecoder().raw_decode(text[found.start() :])
        except ValueError:
            continue
        if isinstance(value, dict) and "criteria_met" in value:
            return value["criteria_met"] if isinstance(value["criteria_met"], bool) else None
    # An explanation with a stray quotation mark is no valid JSON, but its verdict can be read all the same.
    loose = _VERDICT.findall(text)
    return loose[-1].lower() == "true" if loose else None


def rubric_of(value: Any, where: str) -> list[tuple[str, float]]:
    """``(criterion, points)`` of a prompt's ``rubric`` field: a list of objects with these two keys.

    Raises:
        DataError: where it is anything else, or no criterion has positive points.
    """
    form = '[{"criterion": "Names the dose.", "points": 5}, ...]'
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        raise DataError(f"{where}: the field 'rubric' must be a list like {form}, not {value!r}.")
    found = []
    for i, item in enumerate(value):
        points = item.get("points") if isinstance(item, dict) else None
        if points is None or isinstance(points, bool) or not isinstance(points, int | float):
            raise DataError(f"{where}: item {i} of 'rubric' has no number 'points'. A rubric is a list like {form}.")
        if not isinstance(item.get("criterion"), str) or not item["criterion"].strip():
            raise DataError(f"{where}: item {i} of 'rubric' has no text 'criterion'. A rubric is a list like {form}.")
        found.append((item["criterion"], float(points)))
    if not any(points > 0 for _, points in found):
        raise DataError(f"{where}: no criterion of 'rubric' has positive points, so there is nothing to score.")
    return found


def f1_score(predicted: Sequence[float], truth: Sequence[bool]) -> float:
    """Harmonic mean of precision and recall of "met"; 0 where nothing true was found.

    Example: predicted ``[1, 1, 0, 0]`` of truth ``[1, 0, 1, 0]`` has precision 1/2, recall 1/2 and F1 1/2.

    Args:
        predicted: verdicts, or the probabilities of yes: the counts are then expected ones, those of sampled verdicts.
    """
    assert len(predicted) == len(truth), f"{len(predicted)} predictions of {len(truth)} truths"
    hits = sum(float(p) for p, t in zip(predicted, truth, strict=True) if t)
    return 2 * hits / (sum(map(float, predicted)) + sum(map(bool, truth))) if hits else 0.0
