"""How well somebody plays: results against an opponent in both roles, and everybody against everybody."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from selfreward.rollouts.envs.games.base import ROLES, Script
from selfreward.rollouts.envs.games.play import Match, Player, play, table
from selfreward.types import Prompt


@dataclass(frozen=True)
class Score:
    """Shares over games, and the mean pay-off. ``illegal`` counts games that the player ended so."""

    win: float
    draw: float
    loss: float
    mean: float
    illegal: float


def score(matches: Sequence[Match], roles: Sequence[int]) -> Score:
    """The results of whoever sat in seat ``roles[i]`` of match ``i``.

    Example: returns (1, -1) and (0, 0) for role 0: win .5, draw .5, loss 0, mean .5.
    """
    own = [m.returns[r] for m, r in zip(matches, roles, strict=True)]
    n = max(1, len(own))
    return Score(
        sum(v > 0 for v in own) / n,
        sum(v == 0 for v in own) / n,
        sum(v < 0 for v in own) / n,
        sum(own) / n,
        sum(m.illegal == r for m, r in zip(matches, roles, strict=True)) / n,
    )


def versus(player: Player, opponent: Player, script: Script, games: int, seed: int = 0) -> Score:
    """``games`` games, half in each role; the same deals for both halves."""
    matches, roles = pairings(player, opponent, script, games, seed)
    return score(play(matches), roles)


def pairings(player: Player, opponent: Player, script: Script, games: int, seed: int) -> tuple[list[Match], list[int]]:
    """Matches ready to be played, and the role of ``player`` in each."""
    matches, roles = [], []
    for i in range(games):
        role = ROLES[i % 2]
        seats = (player, opponent) if role == 0 else (opponent, player)
        prompt = Prompt(f"{script.game.name}-{i}", script.game.name)
        matches.append(table(prompt, script, seats, f"versus {seed}/{i}", seed + i // 2))
        roles.append(role)
    return matches, roles


def cross_play(players: Mapping[str, Player], script: Script, games: int, seed: int = 0) -> dict[str, dict[str, float]]:
    """Mean pay-off of the row's player against the column's, over both roles; antisymmetric, zero on the diagonal.

    Self-play can go in circles: then everybody beats their predecessor and nobody is better. A player that
    is really better has a row without negative entries.
    """
    names = list(players)
    found: dict[str, dict[str, float]] = {name: {name: 0.0} for name in names}
    for i, row in enumerate(names):
        for column in names[i + 1 :]:
            mean = versus(players[row], players[column], script, games, seed).mean
            found[row][column], found[column][row] = mean, -mean
    return {row: {column: found[row][column] for column in names} for row in names}


def match_statistics(matches: Sequence[Match]) -> dict[str, float]:
    """Per game the first role's mean pay-off, turns, illegal ends; and ``thinking``, the words before an action."""
    found: dict[str, float] = {}
    for name in dict.fromkeys(m.script.game.name for m in matches):
        mine = [m for m in matches if m.script.game.name == name]
        found[f"{name}/first"] = sum(m.returns[0] for m in mine) / len(mine)
        found[f"{name}/turns"] = sum(m.turns for m in mine) / len(mine)
        found[f"{name}/illegal"] = sum(m.illegal is not None for m in mine) / len(mine)
    written = [(m, s) for m in matches for t in m.transcripts for s in t if s.trainable]
    found["thinking"] = sum(len(m.script.thinking(s.text).split()) for m, s in written) / max(1, len(written))
    return found
