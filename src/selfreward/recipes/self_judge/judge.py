"""Self-judge: the model is asked whether its own solution is right, and its "yes" is the reward.

Believes that checking is easier than solving. Needs a model that can answer a closed question about
a solution; no label. Known to break where the judge is not calibrated on what the policy comes to
write: the policy then moves to whatever the judge likes. The read-out is the probability of "yes"
after the judge prompt, renormalised over the two verdicts, so that no judgement has to be sampled.
(Self-rewarding by a closed self-judgement: Simonds et al. 2025, arXiv 2505.08827.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from selfreward.policy.policy import Policy
from selfreward.recipes.grpo import GRPO
from selfreward.rollouts.run import RunContext
from selfreward.types import Experience, Prompt

DEFAULT_TEMPLATE = (
    "Question:\n{question}\n\nProposed solution:\n{completion}\n\n"
    "Is the final answer of the proposed solution correct? Reply with one word, Yes or No."
)


@dataclass
class Judge(GRPO):
    """Probability that the judge says yes.

    Attributes:
        template: a template of the task by name, or a text with {question} and {completion}.
        yes, no: the two verdicts.
        weights: the judge is the policy as it is ("current") or as it was at the start ("frozen").
    """

    name: ClassVar[str] = "judge"
    mechanism: ClassVar[str] = "judgements"

    template: str = "judge"
    yes: str = "Yes"
    no: str = "No"
    weights: Literal["current", "frozen"] = "current"

    def collect(self, policy: Policy, prompts: Sequence[Prompt], run: RunContext) -> Experience:
        groups = policy.sample(prompts, self.group_size, run.sampling)
        judge = policy if self.weights == "current" else run.reference
        template = run.templates.get(self.template, self.template if "{" in self.template else DEFAULT_TEMPLATE)
        verdicts = [run.templates.get("yes", self.yes), run.templates.get("no", self.no)]
        items = [{"question": g.prompt.question, "completion": c} for g in groups for c in g.completions]
        choice = judge.ask(template, items, verdicts)
        for i, group in enumerate(groups):
            at = sum(len(g) for g in groups[:i])
            group.reward_with(choice.probs[at : at + len(group), 0])
            run.count(self.mechanism, len(group))
        experience = self.learn_from(groups)
        experience.stats["judge/mass"] = float(choice.mass.mean())
        return experience
