"""The bases of EFF: their text, and how they are made."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfreward.lab.pretraining.tokenizers import BOS
from selfreward.lab.tasks.arithmetic.eff.problems import (
    ALPHABET,
    EFFORTS,
    FILLERS,
    TEMPLATES,
    Problem,
    _prompts,
    evaluate,
    problems,
)
from selfreward.types import Prompt

if TYPE_CHECKING:
    from selfreward.lab.pretraining.pretrain import Document, Pretrained


@dataclass(frozen=True)
class Corpus:
    """Shares and error rates of the text that the base learns from.

    Attributes:
        worked: share of worked solutions; the others are guesses.
        slip: chance of an error per worked step.
        alone: share of completions that stand without a question, after the begin-of-text token.
        signed: share of questions with an effort sign before them, drawn at random.
        order: share of documents that compare two signs: ``bd>`` is answered by the larger, ``d``.
        terse: share of completions without filler.
        stop: chance of an end after each filler step. It is below ``terse``: rambling goes on, as a manner
            does, and is not a quota that is used up.
        lesson: documents at the start that are worked solutions only.
    """

    worked: float = 0.40
    slip: float = 0.03
    alone: float = 0.15
    signed: float = 0.5
    order: float = 0.05
    terse: float = 0.5
    stop: float = 0.2
    lesson: int = 16_000

    def document(self, problem: Problem, rng: random.Random) -> tuple[str, str]:
        """One random (prompt, completion) pair about ``problem``."""
        kind = rng.random()
        if kind < self.order:
            a, b = rng.sample(list(EFFORTS.values()), 2)
            return f"{a}{b}>", max(a, b)
        completion = self.completion(problem, rng)
        return (BOS if kind < self.order + self.alone else self.question(problem, rng)), completion

    def question(self, problem: Problem, rng: random.Random) -> str:
        sign = rng.choice(list(EFFORTS.values())) if rng.random() < self.signed else ""
        return sign + problem.text

    def completion(self, problem: Problem, rng: random.Random) -> str:
        """A completion in a random style with a random number of filler steps."""
        if rng.random() < self.worked:
            return self.finish(problem.worked(rng, self.slip), rng)
        return f"g#{problem.answer}" + self.filler(rng)

    def finish(self, steps: str, rng: random.Random) -> str:
        return f"{steps}#{steps[-1]}" + self.filler(rng)

    def filler(self, rng: random.Random) -> str:
        if rng.random() < self.terse:
            return ""
        steps = 1
        while steps < FILLERS and rng.random() >= self.stop:
            steps += 1
        return "hm" * steps

    def documents(self, n: int, seed: int) -> list[Document]:
        """``n`` documents about problems of the pre-training split, in the order to be read."""
        rng = random.Random(f"eff corpus {seed}")
        source = problems("pretrain", rng)
        first = [
            (self.question(p, rng), self.finish(p.worked(rng, self.slip), rng))
            for p in islice(source, min(n, self.lesson))
        ]
        return [*first, *(self.document(p, rng) for p in islice(source, n - len(first)))]


@dataclass(frozen=True)
class Meaning(Corpus):
    """Text in which a sign means a little, as ``little effort`` does to a language model before any training.

    Attributes:
        meaning: share of signed questions whose answer follows the sign: from ``a`` to ``e`` the share of
            worked solutions rises from 0 to 1, and that of completions without filler falls from 1 to 0.
    """

    signed: float = 0.8
    lesson: int = 0
    meaning: float = 0.4

    def document(self, problem: Problem, rng: random.Random) -> tuple[str, str]:
        prompt, completion = super().document(problem, rng)
        signs = list(EFFORTS.values())
        if prompt[0] in signs and prompt.endswith("=") and rng.random() < self.meaning:
            share = signs.index(prompt[0]) / (len(signs) - 1)
            completion = replace(self, worked=share, terse=1 - share).completion(problem, rng)
        return prompt, completion


def read_on(
    out: str | Path, seed: int = 0, on_step: Callable[[int, dict[str, float]], None] | None = None, **settings: Any
) -> Pretrained:
    """Let the base read on in texts where signs mean a little."""
    from selfreward.lab.pretraining.further_reading import read_further
    from selfreward.lab.pretraining.pretrain import PretrainSettings, write_card
    from selfreward.policy.loading import load_policy
    from selfreward.rollouts.effort import with_effort

    chosen = PretrainSettings(updates=500, lr=3e-3, shuffle=False).updated(**{"seed": seed, **settings})
    made = read_further("eff", Meaning().documents(chosen.updates * chosen.batch, chosen.seed), chosen, out, on_step)
    policy, prompts = load_policy(str(made.folder), device="cpu"), _prompts("test", 400)
    made.metrics = evaluate(policy, prompts[:200])
    for effort in (min(EFFORTS), max(EFFORTS)):
        asked = evaluate(with_effort(policy, effort, TEMPLATES), prompts[:200])
        made.metrics |= {f"{name} at {effort:g}": asked[name] for name in ("length", "pass@1")}
    low, high = (made.metrics[f"length at {r:g}"] for r in (min(EFFORTS), max(EFFORTS)))
    made.passed = has_properties(made.metrics) and low < high
    write_card(made, "eff-signs", asdict(Meaning()), chosen.seed, settings, "measured on the test split")
    return made


def build(
    out: str | Path,
    seed: int = 0,
    on_step: Callable[[int, dict[str, float]], None] | None = None,
    variant: str = "eff",
    **settings: Any,
) -> Pretrained:
    """Pre-train the base into ``out``, with ``task.json`` beside it that says how, and what came of it."""
    if variant == "eff-signs":
        return read_on(out, seed, on_step, **settings)
    from selfreward.lab.pretraining.pretrain import PretrainSettings, llama_config, pretrain, write_card
    from selfreward.lab.pretraining.tokenizers import char_tokenizer
    from selfreward.policy.loading import load_policy

    chosen = PretrainSettings(updates=4000, cooldown=500, shuffle=False).updated(**{"seed": seed, **settings})
    tokenizer = char_tokenizer(ALPHABET)
    documents = Corpus().documents(chosen.updates * chosen.batch, chosen.seed)
    made = pretrain(
        documents, tokenizer, llama_config(tokenizer), chosen, out, on_step, gate=lambda model: gate(model, tokenizer)
    )
    made.metrics = evaluate(load_policy(str(made.folder), device="cpu"), _prompts("test", 400)[:200])
    made.passed = has_properties(made.metrics)
    write_card(made, "eff", asdict(Corpus()), chosen.seed, settings, "measured on the test split")
    return made


def gate(model: Any, tokenizer: Any) -> tuple[bool, dict[str, float]]:
    """Whether the skill has appeared, on fresh problems of the pre-training split."""
    from selfreward.policy.policy import Policy

    source = problems("pretrain", random.Random("eff gate"))
    prompts = [Prompt(str(i), p.text, reference=str(p.answer)) for i, p in zip(range(60), source)]
    found = evaluate(Policy(model, tokenizer), prompts)
    return found.get("worked accuracy", 0.0) >= 0.85, found


def has_properties(measured: dict[str, float]) -> bool:
    """Mediocre on average: working is good at every difficulty, guessing is not, and there is filler to leave out."""
    return (
        0.3 <= measured["pass@1"] <= 0.65
        and measured["worked accuracy"] >= 0.85
        and measured["guess accuracy"] <= 0.35
        and measured["filler share"] >= 0.2
        and measured["format"] >= 0.9
    )
