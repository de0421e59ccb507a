"""Chain-reserved: chain arithmetic by a base with a token that no text uses, for methods that read a score off it.

Questions, styles and settings are those of :mod:`selfreward.lab.tasks.arithmetic.chain`, and the base is CHAIN's own
after some more reading, which differs in two ways that make it more like a large model. The vocabulary holds
``<reserved>``, which no document contains. And every document is followed by the first token of another one,
as in packed pre-training text, so that what comes after an end-of-sequence token is learnt and the same
everywhere; without this the probability of an unused token there would be noise. There are no judges in
this second corpus.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from selfreward.data.task import Task
from selfreward.lab.pretraining.base import Base, Within
from selfreward.lab.pretraining.documents import Document, Part
from selfreward.lab.pretraining.pretrain import PretrainSettings
from selfreward.lab.pretraining.tokenizers import EOS
from selfreward.lab.tasks.arithmetic import chain
from selfreward.lab.tasks.splits import Split
from selfreward.types import Prompt

if TYPE_CHECKING:
    from selfreward.lab.pretraining.pretrain import Document
    from selfreward.policy.policy import Policy

RESERVED, UNUSED = "<reserved>", "z"


@cache
def load() -> Task:
    """CHAIN's training prompts without its judges, and 400 test prompts of its own (see :func:`unseen`)."""
    return replace(chain.load(), name="chain-reserved", templates={}, test=unseen(400))


def unseen(n: int) -> list[Prompt]:
    """``n`` problems of the test split that are not among CHAIN's own test prompts.

    The settings of a proof on this base were once changed after its results on those had been seen.
    """
    return _others("test", n, "chain reserved test", "chain-reserved-test")


def development(n: int) -> list[Prompt]:
    """``n`` prompts of the training split that training does not use."""
    return _others("train", n, "chain development", "chain-dev")


def _others(split: Split, n: int, stream: str, name: str) -> list[Prompt]:
    """``n`` problems of a split without those that CHAIN takes from it."""
    task = chain.load()
    used = {chain.Problem.parse(p.question).key for p in [*task.train, *task.test]}
    found: dict[str, Prompt] = {}
    for problem in chain.problems(split, random.Random(stream)):
        if len(found) == n:
            break
        if problem.key not in used:
            fields = {"twin": problem.twin().text}
            answer = str(problem.answer)
            found.setdefault(problem.key, Prompt(f"{name}-{len(found)}", problem.text, fields=fields, reference=answer))
    return list(found.values())


def packed(pairs: Sequence[Any]) -> list[Document]:
    """Each (prompt, completion) pair with the first character of the next one behind its end."""
    found: list[Document] = []
    for (prompt, completion), following in zip(pairs, [*pairs[1:], *pairs[:1]], strict=True):
        parts: list[Part] = [(prompt, None), (completion + EOS, 1.0), (following[0][0], None)]
        found.append(parts)
    return found


@dataclass(frozen=True)
class Corpus(chain.Corpus):
    """CHAIN's text, packed: the first token of the next document stands after the end of every one."""

    def documents(self, n: int, seed: int) -> list[Document]:
        return packed(super().documents(n, seed))


BASE = Base(
    name="chain-reserved",
    start="chain",
    added={RESERVED: UNUSED},
    corpus=Corpus(careful=0.0, naive=0.0, lesson=0),
    settings=PretrainSettings(updates=400, lr=1e-3, warmup=20, shuffle=False),
    measures={"measured on development prompts": lambda policy: measure(policy, development(60))},
    # Mediocre alone, right when it works, and the reserved token nearly constant after the end.
    holds=(Within("pass@1", 0.3, 0.5), Within("worked accuracy", low=0.8), Within("reserved std", high=1.0)),
)


def measure(policy: Policy, prompts: Sequence[Prompt], seed: int = 0) -> dict[str, float]:
    """What :data:`BASE` must have, from 16 samples of each prompt at temperature 1."""
    import torch

    from selfreward.policy.sampling.params import SamplingParams

    space = chain.load().answers
    params = SamplingParams(max_new_tokens=chain.SETTINGS["max_new_tokens"], stats=())
    token = policy.tokenizer(RESERVED, add_special_tokens=False)["input_ids"][0]
    right: list[bool] = []
    worked: list[bool] = []
    ended = []
    for group in policy.sample(prompts, 16, params, seed=seed):
        for trajectory in group:
            ok = space.correct(trajectory.completion, str(group.prompt.answer))
            right.append(ok)
            if trajectory.completion.startswith("w"):
                worked.append(ok)
            if trajectory.finished:
                ended.append(torch.cat([trajectory.tokens, torch.tensor([token])]))
    scored = policy.score(ended[:800], [len(s) - 1 for s in ended[:800]])
    reserved = torch.cat([s["logprob"] for s in scored])
    return {
        "pass@1": sum(right) / len(right),
        "worked share": len(worked) / len(right),
        "worked accuracy": sum(worked) / max(1, len(worked)),
        "reserved logprob": float(reserved.mean()),
        "reserved std": float(reserved.std()),
    }
