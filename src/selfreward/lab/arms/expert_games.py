"""Imitation of games between perfect players: what self-play is compared with.

Both sides draw from equilibrium play (minimax, or CFR+ where cards are hidden); their games are told in the
words of the scripts, with right thinking, and learned by likelihood. Believes that the best games are the best
teacher; they show only positions that perfect players reach.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from selfreward.credit.rows import row_of
from selfreward.losses import NLL, LossTerm
from selfreward.policy.policy import Policy
from selfreward.recipes.base import Recipe
from selfreward.rollouts.envs.games.measure import match_statistics
from selfreward.rollouts.envs.games.play import Match, ScriptedPlayer, by_position, learnable, optimal, play, table
from selfreward.rollouts.envs.games.scripts import script
from selfreward.rollouts.run import RunContext
from selfreward.types import Experience, Labels, Prompt


@dataclass
class ExpertGames(Recipe):
    """Supervised learning of what both perfect players write.

    Attributes:
        group_size: games per initial state.
    """

    name: ClassVar[str] = "expert-games"
    labels: ClassVar[Labels] = "environment"
    fields: ClassVar[tuple[str, ...]] = ("game", "seed")
    control: ClassVar[bool] = True
    mechanism: ClassVar[str] = "turns imitated"
    base: ClassVar[str] = "embedded:games"

    group_size: int = 1

    def objective(self, run_limit: int) -> list[LossTerm]:
        return [NLL()]

    def collect(self, policy: Policy, prompts: Sequence[Prompt], run: RunContext) -> Experience:
        matches = play(self.tables(policy, prompts, run))
        groups = by_position(learnable(matches), prompts)
        trajectories = [t for g in groups for t in g]
        run.count(self.mechanism, sum(s.trainable for t in trajectories for s in t.segments))
        rows = [row_of(t, nll=1.0) for t in trajectories]
        return Experience(rows, groups=groups, stats=match_statistics(matches))

    def tables(self, policy: Policy, prompts: Sequence[Prompt], run: RunContext) -> list[Match]:
        """``group_size`` tables per initial state, with an expert in both seats."""
        seed, found = int(run.generator("experts").initial_seed()), []
        for prompt in prompts:
            tells = script(prompt.fields["game"])
            expert = ScriptedPlayer(optimal(tells.game.name), seed, voice=policy)
            for g in range(self.group_size):
                found.append(table(prompt, tells, (expert, expert), f"{prompt.id}/{g}", int(prompt.fields["seed"])))
        return found
