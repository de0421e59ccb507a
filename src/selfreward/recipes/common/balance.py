"""B-STaR's balance score, and the choice of a sampling configuration by it.

The score (Zeng et al. 2024, arXiv 2412.17256, section 4.1) says how many right solutions a configuration of
temperature and filter yields per question, and what share of the kept ones is right. Functions here are pure; the
caller samples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from selfreward.errors import ConfigError

if TYPE_CHECKING:
    from torch import Generator


class Scored(NamedTuple):
    """One sample of a question: its text, its reward, and whether it is right."""

    text: str
    reward: float
    right: bool


class Cell(NamedTuple):
    """One configuration of the grid. ``kept`` and ``right`` are means per question."""

    temperature: float
    threshold: float
    score: float
    kept: float
    right: float


def balance(right: int, kept: int, wanted: int = 8) -> float:
    """``min(n' / n*, 1) * n' / n``: n solutions of a question are ``kept``, n' are ``right``, n* are ``wanted``.

    0 where nothing is kept. Example with n* = 8: 4 right of 5 give .5 * .8 = .4; 12 right of 16 give .75.

    Raises:
        ConfigError: unless 0 <= right <= kept and wanted >= 1.
    """
    if not 0 <= right <= kept or wanted < 1:
        raise ConfigError(f"right={right}, kept={kept}, wanted={wanted}: 0 <= right <= kept and wanted >= 1.")
    return min(right / wanted, 1.0) * right / kept if kept else 0.0


def balance_score(
    right: Sequence[int], kept: Sequence[int], wanted: int = 8, empty: Literal["zero", "skip"] = "zero"
) -> float:
    """Mean :func:`balance` over questions.

    Args:
        empty: a question of which nothing is kept counts 0 (the paper), or is left out of the mean (the released
            code); without any question the score is 0.
    """
    if len(right) != len(kept):
        raise ConfigError(f"There are {len(right)} counts of right solutions and {len(kept)} of kept ones.")
    found = [balance(r, k, wanted) for r, k in zip(right, kept, strict=True) if k or empty == "zero"]
    return sum(found) / len(found) if found else 0.0


def balance_grid(
    samples: Mapping[float, Sequence[Sequence[Scored]]],
    thresholds: Sequence[float],
    *,
    wanted: int = 8,
    cap: int | None = None,
    empty: Literal["zero", "skip"] = "zero",
) -> list[Cell]:
    """The balance score of every temperature and threshold, from one set of samples per temperature.

    Of every question the distinct texts with a reward above the threshold are kept, the best ``cap`` of them.
    Thresholds cost nothing more: they filter the same samples.
    """
    cells = []
    for temperature, questions in samples.items():
        for threshold in thresholds:
            right, kept = [], []
            for question in questions:
                distinct: dict[str, Scored] = {}
                for sample in sorted(question, key=lambda s: -s.reward):
                    if sample.reward > threshold:
                        distinct.setdefault(sample.text, sample)
                chosen = list(distinct.values())[:cap]
                kept.append(len(chosen))
                right.append(sum(s.right for s in chosen))
            score = balance_score(right, kept, wanted, empty)
            n = max(1, len(kept))
            cells.append(Cell(temperature, threshold, score, sum(kept) / n, sum(right) / n))
    return cells


def best_cell(cells: Sequence[Cell]) -> Cell:
    """The cell with the highest score; of equal ones the first.

    Raises:
        ConfigError: for an empty grid.
    """
    if not cells:
        raise ConfigError("The grid is empty: give at least one temperature and one threshold.")
    return max(cells, key=lambda c: c.score)


class BalanceChoice(NamedTuple):
    """The best cell of a grid, all cells, and how many samples it took to score them."""

    best: Cell
    cells: list[Cell]
    samples: int

    def blind(self, generator: Generator) -> BalanceChoice:
        """A cell at random in place of the best, at the same cost (a control)."""
        import torch

        return self._replace(best=self.cells[int(torch.randint(len(self.cells), (1,), generator=generator))])

    def stats(self) -> dict[str, float]:
        """For the log."""
        best = self.best
        found = {"score": best.score, "kept": best.kept, "right": best.right, "samples": float(self.samples)}
        return {f"balance/{name}": value for name, value in found.items()}


def choose_configuration(
    draw: Callable[[float], Sequence[Sequence[Scored]]],
    temperatures: Sequence[float],
    thresholds: Sequence[float],
    *,
    wanted: int = 8,
    cap: int | None = None,
    empty: Literal["zero", "skip"] = "zero",
) -> BalanceChoice:
    """Sample a few questions once per temperature, and take the cell of :func:`balance_grid` with the best score.

    Args:
        draw: scored samples of every question at a temperature.
    """
    samples = {temperature: draw(temperature) for temperature in temperatures}
    cells = balance_grid(samples, thresholds, wanted=wanted, cap=cap, empty=empty)
    return BalanceChoice(best_cell(cells), cells, sum(len(q) for drawn in samples.values() for q in drawn))
