"""What a model says about its own ability: verdicts, their consensus, and how good they are.

A verdict is True ("I can answer this"), False ("I cannot") or None (nothing readable).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from torch import Generator

SelfVerdict = bool | None


class Consensus(NamedTuple):
    """``verdict`` of the majority (None in a tie or without a vote) and its ``share`` of the readable verdicts."""

    verdict: SelfVerdict
    share: float


def read_verdict(text: str, yes: str, no: str) -> SelfVerdict:
    """The last of the two words in ``text``, as whole words in any case.

    Example: ``"not feasible? No: feasible"`` with ``feasible``/``infeasible`` is True.
    """
    words = sorted((yes, no), key=len, reverse=True)
    found = re.findall(rf"(?<!\w)({'|'.join(map(re.escape, words))})(?!\w)", text, re.IGNORECASE)
    return None if not found else found[-1].lower() == yes.lower()


def consensus(verdicts: Sequence[SelfVerdict]) -> Consensus:
    """The majority of the readable verdicts. Example: ``[True, True, False, None]`` is (True, 2/3)."""
    votes = [v for v in verdicts if v is not None]
    said = sum(votes)
    if not votes or 2 * said == len(votes):
        return Consensus(None, 0.5 if votes else 0.0)
    return Consensus(2 * said > len(votes), max(said, len(votes) - said) / len(votes))


def consensus_rewards(
    verdicts: Sequence[SelfVerdict], majority: SelfVerdict, form: Literal["majority", "share"] = "majority"
) -> list[float]:
    """KnowRL (2025, arXiv 2510.11407): 1 for the majority's verdict. An unreadable verdict gets 0.

    The abstract leaves the exact form open; ``share`` pays every verdict its share of the readable ones.
    Example: ``[True, True, False, None]`` with majority True: ``[1, 1, 0, 0]``, as shares ``[2/3, 2/3, 1/3, 0]``.
    """
    if form == "share":
        votes = [v for v in verdicts if v is not None]
        return [0.0 if v is None else votes.count(v) / len(votes) for v in verdicts]
    return [float(v is not None and v == majority) for v in verdicts]


def verdict_agreement(completions: Sequence[str], yes: str = "feasible", no: str = "infeasible") -> list[float]:
    """:func:`consensus_rewards` of texts.

    Example: ``["feasible", "infeasible", "so feasible", "?"]`` get ``[1, 0, 1, 0]``.
    """
    verdicts = [read_verdict(c, yes, no) for c in completions]
    return consensus_rewards(verdicts, consensus(verdicts).verdict)


def balanced(classes: Sequence[SelfVerdict], generator: Generator) -> list[int]:
    """Indices of as many of one class as of the other, a random choice from the larger one; None belongs to neither.

    Without it the constant verdict is the cheapest way to agree. Example: ``[True, True, False]`` keeps the
    last and one of the first two; ``[True, True]`` keeps nothing.
    """
    import torch

    sides = [[i for i, c in enumerate(classes) if c is wanted] for wanted in (False, True)]
    n = min(map(len, sides))
    kept = [side[j] for side in sides for j in torch.randperm(len(side), generator=generator)[:n].tolist()]
    return sorted(kept)


def verdict_entropy(verdicts: Sequence[SelfVerdict]) -> float:
    """Entropy in bits of yes and no over all readable verdicts: 0 when everything gets the same verdict."""
    votes = [v for v in verdicts if v is not None]
    if not votes:
        return 0.0
    p = sum(votes) / len(votes)
    return -sum(q * math.log2(q) for q in (p, 1 - p) if q > 0)


def verdict_report(verdicts: Sequence[Sequence[SelfVerdict]], feasible: Sequence[bool]) -> dict[str, float]:
    """How good the verdicts ``[tasks][samples]`` are against what is true of each task.

    An unreadable verdict is wrong: it recalls nothing and claims nothing. ``accuracy`` is that of a single
    sample, ``majority_accuracy`` that of the consensus; ``consistency`` is the mean share of the majority.

    Example: verdicts ``[[1, 1], [1, 0]]`` for a feasible and an infeasible task: accuracy .75, recalls 1 and .5,
    F1 of yes ``2*2/(3+2) = .8``, of no ``2*1/(1+2) = .667``, macro-F1 .733.
    """
    flat = [(v, f) for row, f in zip(verdicts, feasible, strict=True) for v in row]
    total = max(1, len(flat))
    report: dict[str, float] = {"accuracy": sum(v is not None and v == f for v, f in flat) / total}
    scores = []
    for wanted, word in ((True, "feasible"), (False, "infeasible")):
        hits = sum(v is wanted and f == wanted for v, f in flat)
        claimed, there = sum(v is wanted for v, _ in flat), sum(f == wanted for _, f in flat)
        report[f"recall_{word}"] = hits / max(1, there)
        scores.append(2 * hits / max(1, claimed + there))
    report["macro_f1"] = sum(scores) / 2
    agreed = [consensus(row) for row in verdicts]
    report["majority_accuracy"] = sum(c.verdict is not None and c.verdict == f for c, f in zip(agreed, feasible)) / max(
        1, len(agreed)
    )
    report["consistency"] = sum(c.share for c in agreed) / max(1, len(agreed))
    report["verdict_entropy"] = verdict_entropy([v for v, _ in flat])
    report["readable"] = sum(v is not None for v, _ in flat) / total
    return report
