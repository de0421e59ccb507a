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
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch

from selfreward.experience import row_of
from selfreward.losses import NLL, LossTerm
from selfreward.policy import Policy
from selfreward.recipes.base import Recipe, RunContext
from selfreward.signals import rules
from selfreward.signals.meta import (
    PASS_STEPS,
    MetaAnswer,
    concept_reward,
    length_reward,
    pass_reward,
    read_buckets,
    read_meta,
)
from selfreward.types import Experience, Group, Labels, Prompt, Segment, Trajectory

META = (
    "{question}\n\nDo not solve this yet. How would you do? Think, then end with one JSON object: "
    '{{"concepts": [...], "pass_rate": how many of 8 attempts would be right, "solution_length": tokens}}'
)


@dataclass
class MASA(Recipe):
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
        metas = self._ask(policy, prompts, run)
        said = [[self._read(c, run) for c in group.completions] for group in metas]
        skipped = self._skipped(said, len(prompts), run)
        kept = [i for i in range(len(prompts)) if i not in skipped]
        solutions = self._solve(policy, [prompts[i] for i in kept], [said[i] for i in kept] if said else [], run)
        stats: dict[str, float] = {}
        if self.gate == "oracle":
            flat = [i for i, g in zip(kept, solutions, strict=True) if _flat(g)]
            stats["gate/precision"] = 1.0
            solutions = [g for g in solutions if not _flat(g)]
            kept, skipped = [i for i in kept if i not in flat], set(flat)
            run.count(self.mechanism, len(skipped))
        elif self.audit and skipped:
            unseen = policy.sample([prompts[i] for i in sorted(skipped)], self.group_size, run.sampling, role="audit")
            for group in unseen:
                self._score(group, run)
            stats["gate/precision"] = sum(map(_flat, unseen)) / len(unseen)
        answered = [metas[i] for i in kept] if metas else []
        cloned = self._pay(policy, answered, [said[i] for i in kept] if said else [], solutions, run)
        experience = self.learn_from([*solutions, *answered])
        experience.rows += [row_of(t, nll=self.clone) for t in cloned]
        experience.groups = solutions
        spent = sum(len(t.last) for g in [*solutions, *metas] for t in g)
        experience.stats = {
            "spent": float(spent),
            "gate/skipped": len(skipped) / len(prompts),
            "zero_std": sum(map(_flat, solutions)) / max(1, len(solutions)),
            **self._accuracy([said[i] for i in kept] if said else [], solutions, run),
            **stats,
        }
        return experience

    # ---- the meta task

    def _ask(self, policy: Policy, prompts: Sequence[Prompt], run: RunContext) -> list[Group]:
        if self.truth == "off":
            return []
        template = run.templates.get("meta", META)
        asked = [
            Prompt(p.id, p.fields["meta"] if "meta" in p.fields else template.format(question=p.question))
            for p in prompts
        ]
        return policy.sample(asked, self.meta_size, run.sampling, role="meta", view="meta")

    def _read(self, text: str, run: RunContext) -> MetaAnswer:
        letters = run.templates.get("meta-letters")
        return read_buckets(text, letters, _step(run)) if letters else read_meta(text)

    def _pay(
        self,
        policy: Policy,
        metas: Sequence[Group],
        said: Sequence[Sequence[MetaAnswer]],
        solutions: Sequence[Group],
        run: RunContext,
    ) -> list[Trajectory]:
        """Reward the meta answers; returns the experts to be cloned."""
        experts: list[Trajectory] = []
        if not metas:
            return experts
        about = list(solutions)
        if self.truth == "other" and len(about) > 1:
            about = [*about[1:], about[0]]
        for group, answers, truth in zip(metas, said, about, strict=True):
            parts = [self._parts(a, truth, run) for a in answers]
            group.reward_with([sum(p) / len(p) for p in parts])
            truth.meta["meta"] = list(group.completions[:4])
            run.count(self.mechanism, len(group))
            if self.clone and any(t.reward for t in truth):
                best = max(range(len(parts)), key=lambda i: parts[i][-1]) if self.concepts else 0
                experts.append(_expert(policy, group, answers[best], truth, run))
        return experts

    def _parts(self, answer: MetaAnswer, solutions: Group, run: RunContext) -> list[float]:
        right = [t.reward > 0 for t in solutions]
        lengths = [_rounded(len(t.last), run) for t, ok in zip(solutions, right, strict=True) if ok]
        parts = [
            pass_reward(answer.rate, sum(right) / len(right)),
            length_reward(answer.length, lengths, self.strict),
        ]
        if self.concepts:
            parts.append(concept_reward(answer.concepts, solutions.prompt.question, solutions.completions, right))
        return parts

    def _accuracy(
        self, said: Sequence[Sequence[MetaAnswer]], solutions: Sequence[Group], run: RunContext
    ) -> dict[str, float]:
        """How right the predictions were, whoever they were paid for."""
        errors, hits = [], []
        for answers, group in zip(said, solutions):
            rate = sum(group.rewards) / len(group)
            lengths = [_rounded(len(t.last), run) for t in group if t.reward > 0]
            errors += [abs(a.rate - rate) if a.rate is not None else 1.0 for a in answers]
            if lengths:
                hits += [length_reward(a.length, lengths, strict=False) for a in answers]
        found = {"meta/pass_error": errors, "meta/length_hits": hits}
        return {name: sum(values) / len(values) for name, values in found.items() if values}

    # ---- solutions and gates

    def _solve(
        self, policy: Policy, prompts: Sequence[Prompt], said: Sequence[Sequence[MetaAnswer]], run: RunContext
    ) -> list[Group]:
        if not self.cut or not said or run.step <= self.gate_after:
            groups = policy.sample(prompts, self.group_size, run.sampling)
        else:
            most = run.sampling.max_new_tokens
            limits = [
                min(most, max(1, round(self.cut * max((a.length or most for a in answers), default=most))))
                for answers in said
            ]
            run.count("problems cut short", sum(n < most for n in limits))
            found: dict[int, Group] = {}
            for limit in sorted(set(limits)):
                at = [i for i, n in enumerate(limits) if n == limit]
                drawn = policy.sample(
                    [prompts[i] for i in at], self.group_size, replace(run.sampling, max_new_tokens=limit)
                )
                found.update(zip(at, drawn, strict=True))
            groups = [found[i] for i in range(len(prompts))]
        for group in groups:
            self._score(group, run)
        return groups

    def _score(self, group: Group, run: RunContext) -> None:
        if group.prompt.answer is not None:
            group.reward_with(rules.gold(group.completions, group.prompt.answer, run.answers))

    def _skipped(self, said: Sequence[Sequence[MetaAnswer]], n: int, run: RunContext) -> set[int]:
        if self.gate not in ("predicted", "random") or run.step <= self.gate_after or not said:
            return set()
        chosen = set()
        for i, answers in enumerate(said):
            rates = [a.rate for a in answers if a.rate is not None]
            mean = sum(rates) / len(rates) if rates else 0.5
            if mean <= self.skip_below or mean >= self.skip_above:
                chosen.add(i)
        if self.gate == "random":
            chosen = set(torch.randperm(n, generator=run.generator("gate"))[: len(chosen)].tolist())
        run.count(self.mechanism, len(chosen))
        run.count("problems skipped", len(chosen))
        return chosen


