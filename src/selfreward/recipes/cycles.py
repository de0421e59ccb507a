"""Self-training in cycles: a frozen actor writes, the policy learns from what was kept, and becomes the next actor.

What ReST-MCTS* and B-STaR share. The steps of a cycle stream through the same questions that the papers collect
first and train on afterwards; what is sampled comes from the policy as it was when the cycle began. A scalar
head is taught in the warm-up, in which the policy stays as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from selfreward.controllers import cycle_starts
from selfreward.copies import frozen_copy, weights_of
from selfreward.errors import RecipeError
from selfreward.heads import RewardModel
from selfreward.losses import NLL, LossTerm
from selfreward.policy import Policy
from selfreward.recipes.base import RunContext
from selfreward.recipes.correctness import CorrectnessRecipe
from selfreward.step_tree import StateLabels, StepWriter
from selfreward.tree_search import Node
from selfreward.types import Group, Prompt


@dataclass
class CycleRecipe(CorrectnessRecipe):
    """Base of recipes that train by likelihood on what an actor of the last cycle wrote.

    Attributes:
        warmup: steps before the first cycle.
        cycles: how many there are in the steps after the warm-up.
    """

    warmup: int = 0
    cycles: int = 2
    _actor: Policy | None = field(default=None, repr=False, init=False)
    _head: RewardModel | None = field(default=None, repr=False, init=False)
    _seen: StateLabels = field(default_factory=StateLabels, repr=False, init=False)
    _saved: dict[str, Any] = field(default_factory=dict, repr=False, init=False)

    def objective(self, run_limit: int) -> list[LossTerm]:
        return [NLL(normalise=self.normalise, max_tokens=run_limit)]

    def turn(self, policy: Policy, run: RunContext) -> bool:
        """Make the policy the actor if a cycle begins at this step; its draws depend on the seed and the step."""
        begins = self._actor is None or cycle_starts(run.step, self.warmup + 1, run.steps, self.cycles)
        if begins:
            self._actor = policy.snapshot()
        assert self._actor is not None
        self._actor.seed(run.seed, "actor", run.step)
        return begins

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

    def teach(self, policy: Policy, labels: StateLabels, **how: Any) -> dict[str, float]:
        """Fit the head to partial solutions with a number each.

        Raises:
            RecipeError: if there never was one.
        """
        if not len(labels) and self._head is None:
            raise RecipeError(
                "No partial solution has a label, because none of the questions so far was answered rightly. Give "
                "more samples or warm-up steps, or easier questions."
            )
        self._head = self._head or RewardModel(policy)
        if not len(labels):
            return {}
        fitted = self._head.fit_labels(labels.ids, labels.targets, batch=64, **how)
        return {"head/loss": fitted["loss"], "head/states": float(len(labels))}

    # ---- state ------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        state: dict[str, Any] = {"seen": self._seen.state_dict()}
        if self._actor is not None:
            state["actor"] = weights_of(self._actor)
        if self._head is not None:
            state["head"] = self._head.model.weights()
        return {**self._saved, **state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._seen.load_state_dict(state["seen"])
        # The copies have the policy's shape, which is not known before the next step.
        self._saved = {k: state[k] for k in ("actor", "head") if k in state}

    def wake(self, policy: Policy) -> None:
        """Put what was restored into force."""
        if "actor" in self._saved:
            self._actor = frozen_copy(policy, self._saved["actor"])
        if "head" in self._saved:
            self._head = RewardModel(policy)
            self._head.model.load_weights(self._saved["head"])
        self._saved = {}
