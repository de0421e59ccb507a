"""Where the final answer stands among a completion's tokens, and how certain the model was of them (RLSF).

See :mod:`selfreward.signals.answer_span` for the formula. A model without a findable answer can be led to one by a
lead-in such as "So the answer is".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from selfreward.data.answers import AnswerSpace
from selfreward.policy.policy import Policy
from selfreward.policy.sampling.params import SamplingParams
from selfreward.rollouts.cot_decoding import note_gaps
from selfreward.signals.answer_span import span_confidence
from selfreward.types import Group, Segment, Trajectory

if TYPE_CHECKING:
    from selfreward.rollouts.run import RunContext
    from selfreward.signals.registry import Scores


def answer_span(policy: Policy, tokens_T: Tensor, answer: str | None) -> slice | None:
    """Where the last mention of ``answer`` stands among the tokens of a completion; None if it does not.

    Walks back from the end, so that long reasoning before a short answer costs nothing.
    """
    if not answer:
        return None
    ids = tokens_T.tolist()
    for start in range(len(ids) - 1, -1, -1):
        if answer in policy.decode(ids[start:]):
            for stop in range(start + 1, len(ids) + 1):
                if answer in policy.decode(ids[start:stop]):
                    return slice(start, stop)
    return None


def answer_confidences(
    policy: Policy,
    groups: Sequence[Group],
    answers: AnswerSpace,
    *,
    lead_in: str = "",
    lead_tokens: int = 8,
    role: str = "solver",
) -> list[list[float | None]]:
    """Mean gap over the answer's tokens of every trace (:func:`span_confidence`); None without an answer.

    Args:
        groups: from :func:`branch`, or sampled and then seen by :func:`note_gaps`.
        lead_in: appended to each trace ("So the answer is"), after which the answer is written greedily and
            its certainty read; the trace itself is left as it is. Empty: the answer is found in the trace.
        lead_tokens: longest answer after the lead-in.
    """
    found: list[list[float | None]] = [[None] * len(g) for g in groups]
    places = [(i, j) for i, g in enumerate(groups) for j, t in enumerate(g) if t.completion.strip()]
    if lead_in:
        read = _led(policy, [groups[i].trajectories[j] for i, j in places], lead_in, lead_tokens, role)
    else:
        read = [groups[i].trajectories[j].last for i, j in places]
    whole: Callable[[Segment], slice | None] = lambda s: slice(0, len(s) - s.finished) if lead_in else None  # noqa: E731
    for (i, j), segment in zip(places, read, strict=True):
        span = answer_span(policy, segment.tokens, answers.extract(segment.text)) or whole(segment)
        found[i][j] = span_confidence(segment.stats["gap"], span) if span and span.stop > span.start else None
    return found


def _led(
    policy: Policy, trajectories: Sequence[Trajectory], lead_in: str, lead_tokens: int, role: str
) -> list[Segment]:
    """What the policy writes greedily after each trace and the lead-in, with its gaps."""
    ids = list(policy.tokenizer(lead_in, add_special_tokens=False)["input_ids"])
    ends = set(policy.end_tokens)
    heads = [[x for x in t.tokens.tolist() if x not in ends] + ids for t in trajectories]
    written = policy.sample_ids(heads, 1, SamplingParams(lead_tokens, temperature=0.0, stats=()), role=role)
    groups = []
    for head, trajectory, (drawn,) in zip(heads, trajectories, written, strict=True):
        text = policy.decode(drawn.tokens[:-1] if drawn.finished else drawn.tokens)
        tail = Segment(role, drawn.tokens, text, trainable=True, finished=drawn.finished)
        before = Segment("prompt", torch.tensor(head, dtype=torch.long))
        groups.append(Group("led", trajectory.prompt, [Trajectory(trajectory.prompt, [before, tail])]))
    note_gaps(policy, groups, role=role)
    return [g.trajectories[0].last for g in groups]


def answer_gap(run: RunContext, groups: Sequence[Group], lead_in: str = "") -> Scores:
    """The audit's scorer of :func:`answer_confidences`."""
    run.stats(groups, ["gap"])
    return answer_confidences(run.policy, groups, run.answers, lead_in=lead_in)
