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
from selfreward.recipes.base import all_but
from selfreward.recipes.self_play.spiral import Spiral
from selfreward.rollouts.envs.games.play import Match, ScriptedPlayer, optimal, table
from selfreward.rollouts.envs.games.scripts import script
from selfreward.rollouts.run import RunContext
from selfreward.types import Prompt, Row, Trajectory


@dataclass
class ExpertGames(Spiral):
    """Supervised learning of what both perfect players write."""

    name: ClassVar[str] = "expert-games"
    system_id: ClassVar[str | None] = None
    control: ClassVar[bool] = True
    mechanism: ClassVar[str] = "turns imitated"

    def tables(self, policy: Policy, prompts: Sequence[Prompt], run: RunContext) -> list[Match]:
        seed, found = int(run.generator("experts").initial_seed()), []
        for prompt in prompts:
            tells = script(prompt.fields["game"])
            expert = ScriptedPlayer(optimal(tells.game.name), seed, voice=policy)
            for g in range(self.group_size):
                found.append(table(prompt, tells, (expert, expert), f"{prompt.id}/{g}", int(prompt.fields["seed"])))
        return found

    def row(self, trajectory: Trajectory, advantage: float) -> Row:
        return row_of(trajectory, nll=1.0)

    def unread(self) -> dict[str, str]:
        played = dict.fromkeys(("baseline", "decay", "opponent", "refresh", "illegal"), "nobody plays here")
        return all_but(because="it imitates the experts") | played

    def objective(self, run_limit: int) -> list[LossTerm]:
        return [NLL()]
