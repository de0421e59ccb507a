"""Pools of samples for proofs at test time: drawn once per seed, read by every arm."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from selfreward.runtime.files import write_text
from selfreward.types import Prompt

SIZES = (1, 2, 4, 8, 16, 32, 64)
# Disjoint subsets of the pool that are averaged at small N; more would cost time and tell little.
SUBSETS = 4
Choose = Callable[[Sequence[int | None], Sequence[float | None]], int | None]
"""``choose(classes [n], scores [n]) -> index`` of the sample that is answered with, or None."""


@dataclass
class Pool:
    """``N`` samples of each of ``P`` prompts: ``[P][N]`` lists, and one ``difficulty`` per prompt.

    ``classes``: answer class or None; ``right``: truth; ``length``: tokens; ``scores``: by name.
    """

    classes: list[list[int | None]]
    right: list[list[bool]]
    length: list[list[int]]
    scores: dict[str, list[list[float | None]]]
    difficulty: list[int]
    tokens: int = 0

    def curve(self, choose: Choose, score: str | None = None) -> dict[int, float]:
        """Accuracy of ``choose`` by ``n``, over disjoint subsets of each pool."""
        rows = self.scores[score] if score else [[None] * len(c) for c in self.classes]
        return {n: float(np.mean([self._at(i, n, choose, rows[i]) for i in range(len(rows))])) for n in SIZES}

    def _at(self, i: int, n: int, choose: Choose, scores: Sequence[float | None]) -> float:
        starts = range(0, len(scores) - n + 1, n)[:SUBSETS]
        chosen = [(s, choose(self.classes[i][s : s + n], scores[s : s + n])) for s in starts]
        return float(np.mean([at is not None and self.right[i][s + at] for s, at in chosen]))

    def permuted(self, score: str, seed: int) -> Pool:
        """The same pool with one score shuffled inside every prompt, and no other."""
        rng = random.Random(f"permuted {seed}")
        return replace(self, scores={score: [rng.sample(row, len(row)) for row in self.scores[score]]}, tokens=0)

    @staticmethod
    def flat(rows: Sequence[Sequence[Any]]) -> list[float]:
        """``[P * N]`` of ``[P][N]``."""
        return [float(v) for row in rows for v in row]


def draw(
    model: str,
    prompts: Sequence[Prompt],
    signals: Sequence[str],
    *,
    n: int = 64,
    temperature: float = 1.0,
    seed: int = 0,
    task: str = "",
) -> Pool:
    """Sample a pool and score it by the named signals (see :func:`selfreward.signals.named.score_groups`)."""
    from selfreward.lab.embedded import load_task
    from selfreward.policy.loading import load_policy
    from selfreward.policy.sampling.params import SamplingParams
    from selfreward.rollouts.run import RunContext
    from selfreward.signals.certainty import SEQUENCE_SCORES, needed_statistic
    from selfreward.signals.named import score_groups

    found = load_task(task or model.removeprefix("embedded:"))
    policy = load_policy(model, device="cpu")
    stats = tuple({needed_statistic(s): None for s in signals if s in SEQUENCE_SCORES})
    params = SamplingParams(found.settings["max_new_tokens"], temperature=temperature, stats=stats)
    groups = policy.sample(prompts, n, params, seed=seed)
    context = RunContext.of(found, policy=policy, sampling=params, seed=seed)
    return Pool(
        classes=[context.classes(g) for g in groups],
        right=[[found.answers.correct(c, str(g.prompt.answer)) for c in g.completions] for g in groups],
        length=[[len(t.last) for t in g] for g in groups],
        scores={name: score_groups(name, context, groups) for name in signals},
        difficulty=[int(g.prompt.fields.get("difficulty", 0)) for g in groups],
        tokens=sum(policy.counts.generated.values()),
    )


def kept(file: Path, make: Callable[[], Pool]) -> Pool:
    """The pool in ``file``, made on first use: every arm of a seed looks at the same samples."""
    if file.is_file():
        return Pool(**json.loads(file.read_text(encoding="utf-8")))
    pool = make()
    write_text(file, json.dumps(asdict(pool)))
    return pool
