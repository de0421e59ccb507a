"""MASA (2025, arXiv 2510.03259): predicting one's own pass rate and solution length, beside solving.

    for each problem: G solutions (gold-scored) and G meta answers {pass rate, solution length, concepts}
    p = mean solution score, C = right solutions
    r_pass = 0.01^|predicted - p|;  r_len = [min length in C < predicted < max length in C]
    r_concept = share of predicted concepts that right solutions use more than wrong ones
    meta reward = mean of the three; a missing or ill-typed part is 0
    one GRPO batch, solutions and meta answers in groups of their own
    efficient variant: the predictions decide which problems are sampled at all, and how long

Needs gold answers; the meta task needs no label of its own. Predicted gating is in the paper and absent from the
released code; what it saves is measured by ``spent``, the tokens of all rollouts that training used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from selfreward.credit.rows import row_of
from selfreward.losses import NLL, LossTerm
from selfreward.policy.policy import Policy
from selfreward.recipes.grpo import GRPO
from selfreward.rollouts.allocation import sample_within
from selfreward.rollouts.run import RunContext
from selfreward.rollouts.turns import told
from selfreward.signals import rules
from selfreward.signals.self_prediction import (
    PASS_STEPS,
    MetaAnswer,
    Wording,
    concept_reward,
    meta_accuracy,
    pass_reward,
    predicted_length_reward,
)
from selfreward.types import Experience, Group, Labels, Prompt, Row, Trajectory

META = (
    "{question}\n\nDo not solve this yet. How would you do? Think, then end with one JSON object: "
    '{{"concepts": [...], "pass_rate": how many of 8 attempts would be right, "solution_length": tokens}}'
)


@dataclass
class MASA(GRPO):
    """GRPO on solutions and on predictions about them.

    Attributes:
        group_size, meta_size: solutions and meta answers per problem.
        truth: whose statistics the meta answers are paid for; ``other`` is another problem's (control), ``off``
            leaves the meta task out.
        concepts: whether the concept part counts; tiny models have none.
        strict: the paper's strict inequality for the length.
        clone: likelihood weight of the expert: the meta answer with the best concept part and the true numbers
            (expert behaviour cloning; off in the paper's main runs).
        gate: ``predicted`` skips problems whose mean predicted pass rate is at most ``skip_below`` or at least
            ``skip_above``; ``random`` skips as many others; ``oracle`` those that turn out to have no
            variance, as if known beforehand.
        gate_after: steps before predictions are believed.
        cut: a solution may take this many times the longest predicted length; 0 is off.
        audit: also sample what was skipped, to measure how right that was. It costs no ``spent`` tokens.
    """

    name: ClassVar[str] = "masa"
    system_id: ClassVar[str | None] = "010"
    base: ClassVar[str] = "embedded:chain-wide"
    labels: ClassVar[Labels] = "outcome"
    mechanism: ClassVar[str] = "meta answers scored, or problems skipped"

    clip_high: float = 0.28
    meta_size: int = 8
    truth: Literal["own", "other", "off"] = "own"
    concepts: bool = True
    strict: bool = True
    clone: float = 0.0
    gate: Literal["none", "predicted", "random", "oracle"] = "none"
    gate_after: int = 10
    skip_below: float = 0.0
    skip_above: float = 1.0
    cut: float = 0.0
    audit: bool = False

    def objective(self, run_limit: int) -> list[LossTerm]:
        terms = super().objective(run_limit)
        return [*terms, NLL()] if self.clone else terms

    def collect(self, policy: Policy, prompts: Sequence[Prompt], run: RunContext) -> Experience:
        words = Wording(run.templates.get("meta-letters", ""), int(run.templates.get("meta-length-step", 1)))
        metas = self.ask(policy, prompts, run)
        said = [[words.read(c) for c in group.completions] for group in metas]
        skipped = self.skipped(said, len(prompts), run)
        kept = [i for i in range(len(prompts)) if i not in skipped]
        solutions = self.solve(policy, [prompts[i] for i in kept], [said[i] for i in kept] if said else [], run)
        stats: dict[str, float] = {}
        if self.gate == "oracle":
            skipped = {i for i, g in zip(kept, solutions, strict=True) if _flat(g)}
            kept = [i for i in kept if i not in skipped]
            solutions = [g for g in solutions if not _flat(g)]
            stats["gate/precision"] = 1.0
            run.count(self.mechanism, len(skipped))
        elif self.audit and skipped:
            unseen = policy.sample([prompts[i] for i in sorted(skipped)], self.group_size, run.sampling, role="audit")
            self.score(unseen, run)
            stats["gate/precision"] = sum(map(_flat, unseen)) / len(unseen)
        answered, said = [metas[i] for i in kept if metas], [said[i] for i in kept if said]
        lengths = [[words.rounded(len(t.last)) for t in g if t.reward > 0] for g in solutions]
        cloned = self.pay(policy, answered, said, solutions, lengths, words, run)
        experience = self.learn_from([*solutions, *answered])
        experience.rows += cloned
        experience.groups = solutions
        experience.stats = {
            "spent": float(sum(len(t.last) for g in [*solutions, *metas] for t in g)),
            "gate/skipped": len(skipped) / len(prompts),
            "zero_std": sum(map(_flat, solutions)) / max(1, len(solutions)),
            **(meta_accuracy(said, [sum(g.rewards) / len(g) for g in solutions], lengths) if said else {}),
            **stats,
        }
        return experience

    # ---- the meta task

    def ask(self, policy: Policy, prompts: Sequence[Prompt], run: RunContext) -> list[Group]:
        """Meta answers about every problem."""
        if self.truth == "off":
            return []
        template = run.templates.get("meta", META)
        texts = [p.fields["meta"] if "meta" in p.fields else template.format(question=p.question) for p in prompts]
        asked = [Prompt(p.id, text) for p, text in zip(prompts, texts, strict=True)]
        return policy.sample(asked, self.meta_size, run.sampling, role="meta", view="meta")

    def pay(
        self,
        policy: Policy,
        metas: Sequence[Group],
        said: Sequence[Sequence[MetaAnswer]],
        solutions: Sequence[Group],
        lengths: Sequence[list[int]],
        words: Wording,
        run: RunContext,
    ) -> list[Row]:
        """Reward the meta answers; returns the experts to be cloned."""
        experts: list[Row] = []
        about = list(zip(solutions, lengths, strict=True))
        if self.truth == "other":
            about = [*about[1:], *about[:1]]
            if len(about) < 2:  # no other problem is left in this step, so nothing is paid
                metas, said, about = [], [], []
        for group, answers, (truth, right) in zip(metas, said, about if metas else [], strict=True):
            parts = [self.parts(a, truth, right) for a in answers]
            group.reward_with([sum(p) / len(p) for p in parts])
            truth.meta["meta"] = list(group.completions[:4])
            run.count(self.mechanism, len(group))
            if self.clone and right:
                best = max(range(len(parts)), key=lambda i: parts[i][-1]) if self.concepts else 0
                rate, length = round(PASS_STEPS * len(right) / len(truth)), _mean_length(truth)
                text = words.write(MetaAnswer(rate, words.rounded(length), answers[best].concepts))
                segments = [group.trajectories[0].segments[0], told(policy, "meta", text, trainable=True)]
                experts.append(row_of(Trajectory(group.prompt, segments), nll=self.clone))
        return experts

    def parts(self, answer: MetaAnswer, solutions: Group, lengths: Sequence[int]) -> list[float]:
        """What each part of a meta answer is worth, by the solutions and the ``lengths`` of right ones."""
        right = [t.reward > 0 for t in solutions]
        found = [
            pass_reward(answer.rate, sum(right) / len(right)),
            predicted_length_reward(answer.length, lengths, self.strict),
        ]
        if self.concepts:
            found.append(concept_reward(answer.concepts, solutions.prompt.question, solutions.completions, right))
        return found

    # ---- solutions and gates

    def solve(
        self, policy: Policy, prompts: Sequence[Prompt], said: Sequence[Sequence[MetaAnswer]], run: RunContext
    ) -> list[Group]:
        """Scored solutions, where it is asked for no longer than predicted."""
        most = run.sampling.max_new_tokens
        if not self.cut or not said or run.step <= self.gate_after:
            groups = policy.sample(prompts, self.group_size, run.sampling)
        else:
            longest = [max((a.length or most for a in answers), default=most) for answers in said]
            limits = [min(most, max(1, round(self.cut * n))) for n in longest]
            run.count("problems cut short", sum(n < most for n in limits))
            groups = sample_within(policy, prompts, self.group_size, run.sampling, limits)
        self.score(groups, run)
        return groups

    def score(self, groups: Sequence[Group], run: RunContext) -> None:
        """Gold rewards."""
        for group in groups:
            if group.prompt.answer is not None:
                group.reward_with(rules.gold(group.completions, group.prompt.answer, run.answers))

    def skipped(self, said: Sequence[Sequence[MetaAnswer]], n: int, run: RunContext) -> set[int]:
        """Problems that are not sampled, by what was predicted of them."""
        if self.gate not in ("predicted", "random") or run.step <= self.gate_after or not said:
            return set()
        rates = [[a.rate for a in answers if a.rate is not None] for answers in said]
        means = [sum(own) / len(own) if own else 0.5 for own in rates]
        chosen = {i for i, mean in enumerate(means) if mean <= self.skip_below or mean >= self.skip_above}
        if self.gate == "random":
            chosen = set(torch.randperm(n, generator=run.generator("gate"))[: len(chosen)].tolist())
        run.count(self.mechanism, len(chosen))
        run.count("problems skipped", len(chosen))
        return chosen


def _flat(group: Group) -> bool:
    """No variance, hence no gradient."""
    return len(set(group.rewards)) < 2


def _mean_length(group: Group) -> int:
    right = [len(t.last) for t in group if t.reward > 0]
    return round(sum(right) / len(right))
