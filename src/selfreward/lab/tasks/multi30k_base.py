"""The base model of :mod:`selfreward.lab.tasks.multi30k`, from scratch.

The base is a decoder of a few million parameters, trained from scratch on the first ``PAIRS`` pairs:

* ``SOURCE<2de>`` is continued by the translation, in both directions;
* ``SOURCE<2de>HYPOTHESIS<judge>`` is continued by one of eleven score tokens ``<0>`` ... ``<10>``: chrF of the
  hypothesis against the reference, in tenths.

The hypotheses of the judge documents are what two small *writers* say, each of which was trained on the
other half of the pairs, so that a hypothesis shows the errors of a model on sentences that it has not
seen; and edited, truncated and foreign references. The judge therefore knows nothing beyond the pairs
that the translator knows: whatever it adds comes from judging being easier than translating.
"""

from __future__ import annotations

import itertools
import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfreward.lab.tasks.multi30k import (
    LANGUAGES,
    LONGEST,
    PAIRS,
    SCORES,
    SETTINGS,
    TEMPLATES,
    prompt,
    read_corpus,
)
from selfreward.types import Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from selfreward.evaluation.translation import JudgeGate
    from selfreward.lab.pretraining.pretrain import Document, Pretrained
    from selfreward.policy.policy import Policy


