"""Step reviews: where is the first wrong step of a solution, and how well does a reviewer find it.

A review is a text with one mark per step, in order, that stops at the first wrong one. This is how
the judge of Self-PRM (2505.11227) is read here, and how ProcessBench (2412.06559) scores such judges.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Review:
    """What a review said.

    Attributes:
        error: the first wrong step, from 1; None where the review found none, or cannot be read.
        parsed: whether it could be read at all.
    """

    error: int | None
    parsed: bool = True

    @property
    def accepted(self) -> bool:
        """Read, and no error found."""
        return self.parsed and self.error is None


def parse_review(text: str, right: str = "OK", wrong: str = "WRONG", steps: int | None = None) -> Review:
    """The first wrong step of a review. Example: ``"Step 1: OK\\nStep 2: WRONG"`` is step 2.

    Args:
        right, wrong: the marks; whole words where they are words of more than one letter.
        steps: how many steps the solution has, where that is known: a review that marks fewer and finds
            no error did not finish, and cannot be read.
    """
    marks = re.findall("|".join(_mark(m) for m in (wrong, right)), text)
    if wrong in marks:
        return Review(marks.index(wrong) + 1)
    return Review(None, bool(marks) and (steps is None or len(marks) >= steps))


def _mark(mark: str) -> str:
    return rf"\b{re.escape(mark)}\b" if len(mark) > 1 and mark.isalnum() else re.escape(mark)


def detection_f1(reviews: Sequence[Review], truth: Sequence[int | None]) -> tuple[float, float, float]:
    """(F1, accuracy on solutions with an error, accuracy on clean ones), as in ProcessBench (2412.06559).

    On an erroneous solution the very step must be named; F1 is the harmonic mean of the two accuracies,
    so that a reviewer that accepts all, or none, scores 0. An unreadable review is wrong in both.
    Example: truth ``[2, None]``, reviews "2" and "no error": (1, 1, 1); "no error" twice: (0, 0, 1).

    Raises:
        ValueError: unless both kinds of solution are present.
    """
    assert len(reviews) == len(truth), f"{len(reviews)} reviews of {len(truth)} solutions"
    wrong = [r.parsed and r.error == t for r, t in zip(reviews, truth, strict=True) if t is not None]
    clean = [r.accepted for r, t in zip(reviews, truth, strict=True) if t is None]
    if not wrong or not clean:
        raise ValueError("F1 of error detection needs solutions with an error and solutions without.")
    on_errors, on_clean = sum(wrong) / len(wrong), sum(clean) / len(clean)
    both = on_errors + on_clean
    return (2 * on_errors * on_clean / both if both else 0.0), on_errors, on_clean
