"""Follow-up likelihood: an answer is as good as what a user would say next.

FLR (arXiv 2409.13948): with banks F+ and F- of positive and negative user sentences and the length-normalised
log-likelihood ``l(f) = (1/|f|) sum_j log p(f_j | x, y, user turn, f_<j)``,
``FLR(x, y) = mean_{f in F+} l(f) - mean_{f in F-} l(f)``, averaged over the aspects of the bank.
No model is called here.

The prior of a sentence cancels between answers to one prompt: ``l(f)`` without the answer is the same for all of
them. Between prompts only the difference of positive and negative protects, so never use one side alone.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files

import torch
from torch import Tensor

from selfreward.errors import ConfigError


@dataclass(frozen=True)
class Aspect:
    """What a user may be pleased or displeased about, in the user's words."""

    name: str
    positive: tuple[str, ...]
    negative: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.positive or not self.negative:
            raise ConfigError(f"The aspect {self.name!r} needs at least one positive and one negative follow-up.")

    def first(self, n: int) -> Aspect:
        """The same with at most ``n`` sentences on each side; 0 keeps all."""
        return replace(self, positive=self.positive[: n or None], negative=self.negative[: n or None])

    def swapped(self) -> Aspect:
        """Positive for negative: a control that must mislead."""
        return replace(self, positive=self.negative, negative=self.positive)


@cache
def builtin_bank() -> tuple[Aspect, ...]:
    """Six aspects with ten follow-ups of each kind, for chat models (``followup_bank.toml``)."""
    text = files("selfreward.signals").joinpath("followup_bank.toml").read_text(encoding="utf-8")
    return tuple(Aspect(name, tuple(a["positive"]), tuple(a["negative"])) for name, a in tomllib.loads(text).items())


def followup_likelihood(logprobs_T: Tensor) -> Tensor:
    """``l(f)``: mean log-probability per token, float ``[T]`` to a scalar. Example: ``[-1, -3]`` is -2."""
    assert logprobs_T.ndim == 1 and logprobs_T.numel() > 0, f"one follow-up's tokens, not {tuple(logprobs_T.shape)}"
    return logprobs_T.mean()


def raw_logit(logits_V: Tensor, tokens_T: Tensor) -> Tensor:
    """Mean raw logit of all follow-up tokens at the position of the first of them: what the released script takes.

    No likelihood: it ignores the order of the tokens and the normaliser, which differs between answers. Kept
    to reproduce the script. Example: logits ``[3, 1, 0]`` and tokens ``[0, 1]`` give 2.
    """
    assert logits_V.ndim == 1, f"one position's logits, not {tuple(logits_V.shape)}"
    return logits_V[tokens_T].mean()


def followup_reward(values_N_F: Tensor | Sequence[Sequence[float]], positive_F: Sequence[bool] | Tensor) -> Tensor:
    """``mean over F+ minus mean over F-``, ``[N, F]`` to ``[N]``.

    Example: one answer with ``l = [-1, -2]`` on two positive sentences and ``[-3, -5]`` on two negative ones is worth
    ``-1.5 - (-4) = 2.5``.

    Args:
        values_N_F: ``l(f)`` of every follow-up after each of N answers.
        positive_F: which follow-ups are positive; both kinds must be there.
    """
    values, positive = torch.as_tensor(values_N_F, dtype=torch.float32), torch.as_tensor(positive_F, dtype=torch.bool)
    assert values.ndim == 2 and positive.shape == values.shape[1:], (
        f"{tuple(values.shape)} likelihoods for {tuple(positive.shape)} follow-ups"
    )
    assert bool(positive.any()) and not bool(positive.all()), "follow-ups of both kinds are needed"
    return values[:, positive].mean(1) - values[:, ~positive].mean(1)


def aspect_mean(scores: Mapping[str, Tensor], weights: Mapping[str, float] | None = None) -> Tensor:
    """Weighted mean over aspects of ``[N]`` each; equal weights unless given (the paper's are not known).

    Raises:
        ConfigError: for weights of unknown aspects, or that sum to nothing.
    """
    used = dict.fromkeys(scores, 1.0) if weights is None else dict(weights)
    unknown = set(used) - set(scores)
    if unknown or sum(used.values()) <= 0:
        raise ConfigError(f"Aspect weights {used} do not fit the aspects {', '.join(scores)}: unknown, or no weight.")
    total = torch.stack([weight * scores[name] for name, weight in used.items()]).sum(0)
    return total / sum(used.values())
