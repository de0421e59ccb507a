"""How likely a model finds a reference outcome after each of several reasoning traces.

A completion is a trace, a marker that ends it, and an outcome. The reference stands in for the outcome; what
counts is how its likelihood changes with the trace. See :mod:`selfreward.signals.reference` for what is made of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from selfreward.errors import UnavailableError
from selfreward.policy.policy import Policy
from selfreward.signals.reference import Shape, reasoning_reflection, spread_weights, token_spread
from selfreward.types import Group, Prompt

if TYPE_CHECKING:
    from selfreward.rollouts.run import RunContext
    from selfreward.signals.registry import Scores

THINK_END, MASKED = "</think>", "<think>\n(not shown)\n"


class Reflected(NamedTuple):
    """Log-probabilities of the reference after N traces, ``[N, T]``, with the reasoning masked, ``[T]``, and the ranks
    of its tokens ``[N, T]`` where they were asked for."""

    logprob: Tensor
    masked: Tensor
    ranks: Tensor | None


@dataclass(frozen=True)
class ReferenceScorer:
    """Reads references under one model; every trace is read once, with the reference behind it.

    Args:
        marker: what ends a trace.
        masked: what stands in the place of a trace for the masked likelihood.
    """

    policy: Policy
    marker: str = THINK_END
    masked: str = MASKED

    def tokens(self, text: str) -> list[int]:
        return list(self.policy.tokenizer(text, add_special_tokens=False)["input_ids"])

    def split(self, completion: str) -> tuple[str, str] | None:
        """(trace with its marker, outcome); None where the trace never ends."""
        trace, mark, outcome = completion.partition(self.marker)
        return (trace + mark, outcome) if mark else None

    def __call__(self, prompt: Prompt, traces: Sequence[str], reference: str, ranks: bool = False) -> Reflected:
        """What the model makes of ``reference`` after each trace (as :meth:`split` gave them)."""
        head, target = self.policy.encode(prompt), self.tokens(reference)
        texts = [*traces, self.masked + self.marker]
        contexts = [head + self.tokens(text + "\n\n") for text in texts]
        stats = ("rank",) if ranks else ()
        scored = self.policy.score_targets(contexts, [[target]] * len(contexts), stats=stats, role="scorer")
        logprob = torch.stack([own[0]["logprob"] for own in scored])
        found = torch.stack([own[0]["rank"] for own in scored[:-1]]) if ranks else None
        return Reflected(logprob[:-1], logprob[-1], found)


def r3(run: RunContext, groups: Sequence[Group], shape: Shape = "proportional") -> Scores:
    """R3 of every completion under the run's own model; None for a trace that never ends.

    Raises:
        UnavailableError: where there is no model or a prompt has no reference outcome.
    """
    if any(not g.prompt.answer for g in groups):
        raise UnavailableError("needs a reference outcome for every prompt")
    scorer = ReferenceScorer(run.policy, run.templates.get("think-end", THINK_END))
    result: Scores = []
    for group in groups:
        parts = [scorer.split(c) for c in group.completions]
        traces = [p[0] for p in parts if p]
        if not traces:
            result.append([None] * len(parts))
            continue
        logprob = scorer(group.prompt, traces, str(group.prompt.answer)).logprob
        values = iter(reasoning_reflection(logprob, spread_weights(token_spread(logprob), shape)).tolist())
        result.append([next(values) if p else None for p in parts])
    return result
