"""What the proofs of the efficiency rewards measure on EFF, in words."""

from __future__ import annotations

from selfreward.lab.proofs.rules import PERCENT, POINTS, Metric

LENGTH = Metric("length", "tokens per completion")
HARD = Metric("hard", "accuracy on five and six operations", POINTS)
FILLER = Metric("filler share", "the share of filler", PERCENT)
Point = tuple[float, float]
"""(length, accuracy)"""
