"""What proofs of methods in rounds look at: values after each round, and means of what a run recorded in a round."""

from __future__ import annotations

import numpy as np

from selfreward.lab.proofs.results import Results, Values


def between(results: Results, arm: str, metric: str, first: int, second: int) -> Values:
    """``[S]``: the held-out value after round ``second`` minus that after round ``first``; 0 is the start.

    Of runs that are evaluated at the start and after every round.
    """
    return np.array([looks[second] - looks[first] for looks in results.steps(arm, f"eval/{metric}")])


def in_round(results: Results, arm: str, name: str, number: float) -> Values:
    """``[S]``: the mean of a recorded value over the steps of one round.

    Raises:
        DataError: where a run recorded no such value in that round.
    """
    return results.step_mean(arm, name, lambda record: record.get("round") == number)
