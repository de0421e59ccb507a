"""Cycle consistency: a translation is good if the source is likely as its translation back.

Dual learning (He et al. 2016, arXiv 1611.00179). Needs sentences in one language and a policy that translates both
ways; no reference. Known to break where the candidate copies the source, which makes the way back easy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from selfreward.policy.policy import Policy
from selfreward.recipes.common.translation import FIELDS
from selfreward.recipes.grpo import GRPO
from selfreward.rollouts.run import RunContext
from selfreward.types import Experience, Prompt


@dataclass
class Cycle(GRPO):
    """Mean log-probability of the source as the translation of the candidate.

    Attributes:
        floor: lowest reward, and that of a completion without a translation.
    """

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
