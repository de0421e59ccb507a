"""Agreement where answers are not simply the same or different: similarity to the rest of the group.

Source: minimum Bayes risk decoding, Kumar and Byrne 2004; with chrF a soft vote among translations.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence


def mean_similarity(
    texts: Sequence[str | None], similarity: Callable[[Sequence[str], Sequence[str]], Sequence[float]]
) -> list[float]:
    """Mean similarity of each text to the others of its group, ``[G]``; 0 for a missing text.

    Example: with ``[x == y]`` as similarity, ``["a", "a", "b", None]`` gives ``[.5, .5, 0, 0]``.

    Args:
        similarity: maps two equally long lists to one value per pair, such as
            :func:`selfreward.signals.text_metrics.chrf`.
    """
    counts = Counter(text for text in texts if text)
    pairs = [(a, b) for a in counts for b in counts if a != b or counts[a] > 1]
    values = dict(zip(pairs, similarity([a for a, _ in pairs], [b for _, b in pairs]) if pairs else [], strict=True))
    others = counts.total() - 1
    means = {
        a: sum((k - (a == b)) * values[a, b] for b, k in counts.items() if (a, b) in values) / max(1, others)
        for a in counts
    }
    return [means[text] if text else 0.0 for text in texts]
