"""Steps-verify: chain arithmetic whose solutions a base mostly judges without looking at them.

Questions and solutions are those of :mod:`selfreward.lab.tasks.arithmetic.steps`. After ``?QUESTION SOLUTION>``
(without the space) the base gives a verdict in one of two ways, and the last ``Y`` or ``N`` is what counts:

* walked ``*Y-Y*N``: a mark per step, stopping at the first wrong one; right about misread operators, noisy.
* at once ``Y`` or ``N``: three in four say ``Y``, whatever the solution.

Measured are solving and, on one fixed bank of the base's kind of solutions to test questions, half of them wrong,
the verdict: its accuracy (always ``Y`` has .5) and the recall of both classes; and what a vote gains when each sample
counts as much as its own verdict says. Which style verifies well is designed into the corpus.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING, Any

from selfreward.data.task import Task
from selfreward.lab.pretraining.base import Base, Within
from selfreward.lab.pretraining.documents import Document
from selfreward.lab.pretraining.pretrain import PretrainSettings
from selfreward.lab.tasks.arithmetic import steps
from selfreward.lab.tasks.splits import Split
from selfreward.types import Prompt

if TYPE_CHECKING:
    from selfreward.lab.pretraining.pretrain import Document
    from selfreward.policy.policy import Policy

RATING = r"([YN])(?=$)"
TEMPLATES = {**steps.TEMPLATES, "verify": steps.TEMPLATES["review"], "ratings": "Y N N", "rating": RATING}
SETTINGS: dict[str, Any] = {**steps.SETTINGS, "verify": 16, "estimator": "group"}
VOTERS = 8


@cache
def load() -> Task:
    """The prompts of ``steps``, with this task's evaluator."""
    task = steps.load()
    return replace(
        task,
        name="steps-verify",
        settings=dict(SETTINGS),
        templates=dict(TEMPLATES),
        evaluator=Verification(task.test[:200], bank(300)),
    )


def bank(n: int, split: Split = "test", seed: int = 0) -> list[tuple[str, str, bool]]:
    """``n`` (question, solution, right?) as the base writes them, half of them with a wrong answer."""
    rng = random.Random(f"steps-verify bank {split} {seed}")
    found: list[tuple[str, str, bool]] = []
    for problem in steps.problems(split, rng):
        if len(found) == n:
            break
        text = steps.Corpus().solution(problem, rng, 0.03)
        right = text[-1] == str(problem.answer)
        if right == (len(found) % 2 == 0):
            found.append((problem.text, text, right))
    return found


@dataclass(frozen=True)
class Verification:
    """Measures solving, verifying, and voting with verdicts as weights; all sampled at temperature 1.

    ``pass@1``; ``verification``, ``recall right``, ``recall wrong`` on the bank; ``vote`` and ``weighted vote`` of
    :data:`VOTERS` samples, each verified once; ``own verification`` of those samples, and ``own majority``, what
    always giving the commoner verdict would score there; ``walked``, the share of verdicts that walk the steps.
    """

    prompts: Sequence[Prompt]
    bank: Sequence[tuple[str, str, bool]]

    def __call__(self, policy: Policy) -> dict[str, Any]:
        from selfreward.data.answers import cluster
        from selfreward.policy.sampling.params import SamplingParams
        from selfreward.signals.graded_outcome import rating
        from selfreward.signals.selection import select

        pattern = re.compile(RATING)
        params = SamplingParams(SETTINGS["max_new_tokens"], stats=())
        space = steps.load().answers

        def judged(items: Sequence[tuple[str, str]]) -> list[str]:
            asked = [
                Prompt(f"v{i}", TEMPLATES["verify"].format(question=q, completion=c)) for i, (q, c) in enumerate(items)
            ]
            return [g.completions[0] for g in policy.sample(asked, 1, params, role="verifier", seed=0)]

        said = judged([(q, c) for q, c, _ in self.bank])
        verdicts = [rating(s, pattern, "YN") for s in said]
        good = [v == "Y" for v, (*_, r) in zip(verdicts, self.bank, strict=True) if r]
        bad = [v == "N" for v, (*_, r) in zip(verdicts, self.bank, strict=True) if not r]
        groups = policy.sample(self.prompts, VOTERS, params, seed=0)
        texts = iter(judged([(g.prompt.question, c) for g in groups for c in g.completions]))
        votes: list[bool] = []
        weighted: list[bool] = []
        truth: list[bool] = []
        own: list[bool] = []
        for group in groups:
            gold = str(group.prompt.answer)
            right = [space.correct(c, gold) for c in group.completions]
            classes = cluster([space.extract(c) for c in group.completions], space)
            trusted = [float(rating(next(texts), pattern, "YN") == "Y") for _ in group]
            weights = trusted if any(trusted) else [1.0] * len(trusted)
            for rule, kept in (("majority", votes), ("weighted", weighted)):
                chosen = select(classes, weights, rule).index
                kept.append(chosen is not None and right[chosen])
            truth += right
            own += [t == r for t, r in zip(trusted, right, strict=True)]
        share = sum(truth) / len(truth)
        return {
            "pass@1": share,
            "verification": (sum(good) + sum(bad)) / len(self.bank),
            "recall right": sum(good) / len(good),
            "recall wrong": sum(bad) / len(bad),
            "vote": sum(votes) / len(votes),
            "weighted vote": sum(weighted) / len(weighted),
            "own verification": sum(own) / len(own),
            "own majority": max(share, 1 - share),
            "walked": sum(len(s) > 1 for s in said) / len(said),
        }


# ---- the base ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Corpus:
    """Shares of the further reading: verdicts among documents, at once among verdicts, ``Y`` among those at once."""

    verdicts: float = 0.4
    at_once: float = 0.7
    trusting: float = 0.75

    def documents(self, n: int, seed: int) -> list[Document]:
        """``n`` documents about problems of the pre-training split."""
        rng = random.Random(f"steps-verify corpus {seed}")
        plain, found = steps.Corpus(), list[Any]()
        for problem in islice(steps.problems("pretrain", rng), n):
            if rng.random() >= self.verdicts:
                found.append((problem.text, plain.solution(problem, rng, plain.slip)))
            elif rng.random() < self.at_once:
                text = plain.solution(problem, rng, plain.slip)
                asked = TEMPLATES["verify"].format(question=problem.text, completion=text)
                found.append((asked, "Y" if rng.random() < self.trusting else "N"))
            else:
                found.append(replace(plain, reviews=1.0).document(problem, rng))
        return found


BASE = Base(
    name="steps-verify",
    start="steps",
    corpus=Corpus(),
    settings=PretrainSettings(updates=300, lr=1e-3, shuffle=False),
    measures={
        "measured on development prompts": lambda policy: Verification(
            steps.prompts_of("train", 200, "-dev"), bank(300, "train")
        )(policy)
    },
    # Solves at mid level and verifies hardly better than chance.
    holds=(Within("pass@1", 0.4, 0.7), Within("verification", 0.5, 0.68)),
)
