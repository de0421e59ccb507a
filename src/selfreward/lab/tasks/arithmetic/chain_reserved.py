"""Chain with a reserved token: the base for methods that read a score off a token which text never uses.

Questions, styles and settings are those of :mod:`selfreward.lab.tasks.arithmetic.chain`, and the base is CHAIN's own
after some more reading, which differs in two ways that make it more like a large model. The vocabulary holds
``<reserved>``, which no document contains. And every document is followed by the first token of another one,
as in packed pre-training text, so that what comes after an end-of-sequence token is learnt and the same
everywhere; without this the probability of an unused token there would be noise. There are no judges in
this second corpus.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfreward.data.task import Task
from selfreward.lab.tasks.arithmetic import chain
from selfreward.lab.tasks.splits import Split
from selfreward.types import Prompt

if TYPE_CHECKING:
    from selfreward.lab.pretraining.pretrain import Document, Pretrained
    from selfreward.policy.policy import Policy


RESERVED, UNUSED = "<reserved>", "z"


CORPUS = chain.Corpus(careful=0.0, naive=0.0, lesson=0)


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
    """Read on from the shipped CHAIN base into ``out``, with ``task.json`` beside it that says how."""
    import torch

    from selfreward.lab.pretraining.pretrain import Pretrained, PretrainSettings, batches, encode, pad_right, save_base
    from selfreward.lab.pretraining.pretrain import weighted_cross_entropy as cross_entropy
    from selfreward.policy.loading import load_policy

    chosen = PretrainSettings(updates=400, lr=1e-3, warmup=20, shuffle=False).updated(**{"seed": seed, **settings})
    policy = load_policy("embedded:chain", device="cpu")
    model = policy.model
    tokenizer: Any = policy.tokenizer
    add_reserved(model, tokenizer)
    texts: Any = CORPUS.documents(chosen.updates * chosen.batch, chosen.seed)
    tokens, weights = encode(packed(texts, tokenizer, chosen.prompt_weight), tokenizer, chosen.prompt_weight)
    stream = batches([len(t) for t in tokens], chosen, torch.Generator().manual_seed(chosen.seed))
    optimiser = torch.optim.AdamW(model.parameters(), lr=chosen.lr, betas=chosen.betas, weight_decay=0.0)
    loss = torch.zeros(())
    model.train()
    for update in range(1, chosen.updates + 1):
        rows = next(stream)
        rate = chosen.rate(update, chosen.warmup, chosen.updates)
        optimiser.param_groups[0]["lr"] = rate
        ids = pad_right([tokens[i] for i in rows], policy.pad_token)
        logits = model(input_ids=ids, use_cache=False).logits
        loss = cross_entropy(logits.float(), ids, pad_right([weights[i] for i in rows], 0.0), 0.0)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), chosen.clip)
        optimiser.step()
        if on_step is not None:
            on_step(update, {"loss": loss.detach().item(), "lr": rate})
    model.eval()
    folder = Path(out)
    save_base(model, tokenizer, folder, chosen.weights)
    metrics = measure(load_policy(str(folder), device="cpu"), development(60))
    made = Pretrained(folder, model, chosen.updates, float(loss.detach()), has_properties(metrics), metrics)
    changed = [f"--set {name}={value}" for name, value in settings.items()]
    card = {
        "task": "chain-reserved",
        "command": " ".join(["selfreward pretrain chain-reserved --out DIR --seed", str(chosen.seed), *changed]),
        "starts from": "chain",
        "documents": asdict(CORPUS),
        "updates": made.updates,
        "has_properties": made.passed,
        "measured on development prompts": {name: round(value, 3) for name, value in made.metrics.items()},
    }
    (made.folder / "task.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    return made


def add_reserved(model: Any, tokenizer: Any) -> None:
    """Give model and tokenizer the token ``<reserved>``, which starts as a copy of an unused letter."""
    import torch

    tokenizer.add_special_tokens({"additional_special_tokens": [RESERVED]})
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    table = model.get_input_embeddings().weight
    with torch.no_grad():
        table[tokenizer.get_vocab()[RESERVED]] = table[tokenizer.get_vocab()[UNUSED]]


def has_properties(measured: dict[str, float]) -> bool:
    """Mediocre alone, right when it works, and the reserved token nearly constant after the end."""
    return 0.3 <= measured["pass@1"] <= 0.5 and measured["worked accuracy"] >= 0.8 and measured["reserved std"] <= 1.0


def measure(policy: Policy, prompts: Sequence[Prompt], seed: int = 0) -> dict[str, float]:
    """What :func:`has_properties` asks about, from 16 samples of each prompt at temperature 1."""
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
