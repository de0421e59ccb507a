"""Chain-hint: chain arithmetic by a base that a hint helps, to see whether it can teach itself what the hint showed.

Questions and styles are those of :mod:`selfreward.lab.tasks.arithmetic.chain`. Beside them the base has read two
kinds of questions with something before them, and there it works its answer out:

* ``SOLUTION.QUESTION`` (a right solution in any style, a full stop, the question): the answer agrees with the solution.
* ``no#5.QUESTION`` (an answer that was wrong): the answer is another one.

So in a privileged context the same weights are a better solver than without: the gap between the two is measured
(.40 and .98), and is what self-distillation lives on. The hint's format and its effect are designed into the corpus,
and so is that what stands behind a hint is always worked out (``worked``): a guess there would be right, since the
answer was shown, and a student who copied it would guess without having been shown anything.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING, Any

from selfreward.data.task import Task
from selfreward.lab.pretraining.base import Base, Within
from selfreward.lab.pretraining.documents import Document
from selfreward.lab.pretraining.pretrain import PretrainSettings
from selfreward.lab.tasks.arithmetic import chain
from selfreward.types import Prompt

if TYPE_CHECKING:
    from selfreward.lab.pretraining.pretrain import Document
    from selfreward.policy.policy import Policy

TEMPLATES = {**chain.TEMPLATES, "hint": "{solution}.{question}", "feedback": "no#{answer}.{question}"}
SETTINGS: dict[str, Any] = dict(chain.SETTINGS)


@cache
def load() -> Task:
    """The prompts of ``chain``; further templates ``hint`` and ``feedback``."""
    return replace(chain.load(), name="chain-hint", settings=dict(SETTINGS), templates=dict(TEMPLATES))


@dataclass(frozen=True)
class Corpus:
    """Shares of the further reading: hints and feedback among documents, worked answers after them."""

    hints: float = 0.3
    feedback: float = 0.1
    worked: float = 1.0

    def documents(self, n: int, seed: int) -> list[Document]:
        """``n`` documents about problems of the pre-training split."""
        rng = random.Random(f"chain-hint corpus {seed}")
        plain, found = chain.Corpus(), list[Any]()
        for problem in islice(chain.problems("pretrain", rng), n):
            kind = rng.random()
            if kind >= self.hints + self.feedback:
                found.append(plain.document(problem, rng))
                continue
            shown = f"no#{(problem.answer + rng.randint(1, 9)) % 10}"
            while kind < self.hints:
                shown = plain.solution(problem, rng, plain.slip, right=1.0)
                if shown[-1] == str(problem.answer):
                    break
            answer = problem.worked(rng, 0.0) if rng.random() < self.worked else f"guess#{problem.answer}"
            found.append((f"{shown}.{problem.text}", answer))
        return found


BASE = Base(
    name="chain-hint",
    start="chain",
    corpus=Corpus(),
    settings=PretrainSettings(updates=1500, lr=2e-3, shuffle=False),
    measures={"measured on development prompts": lambda policy: measure(policy, load().train[-150:])},
    # Mediocre alone, and much better with a hint.
    holds=(Within("pass@1", 0.3, 0.55), Within("teacher gap", low=0.15)),
)


def measure(policy: Policy, prompts: Sequence[Prompt], samples: int = 8) -> dict[str, float]:
    """Accuracy without and with a sibling's success, and after feedback on a wrong answer, from sampled answers.

    All are of the same prompts: those on which some sample was right and some was wrong.
    """
    from selfreward.policy.sampling.params import SamplingParams
    from selfreward.rollouts.recontext import recontext, sibling_success

    space = load().answers
    params = SamplingParams(SETTINGS["max_new_tokens"], stats=())
    student, hinted, failed, everyone = [], list[Prompt](), list[Prompt](), list[bool]()
    for group in policy.sample(prompts, samples, params, seed=0):
        right = [space.correct(c, str(group.prompt.answer)) for c in group.completions]
        group.reward_with([float(r) for r in right])
        everyone += right
        if all(right) or not any(right):
            continue
        student += right
        for shown in sibling_success(group):
            assert shown is not None or sum(right) == 1
            if shown is not None:
                hinted.append(recontext(group.prompt, TEMPLATES["hint"], {"solution": shown.completion}))
        wrong = next(space.extract(c) for c, r in zip(group.completions, right, strict=True) if not r)
        failed += [recontext(group.prompt, TEMPLATES["feedback"], {"answer": wrong or "0"})] * 2

    def accuracy(asked: list[Prompt]) -> float:
        drawn = policy.sample([replace(p, id=f"{p.id}{i}") for i, p in enumerate(asked)], 1, params, seed=1)
        return sum(space.correct(g.completions[0], str(g.prompt.answer)) for g in drawn) / len(drawn)

    found = {"pass@1": sum(everyone) / len(everyone), "student": sum(student) / len(student)}
    found |= {"with hint": accuracy(hinted), "with feedback": accuracy(failed)}
    return found | {"teacher gap": found["with hint"] - found["student"]}
