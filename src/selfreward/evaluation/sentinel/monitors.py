"""What can be seen of a step without a label.

Every statistic is taken over the whole groups of a step. None of them proves health: agreement rises
and entropy falls in good runs and in collapsing ones alike. :mod:`selfreward.evaluation.sentinel.detector` reads them
beside what independent views say.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from selfreward.data.answers import cluster
from selfreward.signals.rules import repetition_rate
from selfreward.statistics import within_group_correlation
from selfreward.types import Group

if TYPE_CHECKING:
    from selfreward.data.answers import AnswerSpace


def group_statistics(
    groups: Sequence[Group], answers: AnswerSpace, well_formed: Callable[[str], bool]
) -> dict[str, float]:
    """Label-free statistics of one step.

    Returns:
        ``reward/mean``; ``reward/std`` (mean within-group standard deviation); ``zero_signal`` (share of
        groups whose rewards are all equal); ``agreement`` (share of a group's answers in its largest
        class, missing answers counted against it); ``unique_answers`` per group; ``answer_entropy``
        (nats, of first-class answers over different prompts: near 0 when every prompt gets one
        answer); ``missing`` and ``format`` shares; ``length`` (tokens); ``finished`` share;
        ``entropy`` (nats per token); ``repetition`` (share of repeated 4-grams); ``reward/length`` (pooled
        within-group correlation of reward and length: how far length alone would earn it; absent where
        either never differs); ``unanswered`` (share of groups in which no completion has an answer: a signal
        that reads answers pays them alike, and nothing is learned from them); ``reward/top`` (share of
        completions with the batch's highest reward).
    """
    if not groups:
        return {}
    completions = [t for g in groups for t in g]
    stats = {
        "reward/mean": _mean([t.reward for t in completions]),
        "reward/std": _mean([_deviation(g.rewards) for g in groups]),
        "zero_signal": _mean([float(max(g.rewards) - min(g.rewards) < 1e-9) for g in groups]),
        **_answer_statistics(groups, answers),
        "format": _mean([float(well_formed(t.completion)) for t in completions]),
        "length": _mean([float(len(t.last)) for t in completions]),
        "finished": _mean([float(t.finished) for t in completions]),
        "repetition": _mean([repetition_rate(t.last.tokens.tolist(), 4) for t in completions]),
    }
    top = max(t.reward for t in completions)
    stats["reward/top"] = _mean([float(t.reward >= top - 1e-9) for t in completions])
    by_length = within_group_correlation([g.rewards for g in groups], [[float(len(t.last)) for t in g] for g in groups])
    if by_length is not None:
        stats["reward/length"] = by_length
    entropies = [float(t.last.stats["entropy"].mean()) for t in completions if "entropy" in t.last.stats]
    if entropies:
        stats["entropy"] = _mean(entropies)
    return stats


def _answer_statistics(groups: Sequence[Group], answers: AnswerSpace) -> dict[str, float]:
    """What the answers alone say, per group and over the prompts."""
    agreement, unique = [], []
    elected: Counter[str] = Counter()
    missing = 0
    for group in groups:
        extracted = [answers.extract(c) for c in group.completions]
        classes = cluster(extracted, answers)
        counts = Counter(c for c in classes if c is not None)
        missing += sum(c is None for c in classes)
        unique.append(float(len(counts)))
        if counts:
            label, most = counts.most_common(1)[0]
            agreement.append(most / len(classes))
            first = extracted[classes.index(label)]
            elected[answers.canonical(first) if first is not None else ""] += 1
        else:
            agreement.append(0.0)
    total = sum(elected.values())
    return {
        "agreement": _mean(agreement),
        "unique_answers": _mean(unique),
        "answer_entropy": -sum(n / total * math.log(n / total) for n in elected.values()) if total else 0.0,
        "missing": missing / sum(map(len, groups)),
        "unanswered": _mean([float(n == 0) for n in unique]),
    }


def _deviation(rewards: Sequence[float]) -> float:
    """The standard deviation of a whole group (divided by its size)."""
    mean = sum(rewards) / len(rewards)
    return math.sqrt(sum((r - mean) ** 2 for r in rewards) / len(rewards))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
