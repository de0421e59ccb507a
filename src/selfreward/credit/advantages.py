"""Credit: rewards to advantages. Pure functions over one group ``[G]``, one episode ``[T]`` or a batch.

The group is always whole, and a group whose rewards are all equal gets exactly zero advantage: it
carries no information, and rounding noise divided by a tiny spread must not become a gradient.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from selfreward.signals.shaping import Values, as_values
from selfreward.signals.teacher_forcing import step_rewards
from selfreward.types import Segment

Scale = Literal["group", "batch", "none"]


def _is_constant(values: Tensor) -> bool:
    return values.numel() < 2 or bool(values.max() == values.min())


def reward_std(groups: Sequence[Values]) -> float:
    """Sample standard deviation of all rewards of a batch of groups, for ``scale="batch"``."""
    rewards = torch.cat([as_values(g) for g in groups])
    return float(rewards.std()) if rewards.numel() > 1 else 0.0


def group_normalised(
    rewards_G: Values, eps: float = 1e-4, scale: Scale = "group", batch_std: float | None = None
) -> Tensor:
    """``A_i = (r_i - mean r) / (std r + eps)``, ``[G]`` (GRPO, arXiv 2402.03300, section 4.1.2).

    Example: ``[1, 0, 0, 1]`` has mean .5 and std .57735: ``[.866, -.866, -.866, .866]``.

    Args:
        rewards_G: rewards of one whole group.
        eps: added to the spread. Also the guard: a spread of at most ``eps`` gives zero advantage.
        scale: ``"group"`` divides by the group's standard deviation, ``"none"`` by nothing (Dr. GRPO,
            2503.20783: the division overweights questions that are nearly solved or nearly hopeless),
            ``"batch"`` by ``batch_std`` (2508.08221).
        batch_std: of all rewards of the batch, from :func:`reward_std`.

    The standard deviation is the sample one (``correction=1``), as in ``torch.std`` and trl; with the
    population formula a group of 4 would get advantages larger by the factor sqrt(4/3).
    """
    r = as_values(rewards_G)
    if _is_constant(r):
        return torch.zeros_like(r)
    centred = r - r.mean()
    if scale == "none":
        return centred
    if scale == "batch":
        if batch_std is None:
            raise ValueError("scale='batch' needs batch_std, the spread over all groups of the batch.")
        spread = torch.as_tensor(batch_std, dtype=r.dtype, device=r.device)
    else:
        assert scale == "group", f"unknown scale {scale!r}; there are group, batch and none"
        spread = r.std()
    if float(spread) <= eps:
        return torch.zeros_like(r)
    return centred / (spread + eps)


def leave_one_out(rewards_G: Values) -> Tensor:
    """``A_i = r_i - mean_{j != i} r_j``, ``[G]`` (RLOO, arXiv 2402.14740).

    Unbiased, because the baseline of a sample does not contain the sample. A group of one has no
    baseline and gets zero. Example: ``[1, 0, 0, 1]`` is ``[.667, -.667, -.667, .667]``.
    """
    r = as_values(rewards_G)
    if _is_constant(r):
        return torch.zeros_like(r)
    return (r - r.mean()) * (r.numel() / (r.numel() - 1))


def whiten(values_N: Tensor, mask: Tensor | None = None, eps: float = 1e-8, centre: bool = True) -> Tensor:
    """Batch-wide mean 0 and standard deviation 1 where ``mask`` is 1, and 0 elsewhere (REINFORCE++, 2501.03262).

    Any shape. ``centre=False`` keeps the mean, so that signs survive. Constant values give zeros (or
    stay, uncentred).
    """
    keep = torch.ones_like(values_N, dtype=torch.bool) if mask is None else mask.bool()
    assert keep.shape == values_N.shape, f"mask {tuple(keep.shape)} for values {tuple(values_N.shape)}"
    chosen = values_N[keep]
    if _is_constant(chosen):
        result = torch.zeros_like(values_N) if centre else values_N
    else:
        shift = chosen.mean() if centre else 0.0
        result = (values_N - shift) / (chosen.std() + eps)
    return torch.where(keep, result, torch.zeros_like(values_N))


class EmaBaseline:
    """A running mean reward per key (role, player, task), for groups that have no baseline of their own.

    In a zero-sum game the group mean is 0 whoever plays better, and a role with one sample per prompt
    has no group; a mean per role over past steps serves both (role-conditioned baseline, SPIRAL,
    2506.24119). Start-up is corrected as in Adam, so the first value is the first batch's mean; with
    ``corrected=False`` it is not, and the baseline grows from 0 as in SPIRAL.
    """

    def __init__(self, decay: float = 0.95, corrected: bool = True) -> None:
        assert 0 <= decay < 1, f"decay must be in [0, 1), got {decay}"
        self.decay, self.corrected = decay, corrected
        self._sum: dict[str, float] = {}
        self._weight: dict[str, float] = {}

    def value(self, key: str) -> float:
        """The baseline of ``key``; 0 before its first update."""
        weight = self._weight.get(key, 0.0)
        if not weight:
            return 0.0
        return self._sum[key] / weight if self.corrected else self._sum[key]

    def update(self, key: str, rewards: Values) -> None:
        """Take in the mean of one batch of rewards."""
        mean = float(as_values(rewards).mean())
        self._sum[key] = self.decay * self._sum.get(key, 0.0) + (1 - self.decay) * mean
        self._weight[key] = self.decay * self._weight.get(key, 0.0) + (1 - self.decay)

    def advantages(self, key: str, rewards: Values) -> Tensor:
        """Rewards minus the baseline of the past, which is then updated with them.

        The present rewards are not in their own baseline, except in the very first batch, where
        their mean is the only estimate there is.
        """
        r = as_values(rewards)
        first = key not in self._weight
        if first:
            self.update(key, r)
        advantage = r - self.value(key)
        if not first:
            self.update(key, r)
        return advantage

    def one_by_one(self, keys: Sequence[str], rewards_N: Values) -> Tensor:
        """Role-conditioned advantages (SPIRAL, 2506.24119): each reward minus the baseline of its key.

        In order; every reward is scored against the past alone and then enters the baseline of its key.
        Example, decay .5 and uncorrected: rewards 1, 1, -1 of one key against baselines 0, .5, .75 are
        ``[1, .5, -1.75]``, and the baseline ends at -.125.
        """
        r = as_values(rewards_N)
        assert len(keys) == r.numel(), f"{len(keys)} keys but {r.numel()} rewards"
        found = torch.empty_like(r)
        for i, key in enumerate(keys):
            found[i] = r[i] - self.value(key)
            self.update(key, r[i : i + 1])
        return found

    def state_dict(self) -> dict[str, Any]:
        return {"decay": self.decay, "sum": dict(self._sum), "weight": dict(self._weight)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.decay = float(state["decay"])
        self._sum = {k: float(v) for k, v in state["sum"].items()}
        self._weight = {k: float(v) for k, v in state["weight"].items()}


def return_to_go(rewards_T: Values, discount: float = 1.0) -> Tensor:
    """``R_t = sum_{u >= t} discount^(u - t) r_u``, ``[T]`` (Sutton and Barto, eq. 3.8).

    Example: ``[0, 1, 2]`` with discount .5 is ``[1, 2, 2]``.
    """
    r = as_values(rewards_T)
    returns = torch.empty_like(r)
    ahead = torch.zeros((), dtype=r.dtype, device=r.device)
    for t in range(r.numel() - 1, -1, -1):
        ahead = r[t] + discount * ahead
        returns[t] = ahead
    return returns


class Advantages(NamedTuple):
    """Float ``[T]`` each: advantages, and the returns that a critic is taught."""

    advantages: Tensor
    returns: Tensor


def generalised_advantages(
    rewards_T: Values, values_T: Values, discount: float = 1.0, decay: float = 0.95, final_value: float = 0.0
) -> Advantages:
    """Generalised advantage estimation, GAE (Schulman et al. 2016, arXiv 1506.02438, eq. 16), of one episode.

    ``d_t = r_t + discount V_{t+1} - V_t`` and ``A_t = sum_l (discount decay)^l d_{t+l}``; the returns are
    ``A_t + V_t``. Example with discount and decay .5: rewards ``[0, 1]`` and values ``[.5, .25]`` have
    ``d = [-.375, .75]``, so advantages ``[-.1875, .75]`` and returns ``[.3125, 1]``.

    Args:
        values_T: the critic's value of the state *before* each action.
        decay: lambda. 1 is the return minus the value, 0 the one-step difference.
        final_value: of the state after the last action; 0 where the episode ended there.
    """
    r, v = as_values(rewards_T), as_values(values_T)
    assert r.shape == v.shape and r.ndim == 1, f"{tuple(r.shape)} rewards but {tuple(v.shape)} values"
    after = torch.cat([v[1:], v.new_tensor([final_value])])
    advantages = return_to_go(r + discount * after - v, discount * decay)
    return Advantages(advantages, advantages + v)


def spread_to_tokens(values_S: Values, lengths_S: Sequence[int]) -> Tensor:
    """Every token of step ``s`` gets the step's value, ``[S]`` to ``[sum of lengths]``.

    Example: values ``[1, -1]``, lengths ``[2, 1]``: ``[1, 1, -1]``.
    """
    v = as_values(values_S)
    assert v.numel() == len(lengths_S), f"{v.numel()} values but {len(lengths_S)} lengths"
    return v.repeat_interleave(torch.as_tensor(lengths_S, dtype=torch.long, device=v.device))


def redistribute(total: float, weights_T: Values) -> Tensor:
    """A reward shared among tokens in proportion to non-negative weights; the sum is ``total``.

    All weights 0: shared equally. Example: 1 over weights ``[1, 3]`` is ``[.25, .75]``.
    """
    w = as_values(weights_T)
    assert w.numel() > 0, "nothing to share the reward among"
    assert bool((w >= 0).all()), "weights must not be negative"
    mass = w.sum()
    return total * (w / mass if float(mass) > 0 else torch.full_like(w, 1 / w.numel()))


def role_mask(segments: Sequence[Segment], roles: Collection[str] | None = None) -> Tensor:
    """Float 0/1 ``[T]`` over all tokens: 1 where a trainable segment has one of ``roles`` (None: any role)."""
    return spread_to_tokens(
        [float(s.trainable and (roles is None or s.role in roles)) for s in segments], [len(s) for s in segments]
    )


def constant_terms(groups: Sequence[Mapping[str, Values]]) -> dict[str, float]:
    """For each reward term, the share of baseline groups inside which it does not vary.

    Such a term cancels under every group baseline: a bonus that is 1.0 everywhere teaches nothing,
    however large it is. A result of 1.0 means that the term never had any effect.

    Args:
        groups: per baseline group, the values ``[G]`` of each term. Groups of one are skipped, since
            everything is constant in them.

    Example: ``[{"vote": [1, 0], "bonus": [.5, .5]}]`` is ``{"vote": 0.0, "bonus": 1.0}``.
    """
    seen: dict[str, list[bool]] = {}
    for group in groups:
        for name, values in group.items():
            v = as_values(values)
            if v.numel() > 1:
                seen.setdefault(name, []).append(_is_constant(v))
    return {name: sum(flags) / len(flags) for name, flags in seen.items()}


def induced_advantages(centred_T: Tensor, value_T: Tensor, baseline_T: Tensor, scale: float = 100.0) -> Tensor:
    """Return-to-go of :func:`step_rewards` minus the state's baseline, divided by ``scale``, ``[T]``.

    With ``value_max`` the sum telescopes: what remains at t is ``f(s_t, a_t)`` minus the later tokens' regrets
    ``max_a f - f``. The best text is close to the teacher's own greedy one. Example: the one above with baseline
    ``[1.5, 2]`` and scale 1 is ``[0 - 1.5, 1 - 2]``.
    """
    return (return_to_go(step_rewards(centred_T, value_T)) - baseline_T) / scale


def mix_advantages(verifier_G: Tensor, score_G: Tensor, tau: float = 0.1, std_cut: float = 0.1) -> Tensor:
    """``(1 - tau) * A(r_v) + tau * A(clip(r_s, 0, 1))`` of one group, ``[G]``, with GRPO's A.

    Where the scores hardly differ (standard deviation at most ``std_cut``) the verifier decides alone:
    dividing by a tiny deviation would turn noise into advantages of full size. Example, tau .1: rewards
    ``[1, 0]`` have A = ``[.707, -.707]``; scores ``[.2, .8]`` have the opposite; mixed ``[.566, -.566]``.
    """
    advantage = group_normalised(verifier_G)
    if score_G.numel() < 2 or float(score_G.std()) <= std_cut:
        return advantage
    return (1 - tau) * advantage + tau * group_normalised(score_G.clamp(0.0, 1.0))
