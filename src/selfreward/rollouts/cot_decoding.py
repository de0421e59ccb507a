"""Chain-of-thought decoding: many greedy answers to one question, one per likely first token.

Wang and Zhou 2024 (arXiv 2402.10200): take the K likeliest *first* tokens of an answer and go on greedily
from each. The traces differ in how they begin, not by chance, so that a question needs no temperature and no
instruction to think; the certainty of the answer tokens tells which beginning led to an answer that the model
is sure of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from selfreward.errors import RecipeError
from selfreward.policy.policy import Policy
from selfreward.policy.sampling.params import SamplingParams
from selfreward.types import Group, Prompt, Segment, Trajectory


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
