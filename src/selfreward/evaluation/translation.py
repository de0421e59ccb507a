"""How good translations are by every text metric, with intervals, and whether a judge ranks them as the metrics do."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from selfreward.signals.text_metrics import (
    _aligned,
    chrf,
    comet,
    corpus_score,
    has_stray_symbols,
    language_of,
    length_ratio,
    untranslated_share,
    words_of,
)
from selfreward.statistics import Estimate, bootstrap_mean, within_group_accuracy

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from selfreward.data.answers import AnswerSpace
    from selfreward.policy.policy import Policy
    from selfreward.types import Group, Prompt


# ---- the judge against the truth -----------------------------------------------------------------


@dataclass(frozen=True)
class JudgeGate:
    """Whether a judge is worth training on.

    Attributes:
        pairwise: within-group pairwise accuracy against the truth, with its interval over groups.
        ties: share of groups whose scores are all the same, and which therefore teach nothing.
        passed: ``pairwise`` at least .65 and ``ties`` at most .4 (the gate of the small-scale proof).
    """

    pairwise: Estimate
    ties: float
    passed: bool


def judge_gate(
    scores: Sequence[ArrayLike],
    truths: Sequence[ArrayLike],
    *,
    min_accuracy: float = 0.65,
    max_ties: float = 0.4,
    tolerance: float = 1e-6,
    seed: int = 0,
) -> JudgeGate:
    """Compare a judge's scores with the truth, group by group, before any training.

    Example: scores ``[[.2, .9], [.5, .5]]`` and truths ``[[0, 1], [0, 1]]``: the first group is in the
    right order (1), the second one a tie (1/2): accuracy .75, and half of the groups are ties.

    Args:
        scores, truths: one row ``[G]`` per group.
        tolerance: scores that differ by no more are the same.
    """
    _aligned(scores=scores, truths=truths)
    pairwise = within_group_accuracy(scores, truths, seed=seed)
    ties = float(np.mean([np.ptp(np.asarray(s, float)) <= tolerance for s in scores])) if len(scores) else float("nan")
    return JudgeGate(pairwise, ties, bool(pairwise.value >= min_accuracy and ties <= max_ties))


def reward_gap(rewards: ArrayLike, truths: ArrayLike, *, seed: int = 0) -> Estimate:
    """Mean of reward minus truth, both in [0, 1]: how much better the policy thinks it is than it is."""
    r, t = np.asarray(rewards, float).ravel(), np.asarray(truths, float).ravel()
    _aligned(rewards=r, truths=t)  # type: ignore[arg-type]
    return bootstrap_mean(r - t, seed=seed)


# ---- all at once ---------------------------------------------------------------------------------


@dataclass
class TranslationMetrics:
    """What to measure.

    Attributes:
        vocabularies: the words (lower case) of each language where they are known. The target language is
            then the reference's; without them a word counts as untranslated when the reference does not
            have it, and the wrong-language rate is not measured.
        similarity: a further sentence metric in [0, 1], called with (hypothesis, reference), by name.
        comet_model: also score with this COMET model; None does not.
    """

    vocabularies: Mapping[str, Collection[str]] | None = None
    similarity: dict[str, Callable[[str | None, str], float]] | None = None
    comet_model: str | None = None
    draws: int = 1000
    seed: int = 0

    def per_sentence(
        self, sources: Sequence[str], hypotheses: Sequence[str | None], references: Sequence[str]
    ) -> dict[str, list[float]]:
        """Every sentence-level value, in [0, 1], by metric. A missing hypothesis (None) has quality 0."""
        _aligned(sources=sources, hypotheses=hypotheses, references=references)
        rows = list(zip(sources, hypotheses, references, strict=True))
        found = {
            "chrf": chrf(hypotheses, references),
            "exact": [float(h is not None and h.split() == r.split()) for _, h, r in rows],
            "missing": [float(not h) for _, h, _ in rows],
            "stray_symbols": [float(has_stray_symbols(h, s)) for s, h, _ in rows],
            "untranslated": [untranslated_share(h, s, {*words_of(r), *self._known(r)}) for s, h, r in rows],
        }
        if self.vocabularies:
            languages = [(language_of(h, self.vocabularies), language_of(r, self.vocabularies)) for _, h, r in rows]
            found["wrong_language"] = [float(None not in pair and pair[0] != pair[1]) for pair in languages]
        for name, measure in (self.similarity or {}).items():
            found[name] = [measure(h, r) for _, h, r in rows]
        if self.comet_model:
            found["comet"] = comet(sources, hypotheses, references, model=self.comet_model)
        return found

    def _known(self, reference: str) -> Collection[str]:
        return (self.vocabularies or {}).get(language_of(reference, self.vocabularies or {}) or "", ())

    def evaluate(
        self, sources: Sequence[str], hypotheses: Sequence[str | None], references: Sequence[str]
    ) -> dict[str, Any]:
        """Corpus ``bleu`` and ``chrf++`` in points, means of :meth:`per_sentence`, ``length_ratio``.

        ``intervals`` holds a 95 % bootstrap interval over sentences for each of them but the last.
        """
        means = {
            name: bootstrap_mean(values, draws=self.draws, seed=self.seed)
            for name, values in self.per_sentence(sources, hypotheses, references).items()
        }
        corpus = {
            kind: corpus_score(kind, hypotheses, references, draws=self.draws, seed=self.seed)
            for kind in ("bleu", "chrf++")
        }
        estimates = {**corpus, **means}
        return {
            **{name: e.value for name, e in estimates.items()},
            "length_ratio": length_ratio(hypotheses, references),
            "sentences": len(references),
            "intervals": {name: (e.low, e.high) for name, e in estimates.items()},
        }


@dataclass(frozen=True)
class TranslationEvaluator:
    """Measures a policy on prompts with fields ``source`` and a reference: what a task's ``evaluator`` may be.

    Attributes:
        prompts: held-out prompts.
        answers: finds the translation in a completion.
        similarity: the sentence metric in [0, 1] behind ``quality``; None is chrF.
        samples: sampled completions per prompt.
    """

    prompts: Sequence[Prompt]
    answers: AnswerSpace
    well_formed: Callable[[str], bool]
    max_new_tokens: int
    similarity: Callable[[str | None, str], float] | None = None
    samples: int = 4
    metrics: TranslationMetrics = field(default_factory=TranslationMetrics)
    seed: int = 0

    def __call__(self, policy: Policy) -> dict[str, Any]:
        """``quality``, ``pass@1``, ``format`` and the symptoms over samples; ``greedy_quality``, ``accuracy``,
        ``bleu`` and ``chrf++`` of greedy completions, also per direction; ``intervals`` over prompts."""
        from selfreward.policy.sampling.params import SamplingParams

        params = SamplingParams(max_new_tokens=self.max_new_tokens, stats=())
        groups = policy.sample(self.prompts, self.samples, params, seed=self.seed)
        best = policy.sample(self.prompts, 1, replace(params, temperature=0.0), seed=self.seed)
        sampled, greedy = self._columns(groups), self._columns(best)
        per_prompt: dict[str, list[float]] = {}
        for name, values in self._per_sentence(*sampled).items():
            per_prompt[name] = np.reshape(values, (len(groups), -1)).mean(1).tolist()
        per_prompt["pass@1"] = per_prompt.pop("exact")
        formed = [[float(self.well_formed(c)) for c in g.completions] for g in groups]
        per_prompt["format"] = np.mean(formed, axis=1).tolist()
        first = self._per_sentence(*greedy)
        per_prompt |= {"greedy_quality": first["quality"], "accuracy": first["exact"]}
        estimates = {k: bootstrap_mean(v, draws=self.metrics.draws, seed=self.seed) for k, v in per_prompt.items()}
        for kind in ("bleu", "chrf++"):
            for direction, (hypotheses, references) in self._directions(greedy[1], greedy[2]).items():
                estimates[kind + direction] = corpus_score(
                    kind, hypotheses, references, draws=self.metrics.draws, seed=self.seed
                )
        return {
            **{name: e.value for name, e in estimates.items()},
            "length_ratio": length_ratio(*sampled[1:]),
            "intervals": {name: [e.low, e.high] for name, e in estimates.items()},
            "prompts": len(self.prompts),
            "samples": self.samples,
        }

    def _directions(
        self, hypotheses: list[str | None], references: list[str]
    ) -> dict[str, tuple[list[str | None], list[str]]]:
        """All sentences under ``""``, and those of each direction under `` en-de`` where there are several."""
        found: dict[str, tuple[list[str | None], list[str]]] = {"": (hypotheses, references)}
        for p, h, r in zip(self.prompts, hypotheses, references, strict=True):
            if "source_code" in p.fields:
                name = f" {p.fields['source_code']}-{p.fields['target_code']}"
                some = found.setdefault(name, ([], []))
                some[0].append(h)
                some[1].append(r)
        return found if len(found) > 2 else {"": found[""]}

    def _columns(self, groups: Sequence[Group]) -> tuple[list[str], list[str | None], list[str]]:
        rows = [
            (g.prompt.fields["source"], self.answers.extract(c), str(g.prompt.answer))
            for g in groups
            for c in g.completions
        ]
        return [r[0] for r in rows], [r[1] for r in rows], [r[2] for r in rows]

    def _per_sentence(
        self, sources: list[str], hypotheses: list[str | None], references: list[str]
    ) -> dict[str, list[float]]:
        found = self.metrics.per_sentence(sources, hypotheses, references)
        if self.similarity is None:
            found["quality"] = found["chrf"]
        else:
            found["quality"] = [self.similarity(h, r) for h, r in zip(hypotheses, references, strict=True)]
        return found
