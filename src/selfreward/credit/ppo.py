"""PPO's credit: a reward at the end, a KL penalty on the way, advantages by GAE, a critic that learns.

Schulman et al. 2017 (arXiv 1707.06347) as used for language models by Ouyang et al. 2022
(arXiv 2203.02155): the reward of token t is ``-kl (log pi(t) - log ref(t))``, and the trajectory's
reward comes on top of the last one. The clipped surrogate itself is the recipe's ``PolicyGradient`` term.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from selfreward.credit.advantages import generalised_advantages, whiten
from selfreward.credit.rows import row_of
from selfreward.errors import RecipeError
from selfreward.policy.critic import Critic
from selfreward.policy.policy import Policy
from selfreward.policy.sampling.params import SamplingParams
from selfreward.types import Experience, Group, Prompt


def ppo_rewards(score: float, logp_T: Tensor, reference_T: Tensor, kl: float) -> Tensor:
    """Float ``[T]``: ``-kl (logp - reference)`` per token, plus ``score`` at the last.

    Example: score 1, log-probabilities ``[-1, -1]`` against ``[-2, -1]`` and kl .1 is ``[-.1, 1]``.
    """
    rewards = -kl * (logp_T - reference_T)
    rewards[-1] = rewards[-1] + score
    return rewards


def ppo_experience(
    groups: Sequence[Group],
    critic: Critic,
    reference: Policy,
    *,
    kl: float = 0.05,
    discount: float = 1.0,
    decay: float = 0.95,
    temperature: float = 1.0,
) -> Experience:
    """Rows with whitened GAE advantages of freshly sampled groups; the critic learns from them, too.

    Args:
        groups: trajectories of one prompt and one completion each, with their rewards.
        reference: what the KL penalty holds on to (the policy after supervised training, say).
        temperature: at which the groups were sampled; the reference is read at the same.

    Returns:
        An experience whose stats hold ``critic/value_loss``, ``critic/explained_variance`` and ``ppo/kl``.
    """
    trajectories = [t for group in groups for t in group if len(t.last)]
    tokens = [t.tokens for t in trajectories]
    starts = [len(t.tokens) - len(t.last) for t in trajectories]
    anchors = reference.score(tokens, starts, temperature=temperature, role="reference")
    old = critic.values(tokens)
    masks, returns, advantages, penalties = [], [], [], []
    for trajectory, start, anchor, values in zip(trajectories, starts, anchors, old, strict=True):
        behaviour = trajectory.last.logprobs
        if behaviour is None:
            raise RecipeError("PPO needs the log-probabilities of sampled tokens; a trajectory has none.")
        rewards = ppo_rewards(trajectory.reward, behaviour.float(), anchor["logprob"], kl)
        found = generalised_advantages(rewards, values[start:], discount, decay)
        advantages.append(found.advantages)
        penalties.append(behaviour.float() - anchor["logprob"])
        returns.append(torch.cat([torch.zeros(start), found.returns]))
        masks.append(torch.cat([torch.zeros(start), torch.ones(len(found.returns))]))
    if not trajectories:
        return Experience([], groups=list(groups))
    whitened = whiten(torch.cat(advantages)).split([len(a) for a in advantages])
    rows = [row_of(t, a) for t, a in zip(trajectories, whitened, strict=True)]
    stats = {f"critic/{k}": v for k, v in critic.learn(tokens, masks, returns, old).items()}
    stats["ppo/kl"] = float(torch.cat(penalties).mean())
    return Experience(rows, groups=list(groups), stats=stats)


def climb(
    policy: Policy,
    prompts: Sequence[Prompt],
    n: int,
    params: SamplingParams,
    score: Callable[[Sequence[Tensor]], Tensor],
    critic: Critic,
    reference: Policy,
    *,
    kl: float,
    decay: float,
) -> Experience:
    """One step of PPO against a reward model.

    Args:
        score: token sequences of prompt and completion to rewards ``[N]``.
    """
    groups = policy.sample(prompts, n, params)
    rewards = iter(score([t.tokens for g in groups for t in g]).tolist())
    for group in groups:
        group.reward_with([next(rewards) for _ in group])
    temperature = params.temperature or 1.0
    return ppo_experience(groups, critic, reference, kl=kl, decay=decay, temperature=temperature)
