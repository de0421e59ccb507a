"""Chat: a sum, an answer, and what the user says next, by which the answer can be told right or wrong.

The sums are those of :mod:`selfreward.lab.tasks.arithmetic.chain`. The base answers in one of three styles:

* worked ``w6m8*3+8p7p2#2`` (half of the answers): every operator, in either spelling at random, with the running value
  after it. Right except for slips. The free choice of spelling makes these answers *unlikely* without making them
  wrong, as freedom of expression does in real text;
* easy ``easy#5``: repeats the last digit of the question, word for word always the same and so very likely. Right
  once in ten;
* guess ``guess#2``: right once in ten.

So about half of the answers are right, and how likely an answer is says little about it.

After ``QUESTION ANSWER~`` (without the space) the user speaks: one of the positive follow-ups with probability 0.75
if the answer is right and 0.25 if it is wrong, else one of the negative ones. A tiny model has no idea of
users, so what FLR assumes has to be in the corpus; the size of the effect is put in, too. Of the fifteen follow-ups
of each kind ten are the bank, five are held out to see whether the score depends on its wording.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from selfreward.data.task import Task
from selfreward.lab.pretraining.base import Base, Within
from selfreward.lab.pretraining.documents import Document, curriculum
from selfreward.lab.pretraining.pretrain import PretrainSettings
from selfreward.lab.tasks.arithmetic.chain import Problem, apply, problems
from selfreward.lab.tasks.splits import Split, as_prompts, first_distinct
from selfreward.types import Prompt

if TYPE_CHECKING:
    from selfreward.lab.pretraining.pretrain import Document
    from selfreward.policy.policy import Policy

POSITIVE = (
    "thank you",
    "great",
    "yes",
    "well done",
    "i agree",
    "perfect",
    "good job",
    "that is it",
    "very nice",
    "lovely",
    "exactly",
    "so clear",
    "you got it",
    "much obliged",
    "fine work",
)
NEGATIVE = (
    "no",
    "that is off",
    "wrong",
    "check again",
    "i doubt it",
    "bad answer",
    "try once more",
    "not at all",
    "how come",
    "you slipped",
    "sorry but no",
    "false",
    "look closer",
    "useless",
    "please redo",
)
BANKED = 10
ALPHABET = "0123456789+-*=#~ " + "abcdefghijklmnopqrstuvwxyz"
TEMPLATES = {
    "followup": "{question}{response}~",
    "followups": json.dumps({"correctness": [POSITIVE[:BANKED], NEGATIVE[:BANKED]]}),
}
SETTINGS: dict[str, Any] = {
    "lr": 6e-4,
    "adam_eps": 1e-4,
    "kl": 0.0,
    "steps": 15,
    "prompts_per_step": 16,
    "group_size": 8,
    "max_new_tokens": 20,
}
_OTHER = str.maketrans("+-*pmt", "pmt+-*")


def well_formed(completion: str) -> bool:
    """Whether a completion is one of the three styles, whatever its numbers."""
    return style(completion) is not None


def style(completion: str) -> str | None:
    """``"worked"``, ``"easy"`` or ``"guess"``; None for a malformed completion."""
    head, _, answer = completion.partition("#")
    if len(answer) != 1 or not answer.isdigit():
        return None
    if head in ("easy", "guess"):
        return head
    steps = head[1:]
    numbers, operators = steps[::2], steps[1::2]
    fine = head[:1] == "w" and len(steps) > 2 and len(steps) % 2 == 1
    return "worked" if fine and numbers.isdigit() and not set(operators) - set("+-*pmt") else None


def worked(problem: Problem, rng: random.Random, slip: float) -> str:
    """A worked answer; each step is off with probability ``slip``, and what follows builds on it."""
    value = problem.digits[0]
    steps = str(value)
    for op, digit in zip(problem.ops, problem.digits[1:], strict=True):
        value = apply(value, op, digit)
        if rng.random() < slip:
            value = (value + rng.randint(1, 9)) % 10
        steps += f"{op.translate(_OTHER) if rng.random() < 0.5 else op}{value}"
    return f"w{steps}#{value}"


# ---- the task ------------------------------------------------------------------------------------


@cache
def load() -> Task:
    """2000 training and 400 test prompts; the follow-ups are in the templates."""
    from selfreward.data.answers import Regex

    return Task(
        name="chat",
        train=_prompts("train", 2000),
        test=_prompts("test", 400),
        answers=Regex(r"#(\d)"),
        well_formed=well_formed,
        settings=dict(SETTINGS),
        templates=dict(TEMPLATES),
    )


def _prompts(split: Split, n: int, skip: int = 0) -> list[Prompt]:
    found = first_distinct(problems(split, random.Random(f"chat {split}")), n + skip, lambda p: p.key)
    return as_prompts(found, n + skip, f"chat-{split}-")[skip:]


def dev_prompts(n: int = 200) -> list[Prompt]:
    """Prompts of the training split that no run trains on."""
    return _prompts("train", n, skip=2000)


# ---- the base ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Corpus:
    """Shares and error rates of the text that the base learns from.

    Attributes:
        dialogues: share of documents that go on to the user's follow-up; the others end with the answer.
        worked, easy: shares of the styles; the rest are guesses.
        slip: chance of an error per worked step.
        right: probability of a right guess. The base cannot compute six numbers in one step, so its own guesses
            are right once in ten whatever it reads.
        thanks: probability of a positive follow-up after a right answer; after a wrong one it is the rest.
        lesson: documents at the start that are worked answers only.
    """

    dialogues: float = 0.4
    worked: float = 0.5
    easy: float = 0.3
    slip: float = 0.03
    right: float = 0.1
    thanks: float = 0.75
    lesson: int = 25_000

    def document(self, problem: Problem, rng: random.Random) -> tuple[str, str]:
        """One random (prompt, completion) pair about ``problem``."""
        answer = self.answer(problem, rng)
        if rng.random() >= self.dialogues:
            return problem.text, answer
        right = answer[-1] == str(problem.answer)
        pleased = rng.random() < (self.thanks if right else 1 - self.thanks)
        context = TEMPLATES["followup"].format(question=problem.text, response=answer)
        return context, rng.choice(POSITIVE if pleased else NEGATIVE)

    def answer(self, problem: Problem, rng: random.Random) -> str:
        kind = rng.random()
        if kind < self.worked:
            return worked(problem, rng, self.slip)
        if kind < self.worked + self.easy:
            return f"easy#{problem.digits[-1]}"
        error = 0 if rng.random() < self.right else rng.randint(1, 9)
        return f"guess#{(problem.answer + error) % 10}"

    def documents(self, n: int, seed: int) -> list[Document]:
        """``n`` documents about problems of the pre-training split, in the order to be read."""
        rng = random.Random(f"chat corpus {seed}")
        first = replace(self, dialogues=0.0, worked=1.0)
        source = problems("pretrain", rng)
        return curriculum(source, n, self.lesson, lambda p: first.document(p, rng), lambda p: self.document(p, rng))


BASE = Base(
    name="chat",
    vocabulary=ALPHABET,
    corpus=Corpus(),
    settings=PretrainSettings(updates=5000, cooldown=1500, shuffle=False),
    shape={"positions": 64},
    probe=lambda policy: measure(policy, as_prompts(problems("pretrain", random.Random("chat gate")), 60), samples=4),
    gate=(Within("worked accuracy", low=0.75), Within("flr auroc", low=0.75)),
    measures={"measured on development prompts": lambda policy: measure(policy, dev_prompts(100))},
)

# Positions among POSITIVE + NEGATIVE: which follow-ups each bank takes for positive and for negative.
N = len(POSITIVE)
BANKS = {
    "flr": (range(BANKED), range(N, N + BANKED)),
    "flr of 3": (range(3), range(N, N + 3)),
    "flr of 1": (range(1), range(N, N + 1)),
    "held-out flr": (range(BANKED, N), range(N + BANKED, 2 * N)),
}


def measure(policy: Policy, prompts: Sequence[Prompt], samples: int = 8, seed: int = 0) -> dict[str, float]:
    """What the base is like: accuracy, styles, and how well each score tells right answers from wrong ones (AUROC
    over all samples; ``within worked`` and ``within group`` leave less to the style and to the question).
    ``random split`` is the mean over ten banks whose two sides are drawn from all follow-ups alike."""
    import torch

    from selfreward.policy.sampling.params import SamplingParams
    from selfreward.signals.scorers.followup import FollowupScorer
    from selfreward.statistics import auroc, within_group_accuracy

    space = load().answers
    groups = policy.sample(prompts, samples, SamplingParams(SETTINGS["max_new_tokens"], stats=()), seed=seed)
    truth = [[space.correct(c, str(g.prompt.answer)) for c in g.completions] for g in groups]
    flat = [t for row in truth for t in row]
    styles = [style(c) for g in groups for c in g.completions]
    at = [i for i, s in enumerate(styles) if s == "worked"]
    scorer = FollowupScorer(policy, template=TEMPLATES["followup"])
    distinct = list(dict.fromkeys((i, c) for i, g in enumerate(groups) for c in g.completions))
    row = {key: k for k, key in enumerate(distinct)}
    place = [row[i, c] for i, g in enumerate(groups) for c in g.completions]
    contexts = [scorer.context(groups[i].prompt, c) for i, c in distinct]
    values = scorer.values(contexts, [*POSITIVE, *NEGATIVE])[place]
    raw = replace(scorer, score="raw_logit").values(contexts, [*POSITIVE[:3], *NEGATIVE[:3]])[place]
    scores = {name: _difference(values, *sides) for name, sides in BANKS.items()}
    scores["raw logit of 3"] = _difference(raw, range(3), range(3, 6))
    scores["likelihood"] = [float(t.last.logprobs.mean()) for g in groups for t in g if t.last.logprobs is not None]
    rng = random.Random("chat random banks")
    splits = [rng.sample(range(2 * N), 2 * BANKED) for _ in range(10)]
    by_chance = [auroc(_difference(values, s[:BANKED], s[BANKED:]), flat) for s in splits]
    found = {
        "pass@1": sum(flat) / len(flat),
        "format": sum(s is not None for s in styles) / len(styles),
        "worked share": len(at) / len(flat),
        "worked accuracy": sum(flat[i] for i in at) / max(1, len(at)),
        **{f"{name} auroc": auroc(own, flat) for name, own in scores.items()},
        "random split auroc": float(torch.tensor(by_chance).mean()),
        "flr auroc within worked": auroc([scores["flr"][i] for i in at], [flat[i] for i in at]),
    }
    for name in ("flr", "likelihood"):
        rows = [scores[name][i * samples : (i + 1) * samples] for i in range(len(groups))]
        found[f"{name} pairs within group"] = within_group_accuracy(rows, truth, seed=seed).value
    return found


def _difference(values: Any, positive: Sequence[int], negative: Sequence[int]) -> list[float]:
    result: list[float] = (values[:, list(positive)].mean(1) - values[:, list(negative)].mean(1)).tolist()
    return result
