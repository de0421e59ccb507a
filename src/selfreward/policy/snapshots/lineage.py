"""Generations of one model inside one run: named frozen checkpoints, and what a role reads from which.

Iterative methods train in rounds. In round t the weights that the round found, ``M_t``, are its *start*: they sample,
judge or anchor while the policy moves on; the start of the round before is the *previous* one; a method may *keep*
further checkpoints by a name of its own (a temporary future model). Before the first copy every role is the model with
which the run began. What is stored comes back from a checkpoint bit by bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from selfreward.errors import ConfigError, RecipeError
from selfreward.policy.policy import Policy
from selfreward.policy.snapshots.frozen import snapshot_with, weights_of
from selfreward.types import Experience

BORN = ("start", "previous")  # roles that are the base until a later round


def round_of(step: int, steps: int, rounds: int, warm_up: int = 0) -> int:
    """The round of ``step`` (from 1) when ``steps`` are divided evenly among ``rounds``, counted from 0.

    With a ``warm_up`` its steps are round 0 and the others are rounds 1 to ``rounds``. Example: of 10 steps in 2
    rounds after a warm-up of 2, steps 1-2 are round 0, 3-6 round 1, and 7-10 round 2.

    Raises:
        ConfigError: for less than one round, or a warm-up that leaves no step.
    """
    left = steps - warm_up
    if rounds < 1 or warm_up < 0 or left < 1:
        raise ConfigError(f"{steps} steps, {warm_up} of them a warm-up, cannot be divided into {rounds} rounds.")
    if step <= warm_up:
        return 0
    return min((step - warm_up - 1) * rounds // left, rounds - 1) + (warm_up > 0)


def phase_of(step: int, steps: int, rounds: int, phases: int) -> tuple[int, int, int]:
    """Round and phase of ``step``, from 0, and its number within the phase, from 1, when rounds have ``phases``.

    Example: 8 steps in 2 rounds of 2 phases: step 4 is the second step of the second phase of the first round,
    ``(0, 1, 2)``.
    """
    parts = [round_of(s, steps, rounds * phases) for s in range(1, step + 1)]
    return parts[-1] // phases, parts[-1] % phases, parts.count(parts[-1])


class Lineage:
    """The checkpoints of one run by role.

    Example, in a recipe's ``collect``: ``lineage.enter(round_of(run.step, run.steps, rounds), policy)``, then
    ``lineage.get("start", run.reference)`` samples and judges.
    """

    def __init__(self) -> None:
        self.round = 0
        self._weights: dict[str, dict[str, Tensor]] = {}
        self._models: dict[str, Policy] = {}
        self._seen: dict[str, int] = {}

    def enter(self, round_: int, policy: Policy) -> bool:
        """Be in ``round_``; at its first step the start becomes the previous one and the policy's weights the start.

        Returns whether the round is new. A round that was entered before is refused: checkpoints do not come back.
        """
        if round_ == self.round:
            return False
        if round_ < self.round:
            raise RecipeError(f"Round {round_} was asked for after round {self.round}; rounds only go on.")
        self.round = round_
        if "start" in self._weights:
            self._weights["previous"] = self._weights["start"]
            self._models.pop("previous", None)
        self.keep("start", policy)
        return True

    def keep(self, role: str, policy: Policy) -> None:
        """Store the policy's present weights under ``role``."""
        self._weights[role] = weights_of(policy.snapshot())
        self._models.pop(role, None)

    def forget(self, role: str) -> None:
        """Drop what is stored under ``role``, if anything is."""
        self._weights.pop(role, None)
        self._models.pop(role, None)

    def __contains__(self, role: str) -> bool:
        return role in BORN or role in self._weights

    def get(self, role: str, base: Policy) -> Policy:
        """The frozen policy of ``role``; ``base`` is the model with which the run began.

        Raises:
            RecipeError: for a role that was never kept.
        """
        if role not in self._weights:
            if role not in BORN:
                raise RecipeError(f"No checkpoint was kept as {role!r}; there are {', '.join(self._roles())}.")
            return base
        if role not in self._models:
            self._models[role] = snapshot_with(base, self._weights[role])
        return self._models[role]

    def restart(self, policy: Policy, base: Policy, role: str = "start") -> None:
        """Give ``policy`` the weights of ``role``; its optimiser keeps its moments."""
        weights = self._weights.get(role) or weights_of(self.get(role, base))
        policy.load_state_dict({name: weights[name] for name in policy.state_dict()})

    def fresh(self, prompts: Iterable[str]) -> float:
        """Share of these prompts (by id) that no earlier round saw, and remember them for this one.

        A stream that is longer than the run gives disjoint prompts to the rounds; this is how a recipe knows.
        """
        ids = list(prompts)
        new = [i for i in ids if self._seen.setdefault(i, self.round) == self.round]
        return len(new) / len(ids) if ids else 1.0

    def state_dict(self) -> dict[str, Any]:
        """Round, weights and prompts seen."""
        return {"round": self.round, "weights": dict(self._weights), "seen": dict(self._seen)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave."""
        self.round = int(state["round"])
        self._weights = {role: dict(weights) for role, weights in state["weights"].items()}
        self._seen = {str(k): int(v) for k, v in state["seen"].items()}
        self._models = {}

    def _roles(self) -> list[str]:
        return list(dict.fromkeys([*BORN, *self._weights]))


def anchored(experience: Experience, model: Policy, temperature: float = 1.0, name: str = "reference") -> Experience:
    """The experience with ``model``'s log-probabilities in every row's channel ``name``.

    A loss term with ``anchor=name`` then compares with a reference of the round, not of the run.
    """
    rows = experience.rows
    scored = model.score([r.tokens for r in rows], [0] * len(rows), temperature=temperature, role="reference")
    for row, values in zip(rows, scored, strict=True):
        row.extra[name] = values["logprob"]
    return experience
