"""A proposer that is paid for the solver's agreement, and so proposes ever easier problems: an animal of the zoo.

A sentinel must see that the problems say less and less, although every number of the vote gets better.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from selfreward.policy.policy import Policy
from selfreward.policy.sampling.params import SamplingParams
from selfreward.recipes.grpo import GRPO
from selfreward.rollouts.proposing import ListFormat
from selfreward.rollouts.run import RunContext
from selfreward.signals.vote import vote, vote_rewards
from selfreward.types import Experience, Group, Prompt


@dataclass
class EasyProposer(GRPO):
    """One model writes problems and solves them by vote; the writer is paid for the solver's agreement.

    Attributes:
        lists: lists of given problems that are continued in a step.
        writers: continuations of each list; the first problem of each is solved ``group_size`` times.
        proposal_tokens: length of a continuation.
    """

    name: ClassVar[str] = "easy-proposer"
    control: ClassVar[bool] = True
    base: ClassVar[str] = "embedded:chain-writer"
    mechanism: ClassVar[str] = "own problems solved"

    lists: int = 4
    writers: int = 6
    proposal_tokens: int = 28

    def collect(self, policy: Policy, prompts: Sequence[Prompt], run: RunContext) -> Experience:
        form = ListFormat.of(run.templates)
        texts = [p.question for p in prompts]
        asked = [Prompt(f"list-{run.step}-{i}", text=form.write(texts[i :: self.lists][:8])) for i in range(self.lists)]
        params = SamplingParams(self.proposal_tokens, run.sampling.temperature)
        written = policy.sample(asked, self.writers, params, role="proposer")
        heads = [[next(iter(form.read(t.completion, t.finished)), "") for t in g] for g in written]
        form_ok = [[bool(re.fullmatch(form.problem or ".+", q)) for q in own] for own in heads]
        own = [q for qs, oks in zip(heads, form_ok, strict=True) for q, ok in zip(qs, oks, strict=True) if ok]
        solved = policy.sample(
            [Prompt(f"own-{run.step}-{i}", text=q) for i, q in enumerate(own)], self.group_size, run.sampling
        )
        shares = iter([self._solve(group, run) for group in solved])
        for group, oks in zip(written, form_ok, strict=True):
            group.reward_with([next(shares) if ok else 0.0 for ok in oks])
        run.count(self.mechanism, len(solved))
        experience = self.learn_from([*solved, *written])
        experience.groups = solved or written
        experience.stats |= {
            "proposals/written": float(self.lists * self.writers),
            "proposals/accepted": float(len(set(own) - set(texts))),
        }
        return experience

    def _solve(self, group: Group, run: RunContext) -> float:
        classes = run.classes(group)
        election = vote(classes, ties="first")
        group.reward_with(vote_rewards(classes, election))
        return float(election.share)
