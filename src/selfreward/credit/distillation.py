"""What a student learns from a teacher that saw more: channels of token targets, or rows of the teacher's own text.

On-policy self-distillation (SDPO, arXiv 2601.20802): the same model after another prompt (a hint, feedback, a solution)
says how probable it finds every token of the student's answer.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from selfreward.credit.rows import row_of
from selfreward.losses.distillation import SAMPLED, TEACHER, TOKENS, WEIGHT, interpolated
from selfreward.policy.policy import Policy
from selfreward.policy.sampling.params import SamplingParams
from selfreward.rollouts.recontext import rescored
from selfreward.types import Prompt, Row, Trajectory


def distillation_channels(
    policy: Policy,
    teacher: Policy,
    trajectories: Sequence[Trajectory],
    prompts: Sequence[Prompt],
    *,
    top_k: int = 100,
    temperature: float = 1.0,
    trust: float = 0.0,
) -> list[dict[str, Tensor]]:
    """What :class:`selfreward.losses.Distillation` reads: the policy's ``top_k`` candidates for every
    token of each trajectory's last segment, and what ``teacher`` gives them after another prompt.

    Args:
        trust: how far the teacher's logits are drawn to the policy's own in the same context (a trust region).
    """
    starts = [len(t.tokens) - len(t.last) for t in trajectories]
    k = min(top_k, int(policy.model.get_output_embeddings().weight.shape[0]))
    mine = policy.score([t.tokens for t in trajectories], starts, top_k=k, temperature=temperature, role="student")
    ids = [s["top_tokens"] for s in mine]
    views = rescored(teacher, trajectories, prompts, candidates=ids, temperature=temperature)
    if trust:
        live = rescored(policy, trajectories, prompts, candidates=ids, temperature=temperature)
        for view, own in zip(views, live, strict=True):
            view["candidates"] = interpolated(view["candidates"], own["candidates"], trust)
            view["logprob"] = torch.lerp(view["logprob"], own["logprob"], trust)
    found = []
    for start, trajectory, tokens, view in zip(starts, trajectories, ids, views, strict=True):
        own = {
            WEIGHT: torch.ones(len(trajectory.last)),
            TOKENS: tokens,
            TEACHER: view["candidates"],
            SAMPLED: view["logprob"],
        }
        found.append({name: torch.cat([v.new_zeros(start, *v.shape[1:]), v]) for name, v in own.items()})
    return found


def rewritten(
    teacher: Policy,
    trajectories: Sequence[Trajectory],
    prompts: Sequence[Prompt],
    params: SamplingParams,
    *,
    seed: int,
    role: str = "teacher",
) -> list[Row]:
    """Likelihood rows of what ``teacher`` writes after other prompts, behind the trajectories' own (context
    distillation by samples)."""
    drawn = teacher.sample(prompts, 1, params, role=role, seed=seed)
    pairs = zip(trajectories, drawn, strict=True)
    return [row_of(Trajectory(t.prompt, [t.segments[0], g.trajectories[0].last]), nll=1.0) for t, g in pairs]
