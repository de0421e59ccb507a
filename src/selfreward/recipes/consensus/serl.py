"""SeRL: the model writes problems from a few seeds, and the majority of its answers rewards it.

Fang et al. 2025, "SeRL: Self-Play Reinforcement Learning for Large Language Models with Limited Data",
arXiv 2505.20347. Believes that a few hundred unlabelled problems are enough: the model continues lists
of them, and a vote replaces the missing answers where it is neither unanimous nor lost. Needs seed
problems (texts) and a policy that can write problems.
1. Lists of 8 examples (2 own, 6 seeds) are continued; parsed problems are filtered for form and novelty.
2. n answers per new problem; the majority is the label. 3. Only problems whose mean reward lies in the
difficulty band are learned from, and join the examples; others are forgotten after a step.
4. REINFORCE++ with the KL inside the reward.
Known to break without the band (the vote rewards itself on hopeless and solved problems), and because
generator and solver share weights: training the solver can spoil the writing (watch ``proposals/``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from selfreward.credit.filters import keep, reward_band
from selfreward.errors import ConfigError
from selfreward.policy.policy import Policy
from selfreward.policy.sampling.params import SamplingParams
from selfreward.recipes.common.baseline import BatchBaseline
from selfreward.rollouts.proposing import ListFormat, TaskFactory, load_check
from selfreward.rollouts.run import RunContext
from selfreward.signals.vote import vote, vote_rewards
from selfreward.types import Experience, Prompt


@dataclass
class SeRL(BatchBaseline):
    """Majority vote on self-made problems of middling difficulty.

    Attributes:
        low, high: the difficulty band of a group's mean reward; 0 and 1 switch it off.
        novelty: largest ROUGE-L F with any seed or waiting problem; 1 switches the filter off.
        shots, from_pool: examples per list, and how many of them are own problems.
        rounds: how often lists are continued, at most, to fill a step.
        baseline: the paper's default is ``batch``, see :class:`BatchBaseline`.
        check: ``module:function``, a further condition on a written problem.
        proposal_tokens: length of a continued list.
        source: ``own`` problems, or the ``given`` prompts themselves (the arm that only votes, with the same
            band and update).
    """

    name: ClassVar[str] = "serl"
    system_id: ClassVar[str | None] = "162"
    base: ClassVar[str] = "embedded:chain-writer"
    mechanism: ClassVar[str] = "own problems inside the band"

    low: float = 0.2
    high: float = 0.8
    novelty: float = 0.7
    shots: int = 8
    from_pool: int = 2
    rounds: int = 4
    lifetime: int = 1
    check: str = ""
    proposal_tokens: int = 1024
    source: Literal["own", "given"] = "own"
    _factory: TaskFactory = field(default_factory=TaskFactory, repr=False, init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.low <= self.high <= 1:
            raise ConfigError(f"The difficulty band is {self.low} .. {self.high}; it must lie in 0 .. 1, low first.")
        made = self._factory
        made.shots, made.from_pool, made.lifetime = self.shots, self.from_pool, self.lifetime
        made.novelty = self.novelty
        made.check = load_check(self.check)

    def collect(self, policy: Policy, prompts: Sequence[Prompt], run: RunContext) -> Experience:
        stats: dict[str, float] = {}
        if self.source == "own":
            prompts, stats = self.write_problems(policy, prompts, run)
        groups = policy.sample(prompts, self.group_size, run.sampling)
        for group in groups:
            classes = run.classes(group)
            election = vote(classes, ties="first")
            group.reward_with(vote_rewards(classes, election))
            group.meta["vote"] = {"label": election.label, "share": election.share, "margin": election.margin}
        kept = keep(groups, {"band": reward_band(self.low, self.high)}).groups
        self._factory.keep(g.prompt.question for g in kept if self.source == "own")
        run.count(self.mechanism, len(kept))
        experience = self.learn_in_batch(kept, run)
        experience.groups = groups
        mean = [sum(g.rewards) / len(g) for g in groups]
        experience.stats |= {
            **stats,
            "serl/too_hard": sum(m < self.low for m in mean) / max(1, len(mean)),
            "serl/too_easy": sum(m > self.high for m in mean) / max(1, len(mean)),
        }
        return experience

    def write_problems(
        self, policy: Policy, prompts: Sequence[Prompt], run: RunContext
    ) -> tuple[list[Prompt], dict[str, float]]:
        """New problems, as many as there are prompts; the prompts dealt so far are the seeds.

        Where too few pass the filters the step's own seeds fill up, so that every step costs the same.
        """
        self._factory.add_seeds(p.question for p in prompts)
        params = SamplingParams(self.proposal_tokens, temperature=0.8, top_p=0.95, stats=())
        own, counts = self._factory.propose(
            policy,
            len(prompts),
            run.step,
            ListFormat.of(run.templates),
            params,
            run.generator("lists"),
            self.rounds,
        )
        run.count("problems written", len(own))
        found = {f"proposals/{k}": float(v) for k, v in counts.items()}
        return [*own, *prompts[len(own) :]], found | {"proposals/used": float(len(own))}

    def state_dict(self) -> dict[str, Any]:
        return self._factory.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._factory.load_state_dict(state)