def _flat(group: Group) -> bool:
    """No variance, hence no gradient."""
    return len(set(group.rewards)) < 2


def _step(run: RunContext) -> int:
    return int(run.templates.get("meta-length-step", 1))


def _rounded(tokens: int, run: RunContext) -> int:
    """A length in the steps in which it is predicted, up to the largest that can be said."""
    letters, step = run.templates.get("meta-letters"), _step(run)
    steps = -(-tokens // step)
    return step * (min(steps, len(letters)) if letters else steps)


def _expert(policy: Policy, group: Group, answer: MetaAnswer, truth: Group, run: RunContext) -> Trajectory:
    """The meta answer with the true pass rate and the mean length of right solutions, as text to imitate."""
    import json

    right = [t for t in truth if t.reward > 0]
    rate = round(PASS_STEPS * len(right) / len(truth))
    length = _rounded(round(sum(len(t.last) for t in right) / len(right)), run)
    letters = run.templates.get("meta-letters")
    if letters:
        text = f"{rate}{letters[length // _step(run) - 1]}"
    else:
        found = {"concepts": list(answer.concepts or ()), "pass_rate": rate, "solution_length": length}
        text = json.dumps(found, ensure_ascii=False)
    ids = [*policy.tokenizer(text, add_special_tokens=False)["input_ids"], policy.end_tokens[0]]
    tail = Segment("meta", torch.tensor(ids), text, trainable=True)
    return Trajectory(group.prompt, [group.trajectories[0].segments[0], tail])
