"""Chain-of-thought decoding: many greedy answers to one question, and where the answer stands in each.

Wang and Zhou 2024 (arXiv 2402.10200): take the K likeliest *first* tokens of an answer and go on greedily
from each. The traces differ in how they begin, not by chance, so that a question needs no temperature and no
instruction to think; the certainty of the answer tokens tells which beginning led to an answer that the model
is sure of.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from selfreward.answers import AnswerSpace
from selfreward.errors import RecipeError
from selfreward.policy import Policy
from selfreward.sampling import SamplingParams
from selfreward.signals.span import span_confidence
from selfreward.types import Group, Prompt, Segment, Trajectory

if TYPE_CHECKING:
    from selfreward.auditing.context import Context, Scores


def branch(
    policy: Policy, prompts: Sequence[Prompt], k: int, params: SamplingParams, *, role: str = "solver"
) -> list[Group]:
    """One group of ``k`` traces per prompt, in the order of their first tokens' probability.

    Segments carry the log-probability and the ``gap`` (top-1 minus top-2 probability) of every token, both at
    temperature 1. Costs one scored prompt, ``k`` greedy continuations and their scoring.
    """
    if k < 1 or params.max_new_tokens < 1:
        raise RecipeError(f"k is {k} and max_new_tokens {params.max_new_tokens}; both must be at least 1.")
    heads = [policy.encode(p) for p in prompts]
    # The token that is scored does not matter: what is read is the distribution before it.
    probes = [torch.tensor([*h, policy.pad_token]) for h in heads]
    ends = policy.end_tokens
    firsts = [s["top_tokens"][0].tolist() for s in policy.score(probes, [len(h) for h in heads], top_k=k, role=role)]
    begun = [(i, token) for i, found in enumerate(firsts) for token in found]
    greedy = replace(params, temperature=0.0, top_p=1.0, top_k=0, max_new_tokens=params.max_new_tokens - 1)
    going = [n for n, (_, token) in enumerate(begun) if token not in ends and greedy.max_new_tokens > 0]
    continued = policy.sample_ids([[*heads[begun[n][0]], begun[n][1]] for n in going], 1, greedy, role=role)
    tails = dict(zip(going, continued, strict=True))
    groups = [Group("/".join((p.id, "branch", role)), p, []) for p in prompts]
    for n, (i, token) in enumerate(begun):
        rest = tails[n][0] if n in tails else None
        tokens = torch.cat([torch.tensor([token]), rest.tokens]) if rest else torch.tensor([token])
        finished = rest.finished if rest else token in ends
        text = policy.decode(tokens[:-1] if finished else tokens)
        answer = Segment(role, tokens, text, trainable=True, finished=finished)
        head = Segment("prompt", torch.tensor(heads[i], dtype=torch.long))
        groups[i].trajectories.append(Trajectory(prompts[i], [head, answer]))
    note_gaps(policy, groups, role=role)
    return groups


def note_gaps(policy: Policy, groups: Sequence[Group], *, role: str = "solver") -> None:
    """Write ``logprobs`` and ``stats["gap"]`` of each trajectory's last segment, at temperature 1."""
    trajectories = [t for g in groups for t in g if len(t.last)]
    starts = [len(t.tokens) - len(t.last) for t in trajectories]
    scored = policy.score([t.tokens for t in trajectories], starts, stats=("gap",), role=role)
    for trajectory, found in zip(trajectories, scored, strict=True):
        trajectory.last.logprobs = found["logprob"]
        trajectory.last.stats["gap"] = found["gap"]


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


def answer_gap(context: Context, groups: Sequence[Group], lead_in: str = "") -> Scores:
    """The audit's scorer of :func:`answer_confidences`."""
    context.stats(groups, ["gap"])
    return answer_confidences(context.model(), groups, context.answers, lead_in=lead_in)
