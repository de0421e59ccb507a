"""Scripts of Kuhn poker and tic-tac-toe in a small vocabulary of whole words.

A reply is thinking, the word ``so``, and one action: ``beats1 so bet``, ``win3 block- so m3``; without
thinking ``so bet``. Roles are told apart by ``first`` and ``second``, moves by whose they are: ``m5`` is
mine, ``y5`` yours. Whoever talks to larger models writes a script of their own with the same six methods.
"""

from __future__ import annotations

import re
from functools import cache

from selfreward.errors import ConfigError, nearest
from selfreward.rollouts.envs.games.base import Script, State
from selfreward.rollouts.envs.games.openspiel import game

SEATS = ("first", "second")
CARDS = "JQK"
ACTIONS = {"0": "pass", "1": "bet"}
SQUARES = range(1, 10)
LINES = ((0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 3, 6), (1, 4, 7), (2, 5, 8), (0, 4, 8), (2, 4, 6))
_KUHN = re.compile(r"(?:beats[012] )?so (pass|bet)")
_TICTACTOE = re.compile(r"(?:win[1-9-] block[1-9-] )?so m([1-9])")


def words() -> list[str]:
    """The vocabulary of both scripts."""
    squares = [f"{kind}{n}" for kind in ("m", "y", "win", "block") for n in SQUARES]
    kuhn = ["kuhn", *CARDS, "pass", "bet", "opass", "obet", *(f"beats{n}" for n in range(3))]
    return [*SEATS, "so", *kuhn, "ttt", *squares, "win-", "block-"]


def thought(reply: str) -> str:
    """What comes before ``so``."""
    return reply.partition("so ")[0].strip()


class KuhnScript(Script):
    """Three cards, one each, one chip in the pot from both: pass or bet one chip more.

    The thinking says how many of the two other cards one's own beats.
    """

    limit = 4

    def __init__(self) -> None:
        self.game = game("kuhn_poker")

    def opening(self, state: State, role: int) -> str:
        return f"kuhn {SEATS[role]} {CARDS[state.history[role]]}"

    def heard(self, action: str, state: State, role: int) -> str:
        return f"o{ACTIONS[action]}"

    def write(self, action: str, state: State, think: bool = True) -> str:
        assert state.mover is not None
        return f"beats{state.history[state.mover]} " * think + f"so {ACTIONS[action]}"

    def read(self, reply: str) -> str | None:
        found = _KUHN.fullmatch(reply)
        return str(list(ACTIONS.values()).index(found[1])) if found else None

    def thinking(self, reply: str) -> str:
        return thought(reply)

    def replies(self, state: State) -> list[str]:
        return [f"{head}so {move}" for head in ("", "beats0 ", "beats1 ", "beats2 ") for move in ACTIONS.values()]


class TicTacToeScript(Script):
    """The thinking names a square that wins and one that must be blocked, or ``-`` where there is none."""

    limit = 5

    def __init__(self) -> None:
        self.game = game("tic_tac_toe")

    def opening(self, state: State, role: int) -> str:
        return f"ttt {SEATS[role]}"

    def heard(self, action: str, state: State, role: int) -> str:
        return f"y{int(action) + 1}"

    def write(self, action: str, state: State, think: bool = True) -> str:
        return threats(state) * think + f"so m{int(action) + 1}"

    def read(self, reply: str) -> str | None:
        found = _TICTACTOE.fullmatch(reply)
        return str(int(found[1]) - 1) if found else None

    def thinking(self, reply: str) -> str:
        return thought(reply)


def gap(mine: set[int], taken: set[int]) -> str:
    """The lowest square 1..9 that completes a line of ``mine`` and is free, else ``-``."""
    free = [next(iter(set(line) - mine)) for line in LINES if len(set(line) & mine) == 2]
    return str(min((s + 1 for s in free if s not in taken), default="-"))


def threats(state: State) -> str:
    """``win3 block- ``: what the mover should see before it moves."""
    moves = state.history
    own = {m for i, m in enumerate(moves) if i % 2 == state.mover}
    theirs = set(moves) - own
    return f"win{gap(own, set(moves))} block{gap(theirs, set(moves))} "


SCRIPTS = {"kuhn": KuhnScript, "tictactoe": TicTacToeScript}


@cache
def script(name: str) -> Script:
    """The script of a game by name.

    Raises:
        ConfigError: for an unknown name, with the nearest valid one.
        UserError: without OpenSpiel.
    """
    if name not in SCRIPTS:
        raise ConfigError(f"There is no game {name!r}.{nearest(name, SCRIPTS)}")
    return SCRIPTS[name]()
