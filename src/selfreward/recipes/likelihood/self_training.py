"""Self-training: the frozen start's best answer to each new question is taken for the truth.

Scudder 1965; He et al. 2020 (arXiv 1909.13788) for text generation. The baseline of every method that
learns from its own output without asking what it is worth. Needs prompts alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from selfreward.credit.rows import row_of
from selfreward.losses import NLL, LossTerm
from selfreward.policy.policy import Policy
from selfreward.recipes.base import Recipe
from selfreward.recipes.grpo import Normalisation
from selfreward.rollouts.beam import beam_search
from selfreward.rollouts.run import RunContext
from selfreward.types import Experience, Prompt


@dataclass
class SelfTraining(Recipe):
    """Likelihood of pseudo-targets that the start decodes.

    Attributes:
        width: of the beam; 1 is greedy decoding.
        normalise: how tokens are weighed, see :func:`selfreward.losses.token_weights`.
    """

    name: ClassVar[str] = "self-training"
    mechanism: ClassVar[str] = "pseudo-targets"

    width: int = 1
    normalise: Normalisation = "dapo"

    def objective(self, run_limit: int) -> list[LossTerm]:
        return [NLL(normalise=self.normalise, max_tokens=run_limit)]

    def collect(self, policy: Policy, prompts: Sequence[Prompt], run: RunContext) -> Experience:
        if self.width == 1:
            groups = run.reference.sample(prompts, 1, replace(run.sampling, temperature=0.0), seed=run.seed)
        else:
            groups = beam_search(run.reference, prompts, self.width, run.sampling.max_new_tokens)
        rows = [row_of(t, nll=1.0) for g in groups for t in g if t.finished]
        run.count(self.mechanism, len(rows))
        return Experience(rows, groups=groups)
