"""What several turns do to an answer: who was repaired, who was broken, and who was left alone."""

from __future__ import annotations

from collections.abc import Hashable, Sequence


def turn_report(
    right: Sequence[Sequence[bool]], answers: Sequence[Sequence[Hashable]] | None = None
) -> dict[str, float]:
    """Metrics of N trajectories of K attempts each, as the self-correction literature reports them.

    Args:
        right: whether each attempt was right, N rows of K.
        answers: the answers themselves, for the edit rate; None is a missing answer, and going from one
            missing answer to another is no edit.

    Returns:
        ``acc@t1`` .. ``acc@tK``; ``delta``, the last minus the first; ``i->c`` and ``c->i``, the shares of *all*
        trajectories that went from wrong to right and from right to wrong between the first and the last
        attempt (their difference is ``delta``); ``edit``, the share whose last answer is another than the first.

    Example: ``[[0, 1], [1, 1], [1, 0], [0, 0]]`` has accuracies .5 and .5, ``i->c`` = ``c->i`` = .25.
    """
    n = len(right)
    widths = {len(row) for row in right}
    if not n or len(widths) != 1 or widths == {0}:
        raise ValueError("turn_report needs trajectories that all have the same number of attempts, at least one.")
    found = {f"acc@t{k + 1}": sum(bool(row[k]) for row in right) / n for k in range(widths.pop())}
    found["delta"] = sum(int(row[-1]) - int(row[0]) for row in right) / n
    found["i->c"] = sum(bool(row[-1]) and not row[0] for row in right) / n
    found["c->i"] = sum(bool(row[0]) and not row[-1] for row in right) / n
    if answers is not None:
        if len(answers) != n:
            raise ValueError(f"{n} trajectories but answers of {len(answers)}.")
        found["edit"] = sum(row[0] != row[-1] for row in answers) / n
    return found
