"""Rules, optimal play and exact exploitability from OpenSpiel (the optional package ``open-spiel``)."""

from __future__ import annotations

import random
from collections.abc import Mapping
from functools import cache
from typing import Any

from selfreward.errors import UserError
from selfreward.runtime.seeding import stream_seed

CFR_ITERATIONS = 500


def pyspiel() -> Any:
    """The module.

    Raises:
        UserError: where it is not installed.
    """
    try:
        import pyspiel as module
    except ImportError:
        raise UserError("Games need OpenSpiel: pip install 'selfreward[games]'.") from None
    return module


class SpielState:
    """A position of an OpenSpiel game (see :class:`selfreward.rollouts.envs.games.base.State`); actions are its
    numbers as text."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    @property
    def mover(self) -> int | None:
        return None if self.inner.is_terminal() else int(self.inner.current_player())

    @property
    def history(self) -> tuple[int, ...]:
        return tuple(self.inner.history())

    def actions(self) -> list[str]:
        return [str(a) for a in self.inner.legal_actions()]

    def after(self, action: str) -> SpielState:
        return SpielState(self.inner.child(int(action)))

    def returns(self) -> tuple[float, float]:
        first, second = self.inner.returns()
        return float(first), float(second)

    def view(self, role: int) -> str:
        return str(self.inner.information_state_string(role))


class SpielGame:
    """A two-player zero-sum game by its OpenSpiel name, whose chance moves all come at the start.

    Raises:
        UserError: for an unknown game, or one that is not of that kind.
    """

    def __init__(self, name: str) -> None:
        module = pyspiel()
        try:
            self.inner = module.load_game(name)
        except module.SpielError as error:
            raise UserError(f"OpenSpiel has no game {name!r}: {str(error).splitlines()[0]}") from None
        kind = self.inner.get_type()
        if self.inner.num_players() != 2 or kind.utility != module.GameType.Utility.ZERO_SUM:
            raise UserError(f"{name} is not a two-player zero-sum game.")
        if kind.dynamics != module.GameType.Dynamics.SEQUENTIAL:
            raise UserError(f"{name} has simultaneous moves; only games in turns can be played here.")
        self.name = name
        self.stake = float(self.inner.max_utility())
        self.perfect = kind.information == module.GameType.Information.PERFECT_INFORMATION

    def start(self, seed: int) -> SpielState:
        state, rng = self.inner.new_initial_state(), random.Random(stream_seed(seed, "deal", self.name))
        while state.is_chance_node():
            actions, chances = zip(*state.chance_outcomes(), strict=True)
            state.apply_action(rng.choices(actions, chances)[0])
        return SpielState(state)

    def starts(self) -> list[tuple[SpielState, float]]:
        found, todo = [], [(self.inner.new_initial_state(), 1.0)]
        while todo:
            state, chance = todo.pop()
            if state.is_chance_node():
                todo += [(state.child(a), chance * p) for a, p in state.chance_outcomes()]
            else:
                found.append((SpielState(state), chance))
        return found


Table = Mapping[str, Mapping[str, float]]
"""A behaviour policy: information state -> action -> probability."""


@cache
def game(name: str) -> SpielGame:
    """The game, loaded once."""
    return SpielGame(name)


def nash_conv(which: SpielGame, table: Table) -> float:
    """How much both roles together could gain by a best response; 0 exactly at an equilibrium.

    Twice the exploitability in a two-player zero-sum game. In Kuhn poker uniform play has 11/12.

    Raises:
        UserError: where ``table`` lacks an information state or its probabilities do not sum to 1.
    """
    actions = _actions(which)
    missing = sorted(set(actions) - set(table))
    if missing:
        raise UserError(f"The policy has no row for {len(missing)} information states, e.g. {missing[0]!r}.")
    rows = {}
    for view, names in actions.items():
        row = [(int(name), float(table[view].get(name, 0.0))) for name in names]
        if abs(sum(p for _, p in row) - 1) > 1e-6:
            raise UserError(f"The probabilities at {view!r} sum to {sum(p for _, p in row):.4g}, not to 1.")
        rows[view] = row
    module = pyspiel()
    return float(module.nash_conv(which.inner, module.TabularPolicy(rows)))


def exploitability(which: SpielGame, table: Table) -> float:
    """Half of :func:`nash_conv`: the mean loss per game against opponents that know the policy."""
    return nash_conv(which, table) / 2


@cache
def _actions(which: SpielGame) -> dict[str, list[str]]:
    """Information state -> legal actions."""
    found: dict[str, list[str]] = {}
    todo = [state for state, _ in which.starts()]
    while todo:
        state = todo.pop()
        if state.mover is not None:
            found.setdefault(state.view(state.mover), state.actions())
            todo += [state.after(a) for a in state.actions()]
    return found


@cache
def equilibrium(name: str) -> dict[str, dict[str, float]]:
    """Play that nobody can exploit: every best move alike under perfect information, else CFR+ (500 rounds)."""
    which = game(name)
    if which.perfect:
        return _minimax(which)
    solver = pyspiel().CFRPlusSolver(which.inner)
    for _ in range(CFR_ITERATIONS):
        solver.evaluate_and_update_policy()
    average = solver.tabular_average_policy().policy_table()
    return {view: {str(action): p for action, p in row} for view, row in average.items()}


def _minimax(which: SpielGame) -> dict[str, dict[str, float]]:
    """Position -> best moves, equally likely. Positions are keyed by the mover's view and by the board."""
    values: dict[str, float] = {}
    best: dict[str, dict[str, float]] = {}

    def value(state: SpielState) -> float:  # for role 0
        board = str(state.inner)
        if board not in values:
            if state.mover is None:
                values[board] = state.returns()[0]
            else:
                sign = 1 if state.mover == 0 else -1
                found = {a: sign * value(state.after(a)) for a in state.actions()}
                top = max(found.values())
                moves = [a for a, v in found.items() if v == top]
                best[board] = {a: 1 / len(moves) for a in moves}
                values[board] = sign * top
        return values[board]

    value(which.start(0))
    return best


def optimal_move(state: SpielState, name: str) -> dict[str, float]:
    """Action -> probability of equilibrium play in ``state``."""
    assert state.mover is not None
    key = str(state.inner) if game(name).perfect else state.view(state.mover)
    return equilibrium(name)[key]
