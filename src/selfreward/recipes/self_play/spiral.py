"""SPIRAL: one model plays both sides of zero-sum games (Liu et al. 2025, arXiv 2506.24119).

Believes that an opponent who is always as good as oneself sets problems for ever, and that what is learned at
the table (weighing chances, looking ahead) is of use elsewhere. Needs games with rules, nothing else: prompts
are initial states. Every turn is thinking and an action; the pay-off at the end is the return of all turns of
a role, and the advantage is that return minus a running mean *per game and role* (RAE), because a group mean
is 0 in a zero-sum game and a first mover's edge is no skill. Known to break without it: the thinking gets
shorter until there is none. Self-play can also go in circles; keep snapshots and look at cross-play.

The opponent is the current model (``self``), a snapshot of it, or somebody fixed; against any but oneself each
initial state is played once from either side. As in the public implementation an advantage is taken before
its return enters the baseline, and baselines start at 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from selfreward.credit.advantages import EmaBaseline, group_normalised
from selfreward.credit.rows import row_of
from selfreward.policy.policy import Policy
from selfreward.recipes.grpo import Loss, Normalisation, PolicyGradientRecipe
from selfreward.rollouts.envs.games.base import Illegal
from selfreward.rollouts.envs.games.measure import match_statistics
from selfreward.rollouts.envs.games.opponents import Kind, Opponent
from selfreward.rollouts.envs.games.play import Match, PolicyPlayer, by_position, learnable, play, seatings
from selfreward.rollouts.run import RunContext
from selfreward.types import Experience, Group, Labels, Prompt


@dataclass
class Spiral(PolicyGradientRecipe):
    """Self-play with role-conditioned advantages.

    Attributes:
        group_size: games per initial state.
        baseline: what is subtracted from a return: the mean of its game and role ("role"), nothing ("none"),
            or the mean of all roles and games of one initial state, divided by their spread ("group").
        decay: of the running means.
        opponent: who sits opposite.
        refresh: steps between two snapshots.
        outcome: the pay-off, its sign (win, draw, loss), or a coin ("random", a control).
        illegal: how a reply that names no legal action ends the game.
    """

    name: ClassVar[str] = "spiral"
    system_id: ClassVar[str | None] = "034"
    labels: ClassVar[Labels] = "environment"
    fields: ClassVar[tuple[str, ...]] = ("game", "seed")
    mechanism: ClassVar[str] = "turns credited by role"
    base: ClassVar[str] = "embedded:games"

    group_size: int = 1
    loss: Loss = "reinforce"
    normalise: Normalisation = "dr_grpo"
    baseline: Literal["role", "none", "group"] = "role"
    decay: float = 0.95
    opponent: Kind = "self"
    refresh: int = 10
    outcome: Literal["payoff", "sign", "random"] = "payoff"
    illegal: Illegal = "loss"
    _means: EmaBaseline = field(init=False, repr=False, compare=False)
    _opposite: Opponent = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._means = EmaBaseline(self.decay, corrected=False)
        self._opposite = Opponent(self.opponent, self.refresh)

    def collect(self, policy: Policy, prompts: Sequence[Prompt], run: RunContext) -> Experience:
        matches = play(self.tables(policy, prompts, run))
        seats = learnable(matches)
        for match, role, trajectory in seats:
            trajectory.reward = self._outcome(trajectory.reward, run, match.key, role)
        groups = by_position(seats, prompts)
        trajectories = [t for g in groups for t in g]
        rows = [row_of(t, a) for t, a in zip(trajectories, self._advantages(groups), strict=True)]
        run.count(self.mechanism, sum(s.trainable for t in trajectories for s in t.segments))
        return Experience(rows, groups=groups, stats=match_statistics(matches))

    def tables(self, policy: Policy, prompts: Sequence[Prompt], run: RunContext) -> list[Match]:
        """One match per game of every initial state; against another opponent one from either side."""
        me = PolicyPlayer(policy, run.sampling)
        return seatings(prompts, me, self._opposite.seat(policy, me, run), self.group_size, self.illegal)

    def _outcome(self, value: float, run: RunContext, key: str, role: int) -> float:
        if self.outcome == "random":
            return 1.0 if run.generator("coin", key, role).initial_seed() % 2 else -1.0
        return float((value > 0) - (value < 0)) if self.outcome == "sign" else value

    def _advantages(self, groups: Sequence[Group]) -> list[float]:
        """One advantage per trajectory, in order."""
        if self.baseline == "group":
            return [float(a) for g in groups for a in group_normalised(g.rewards)]
        trajectories = [t for g in groups for t in g]
        rewards = [t.reward for t in trajectories]
        if self.baseline == "none":
            return rewards
        keys = [f"{t.meta['game']}/{t.meta['role']}" for t in trajectories]
        return [float(a) for a in self._means.one_by_one(keys, rewards)]

    def state_dict(self) -> dict[str, Any]:
        return {"means": self._means.state_dict(), "past": self._opposite.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._means.load_state_dict(state["means"])
        self._opposite.load_state_dict(state["past"])
