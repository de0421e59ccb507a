"""How likely the source of a translation is, given the translation: the model translates back under teacher forcing.

A translation that dropped something makes its source improbable (dual learning, He et al. 2016, arXiv 1611.00179).
Known to reward copying: what is left untranslated is easily translated back.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from selfreward.errors import UnavailableError
from selfreward.rollouts.run import RunContext
from selfreward.signals.registry import Scores
from selfreward.types import Group


def cycle(run: RunContext, groups: Sequence[Group], floor: float = -10.0) -> Scores:
    """Mean log-probability per token (nats, at least ``floor``) of the source after the answer, by template ``back``.

    An answer that cannot be read has ``floor``.

    Raises:
        UnavailableError: where there is no model, no template ``back``, or a prompt has no field ``source``.
    """
    policy, back = run.policy, run.template("back")
    tails, heads = [], []
    for group in groups:
        fields = group.prompt.fields
        if "source" not in fields:
            raise UnavailableError("needs a column 'source'")
        text = run.templates.get("answer", "{answer}").format(answer=fields["source"])
        tail = list(policy.tokenizer(text, add_special_tokens=False)["input_ids"])
        for h in filter(None, run.answers_of(group)):
            heads.append(policy.encode_text(back.format(**fields, hypothesis=h)))
            tails.append(tail)
    sequences = [torch.tensor(h + t) for h, t in zip(heads, tails, strict=True)]
    scored = iter(policy.score(sequences, [len(h) for h in heads], role="back"))
    return [
        [max(floor, float(next(scored)["logprob"].mean())) if h else floor for h in run.answers_of(g)] for g in groups
    ]
