"""The base models of :mod:`selfreward.lab.tasks.language.trans`: how they are made, and what they are like."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfreward.errors import ConfigError, nearest
from selfreward.lab.bases import HOME, shipped
from selfreward.lab.tasks.language.trans.languages import (
    MARKS,
    SCORES,
    SETTINGS,
    WORDS,
    Answer,
    judge_prompt,
    quality,
    well_formed,
)
from selfreward.lab.tasks.language.trans.text import Corpus
from selfreward.types import Prompt

if TYPE_CHECKING:
    from selfreward.evaluation.translation import JudgeGate
    from selfreward.lab.pretraining.pretrain import Pretrained
    from selfreward.policy.policy import Policy


UPDATES = 7000


@dataclass(frozen=True)
class Variant:
    """A base of this task: what it reads, its size, and its pre-training seed."""

    corpus: Corpus = field(default_factory=Corpus)
    width: int = 64
    layers: int = 2
    seed: int = 0


VARIANTS = {
    "trans": Variant(),
    "trans-weak-judge": Variant(Corpus(judged=0.06, own_errors=False)),
    "trans-other": Variant(seed=1),
    "trans-large": Variant(width=96, layers=2, seed=2),
    "trans-metric": Variant(Corpus(judged=1.0, mono=0.0), seed=3),
}
"""The base, one with a judge that has read little, the two external judges (of another pre-training
seed, and of twice the size), and a metric that has read judgements only."""


def build(
    out: str | Path,
    seed: int = 0,
    on_step: Callable[[int, dict[str, float]], None] | None = None,
    variant: str = "trans",
    **settings: Any,
) -> Pretrained:
    """Pre-train one of :data:`VARIANTS` into ``out``; ``seed`` is added to its own."""
    from selfreward.lab.pretraining.pretrain import PretrainSettings, llama_config, pretrain
    from selfreward.lab.pretraining.tokenizers import word_tokenizer

    if variant not in VARIANTS:
        raise ConfigError(f"Task trans has no base {variant!r}.{nearest(variant, VARIANTS)}")
    made = VARIANTS[variant]
    chosen = PretrainSettings(updates=UPDATES, seed=made.seed + seed).updated(**settings)
    tokenizer = word_tokenizer([*MARKS, *WORDS["s"], *WORDS["t"]])
    documents = made.corpus.documents(min(120_000, chosen.updates * chosen.batch), chosen.seed)
    config = llama_config(tokenizer, width=made.width, layers=made.layers, ff=made.width * 5 // 2, positions=128)
    return pretrain(documents, tokenizer, config, chosen, out, on_step)


def base_folder(name: str, seed: int = 0, on_step: Callable[[int, dict[str, float]], None] | None = None) -> Path:
    """The folder of base ``name``: shipped with the package, or built on first use (minutes) and kept.

    Built bases lie in ``$SELFREWARD_CACHE``, else ``~/.cache/selfreward``, under a name that changes with
    whatever they are made from.
    """
    if name not in VARIANTS:
        raise ConfigError(f"Task trans has no base {name!r}.{nearest(name, VARIANTS)}")
    if seed == 0 and name in shipped():
        return HOME / name
    made = hashlib.sha256(f"{VARIANTS[name]} {seed} {UPDATES}".encode()).hexdigest()[:8]
    home = Path(os.environ.get("SELFREWARD_CACHE") or Path.home() / ".cache" / "selfreward")
    folder = home / "bases" / f"{name}-{made}"
    if not (folder / "config.json").is_file():
        folder.parent.mkdir(parents=True, exist_ok=True)
        build(folder, seed, on_step, name)
    return folder


# ---- what a base is like -------------------------------------------------------------------------


def self_scores(policy: Policy, sources: Sequence[str], hypotheses: Sequence[str | None]) -> list[float]:
    """Expected score in [0, 1] that ``policy`` gives each hypothesis; 0 for a missing one."""
    from selfreward.signals.judge import expected_score

    asked = [i for i, h in enumerate(hypotheses) if h]
    scores = [0.0] * len(hypotheses)
    choice = policy.choose([judge_prompt(sources[i], str(hypotheses[i])) for i in asked], SCORES)
    for i, value in zip(asked, expected_score(choice.probs, [k / 10 for k in range(11)]).tolist(), strict=True):
        scores[i] = value
    return scores


@dataclass(frozen=True)
class Measured:
    """What :func:`measure` found: true quality of greedy and sampled completions, format, and the judge's gate."""

    greedy_quality: float
    quality: float
    exact: float
    format: float
    gate: JudgeGate


def measure(
    policy: Policy, prompts: Sequence[Prompt], samples: int = 8, seed: int = 0, judge: Policy | None = None
) -> Measured:
    """Look at a base before any training; ``judge`` is the policy itself unless given.

    The gate looks at completions that have an answer: the others are sorted out by a rule, and would
    make the judge look better than it is.
    """
    from selfreward.evaluation.translation import judge_gate
    from selfreward.policy.sampling.params import SamplingParams

    params = SamplingParams(max_new_tokens=SETTINGS["max_new_tokens"], stats=())
    groups = policy.sample(prompts, samples, params, seed=seed)
    best = policy.sample(prompts, 1, replace(params, temperature=0.0), seed=seed)
    space = Answer()
    truths = [[quality(c, str(g.prompt.answer)) for c in g.completions] for g in groups]
    found = [[space.extract(c) for c in g.completions] for g in groups]
    flat = self_scores(
        judge or policy,
        [g.prompt.fields["source"] for g in groups for _ in g],
        [h for row in found for h in row],
    )
    scores = [flat[i * samples : (i + 1) * samples] for i in range(len(groups))]
    kept = [[i for i, h in enumerate(row) if h] for row in found]
    n = len(groups) * samples
    return Measured(
        greedy_quality=sum(quality(g.completions[0], str(g.prompt.answer)) for g in best) / len(best),
        quality=sum(map(sum, truths)) / n,
        exact=sum(q == 1 for row in truths for q in row) / n,
        format=sum(well_formed(c) for g in groups for c in g.completions) / n,
        gate=judge_gate(
            [[row[i] for i in k] for row, k in zip(scores, kept, strict=True) if len(k) > 1],
            [[row[i] for i in k] for row, k in zip(truths, kept, strict=True) if len(k) > 1],
            seed=seed,
        ),
    )
