"""Responses ranked by a pairwise preference: win rates in a group, against a queue of opponents, and in a game.

A preference is ``P(a, b)`` in [0, 1], the chance that ``a`` is preferred to ``b``. It need not be transitive, so there
may be no score that explains it; a win rate against what one usually writes always exists (SPO, Swamy et al. 2024,
arXiv 2401.04056).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from selfreward.errors import ConfigError, RecipeError

Preference = Callable[[str, Sequence[tuple[str, str]]], Sequence[float | None]]
"""``(question, [(first, second), ...]) -> [chance that the first is preferred, or None]``."""


def antisymmetric(forward: float | None, backward: float | None) -> float:
    """The chance that a beats b, from both orders of asking: ``(P(a, b) + 1 - P(b, a)) / 2``.

    Who always prefers the first says 1 and 1, which is one half. An order that could not be read counts as one half.
    Example: .9 and .3 are .8.
    """
    return ((0.5 if forward is None else forward) + 1 - (0.5 if backward is None else backward)) / 2


def win_rates(
    preference: Preference, question: str, items: Sequence[str], opponents: Sequence[str] = ()
) -> list[float]:
    """Mean chance of each item to beat its opponents, asked in both orders.

    Without ``opponents`` the items meet one another, and ``r_i`` is the mean over the others (SPO, the batch form): the
    mean over the group is then one half, whatever the group is worth. The same text beats itself half the time and is
    not asked about. Every question is asked once, however often it comes up.

    Raises:
        RecipeError: for a single item without opponents, or a preference outside of [0, 1].
    """
    if not opponents and len(items) < 2:
        raise RecipeError("A win rate needs at least two items, or opponents.")
    meetings = [(a, b) for i, a in enumerate(items) for j, b in enumerate(opponents or items) if opponents or i != j]
    asked = list(dict.fromkeys(p for a, b in meetings if a != b for p in ((a, b), (b, a))))
    answers = dict(zip(asked, preference(question, asked), strict=True)) if asked else {}
    odd = [p for p in answers.values() if p is not None and not 0 <= p <= 1]
    if odd:
        raise RecipeError(f"A preference is a chance in [0, 1], not {odd[0]}.")
    results = iter([0.5 if a == b else antisymmetric(answers[a, b], answers[b, a]) for a, b in meetings])
    met = len(opponents) or len(items) - 1
    return [sum(next(results) for _ in range(met)) / met for _ in items]


class Comparisons:
    """All wins between texts about each question so far, for a reward model to explain."""

    def __init__(self) -> None:
        self._wins: dict[str, dict[str, dict[str, float]]] = {}

    def record(self, question: str, first: str, second: str, chance: float) -> None:
        """One answered comparison: ``first`` won with this share, ``second`` with the rest."""
        wins = self._wins.setdefault(question, {})
        for winner, loser, share in ((first, second, chance), (second, first, 1 - chance)):
            own = wins.setdefault(winner, {})
            own[loser] = own.get(loser, 0.0) + share

    def scores(self, question: str, features: Callable[[str], Sequence[float]] | None = None) -> dict[str, float]:
        """:func:`bradley_terry_scores` of every text that was ever compared."""
        wins = self._wins.get(question, {})
        texts = list(wins)
        if not texts:
            return {}
        matrix = torch.tensor([[wins[a].get(b, 0.0) for b in texts] for a in texts])
        design = None if features is None else torch.tensor([list(features(t)) for t in texts])
        return dict(zip(texts, bradley_terry_scores(matrix, design).tolist(), strict=True))

    def win_rates(
        self, question: str, items: Sequence[str], features: Callable[[str], Sequence[float]] | None = None
    ) -> list[float]:
        """What :func:`win_rates` of these items among themselves would be if :meth:`scores` explained everything."""
        scores = self.scores(question, features)
        values = torch.tensor([scores.get(text, 0.0) for text in items])
        chances = torch.sigmoid(values[:, None] - values[None, :])
        return ((chances.sum(1) - 0.5) / max(1, len(items) - 1)).tolist()

    def state_dict(self) -> dict[str, Any]:
        return {q: {a: dict(own) for a, own in wins.items()} for q, wins in self._wins.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._wins = {q: {a: dict(own) for a, own in wins.items()} for q, wins in state.items()}


class OpponentQueue:
    """The last ``size`` responses to every prompt, or to all prompts together: first in, first out.

    Example, ``size=2``: after a, b, c the opponents are b and c.
    """

    def __init__(self, size: int) -> None:
        if size < 1:
            raise ConfigError(f"A queue of opponents holds {size}; it must hold 1 or more.")
        self.size = size
        self._queues: dict[str, deque[str]] = {}

    def opponents(self, key: str) -> list[str]:
        return list(self._queues.get(key, ()))

    def push(self, key: str, items: Sequence[str]) -> None:
        self._queues.setdefault(key, deque(maxlen=self.size)).extend(items)

    def state_dict(self) -> dict[str, Any]:
        return {"size": self.size, "queues": {k: list(q) for k, q in self._queues.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore :meth:`state_dict`; a smaller size keeps the newest."""
        self._queues = {k: deque(map(str, q), maxlen=self.size) for k, q in state["queues"].items()}


