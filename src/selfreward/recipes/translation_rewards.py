"""Other rewards for translation: what SSR-Zero is compared with on the same start and budget.

MBR agreement takes the mean similarity to the rest of the group for quality (Kumar and Byrne 2004; as a
soft vote, where exact strings hardly ever coincide). Cycle consistency asks how likely the source is
given the translation (dual learning: He et al. 2016, arXiv 1611.00179). True quality reads the
reference and is the ceiling.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from selfreward.policy import Policy
from selfreward.recipes.base import Recipe, RunContext
from selfreward.recipes.ssr_zero import FIELDS
from selfreward.translation import chrf, edit_similarity
from selfreward.types import Experience, Labels, Prompt


@dataclass
class MinimumBayesRisk(Recipe):
    """Mean chrF to the other candidates of the group."""

    name: ClassVar[str] = "mbr"
    fields: ClassVar[tuple[str, ...]] = FIELDS
    mechanism: ClassVar[str] = "compared translations"
    base: ClassVar[str] = "embedded:trans"

    def collect(self, policy: Policy, prompts: Sequence[Prompt], run: RunContext) -> Experience:
        groups = policy.sample(prompts, self.group_size, run.sampling)
        for group in groups:
            found = [run.answers.extract(c) for c in group.completions]
            known = [h for h in found if h]
            cells = iter(chrf([a for a in known for _ in known], [b for _ in known for b in known]))
            means = iter([(sum(next(cells) for _ in known) - 1) / max(1, len(known) - 1) for _ in known])
            group.reward_with([next(means) if h else 0.0 for h in found])
            run.count(self.mechanism, len(known))
        return self.learn_from(groups)


@dataclass
class Cycle(Recipe):
    """Mean log-probability of the source as the translation of the candidate."""

    name: ClassVar[str] = "cycle"
    fields: ClassVar[tuple[str, ...]] = FIELDS
    mechanism: ClassVar[str] = "scored back-translations"
    base: ClassVar[str] = "embedded:trans"

    floor: float = -10.0

    def collect(self, policy: Policy, prompts: Sequence[Prompt], run: RunContext) -> Experience:
        groups = policy.sample(prompts, self.group_size, run.sampling)
        for group in groups:
            fields = group.prompt.fields
            found = [run.answers.extract(c) for c in group.completions]
            heads = [policy.encode_text(run.templates["back"].format(**fields, hypothesis=h)) for h in found if h]
            text = run.templates.get("answer", "{answer}").format(answer=fields["source"])
            tail = list(policy.tokenizer(text, add_special_tokens=False)["input_ids"])
            scored = policy.score([torch.tensor(h + tail) for h in heads], [len(h) for h in heads], role="back")
            values = iter([max(self.floor, float(s["logprob"].mean())) for s in scored])
            group.reward_with([next(values) if h else self.floor for h in found])
            run.count(self.mechanism, len(heads))
        return self.learn_from(groups)


@dataclass
class TrueQuality(Recipe):
    """Similarity to the reference. The ceiling."""

    name: ClassVar[str] = "true-quality"
    labels: ClassVar[Labels] = "outcome"
    control: ClassVar[bool] = True
    mechanism: ClassVar[str] = "translations with a reference"
    base: ClassVar[str] = "embedded:trans"

    similarity: Literal["chrf", "edit"] = "chrf"

    def collect(self, policy: Policy, prompts: Sequence[Prompt], run: RunContext) -> Experience:
        groups = policy.sample(prompts, self.group_size, run.sampling)
        for group in groups:
            reference = group.prompt.answer
            if reference is None:
                continue
            found = [run.answers.extract(c) for c in group.completions]
            if self.similarity == "edit":
                group.reward_with([edit_similarity(h, reference) for h in found])
            else:
                group.reward_with(chrf(found, [reference] * len(found)))
            run.count(self.mechanism, len(group))
        return self.learn_from(groups)
