"""Auxiliary models: what a recipe makes from the policy and keeps beside it, such as a frozen copy or a critic.

Each has a name, is made when it is first asked for, and comes back from a checkpoint bit by bit. A saved state is kept
until its model is first requested, because a checkpoint is loaded before there is a policy to make the model from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol, TypeVar

from selfreward.errors import RecipeError
from selfreward.policy.policy import Policy
from selfreward.policy.snapshots.frozen import load_weights, weights_of


class Stateful(Protocol):
    """A reward model, a critic, or whatever else can say and restore what it has learnt."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


Made = TypeVar("Made", bound=Stateful)


class AuxiliaryModels:
    """Auxiliary models by name.

    Example, in a recipe's ``collect``: ``critic = self._beside.get("critic", lambda: Critic(policy))``; the recipe's
    own ``state_dict`` and ``load_state_dict`` hand on to those of this class.
    """

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}
        self._saved: dict[str, Any] = {}

    def __contains__(self, name: str) -> bool:
        """Whether the model was made, in this process or before the checkpoint."""
        return name in self._made or name in self._saved

    def get(
        self, name: str, make: Callable[[], Made] | None = None, *, blank: Callable[[], Made] | None = None
    ) -> Made:
        """The model of that name; made at the first call, with what it had learnt where the run was resumed.

        Args:
            make: None for one that must have been :meth:`put` there before.
            blank: makes one to restore into, where ``make`` does more than that (teaches it, say).

        Raises:
            RecipeError: for a model that was never made and cannot be.
        """
        if name in self._made:
            found: Made = self._made[name]
            return found
        restored = name in self._saved
        factory = (blank or make) if restored else make
        if factory is None:
            raise RecipeError(f"There is no {name!r} yet, and nothing here makes one.")
        made = factory()
        if restored:
            _restore(made, self._saved.pop(name))
        self._made[name] = made
        return made

    def put(self, name: str, made: Made) -> Made:
        """Let another model take the name; the former one is forgotten."""
        self._saved.pop(name, None)
        self._made[name] = made
        return made

    def state_dict(self) -> dict[str, Any]:
        """What every auxiliary model has learnt, by name."""
        return {**self._saved, **{name: _learnt(made) for name, made in self._made.items()}}

    def load_state_dict(self, state: Mapping[str, Any], names: Iterable[str] | None = None) -> None:
        """Restore what :meth:`state_dict` gave; of ``names`` alone, where the state holds other things, too."""
        wanted = state if names is None else [n for n in names if n in state]
        self._made, self._saved = {}, {name: state[name] for name in wanted}


def _learnt(made: Any) -> Any:
    return weights_of(made) if isinstance(made, Policy) else made.state_dict()


def _restore(made: Any, saved: Any) -> None:
    if isinstance(made, Policy):
        load_weights(made, saved)  # a frozen copy: all its weights, also those that a LoRA policy does not train
    else:
        made.load_state_dict(saved)
