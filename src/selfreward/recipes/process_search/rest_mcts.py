"""ReST-MCTS*: search trees of steps, label every node from the answers at the leaves, learn from both.

Zhang et al. 2024, arXiv 2406.03816 (NeurIPS 2024), algorithms 1 and 2; released code THUDM/ReST-MCTS. Believes that
a value model which knows how far a partial solution is from the truth finds solutions that sampling does not,
and that the tree it searched says what each step was worth, so that nobody has to. Needs questions with answers
and solutions that can be cut into steps. 0. Samples of the start, labelled by the tree that they span, teach a
first value model. 1. Every question is searched by MCTS* with the policy and the value model of the cycle. 2.
The policy is trained on the distinct solutions with the right answer. 3. After the cycle the value model is
taught what the trees say (:func:`selfreward.rollouts.tree_search.value_targets`), and the new policy searches.
Known to break where the value model is sure of wrong steps, and where no tree finds an answer: no labels then.
The self-critic of the paper, which asks whether a solution is finished, is the task's format check here, and its
"summary" of a search without a finished solution is the policy writing on from the best beginning. The
released code expands at temperature .7 and plays on greedily; here both are sampled at the run's temperature.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from selfreward.credit.rejection import likelihood_experience, rejection_set
from selfreward.policy.policy import Policy
from selfreward.recipes.common.cycles import CycleRecipe
from selfreward.rollouts.run import RunContext
from selfreward.rollouts.step_tree import StateLabels, ValueReader, value_guided
from selfreward.rollouts.tree_search import Node, best_leaf, walk
from selfreward.types import Experience, Group, Prompt


@dataclass
class RestMCTS(CycleRecipe):
    """Self-training on what a value-guided search finds.

    Attributes:
        by: ``tree`` is the method; ``samples`` draws whole solutions instead, which is ReST-EM (arXiv 2312.06585).
        rounds, branch, explore, unvisited, alpha, roll: of :func:`selfreward.rollouts.step_tree.value_guided`.
        samples: whole solutions per question, in the warm-up and for ``samples``.
        warmup, cycles: see :class:`CycleRecipe`.
        keep: most solutions per question.
        least: a solution that the value model gives less is not trained on.
        updates, value_lr: of the value model, per fit.
        corrupt: ``permuted`` shuffles the value model's targets (control).
    """

    name: ClassVar[str] = "rest-mcts"
    system_id: ClassVar[str | None] = "049"
    mechanism: ClassVar[str] = "states searched"
    base: ClassVar[str] = "embedded:chain-long-judged"

    by: Literal["tree", "samples"] = "tree"
    rounds: int = 50
    branch: int = 3
    explore: float = 0.7
    unvisited: float = 1.0
    alpha: float = 0.5
    roll: int = 3
    samples: int = 16
    warmup: int = 4
    keep: int = 4
    least: float = 0.0
    updates: int = 400
    value_lr: float = 1e-3
    corrupt: Literal["none", "permuted"] = "none"

    def collect(self, policy: Policy, prompts: Sequence[Prompt], run: RunContext) -> Experience:
        if run.step <= self.warmup:
            groups, trees = self.sample(policy, prompts, self.samples, run)
            self.label(policy, groups, trees, run)
            return Experience([], groups=groups)
        actor, begins = self.turn(policy, run)
        stats = self.learn_values(policy, run) if begins else {}
        if self.by == "tree":
            groups, trees = self.search(actor, prompts, run)
        else:
            groups, trees = self.sample(actor, prompts, self.samples, run)
        self.label(policy, groups, trees, run)
        run.count(self.mechanism, sum(1 for tree in trees for _ in walk(tree)) - len(trees))
        right = {"wrong": lambda t: t.reward > 0, "value": lambda t: t.meta.get("value", 1.0) >= self.least}
        found = rejection_set(groups, right, rank=lambda t: t.meta.get("value", 0.0), cap=self.keep)
        experience = likelihood_experience(found, [g for g in groups if len(g)])
        experience.stats |= stats
        return experience

    def search(self, actor: Policy, prompts: Sequence[Prompt], run: RunContext) -> tuple[list[Group], list[Node]]:
        """All whole solutions of a tree per question; the best beginning of one without is written on to its end."""
        writer = self.writer(actor, run)
        reader = ValueReader(self.head(actor), account=actor, ask=self.ask(actor, run))
        options = {k: getattr(self, k) for k in ("rounds", "branch", "explore", "unvisited", "alpha", "roll")}
        trees = value_guided(writer, reader, prompts, threshold=None, **options)
        writer.finish([best_leaf(tree, finished=False) or tree for tree in trees if best_leaf(tree) is None])
        return [writer.harvest(tree) for tree in trees], trees

    def learn_values(self, policy: Policy, run: RunContext) -> dict[str, float]:
        """Teach the value model what was labelled since the last time."""
        if self.by == "samples":
            self._seen = StateLabels()
            return {}
        how = {"kind": "regression", "updates": self.updates, "lr": self.value_lr}
        return self.teach(policy, run, permuted=self.corrupt == "permuted", **how)
