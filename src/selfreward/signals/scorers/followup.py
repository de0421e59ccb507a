"""How likely a model finds each follow-up of a user after an answer.

The follow-up stands where the user would speak next: in a chat model's own template, or behind the text that the
task's template ``followup`` makes of question and answer. Each context is read once for all follow-ups.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from selfreward.errors import ConfigError, RecipeError, nearest
from selfreward.policy.architecture import head_of
from selfreward.policy.policy import Policy
from selfreward.rollouts.turns import HERE, around
from selfreward.signals.followup import (
    Aspect,
    aspect_mean,
    builtin_bank,
    followup_likelihood,
    followup_reward,
    raw_logit,
)
from selfreward.types import Group, Prompt

if TYPE_CHECKING:
    from selfreward.rollouts.run import RunContext
    from selfreward.signals.registry import Scores

PLAIN_TEMPLATE = "User: {question}\nAssistant: {response}\nUser: "
Score = Literal["likelihood", "raw_logit"]


@dataclass
class FollowupScorer:
    """FLR of completions under one model.

    Args:
        policy: whose expectation of the user counts.
        bank: aspects with positive and negative follow-ups.
        template: text with ``{question}`` and ``{response}`` up to where the user speaks again, for models without a
            chat template.
        score: ``likelihood`` is the formula; ``raw_logit`` what the released script computes instead.
        weights: of the aspects, equal unless given.
    """

    policy: Policy
    bank: Sequence[Aspect] = field(default_factory=builtin_bank)
    template: str = PLAIN_TEMPLATE
    score: Score = "likelihood"
    weights: Mapping[str, float] | None = field(default=None)

    def __call__(self, groups: Sequence[Group]) -> list[Tensor]:
        """FLR of every completion, one float tensor ``[G]`` per group; equal completions are scored once."""
        asked = {(i, c): g.prompt for i, g in enumerate(groups) for c in g.completions}
        contexts = [self.context(prompt, c) for (_, c), prompt in asked.items()]
        found = dict(zip(asked, self.rewards(contexts).tolist(), strict=True))
        return [torch.tensor([found[i, c] for c in g.completions]) for i, g in enumerate(groups)]

    def rewards(self, contexts: Sequence[Sequence[int]]) -> Tensor:
        """FLR ``[N]`` of contexts that end where the user would speak."""
        by_aspect = {}
        for aspect in self.bank:
            sentences = [*aspect.positive, *aspect.negative]
            positive = [True] * len(aspect.positive) + [False] * len(aspect.negative)
            by_aspect[aspect.name] = followup_reward(self.values(contexts, sentences), positive)
        return aspect_mean(by_aspect, self.weights)

    def values(self, contexts: Sequence[Sequence[int]], sentences: Sequence[str]) -> Tensor:
        """``[N, F]``: what each follow-up is worth after each context, see ``score``."""
        targets = [list(self.policy.tokenizer(f, add_special_tokens=False)["input_ids"]) for f in sentences]
        if self.score == "raw_logit":
            return self._logits(contexts, targets)
        scored = self.policy.score_targets(contexts, [targets] * len(contexts), role="scorer")
        return torch.stack([torch.stack([followup_likelihood(t["logprob"]) for t in own]) for own in scored])

    def context(self, prompt: Prompt, completion: str) -> list[int]:
        """Token ids of question and answer, up to where the user would speak."""
        policy = self.policy
        if prompt.messages is None and (policy.chat == "never" or not policy.tokenizer.chat_template):
            assert prompt.text is not None
            text = self.template.format(question=prompt.text, response=completion)
            return list(policy.tokenizer(text)["input_ids"])
        turns = [dict(m) for m in prompt.messages or [{"role": "user", "content": prompt.question}]]
        turns += [{"role": "assistant", "content": completion}, {"role": "user", "content": HERE}]
        found = around(policy, turns)
        if found is None:
            raise RecipeError("The chat template of this model does not show what the user says after an answer.")
        return list(policy.tokenizer(found[0], add_special_tokens=False)["input_ids"])

    @torch.no_grad()
    def _logits(self, contexts: Sequence[Sequence[int]], targets: Sequence[Sequence[int]]) -> Tensor:
        """The released script's value: it reads the logits *at* the follow-up's first token."""
        project = head_of(self.policy.model)
        if project is None:
            raise RecipeError("score='raw_logit' cannot read this model's logits; use score='likelihood'.")
        sequences = [torch.tensor([*c, *t]) for c in contexts for t in targets]
        at = [len(c) for c in contexts for _ in targets]
        states = self.policy.score(sequences, [len(s) for s in sequences], hidden_at=at, role="scorer")
        head = next(self.policy.model.parameters())
        values = [
            raw_logit(
                project(s["hidden"].to(head.device, head.dtype)).float().cpu(), torch.tensor(targets[k % len(targets)])
            )
            for k, s in enumerate(states)
        ]
        return torch.stack(values).view(len(contexts), len(targets))


def chosen_bank(followups: Mapping[str, Sequence[Sequence[str]]], aspects: str, n: int, swapped: bool) -> list[Aspect]:
    """The aspects that a recipe asks about: the task's own follow-ups if it has some, else :func:`builtin_bank`.

    Args:
        followups: the task's: aspect to (positive, negative) sentences; may be empty.
        aspects: names separated by commas, or ``all``.
        n: sentences on each side, 0 for all.

    Raises:
        ConfigError: for an unknown aspect.
    """
    known = {k: Aspect(k, tuple(p), tuple(q)) for k, (p, q) in followups.items()} or {a.name: a for a in builtin_bank()}
    names = list(known) if aspects == "all" else [a.strip() for a in aspects.split(",")]
    for name in names:
        if name not in known:
            raise ConfigError(f"The bank of follow-ups has no aspect {name!r}.{nearest(name, known)}")
    found = [known[name].first(n) for name in names]
    return [a.swapped() for a in found] if swapped else found


def followup(run: RunContext, groups: Sequence[Group], followups: int = 0, score: str = "likelihood") -> Scores:
    """FLR of every completion by the run's own model, with the task's bank or the built-in one."""
    if score not in ("likelihood", "raw_logit"):
        raise ConfigError(f"score is {score!r}; it must be 'likelihood' or 'raw_logit'.")
    templates = run.templates
    scorer = FollowupScorer(
        run.policy,
        chosen_bank(json.loads(templates.get("followups", "{}")), "all", followups, swapped=False),
        templates.get("followup", PLAIN_TEMPLATE),
        score,  # type: ignore[arg-type]
    )
    return [values.tolist() for values in scorer(groups)]
