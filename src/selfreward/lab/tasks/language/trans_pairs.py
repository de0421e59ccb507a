"""Trans-pairs: the languages of ``trans``, and a base that was teacher-forced on 500 sentence pairs and nothing else.

The pairs are right and well formed, and they are few: the base knows the words, and errs where a sentence
combines them in a way that it has not read. Sources without translations are plenty (those of ``trans``).

How long it reads is a choice, made on 200 development sentences: of 300, 360, 420, 480, 540 and 660 updates, after
which greedy quality is .47, .61, .73, .86, .92 and .99, the one nearest to .7, so that there is something to gain and
something to build on.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfreward.data.task import Task
from selfreward.lab.tasks.language import trans
from selfreward.lab.tasks.language.trans import languages
from selfreward.types import Prompt

if TYPE_CHECKING:
    from selfreward.lab.pretraining.pretrain import Pretrained


PAIRS = 500


SETTINGS: dict[str, Any] = {**languages.SETTINGS, "steps": 40, "max_new_tokens": 24}


def pairs() -> list[Prompt]:
    """The parallel data: every sentence as a prompt in both directions, with its translation."""
    found: list[Prompt] = []
    seen: set[str] = set()
    for sentence in languages.sentences("parallel", random.Random("trans pairs")):
        if len(seen) == PAIRS:
            break
        if sentence.s not in seen:
            seen.add(sentence.s)
            found += [languages.prompt(f"pair-{len(seen)}-{target}", sentence, target) for target in ("t", "s")]  # type: ignore[arg-type]
    return found


@cache
def load() -> Task:
    """The prompts and the evaluator of ``trans``."""
    return replace(trans.load(), name="trans-pairs", settings=dict(SETTINGS))


def build(
    out: str | Path, seed: int = 0, on_step: Callable[[int, dict[str, float]], None] | None = None, **settings: Any
) -> Pretrained:
    """Train the base on the pairs, epoch after epoch, with label smoothing 0.1; ``task.json`` says what came of it."""
    from selfreward.lab.pretraining.pretrain import PretrainSettings, llama_config, pretrain, write_card
    from selfreward.lab.pretraining.tokenizers import word_tokenizer
    from selfreward.lab.tasks.language.trans.base import measure
    from selfreward.policy.loading import load_policy

    chosen = PretrainSettings(updates=420, lr=4e-3, label_smoothing=0.1, weight_decay=0.01, seed=seed)
    chosen = chosen.updated(**settings)
    tokenizer = word_tokenizer([*languages.MARKS, *languages.WORDS["s"], *languages.WORDS["t"]])
    documents = [(str(p.text), languages.TEMPLATES["answer"].format(answer=p.answer)) for p in pairs()]
    made = pretrain(documents, tokenizer, llama_config(tokenizer, positions=128), chosen, out, on_step)
    found = measure(load_policy(str(made.folder), device="cpu"), languages.prompts_of("dev", 200))
    made.metrics = {k: getattr(found, k) for k in ("greedy_quality", "quality", "exact", "format")}
    made.passed = 0.6 <= made.metrics["greedy_quality"] <= 0.8
    corpus = {"pairs": PAIRS, "label_smoothing": chosen.label_smoothing}
    write_card(made, "trans-pairs", corpus, chosen.seed, settings, "measured on development prompts")
    return made
