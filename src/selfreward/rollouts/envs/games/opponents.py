"""Who sits opposite a model that learns to play: itself, its own past, or somebody fixed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from selfreward.policy.snapshots.lineage import Lineage
from selfreward.rollouts.envs.games.play import Player, PolicyPlayer, ScriptedPlayer, optimal, uniform

if TYPE_CHECKING:
    from selfreward.policy.policy import Policy
    from selfreward.rollouts.run import RunContext

Kind = Literal["self", "snapshot", "random", "optimal"]


class Opponent:
    """An opponent by kind.

    Args:
        kind: ``self``; ``snapshot``, the policy as it was up to ``refresh`` steps ago; ``random``, any legal action;
            ``optimal``, equilibrium play.
        refresh: steps between two snapshots.
    """

    def __init__(self, kind: Kind = "self", refresh: int = 10) -> None:
        self.kind, self.refresh = kind, refresh
        self._past = Lineage()

    def seat(self, policy: Policy, me: PolicyPlayer, run: RunContext) -> Callable[[str], Player]:
        """The player of this step, by the name of the game; ``me`` is the one who learns."""
        if self.kind == "self":
            return lambda game: me
        if self.kind == "snapshot":
            if "opponent" not in self._past or (run.step - 1) % self.refresh == 0:
                self._past.keep("opponent", policy)
            past = self._past.get("opponent", policy)
            past.seed(run.seed, "opponent", run.step)  # its draws are its own, and those of the step
            return lambda game: PolicyPlayer(past, run.sampling, learns=False, role="opponent")
        seed = int(run.generator("opponent").initial_seed())
        return lambda game: ScriptedPlayer(uniform if self.kind == "random" else optimal(game), seed)

    def state_dict(self) -> dict[str, Any]:
        return self._past.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._past.load_state_dict(state)
