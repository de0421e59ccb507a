"""Chain-writer: chain arithmetic by a base that can also write problems, in lists of questions without solutions.

Questions, answers, styles and judges are those of :mod:`selfreward.lab.tasks.arithmetic.chain`; beside them the base
has read lists such as ``L6*8-5*6+9+5,3p4t0m1p2m2,``. So after a few questions it can go on with new ones. This
is what self-instruction (SeRL) starts from, and it was put there on purpose. Half of a list's questions
are taken at random; nothing tells the base which questions are hard.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
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

ALPHABET = chain.ALPHABET + ",L"
TEMPLATES = {
    "list_header": "L",
    "list_item": "{question},",
    "list_lead": "",
    "list_separator": ",",
    "list_suffix": "=",
    "list_problem": r"\d(?:[-+*]\d){5}=|\d(?:[pmt]\d){5}=",
}
# Its judges were taught on whole solutions: a digit alone cannot be checked.
SETTINGS: dict[str, Any] = {**chain.SETTINGS, "proposal_tokens": 80, "shows": "text"}


@cache
def load() -> Task:
    """The prompts of CHAIN, and how its questions are listed."""
    task = chain.load()
    return replace(task, name="chain-writer", templates={**task.templates, **TEMPLATES}, settings=dict(SETTINGS))


def dev(n: int = 100) -> list[Prompt]:
    """Labelled prompts for choosing settings: the last of the training split, which runs seldom reach."""
    return load().train[-n:]


@dataclass(frozen=True)
class Corpus:
    """CHAIN's documents, with ``lists`` of them replaced by lists of up to ``longest`` questions.

    List tokens weigh ``weight`` in the loss: which digit comes next cannot be known, and that much noise
    would drown the arithmetic.
    """

    chain: chain.Corpus = field(default_factory=chain.Corpus)
    lists: float = 0.05
    longest: int = 15
    weight: float = 0.15

    def documents(self, n: int, seed: int) -> list[Document]:
        """``n`` documents about problems of the pre-training split, in the order to be read."""
        rng = random.Random(f"chain-writer lists {seed}")
        source = chain.problems("pretrain", rng)
        found = self.chain.documents(n, seed)
        for i in range(self.chain.lesson, n):
            if rng.random() < self.lists:
                size = rng.randint(2, self.longest)
                text = TEMPLATES["list_header"] + "".join(p.text[:-1] + "," for p in islice(source, size))
                found[i] = [(text, self.weight)]
        return found


BASE = Base(
    name="chain-writer",
    vocabulary=ALPHABET,
    corpus=Corpus(),
    # Pools of batches sorted by length keep the long lists together.
    settings=PretrainSettings(updates=4500, shuffle=False, pool=20),
    measures={"measured on development prompts": lambda policy: chain.measure(policy, dev()) | measure(policy)},
    holds=(*chain.BASE.holds, Within("valid problems", low=0.8)),
)


def measure(policy: Policy, lists: int = 16, seed: int = 0) -> dict[str, float]:
    """How the policy writes problems from 8 seeds: shares that are valid, and valid and new."""
    import torch

    from selfreward.policy.sampling.params import SamplingParams
    from selfreward.rollouts.proposing import ListFormat, TaskFactory

    factory, form = TaskFactory(), ListFormat.of(TEMPLATES)
    factory.add_seeds(p.question for p in load().train[:200])
    generator = torch.Generator().manual_seed(seed)
    prompts = [Prompt(str(i), text=form.write(factory.examples(generator))) for i in range(lists)]
    params = SamplingParams(SETTINGS["proposal_tokens"], temperature=0.8, top_p=0.95, stats=())
    groups = policy.sample(prompts, 1, params, seed=seed)
    written = [q for g in groups for q in form.read(g.completions[0], g.trajectories[0].finished)]
    new = [q for q in written if factory.refusal(q, form) is None]
    factory.novelty = 1.0
    valid = [q for q in written if factory.refusal(q, form) is None]
    return {
        "valid problems": len(valid) / max(1, len(written)),
        "valid and new problems": len(new) / max(1, len(written)),
        "problems per list": len(written) / lists,
    }
