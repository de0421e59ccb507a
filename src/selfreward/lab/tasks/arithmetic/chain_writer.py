"""CHAIN with a base that can also write problems: lists of questions without solutions are in its text.

Questions, answers, styles and judges are those of :mod:`selfreward.lab.tasks.arithmetic.chain`; beside them the base
has read lists such as ``L6*8-5*6+9+5,3p4t0m1p2m2,``. So after a few questions it can go on with new ones. This
is what self-instruction (SeRL) starts from, and it was put there on purpose. Half of a list's questions
are taken at random; nothing tells the base which questions are hard.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfreward.data.task import Task
from selfreward.lab.tasks.arithmetic import chain
from selfreward.types import Prompt

if TYPE_CHECKING:
    from selfreward.lab.pretraining.pretrain import Document, Pretrained
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

    def documents(self, n: int, seed: int, encode: Callable[[str], list[int]]) -> list[Document]:
        """``n`` documents about problems of the pre-training split, in the order to be read."""
        rng = random.Random(f"chain-writer lists {seed}")
        source = chain.problems("pretrain", rng)
        found = self.chain.documents(n, seed)
        for i in range(self.chain.lesson, n):
            if rng.random() < self.lists:
                size = rng.randint(2, self.longest)
                text = TEMPLATES["list_header"] + "".join(p.text[:-1] + "," for p in islice(source, size))
                ids = encode(text)
                found[i] = (ids, [self.weight] * len(ids))
        return found


def build(
    out: str | Path, seed: int = 0, on_step: Callable[[int, dict[str, float]], None] | None = None, **settings: Any
) -> Pretrained:
    """Pre-train the base into ``out``, with ``task.json`` beside it that says how, and what came of it."""
    from selfreward.lab.pretraining.pretrain import PretrainSettings, llama_config, pretrain
    from selfreward.lab.pretraining.tokenizers import char_tokenizer
    from selfreward.policy.loading import load_policy

    # Pools of batches sorted by length keep the long lists together.
    chosen = PretrainSettings(updates=4500, shuffle=False, pool=20).updated(**{"seed": seed, **settings})
    tokenizer = char_tokenizer(ALPHABET)
    documents = Corpus().documents(chosen.updates * chosen.batch, chosen.seed, lambda t: tokenizer(t)["input_ids"])
    made = pretrain(documents, tokenizer, llama_config(tokenizer), chosen, out, on_step)
    policy = load_policy(str(made.folder), device="cpu")
    made.metrics = chain.measure(policy, dev()) | measure(policy)
    made.passed = chain.has_properties(made.metrics) and made.metrics["valid problems"] >= 0.8
    card = {
        "task": "chain-writer",
        "command": f"selfreward pretrain chain-writer --out DIR --seed {chosen.seed}",
        "documents": asdict(Corpus()),
        "updates": made.updates,
        "has_properties": made.passed,
        "measured on development prompts": {name: round(value, 3) for name, value in made.metrics.items()},
    }
    (made.folder / "task.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    return made


def measure(policy: Policy, lists: int = 16, seed: int = 0) -> dict[str, float]:
    """How the policy writes problems from 8 seeds: shares that are valid, and valid and new."""
    import torch

    from selfreward.policy.sampling.params import SamplingParams
    from selfreward.rollouts.proposing import ListFormat, TaskFactory

    factory, form = TaskFactory(), ListFormat.of(TEMPLATES)
    factory.sow(p.question for p in load().train[:200])
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