def edited(words: Sequence[str], vocabulary: Sequence[str], edits: int, rng: random.Random) -> list[str]:
    """A sentence with ``edits`` random changes: drop, repeat, replace or insert a word, swap two, or cut off."""
    out = list(words)
    for _ in range(edits):
        if not out:
            break
        kind, i = rng.randrange(6), rng.randrange(len(out))
        if kind == 0:
            del out[i]
        elif kind == 1:
            out.insert(i, out[i])
        elif kind == 2:
            out[i] = rng.choice(vocabulary)
        elif kind == 3:
            out.insert(i, rng.choice(vocabulary))
        elif kind == 4 and i + 1 < len(out):
            out[i], out[i + 1] = out[i + 1], out[i]
        elif kind == 5 and len(out) > 3:
            out = out[: rng.randrange(len(out) // 2, len(out))]
    return out


@dataclass(frozen=True)
class Judged:
    """One judge document before it is tokens."""

    source: str
    target_code: str
    hypothesis: str
    score: int


def spoiled_references(
    pairs: Sequence[tuple[str, str]], languages: tuple[str, str], rng: random.Random, per_source: int
) -> Iterator[Judged]:
    """References with 0 to 4 edits, other sentences, and copies of the source, scored by chrF."""
    from selfreward.signals.text_metrics import chrf

    vocabulary = [[w for pair in pairs for w in pair[side].split()] for side in (0, 1)]
    for a, b in ((0, 1), (1, 0)):
        for pair in pairs:
            for _ in range(per_source):
                kind = rng.random()
                if kind < 0.08:
                    hypothesis = rng.choice(pairs)[b]
                elif kind < 0.11:
                    hypothesis = pair[a]
                else:
                    hypothesis = " ".join(edited(pair[b].split(), vocabulary[b], rng.randrange(5), rng))
                yield Judged(pair[a], languages[b], hypothesis, round(10 * chrf([hypothesis], [pair[b]])[0]))


def written(
    pairs: Sequence[tuple[str, str]],
    languages: tuple[str, str],
    tokenizer: PreTrainedTokenizerFast,
    seed: int,
    updates: int,
    temperatures: Sequence[float],
    on_step: Callable[[int, dict[str, float]], None] | None = None,
    device: str = "cpu",
) -> Iterator[Judged]:
    """What writers say about sentences that they were not trained on, scored by chrF.

    Two writers, one per half of the pairs; each says every sentence once per temperature.
    Every second hypothesis is begun by the reference, up to a random word, and finished by the writer:
    writers are weaker than the base will be, and without these the scores between theirs and those of the
    references would be missing.
    """
    from selfreward.lab.pretraining.pretrain import PretrainSettings, llama_config, pretrain
    from selfreward.policy.policy import Policy
    from selfreward.policy.sampling.params import SamplingParams
    from selfreward.signals.text_metrics import chrf

    halves = pairs[0::2], pairs[1::2]
    settings = PretrainSettings(updates=updates, batch=64, pool=20, lr=3e-3, warmup=60, seed=seed, device=device)
    config = llama_config(tokenizer, width=128, layers=3, heads=4, ff=320, positions=192)
    rng = random.Random(f"multi30k writers {seed}")
    params = [SamplingParams(max_new_tokens=LONGEST, temperature=t, stats=(), max_rows=512) for t in temperatures]
    for own, other in (halves, halves[::-1]):
        documents = translations(own, languages, tokenizer, source_weight=0.1)
        with tempfile.TemporaryDirectory() as folder:
            writer = pretrain(documents, tokenizer, config, settings, Path(folder) / "writer", on_step).model
        policy = Policy(writer, tokenizer)
        for (a, b), way in itertools.product(((0, 1), (1, 0)), params):
            prompts, heads = [], []
            for i, pair in enumerate(other):
                words = pair[b].split()
                heads.append(" ".join(words[: rng.randrange(len(words))]) if i % 2 and words else "")
                plain = prompt(str(i), pair[a], pair[b], languages[a], languages[b])
                prompts.append(replace(plain, text=f"{plain.text}{heads[-1]}"))
            groups = policy.sample(prompts, 1, way, seed=seed)
            hypotheses = [h + g.completions[0] for h, g in zip(heads, groups, strict=True)]
            scores = chrf(hypotheses, [str(p.answer) for p in prompts])
            for p, hypothesis, score in zip(prompts, hypotheses, scores, strict=True):
                yield Judged(p.fields["source"], languages[b], hypothesis, round(10 * score))


def translations(
    pairs: Sequence[tuple[str, str]],
    languages: tuple[str, str],
    tokenizer: PreTrainedTokenizerFast,
    source_weight: float,
) -> list[Document]:
    """``SOURCE<2xx>TARGET<eos>`` in both directions, sources weighted by ``source_weight``."""
    documents: list[Document] = []
    for a, b in ((0, 1), (1, 0)):
        heads = tokenizer([f"{pair[a]}<2{languages[b]}>" for pair in pairs])["input_ids"]
        tails = tokenizer([pair[b] for pair in pairs])["input_ids"]
        for head, tail in zip(heads, tails, strict=True):
            if max(len(head), len(tail)) <= LONGEST:
                ids = [*head, *tail, tokenizer.eos_token_id]
                documents.append((ids, [source_weight] * (len(head) - 1) + [0.0] + [1.0] * (len(tail) + 1)))
    return documents


def judgements(items: Sequence[Judged], tokenizer: PreTrainedTokenizerFast, score_weight: float) -> list[Document]:
    """``SOURCE<2xx>HYPOTHESIS<judge><score>``, only the score counts: what is judged is not to be imitated."""
    texts = [
        TEMPLATES["judge"].format(source=j.source, target_code=j.target_code, hypothesis=j.hypothesis) + SCORES[j.score]
        for j in items
    ]
    documents: list[Document] = []
    for ids in tokenizer(texts)["input_ids"] if texts else ():
        if len(ids) <= 2 * LONGEST:
            documents.append((ids, [0.0] * (len(ids) - 1) + [score_weight]))
    return documents


# ---- the base ------------------------------------------------------------------------------------


def build(
    out: str | Path,
    folder: str | Path,
    languages: tuple[str, str] = LANGUAGES,
    seed: int = 0,
    on_step: Callable[[int, dict[str, float]], None] | None = None,
    *,
    pairs: int = PAIRS,
    vocabulary: int = 4000,
    width: int = 192,
    layers: int = 3,
    writer_updates: int = 400,
    writer_temperatures: Sequence[float] = (1.0,),
    spoiled_per_source: int = 1,
    translation_copies: int = 2,
    score_weight: float = 3.0,
    **settings: Any,
) -> Pretrained:
    """Pre-train a base into ``out`` from the first ``pairs`` pairs of ``folder/train.*``.

    Args:
        writer_updates: training steps of each of the two writers; 0 leaves their documents out.
        writer_temperatures: the writers say every sentence once at each of these.
        spoiled_per_source: judge documents from references, per sentence and direction.
        translation_copies: how often a translation document stands in the mixture for each judge document
            of its kind.
        score_weight: loss weight of the one score token, against 1 for each translation token.
        settings: changes to the :class:`~selfreward.lab.pretraining.pretrain.PretrainSettings`.
    """
    from selfreward.lab.pretraining.pretrain import PretrainSettings, llama_config, pretrain
    from selfreward.lab.pretraining.tokenizers import bpe_tokenizer

    standard = PretrainSettings(
        updates=2500, batch=64, pool=20, lr=3e-3, warmup=150, label_smoothing=0.1, bf16=True, weights="float16"
    )
    chosen = standard.updated(**{"seed": seed, **settings})
    known = read_corpus(folder, languages, ("train",)).pairs["train"][:pairs]
    specials = [*(f"<2{code}>" for code in languages), "<judge>", *SCORES]
    tokenizer = bpe_tokenizer((side for pair in known for side in pair), vocabulary, specials)
    rng = random.Random(f"multi30k {seed}")
    judged = list(spoiled_references(known, languages, rng, spoiled_per_source))
    if writer_updates:
        judged += written(
            known, languages, tokenizer, seed, writer_updates, writer_temperatures, on_step, chosen.device
        )
    documents = translations(known, languages, tokenizer, source_weight=0.1) * translation_copies
    documents += judgements(judged, tokenizer, score_weight)
    config = llama_config(tokenizer, width=width, layers=layers, heads=4, ff=width * 5 // 2, positions=192)
    return pretrain(documents, tokenizer, config, chosen, out, on_step)


# ---- what a base is like -------------------------------------------------------------------------


def measure(
    policy: Policy, prompts: Sequence[Prompt], samples: int = 8, seed: int = 0, judge: Policy | None = None
) -> JudgeGate:
    """The gate before training: expected scores of sampled translations against their chrF.

    ``judge`` is the policy itself unless given.
    """
    from selfreward.evaluation.translation import judge_gate
    from selfreward.policy.sampling.params import SamplingParams
    from selfreward.signals.judge import expected_score
    from selfreward.signals.text_metrics import chrf

    params = SamplingParams(max_new_tokens=SETTINGS["max_new_tokens"], stats=())
    groups = policy.sample(prompts, samples, params, seed=seed)
    asked = [TEMPLATES["judge"].format(**{**g.prompt.fields, "hypothesis": c}) for g in groups for c in g.completions]
    choice = (judge or policy).choose(asked, SCORES)
    scores = expected_score(choice.probs, [k / 10 for k in range(11)]).view(len(groups), samples)
    truths = [chrf(g.completions, [str(g.prompt.answer)] * samples) for g in groups]
    return judge_gate(scores.tolist(), truths, seed=seed)
