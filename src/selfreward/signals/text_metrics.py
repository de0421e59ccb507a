"""Measuring translation: quality against references, and the ways in which a self-trained translator goes wrong.

Surface metrics are sacreBLEU's (BLEU and chrF++, as published papers report them). Beside quality stand
the symptoms of reward hacking that SSR-Zero shows late in training: quotation marks and tags around
the answer, words left untranslated, the wrong language, padding. Nothing here is a reward by itself,
and nothing calls a model except :func:`comet`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from selfreward.errors import ConfigError, DataError
from selfreward.statistics import Estimate

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


# ---- agreement of a group ------------------------------------------------------------------------


def mean_similarity(
    texts: Sequence[str | None], similarity: Callable[[Sequence[str], Sequence[str]], Sequence[float]]
) -> list[float]:
    """Mean similarity of each text to the others of its group, ``[G]``; 0 for a missing text.

    Minimum Bayes risk decoding (Kumar and Byrne 2004); with chrF a soft vote among translations.

    Example: with ``[x == y]`` as similarity, ``["a", "a", "b", None]`` gives ``[.5, .5, 0, 0]``.

    Args:
        similarity: maps two equally long lists to one value per pair, such as :func:`chrf`.
    """
    counts = Counter(text for text in texts if text)
    pairs = [(a, b) for a in counts for b in counts if a != b or counts[a] > 1]
    values = dict(zip(pairs, similarity([a for a, _ in pairs], [b for _, b in pairs]) if pairs else [], strict=True))
    others = counts.total() - 1
    means = {
        a: sum((k - (a == b)) * values[a, b] for b, k in counts.items() if (a, b) in values) / max(1, others)
        for a in counts
    }
    return [means[text] if text else 0.0 for text in texts]


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
