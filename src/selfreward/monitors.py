"""What can be seen without a label, and the alarms that it raises.

Every statistic is taken over the whole groups of a step. None of them proves health: agreement rises
and entropy falls in good runs and in collapsing ones alike, so an alarm names its statistic, its
value and what that usually means, and leaves the verdict to the reader.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from selfreward.answers import cluster
from selfreward.signals.rules import repetition_rate
from selfreward.types import Group

if TYPE_CHECKING:
    from selfreward.answers import AnswerSpace

SMOOTHING = 0.3


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
        ``entropy`` (nats per token); ``repetition`` (share of repeated 4-grams).
    """
    if not groups:
        return {}
    completions = [t for g in groups for t in g]
    agreement, unique, zero, spread = [], [], [], []
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
        rewards = group.rewards
        mean = sum(rewards) / len(rewards)
        spread.append(math.sqrt(sum((r - mean) ** 2 for r in rewards) / len(rewards)))
        zero.append(float(max(rewards) - min(rewards) < 1e-9))
    total = sum(elected.values())
    stats = {
        "reward/mean": _mean([t.reward for t in completions]),
        "reward/std": _mean(spread),
        "zero_signal": _mean(zero),
        "agreement": _mean(agreement),
        "unique_answers": _mean(unique),
        "answer_entropy": -sum(n / total * math.log(n / total) for n in elected.values()) if total else 0.0,
        "missing": missing / len(completions),
        "format": _mean([float(well_formed(t.completion)) for t in completions]),
        "length": _mean([float(len(t.last)) for t in completions]),
        "finished": _mean([float(t.finished) for t in completions]),
        "repetition": _mean([repetition_rate(t.last.tokens.tolist(), 4) for t in completions]),
    }
    entropies = [float(t.last.stats["entropy"].mean()) for t in completions if "entropy" in t.last.stats]
    if entropies:
        stats["entropy"] = _mean(entropies)
    return stats


@dataclass(frozen=True)
class Alarm:
    """One alarm: the statistic, its value, and what that usually means."""

    step: int
    name: str
    statistic: str
    value: float
    meaning: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class Monitor:
    """Watches the smoothed statistics of a run against its own first steps.

    Args:
        baseline_steps: steps that define "the start".
    """

    def __init__(self, baseline_steps: int = 3) -> None:
        self.baseline_steps = baseline_steps
        self.smooth: dict[str, float] = {}
        self.start: dict[str, float] = {}
        self.seen = 0
        self.raised: list[dict[str, Any]] = []

    def observe(self, step: int, stats: dict[str, float]) -> list[Alarm]:
        """Take one step's statistics; return alarms that were not raised before."""
        for name, value in stats.items():
            old = self.smooth.get(name, value)
            self.smooth[name] = old + SMOOTHING * (value - old)
        self.seen += 1
        if self.seen <= self.baseline_steps:
            self.start = dict(self.smooth)
            return []
        fresh = []
        for alarm in self._rules(step):
            if alarm.name not in {r["name"] for r in self.raised}:
                self.raised.append(alarm.as_dict())
                fresh.append(alarm)
        return fresh

    def _rules(self, step: int) -> list[Alarm]:
        now, start = self.smooth, self.start
        found = []

        def alarm(name: str, statistic: str, meaning: str) -> None:
            found.append(Alarm(step, name, statistic, round(now[statistic], 4), meaning))

        # In units of the reward's own spread: the mean of coin tosses wanders, too.
        rises = now["reward/mean"] - start["reward/mean"] > 0.2 * max(start["reward/std"], 1e-6)
        if rises and now["agreement"] < 0.95 * start["agreement"]:
            alarm(
                "reward-against-agreement",
                "agreement",
                "the reward rises while samples agree less: the reward is probably being exploited",
            )
        if now.get("format", 1.0) < 0.5 * start.get("format", 0.0):
            alarm("format-loss", "format", "fewer than half as many completions are well formed as at the start")
        if start.get("answer_entropy", 0.0) > 0.2 and now["answer_entropy"] < 0.3 * start["answer_entropy"]:
            alarm(
                "one-answer-for-all",
                "answer_entropy",
                "different prompts are answered alike: the policy may have stopped reading the question",
            )
        if start.get("length", 0.0) > 0 and not 0.5 < now["length"] / start["length"] < 2.0:
            alarm(
                "length-shift",
                "length",
                "completions are half or twice as long as at the start: length may be the reward",
            )
        if now.get("repetition", 0.0) > 0.3 and now["repetition"] > start["repetition"] + 0.2:
            alarm("repetition", "repetition", "completions repeat themselves")
        return found

    def state_dict(self) -> dict[str, Any]:
        return {"smooth": self.smooth, "start": self.start, "seen": self.seen, "raised": self.raised}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.smooth, self.start = dict(state["smooth"]), dict(state["start"])
        self.seen, self.raised = int(state["seen"]), [dict(r) for r in state["raised"]]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
