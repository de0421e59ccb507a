"""Self-training in cycles: a frozen actor writes, the policy learns from what was kept, and becomes the next actor.

What ReST-MCTS* and B-STaR share. The papers collect the samples of a whole cycle and then train on them; here every
step samples and trains on its own prompts, and the sampling policy is the one with which the cycle began. A value or
reward head is taught on the samples of the warm-up, during which the policy does not change.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from selfreward.errors import RecipeError
from selfreward.losses import NLL, LossTerm
from selfreward.policy.policy import Policy
from selfreward.policy.reward_model import RewardModel
from selfreward.policy.snapshots.auxiliary import AuxiliaryModels
from selfreward.recipes.common.correctness import CorrectnessRecipe
from selfreward.recipes.common.schedules import cycle_starts
from selfreward.recipes.grpo import Normalisation
from selfreward.rollouts.run import RunContext
from selfreward.rollouts.step_tree import StateLabels, StepWriter
from selfreward.rollouts.tree_search import Node, value_targets
from selfreward.types import Group, Prompt


@dataclass
class CycleRecipe(CorrectnessRecipe):
    """Base of recipes that train by likelihood on what an actor of the last cycle wrote.

    Attributes:
        normalise: how tokens are weighed, see :func:`selfreward.losses.token_weights`.
        warmup: steps before the first cycle.
        cycles: how many there are in the steps after the warm-up.
    """

    normalise: Normalisation = "dapo"
    warmup: int = 0
    cycles: int = 2
    _beside: AuxiliaryModels = field(default_factory=AuxiliaryModels, repr=False, init=False)  # "actor" and "head"
    _seen: StateLabels = field(default_factory=StateLabels, repr=False, init=False)

    def objective(self, run_limit: int) -> list[LossTerm]:
        return [NLL(normalise=self.normalise, max_tokens=run_limit)]

    def turn(self, policy: Policy, run: RunContext) -> tuple[Policy, bool]:
        """The actor, and whether a cycle begins at this step, in which case it is the policy as it is now.

        Its draws depend on the seed and the step.
        """
        begins = "actor" not in self._beside or cycle_starts(run.step, self.warmup + 1, run.steps, self.cycles)
        if begins:
            self._beside.put("actor", policy.snapshot())
        actor = self._beside.get("actor", policy.snapshot)
        actor.seed(run.seed, "actor", run.step)
        return actor, begins

    def head(self, policy: Policy) -> RewardModel:
        """The scalar head; made from the policy when it is first taught."""
        return self._beside.get("head", lambda: RewardModel(policy))

    def writer(self, policy: Policy, run: RunContext) -> StepWriter:
        """Steps as the task cuts them: its templates ``step`` (a pattern) and ``step_tokens``."""
        try:
            step, tokens = run.templates["step"], int(run.templates["step_tokens"])
        except KeyError as missing:
            raise RecipeError(
                f"Recipe {self.name!r} looks at solutions step by step, but the task has no template {missing}. Give "
                "templates 'step' (a pattern for one step) and 'step_tokens' (how many tokens a step may take)."
            ) from None
        return StepWriter(policy, step, tokens, run.sampling, run.well_formed)

    def ask(self, policy: Policy, run: RunContext) -> list[int]:
        """The task's value prompt (template ``value``) as tokens: what the head is asked behind a partial solution."""
        return list(policy.tokenizer(run.templates.get("value", ""), add_special_tokens=False)["input_ids"])

    def sample(
        self, policy: Policy, prompts: Sequence[Prompt], n: int, run: RunContext
    ) -> tuple[list[Group], list[Node]]:
        """Whole solutions, and the trees that they span."""
        groups = policy.sample(prompts, n, replace(run.sampling, stats=()))
        writer = self.writer(policy, run)
        return groups, [writer.tree_of(group) for group in groups]

    def label(
        self,
        policy: Policy,
        groups: Sequence[Group],
        trees: Sequence[Node],
        run: RunContext,
        targets: Callable[[Node, Callable[[Node], bool]], list[tuple[Node, float]]] = value_targets,
    ) -> None:
        """Reward solutions by their answers, and keep what that says of every state on the way to one."""
        for group, tree in zip(groups, trees, strict=True):
            group.reward_with(self.verdicts(group, run))
            right = {t.completion for t in group if t.reward > 0}
            self._seen.add(targets(tree, lambda leaf, right=right: leaf.state.text in right), self.ask(policy, run))  # type: ignore[misc]

    def teach(self, policy: Policy, run: RunContext, *, permuted: bool = False, **how: Any) -> dict[str, float]:
        """Fit the head to what was labelled since the last time; ``permuted`` deals the labels out anew (control).

        Raises:
            RecipeError: if there never was a label.
        """
        seen, self._seen = self._seen, StateLabels()
        if not len(seen) and "head" not in self._beside:
            raise RecipeError(
                "No partial solution has a label, because none of the questions so far was answered rightly. Give "
                "more samples or warm-up steps, or easier questions."
            )
        head = self.head(policy)
        if not len(seen):
            return {}
        labels = seen.permuted(run.generator("permute")) if permuted else seen
        fitted = head.fit_labels(labels.ids, labels.targets, batch=64, seed=run.seed, **how)
        return {"head/loss": fitted["loss"], "head/states": float(len(labels))}

    def state_dict(self) -> dict[str, Any]:
        return {"seen": self._seen.state_dict(), **self._beside.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._seen.load_state_dict(state["seen"])
        self._beside.load_state_dict(state, ("actor", "head"))
