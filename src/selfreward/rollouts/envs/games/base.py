"""What a game is, and how it is told in text.

A :class:`Game` holds the rules: whose turn, which actions, who won. A :class:`Script` turns them into
words for one role: what it reads when play opens and when the other side has moved, and which action a
reply names. A role never reads more than the rules let it know.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal, Protocol

from selfreward.errors import ConfigError

ROLES = (0, 1)
Illegal = Literal["loss", "released"]


class State(Protocol):
    """A position of a two-player zero-sum game, with chance already resolved. Never changed in place."""

    @property
    def mover(self) -> int | None:
        """The role to move, 0 or 1; None when the game is over."""

    @property
    def history(self) -> tuple[int, ...]:
        """Every action since the start by its number, those of chance included."""

    def actions(self) -> list[str]:
        """Names of the legal actions."""

    def after(self, action: str) -> State: ...

    def returns(self) -> tuple[float, float]:
        """Pay-offs of the roles at the end; they sum to 0."""

    def view(self, role: int) -> str:
        """What ``role`` knows, as a key: equal for positions that it cannot tell apart."""


class Game(Protocol):
    """Rules by name. ``stake`` is the largest pay-off."""

    name: str
    stake: float

    def start(self, seed: int) -> State:
        """The first position; ``seed`` decides what chance deals."""

    def starts(self) -> Sequence[tuple[State, float]]:
        """Every deal of chance with its probability."""


class Script(ABC):
    """The text of a game from the seat of one role.

    Attributes:
        game: the rules.
        limit: most tokens of a reply, for whoever sets ``max_new_tokens``.
    """

    game: Game
    limit: int = 64

    @abstractmethod
    def opening(self, state: State, role: int) -> str:
        """What ``role`` reads before anything else: the game, its role, its private information."""

    @abstractmethod
    def heard(self, action: str, state: State, role: int) -> str:
        """What ``role`` reads when the other side takes ``action`` in ``state``."""

    @abstractmethod
    def write(self, action: str, state: State, think: bool = True) -> str:
        """A reply of the mover that takes ``action``, with or without thinking before it."""

    @abstractmethod
    def read(self, reply: str) -> str | None:
        """The action that a reply names, legal or not; None where it names none."""

    @abstractmethod
    def thinking(self, reply: str) -> str:
        """The part of a reply that comes before its action."""

    def replies(self, state: State) -> list[str]:
        """All replies that count as well formed, for exact read-outs; a script may be too rich to have them.

        Raises:
            ConfigError: where they cannot be listed.
        """
        raise ConfigError(f"The replies of {self.game.name} cannot be listed, so they can only be sampled.")


def illegal_returns(mover: int, stake: float, rule: Illegal = "loss") -> tuple[float, float]:
    """Pay-offs when ``mover`` replies with an illegal action: the game ends there.

    ``"loss"`` is the largest possible loss, and the game stays zero-sum. ``"released"`` is what the public
    implementation of SPIRAL gives: -1.5 to the mover and 0.5 to the other.

    Example: role 1 errs at stake 2: ``(2, -2)`` and ``(0.5, -1.5)``.
    """
    pair = (-stake, stake) if rule == "loss" else (-1.5, 0.5)
    return pair if mover == 0 else (pair[1], pair[0])


def other(role: int) -> int:
    """The other one of two players, 0 or 1."""
    return 1 - role


def legal(state: State, action: str | None) -> bool:
    """Whether an action was read and may be taken here."""
    return action is not None and action in state.actions()
