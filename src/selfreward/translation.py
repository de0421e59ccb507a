"""Measuring translation: quality against references, and the ways in which a self-trained translator goes wrong.

Surface metrics are sacreBLEU's (BLEU and chrF++, as published papers report them). Beside quality stand
the symptoms of reward hacking that SSR-Zero shows late in training: quotation marks and tags around
the answer, words left untranslated, the wrong language, padding. Nothing here is a reward by itself,
and nothing calls a model except :func:`comet`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from selfreward.errors import ConfigError, DataError
from selfreward.statistics import Estimate, bootstrap_mean, within_group_accuracy

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from selfreward.answers import AnswerSpace
    from selfreward.policy import Policy
    from selfreward.types import Group, Prompt

_WORD = re.compile(r"[^\W\d_]+", re.UNICODE)
_STRAY = re.compile(r"</?\w[\w-]*\s*/?>|[\"“”„«»‹›`´{}\[\]<>|*#~^\\_=]")


# ---- metrics of sacreBLEU ------------------------------------------------------------------------


def _sacrebleu() -> Any:
    try:
        import sacrebleu
    except ImportError:
        raise ConfigError("Translation metrics need an extra: pip install 'selfreward[translation]'.") from None
    return sacrebleu


@cache
def _metric(kind: str) -> Any:
    metrics = _sacrebleu().metrics
    if kind == "bleu":
        return metrics.BLEU()
    if kind == "sentence-bleu":
        return metrics.BLEU(effective_order=True)
    return metrics.CHRF(word_order=2 if kind == "chrf++" else 0)


def chrf(hypotheses: Sequence[str | None], references: Sequence[str], *, words: int = 0) -> list[float]:
    """Sentence chrF in [0, 1] of each hypothesis (Popović 2015); ``words=2`` is chrF++. A missing one has 0."""
    _aligned(hypotheses=hypotheses, references=references)
    metric = _metric("chrf++" if words else "chrf")
    return [
        metric.sentence_score(h, [r]).score / 100 if h else 0.0 for h, r in zip(hypotheses, references, strict=True)
    ]


def sentence_bleu(hypotheses: Sequence[str | None], references: Sequence[str]) -> list[float]:
    """Sentence BLEU in [0, 1] with exponential smoothing and effective order. A missing hypothesis has 0."""
    _aligned(hypotheses=hypotheses, references=references)
    metric = _metric("sentence-bleu")
    return [
        metric.sentence_score(h, [r]).score / 100 if h else 0.0 for h, r in zip(hypotheses, references, strict=True)
    ]


def corpus_score(
    kind: str, hypotheses: Sequence[str | None], references: Sequence[str], *, draws: int = 1000, seed: int = 0
) -> Estimate:
    """Corpus ``"bleu"``, ``"chrf"`` or ``"chrf++"`` in points (0 to 100), with a bootstrap over sentences.

    The statistics of every sentence are counted once; a draw adds up those of the sentences it holds
    (Koehn 2004, as in sacreBLEU's own intervals).
    """
    _aligned(hypotheses=hypotheses, references=references)
    if not references:
        return Estimate(float("nan"), float("nan"), float("nan"))
    metric = _metric(kind)
    counts = np.array(metric._extract_corpus_statistics([h or "" for h in hypotheses], [list(references)]))
    value = metric._aggregate_and_compute(counts.tolist()).score
    rng = np.random.default_rng(seed)
    picks = rng.integers(0, len(counts), size=(draws, len(counts)))
    scores = [metric._compute_score_from_stats(counts[p].sum(0).tolist()).score for p in picks]
    low, high = np.percentile(scores, [2.5, 97.5]) if draws else (float("nan"), float("nan"))
    return Estimate(float(value), float(low), float(high))


def _aligned(**columns: Sequence[Any]) -> None:
    sizes = {name: len(values) for name, values in columns.items()}
    if len(set(sizes.values())) > 1:
        counts = ", ".join(f"{n} {name}" for name, n in sizes.items())
        raise DataError(f"Translation metrics need one of each per sentence, but there are {counts}.")


# ---- symptoms ------------------------------------------------------------------------------------


def edit_distance(a: Sequence[Any], b: Sequence[Any]) -> int:
    """Levenshtein distance between two sequences (of tokens, usually)."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        above, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (x != y))
    return row[-1]


def edit_similarity(hypothesis: str | None, reference: str) -> float:
    """1 minus the word edit distance over the longer length; 1 for equal texts, 0 for no words."""
    h, r = (hypothesis or "").split(), reference.split()
    return 1 - edit_distance(h, r) / max(len(h), len(r)) if h else 0.0


def length_ratio(hypotheses: Sequence[str | None], references: Sequence[str]) -> float:
    """Words of all hypotheses per word of all references."""
    written = sum(len((h or "").split()) for h in hypotheses)
    return written / max(1, sum(len(r.split()) for r in references))


def has_stray_symbols(hypothesis: str | None, source: str) -> bool:
    """Whether quotes, tags, brackets or markup stand in the hypothesis more often than in the source.

    The late failure of SSR-Zero: translations wrapped in quotation marks that nobody asked for.
    """
    return len(_STRAY.findall(hypothesis or "")) > len(_STRAY.findall(source))


def words_of(text: str) -> list[str]:
    """Words without digits and punctuation, in lower case."""
    return [w.lower() for w in _WORD.findall(text)]


def untranslated_share(hypothesis: str | None, source: str, known: Collection[str]) -> float:
    """Share of the hypothesis' words that are copied from the source although they are not in ``known``.

    Args:
        known: words that a right translation may contain: the target vocabulary, or the words of the
            reference. A name that the reference keeps is no fault.
    """
    words = words_of(hypothesis or "")
    copied = set(words_of(source)) - set(known)
    return sum(w in copied for w in words) / len(words) if words else 0.0


def language_of(text: str | None, vocabularies: Mapping[str, Collection[str]]) -> str | None:
    """The language that most words of ``text`` belong to, None on a tie.

    Only words that one vocabulary has and the others have not are counted.
    """
    words = words_of(text or "")
    votes: dict[str, int] = {}
    for word in words:
        homes = [name for name, known in vocabularies.items() if word in known]
        if len(homes) == 1:
            votes[homes[0]] = votes.get(homes[0], 0) + 1
    best = sorted(votes, key=lambda name: -votes[name])[:2]
    return None if not best or (len(best) == 2 and votes[best[0]] == votes[best[1]]) else best[0]


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


# ---- a learned metric ----------------------------------------------------------------------------


def comet(
    sources: Sequence[str],
    hypotheses: Sequence[str | None],
    references: Sequence[str] | None = None,
    *,
    model: str = "Unbabel/wmt22-comet-da",
    batch_size: int = 32,
    device: str = "cpu",
) -> list[float]:
    """COMET score of each sentence, near [0, 1] for the current models.

    Args:
        references: None for the reference-free models (``Unbabel/wmt22-cometkiwi-da``).
        model: checkpoint name or a local ``.ckpt`` file; a name is downloaded on first use.
    """
    _aligned(sources=sources, hypotheses=hypotheses, **({"references": references} if references else {}))
    predictor = _comet_model(model)
    rows = [{"src": s, "mt": h or ""} for s, h in zip(sources, hypotheses, strict=True)]
    if references:
        rows = [{**row, "ref": r} for row, r in zip(rows, references, strict=True)]
    gpus = 0 if device == "cpu" else 1
    return [float(x) for x in predictor.predict(rows, batch_size=batch_size, gpus=gpus, progress_bar=False).scores]


@cache
def _comet_model(model: str) -> Any:
    try:
        from comet import download_model, load_from_checkpoint
    except ImportError:
        raise ConfigError("The COMET metric needs an extra: pip install 'selfreward[comet]'.") from None
    return load_from_checkpoint(model if model.endswith(".ckpt") else download_model(model))


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
        from selfreward.sampling import SamplingParams

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
