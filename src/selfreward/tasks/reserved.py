"""Chain with a reserved token: the base for methods that read a score off a token which text never uses.

Questions, styles and settings are those of :mod:`selfreward.tasks.chain`. The base differs in two ways that
make it more like a large model. Its vocabulary holds ``<reserved>``, which no document contains. And every
document is followed by the first token of another one, as in packed pre-training text, so that what
comes after an end-of-sequence token is learnt and the same everywhere; without this the
probability of an unused token there would be noise. There are no judges in its corpus: what such a model
comes to know about being right, it learns later.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfreward.tasks import Task, chain
from selfreward.types import Prompt

if TYPE_CHECKING:
    from selfreward.policy import Policy
    from selfreward.pretrain import Document, Pretrained

RESERVED = "<reserved>"
CORPUS = chain.Corpus(careful=0.0, naive=0.0)


@cache
def load() -> Task:
    """CHAIN's prompts without its judges."""
    return replace(chain.load(), name="chain-reserved", templates={})


def development(n: int) -> list[Prompt]:
    """``n`` prompts of the training split that training does not use."""
    used = {p.question for p in chain.load().train}
    found: dict[str, Prompt] = {}
    for problem in chain.problems("train", random.Random("chain development")):
        if len(found) == n:
            break
        if problem.text not in used:
            name = f"chain-dev-{len(found)}"
            found.setdefault(problem.key, Prompt(name, problem.text, reference=str(problem.answer)))
    return list(found.values())


def packed(documents: Sequence[tuple[str, str]], tokenizer: Any, prompt_weight: float) -> list[Document]:
    """Every document as weighted tokens, with the first token of the next document after its end."""
    heads = tokenizer([d[0] for d in documents])["input_ids"]
    tails = tokenizer([d[1] for d in documents], add_special_tokens=False)["input_ids"]
    found: list[Document] = []
    for i, (head, tail) in enumerate(zip(heads, tails, strict=True)):
        following = heads[(i + 1) % len(heads)][0]
        ids = [*head, *tail, tokenizer.eos_token_id, following]
        found.append((ids, [prompt_weight] * len(head) + [1.0] * (len(tail) + 1) + [prompt_weight]))
    return found


def build(
    out: str | Path, seed: int = 0, on_step: Callable[[int, dict[str, float]], None] | None = None, **settings: Any
) -> Pretrained:
    """Pre-train the base into ``out``, with ``task.json`` beside it that says how, and what came of it."""
    from selfreward.models import load_policy
    from selfreward.pretrain import PretrainSettings, llama_config, pretrain
    from selfreward.tokenizing import char_tokenizer

    chosen = PretrainSettings(updates=4000, cooldown=1000, shuffle=False).updated(**{"seed": seed, **settings})
    tokenizer = char_tokenizer(chain.ALPHABET, specials=[RESERVED])
    texts: Any = CORPUS.documents(chosen.updates * chosen.batch, chosen.seed)
    documents = packed(texts, tokenizer, chosen.prompt_weight)
    made = pretrain(
        documents, tokenizer, llama_config(tokenizer), chosen, out, on_step, gate=lambda model: gate(model, tokenizer)
    )
    made.metrics = measure(load_policy(str(made.folder), device="cpu"), development(200))
    made.passed = has_properties(made.metrics)
    changed = [f"--set {name}={value}" for name, value in settings.items()]
    card = {
        "task": "chain-reserved",
        "command": " ".join(["selfreward pretrain chain-reserved --out DIR --seed", str(chosen.seed), *changed]),
        "documents": asdict(CORPUS),
        "updates": made.updates,
        "has_properties": made.passed,
        "measured on development prompts": {name: round(value, 3) for name, value in made.metrics.items()},
    }
    (made.folder / "task.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    return made


def gate(model: Any, tokenizer: Any) -> tuple[bool, dict[str, float]]:
    """Whether worked solutions are right, on fresh problems of the pre-training split."""
    from selfreward.policy import Policy

    source = chain.problems("pretrain", random.Random("chain gate"))
    prompts = [Prompt(str(i), p.text, reference=str(p.answer)) for i, p in zip(range(100), source)]
    found = measure(Policy(model, tokenizer), prompts)
    return found["worked accuracy"] >= 0.7, found


def has_properties(measured: dict[str, float]) -> bool:
    """Mediocre alone, right when it works, and the reserved token nearly constant after the end."""
    return 0.3 <= measured["pass@1"] <= 0.5 and measured["worked accuracy"] >= 0.8 and measured["reserved std"] <= 1.0


def measure(policy: Policy, prompts: Sequence[Prompt], seed: int = 0) -> dict[str, float]:
    """What :func:`has_properties` asks about, from 16 samples of each prompt at temperature 1."""
    import torch

    from selfreward.sampling import SamplingParams

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
