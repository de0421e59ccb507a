"""Texts without one right answer: under constraints, by a rubric, in a dialogue, by preference, as a report."""
