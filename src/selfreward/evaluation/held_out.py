"""How good is a policy on held-out prompts, and how sure are we?

One greedy completion and ``n`` sampled ones per prompt give every number here. Truth (``accuracy``,
``pass@1``, ``pass@k``, ``maj@k``, calibration) is measured on the prompts that have an answer; the
rest needs none. Each number is first a list with one value per prompt, so that its interval can
resample prompts and two evaluations of the same prompts can be compared pair by pair.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from selfreward import statistics
from selfreward.errors import ConfigError, DataError
from selfreward.runtime.seeding import stream_seed
from selfreward.statistics import Estimate
from selfreward.types import Group, Prompt, Trajectory

if TYPE_CHECKING:
    from selfreward.data.answers import AnswerSpace
    from selfreward.data.task import Task
    from selfreward.policy.sampling.params import SamplingParams

# Means of values in [0, 1]; everything else (tokens, nats) is unbounded and always bootstrapped.
SHARES = frozenset({"accuracy", "pass@1", "pass@k", "maj@k", "format", "agreement"})


class Samples(Protocol):
    """What evaluation needs of a policy."""

    def sample(
        self, prompts: Sequence[Prompt], n: int = 1, params: SamplingParams | None = None, *, seed: int | None = None
    ) -> list[Group]: ...


@dataclass
class Evaluation:
    """The result of :func:`evaluate`.

    Attributes:
        metrics: ``accuracy`` (greedy), ``pass@1``, ``pass@k``, ``maj@k``, ``ece``, ``brier`` and ``auroc``
            of the vote share as a confidence; and without labels ``format`` (share of completions that
            are well formed), ``agreement`` (share of the samples behind the most frequent answer),
            ``unique_answers``, ``length`` (tokens) and ``entropy`` (nats per token). Undefined ones are absent.
        intervals: a 95 % interval over prompts for each metric.
        per_prompt: the values behind each mean, in the order of ``ids`` (NaN: undefined for that prompt).
        ids: the prompts.
        unlabelled: how many of them have no answer.
        k: the k of ``pass@k`` and ``maj@k``.
        samples: sampled completions per prompt.
    """

    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    per_prompt: dict[str, list[float]] = field(repr=False)
    ids: list[str] = field(repr=False)
    unlabelled: int
    k: int
    samples: int

    def as_dict(self) -> dict[str, Any]:
        """JSON-able: the metrics by name, and beside them their intervals and how they were taken."""
        return {
            **self.metrics,
            "intervals": {name: list(ends) for name, ends in self.intervals.items()},
            "prompts": len(self.ids),
            "unlabelled": self.unlabelled,
            "k": self.k,
            "samples": self.samples,
        }


def evaluate(
    policy: Samples,
    prompts: Sequence[Prompt],
    answers: AnswerSpace,
    *,
    k: int = 8,
    samples: int | None = None,
    params: SamplingParams | None = None,
    seed: int = 0,
    greedy: bool = True,
    well_formed: Callable[[str], bool] | None = None,
) -> Evaluation:
    """Measure ``policy`` on ``prompts``.

    Args:
        answers: finds the answer in a completion and compares it.
        k: the k of ``pass@k`` and ``maj@k``.
        samples: completions per prompt, at least and by default ``k``. More make the same numbers less noisy.
        params: how to sample; the greedy completion differs in its temperature alone.
        seed: of the sampling and of every bootstrap. The policy's own sequence of draws is not touched.
        greedy: whether to take the greedy completion, which ``accuracy`` needs.
        well_formed: whether a completion keeps to the format; by default, whether it has an answer.

    Raises:
        DataError: without prompts.
        ConfigError: when ``samples`` is less than ``k``.
        LabelAccessError: when the prompts are locked.
    """
    from selfreward.policy.sampling.params import SamplingParams

    n = samples or k
    if not prompts:
        raise DataError("There is nothing to evaluate: the list of prompts is empty.")
    if k < 1 or n < k:
        raise ConfigError(f"pass@{k} needs at least {max(k, 1)} samples per prompt (and k >= 1), not {n}.")
    params = params or SamplingParams()
    references = [p.answer for p in prompts]
    rows = [
        _sampled(group, reference, answers, k, well_formed, seed)
        for group, reference in zip(policy.sample(prompts, n, params, seed=seed), references, strict=True)
    ]
    if greedy:
        best = policy.sample(prompts, 1, replace(params, temperature=0.0), seed=seed)
        for row, group, reference in zip(rows, best, references, strict=True):
            if reference is not None:
                row["accuracy"] = float(answers.correct(group.completions[0], reference))
    per_prompt, estimates = _estimates(rows, seed)
    return Evaluation(
        metrics={name: e.value for name, e in estimates.items()},
        intervals={name: (e.low, e.high) for name, e in estimates.items()},
        per_prompt=per_prompt,
        ids=[p.id for p in prompts],
        unlabelled=sum(reference is None for reference in references),
        k=k,
        samples=n,
    )


def _estimates(rows: Sequence[dict[str, float]], seed: int) -> tuple[dict[str, list[float]], dict[str, Estimate]]:
    """The values of every metric in the order of the prompts, and their means with intervals where these exist."""
    names = dict.fromkeys(name for row in rows for name in row)
    per_prompt = {name: [row.get(name, math.nan) for row in rows] for name in names}
    estimates = {
        name: (statistics.share if name in SHARES else statistics.bootstrap_mean)(values, seed=seed)
        for name, values in per_prompt.items()
        if name != "vote_correct"
    }
    estimates |= _calibration(per_prompt, seed)
    return per_prompt, {name: e for name, e in estimates.items() if not math.isnan(e.value)}


def held_out(
    policy: Any,
    task: Task,
    *,
    prompts: int = 200,
    samples: int = 8,
    params: SamplingParams | None = None,
    seed: int | None = None,
) -> dict[str, Any]:
    """Metrics on a task's test prompts, as they are logged; what it costs is not counted as the policy's.

    Args:
        policy: samples, and counts tokens in ``counts``.
        task: its own evaluator measures where it has one; otherwise :func:`evaluate` does.
        prompts: test prompts at most; 0 measures nothing.
        samples: samples per prompt, the k of ``pass@k`` and ``maj@k``.
        params: how to sample.
        seed: by default the same for every run, so that all are measured with the same draws.

    Returns:
        Metrics by name, as in :meth:`Evaluation.as_dict`; empty where there are no test prompts.
    """
    chosen = task.test[:prompts]
    if not chosen:
        return {}
    kept = dict(policy.counts.generated), dict(policy.counts.scored)
    try:
        if task.evaluator:
            return task.evaluator(policy)
        return evaluate(
            policy,
            chosen,
            task.answers,
            k=samples,
            params=params,
            seed=stream_seed(0, "evaluation") if seed is None else seed,
            well_formed=task.well_formed,
        ).as_dict()
    finally:
        policy.counts.generated, policy.counts.scored = kept


def difference(before: Evaluation, after: Evaluation, metric: str = "pass@1", seed: int = 0) -> Estimate:
    """``after - before`` on the same prompts, with the paired bootstrap over prompts.

    Far narrower than two separate intervals: what makes a prompt hard is shared by both sides.
    """
    if before.ids != after.ids:
        raise ConfigError("The two evaluations are of different prompts, so they cannot be compared pair by pair.")
    for evaluation in (before, after):
        if metric not in evaluation.per_prompt:
            raise ConfigError(f"{metric!r} has no value per prompt. Known: {', '.join(evaluation.per_prompt)}.")
    return statistics.paired_prompts(before.per_prompt[metric], after.per_prompt[metric], seed=seed)


def _sampled(
    group: Group,
    reference: str | None,
    answers: AnswerSpace,
    k: int,
    well_formed: Callable[[str], bool] | None,
    seed: int,
) -> dict[str, float]:
    """The numbers of one prompt's samples. A missing answer agrees with nothing, not even with another one."""
    from selfreward.data.answers import cluster

    completions, n = group.completions, len(group)
    # Few distinct texts are common once training has sharpened the policy: read each of them once.
    found = {text: answers.extract(text) for text in completions}
    formed = {text: well_formed(text) if well_formed else answer is not None for text, answer in found.items()}
    classes = cluster([found[text] for text in completions], answers)
    votes = Counter(c for c in classes if c is not None)
    leader, top = votes.most_common(1)[0] if votes else (None, 0)
    row = {
        "format": sum(formed[text] for text in completions) / n,
        "agreement": top / n,
        "unique_answers": float(len(votes)),
        "length": sum(map(_length, group)) / n,
    }
    entropy = [s.stats["entropy"] for t in group for s in t.segments if s.trainable and "entropy" in s.stats]
    if tokens := sum(int(e.numel()) for e in entropy):
        row["entropy"] = sum(float(e.sum()) for e in entropy) / tokens
    if reference is not None:
        checked = {text: answers.correct(text, reference) for text in found}
        right = [checked[text] for text in completions]
        correct = {c for c, ok in zip(classes, right, strict=True) if ok and c is not None}
        row["pass@1"] = sum(right) / n
        row["pass@k"] = statistics.pass_at_k(n, sum(right), k)
        row["maj@k"] = statistics.maj_at_k(classes, correct, k, seed=seed)
        row["vote_correct"] = float(leader in correct)
    return row


def _length(trajectory: Trajectory) -> int:
    return sum(len(s) for s in trajectory.segments if s.trainable)


def _calibration(per_prompt: dict[str, list[float]], seed: int) -> dict[str, Estimate]:
    """How far the vote share can be believed as the probability that the vote is right."""
    correct = np.array(per_prompt.get("vote_correct", []))
    labelled = ~np.isnan(correct)
    confidence, correct = np.array(per_prompt["agreement"])[: labelled.size][labelled], correct[labelled]
    measures: dict[str, Callable[..., float]] = {
        "ece": statistics.expected_calibration_error,
        "brier": statistics.brier,
        "auroc": statistics.auroc,
    }
    return {
        name: statistics.bootstrap(lambda i, f=measure: f(confidence[i], correct[i]), correct.size, seed=seed)  # type: ignore[misc]
        for name, measure in measures.items()
    }
