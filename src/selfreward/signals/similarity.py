"""Agreement where answers are not simply the same or different: similarity to the rest of the group.

Source: minimum Bayes risk decoding, Kumar and Byrne 2004; with chrF a soft vote among translations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence


def mean_similarity(
    texts: Sequence[str | None], similarity: Callable[[Sequence[str], Sequence[str]], Sequence[float]]
) -> list[float]:
    """Mean similarity of each text to the others of its group, ``[G]``; 0 for a missing text.

    Example: with ``[x == y]`` as similarity, ``["a", "a", "b", None]`` gives ``[.5, .5, 0, 0]``.

    Args:
        similarity: maps two equally long lists to one value per pair, such as :func:`selfreward.translation.chrf`.
    """
    known = [i for i, text in enumerate(texts) if text]
    pairs = [(i, j) for i in known for j in known if i != j]
    values = similarity([texts[i] or "" for i, _ in pairs], [texts[j] or "" for _, j in pairs]) if pairs else []
    totals = [0.0] * len(texts)
    for (i, _), value in zip(pairs, values, strict=True):
        totals[i] += value / (len(known) - 1)
    return totals
