"""States of responses: where they end, and how far each of them is from each answer of its group.

The measuring behind :mod:`selfreward.signals.path_consistency`: one call of ``Policy.score_targets`` for all states of
all responses, so that the states of a response share its forward.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from selfreward.signals import path_consistency as paths
from selfreward.types import Group, Trajectory

if TYPE_CHECKING:
    from selfreward.policy.policy import Policy
    from selfreward.rollouts.run import RunContext

LEAD_IN = "\nThe answer is: {answer}"


@dataclass
class Path:
    """What was measured of one response; ``distances`` is float ``[S, K]``."""

    distances: Tensor
    consistency: float
    volatility: float
    curiosity: float


def probe(
    policy: Policy,
    groups: Sequence[Group],
    run: RunContext,
    most_states: int = 15,
    final_state: bool = False,
    permute: Callable[[Group], torch.Generator] | None = None,
) -> list[list[Path | None]]:
    """Distances, Con, Vol and curiosity of every response; None where there is no answer or no other class.

    All states of all responses are scored in one call: the states of a response share its forward, and
    equal responses of a group are measured once. The task's templates ``step`` (a regular expression) and
    ``lead_in`` say how its responses split and how an answer is asked for.

    Args:
        permute: exchange the columns of a group's distances at random, as a control.
    """
    template = run.templates.get("lead_in", LEAD_IN)
    contexts: list[list[int]] = []
    targets: list[list[list[int]]] = []
    result: list[list[Path | None]] = [[None] * len(g) for g in groups]
    jobs: list[tuple[int, list[int], int, int, list[int], list[int]]] = []
    for g, group in enumerate(groups):
        classes = run.classes(group)
        answers = representatives(group, classes, run)
        if len(answers) < 2:
            continue
        asked = [_target(policy, template, a) for a in answers]
        same: dict[tuple[int, ...], list[int]] = {}
        for t, trajectory in enumerate(group):
            same.setdefault(tuple(trajectory.last.tokens.tolist()), []).append(t)
        for body, members in same.items():
            own = classes[members[0]]
            if own is None:
                continue
            first = group.trajectories[members[0]]
            cuts = state_cuts(policy, first, run.templates.get("step"), most_states, final_state)
            head = first.tokens[: -len(body)].tolist()
            jobs.append((g, members, own, len(contexts), cuts, [lead for lead, _ in asked]))
            contexts += [[*head, *body[:cut]] for cut in cuts]
            targets += [[tokens for _, tokens in asked]] * len(cuts)
    scored = policy.score_targets(contexts, targets, role="probe")
    for g, members, own, at, cuts, leads in jobs:
        rows = [[s["logprob"][lead:] for s, lead in zip(scored[at + i], leads, strict=True)] for i in range(len(cuts))]
        distance = paths.distances(rows)
        if permute is not None:
            distance = distance[:, torch.randperm(distance.shape[1], generator=permute(groups[g]))]
        logprobs = groups[g].trajectories[members[0]].last.logprobs
        surprise = 0.0 if logprobs is None else paths.curiosity(list(logprobs.tensor_split(cuts)))
        found = Path(distance, paths.consistency(distance, own), paths.volatility(distance, own), surprise)
        for t in members:
            result[g][t] = found
    return result


def representatives(group: Group, classes: Sequence[int | None], run: RunContext) -> list[str]:
    """The shortest answer text of every class, in the order of the classes (the first among equals)."""
    found: dict[int, str] = {}
    for text, own in zip(group.completions, classes, strict=True):
        answer = run.answers.extract(text)
        if own is not None and answer is not None and len(answer) < len(found.get(own, answer + " ")):
            found[own] = answer
    return [found[c] for c in sorted(found)]


def state_cuts(
    policy: Policy, trajectory: Trajectory, pattern: str | None, most: int, final_state: bool = False
) -> list[int]:
    """Numbers of response tokens at which its states end.

    The last state has stated the answer, so it is left out unless ``final_state`` asks for it or it is
    the only one.
    """
    segment = trajectory.last
    ends = paths.split_steps(segment.text, pattern, most)
    if len(ends) > 1 and not final_state:
        ends = ends[:-1]
    tokens = segment.tokens.tolist()
    pieces = [policy.decode([t]) for t in tokens]
    if "".join(pieces) == segment.text:
        reached = list(accumulate(map(len, pieces), initial=0))
        return sorted({bisect_left(reached, e) for e in ends})
    # Tokens that are parts of characters have no text of their own: look at whole beginnings instead.
    beginnings = range(len(tokens) + 1)
    return sorted({bisect_left(beginnings, e, key=lambda n: len(policy.decode(tokens[:n]))) for e in ends})


def _target(policy: Policy, template: str, answer: str) -> tuple[int, list[int]]:
    """How many leading tokens belong to the lead-in, and the tokens of lead-in and answer together."""

    def encode(text: str) -> list[int]:
        return list(policy.tokenizer(text, add_special_tokens=False)["input_ids"])

    whole, lead = encode(template.format(answer=answer)), encode(template.format(answer=""))
    same = next((i for i, (a, b) in enumerate(zip(whole, lead)) if a != b), min(len(whole), len(lead)))
    return min(same, len(whole) - 1), whole


# ---- as signals of an audit ------------------------------------------------------------------------


def consistency(run: RunContext, groups: Sequence[Group], **options: Any) -> list[list[float | None]]:
    """Con of every response; see :func:`selfreward.signals.path_consistency.consistency`."""
    return [[f.consistency if f else None for f in own] for own in probe(run.policy, groups, run, **options)]


def steadiness(run: RunContext, groups: Sequence[Group], **options: Any) -> list[list[float | None]]:
    """-Vol of every response."""
    return [[-f.volatility if f else None for f in own] for own in probe(run.policy, groups, run, **options)]


def vector(run: RunContext, groups: Sequence[Group], **options: Any) -> list[list[float | None]]:
    """R_V of every response's answer class."""
    result: list[list[float | None]] = []
    for group, found in zip(groups, probe(run.policy, groups, run, **options), strict=True):
        con, vol = [f.consistency if f else 0.0 for f in found], [f.volatility if f else 0.0 for f in found]
        classes = run.classes(group)
        scores = paths.class_scores(classes, con, vol)
        result.append([None if c is None else scores[c] for c in classes])
    return result