def bradley_terry_scores(
    wins_N_N: Tensor, features_N_F: Tensor | None = None, ridge: float = 0.01, iterations: int = 50
) -> Tensor:
    """Scores ``[N]`` of mean 0 with ``sigmoid(s_i - s_j)`` nearest to the observed wins: what a reward model can know.

    Newton's method on the penalised likelihood (Bradley and Terry 1952). Example: 3 wins of 4 are ``s_0 - s_1 = log 3``
    but for the ridge. A cycle of equal strengths gives equal scores.

    Args:
        wins_N_N: ``[i, j]``, how often i beat j (fractions count).
        features_N_F: scores are linear in these; without them every item has a score of its own.
        ridge: pull of the coefficients towards 0, in comparisons; without one an unbeaten item has no finite score.
    """
    wins = wins_N_N.double()
    if wins.ndim != 2 or wins.shape[0] != wins.shape[1]:
        raise ValueError(f"wins must be [N, N], not {tuple(wins.shape)}.")
    features = torch.eye(len(wins), dtype=torch.float64) if features_N_F is None else features_N_F.double()
    games = wins + wins.T
    weights = torch.zeros(features.shape[1], dtype=torch.float64)
    for _ in range(iterations):
        scores = features @ weights
        chance = torch.sigmoid(scores[:, None] - scores[None, :])
        curvature = games * chance * (1 - chance)
        gradient = features.T @ (wins - games * chance).sum(1) - ridge * weights
        hessian = features.T @ (torch.diag(curvature.sum(1)) - curvature) @ features
        hessian += ridge * torch.eye(len(weights), dtype=torch.float64)
        step = torch.linalg.solve(hessian, gradient).clamp(-1, 1)
        weights = weights + step
        if float(step.abs().max()) < 1e-7:
            break
    scores = features @ weights
    return (scores - scores.mean()).float()


def exploitability(mix_N: Tensor, wins_N_N: Tensor) -> float:
    """How much more than half the best answer to a mixed strategy wins: ``max_i sum_j P(i, j) mix_j - 1/2``.

    0 exactly at a minimax winner of the symmetric game. Example: against rock alone paper wins always, 1/2; against the
    even mix of the three nothing wins more than half, 0.
    """
    if wins_N_N.shape != (len(mix_N), len(mix_N)):
        raise ValueError(f"A mix of {len(mix_N)} items needs a square of chances, not {tuple(wins_N_N.shape)}.")
    total = float(mix_N.sum())
    if abs(total - 1) > 1e-3:
        raise ValueError(f"A mixed strategy sums to 1, not {total:.3f}.")
    return float((wins_N_N.double() @ mix_N.double()).max()) - 0.5
