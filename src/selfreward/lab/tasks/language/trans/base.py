"""The base models of :mod:`selfreward.lab.tasks.language.trans`: how they are made, and what they are like."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from selfreward.errors import ConfigError, nearest
from selfreward.lab.bases import HOME, shipped
from selfreward.lab.pretraining.base import Base
from selfreward.lab.pretraining.pretrain import OnStep, PretrainSettings
from selfreward.lab.tasks.language.trans.languages import (
    SCORES,
    SETTINGS,
    TOKENS,
    Answer,
    judge_prompt,
    quality,
    well_formed,
)
from selfreward.lab.tasks.language.trans.text import Corpus
from selfreward.types import Prompt

if TYPE_CHECKING:
    from selfreward.evaluation.translation import JudgeGate
    from selfreward.policy.policy import Policy

UPDATES = 7000


def _base(name: str, corpus: Corpus | None = None, width: int = 64, seed: int = 0) -> Base:
    return Base(
        name=name,
        vocabulary=TOKENS,
        corpus=corpus or Corpus(),
        settings=PretrainSettings(updates=UPDATES),
        shape={"width": width, "ff": width * 5 // 2, "positions": 128},
        seed=seed,
    )


BASES = {
    base.name: base
    for base in (
        _base("trans"),
        _base("trans-weak-judge", Corpus(judged=0.06, own_errors=False)),
        _base("trans-other", seed=1),
        _base("trans-large", width=96, seed=2),
        _base("trans-metric", Corpus(judged=1.0, mono=0.0), seed=3),
    )
}
"""The base, one with a judge that has read little, the two external judges (of another pre-training
seed, and of twice the size), and a metric that has read judgements only."""


def base_folder(name: str, seed: int = 0, on_step: OnStep | None = None) -> Path:
    """The folder of base ``name``: shipped with the package, or built on first use (minutes) and kept.

    Built bases lie in ``$SELFREWARD_CACHE``, else ``~/.cache/selfreward``, under a name that changes with
    whatever they are made from.
    """
    if name not in BASES:
        raise ConfigError(f"Task trans has no base {name!r}.{nearest(name, BASES)}")
    if seed == 0 and name in shipped():
        return HOME / name
    base = BASES[name]
    made = hashlib.sha256(f"{base.corpus} {base.settings} {base.shape} {base.seed + seed}".encode()).hexdigest()[:8]
    home = Path(os.environ.get("SELFREWARD_CACHE") or Path.home() / ".cache" / "selfreward")
    folder = home / "bases" / f"{name}-{made}"
    if not (folder / "config.json").is_file():
        base.build(folder, seed, on_step)
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
