"""How likely is an answer with and without its question? The measuring behind the self-aligned reward."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from selfreward.errors import ConfigError
from selfreward.signals.efficiency import efficiency_reward, relative_length_reward, self_aligned_reward
from selfreward.types import Group

if TYPE_CHECKING:
    from selfreward.policy.policy import Policy
    from selfreward.rollouts.run import RunContext


def question_free(policy: Policy, text: str = "") -> Tensor:
    """Token ids of the context that asks nothing, the same for every answer.

    The chat skeleton around ``text``; without a chat template ``text``, or the begin-of-text token.

    Raises:
        ConfigError: if that leaves no token at all, since the first token needs something before it.
    """
    ids = policy.encode_text(text)
    if not ids and policy.tokenizer.bos_token_id is not None:
        ids = [int(policy.tokenizer.bos_token_id)]
    if not ids:
        raise ConfigError(
            "The question-free context is empty: the tokenizer has neither a chat template nor a begin-of-text "
            "token. Set empty=TEXT, some text that asks nothing (for example a line break)."
        )
    return torch.tensor(ids, dtype=torch.long)


def mean_logprobs(
    policy: Policy, groups: Sequence[Group], contexts: Sequence[Tensor], temperature: float = 1.0
) -> list[Tensor]:
    """Mean log-probability per token of every last answer behind its group's context, ``[G]`` per group.

    Args:
        contexts: token ids, one context per group.
    """
    pairs = [(c, t.last) for g, c in zip(groups, contexts, strict=True) for t in g]
    sequences = [torch.cat([c, s.tokens]) for c, s in pairs]
    scored = policy.score(sequences, [len(c) for c, _ in pairs], temperature=temperature, role="question-free")
    means = iter([s["logprob"].mean() for s in scored])
    return [torch.stack([next(means) for _ in g]) for g in groups]


def sampled_logprobs(groups: Sequence[Group]) -> list[Tensor]:
    """The same given the own question, from the sampler's record, ``[G]`` per group."""
    return [torch.stack([_recorded(t.last.logprobs) for t in g]) for g in groups]


def _recorded(logprobs: Tensor | None) -> Tensor:
    assert logprobs is not None and logprobs.numel(), "a completion without log-probabilities"
    return logprobs.mean()


# ---- by name, for the audit ----------------------------------------------------------------------


def aligned(run: RunContext, groups: Sequence[Group], variant: Any = "relative", empty: str = "") -> list[list[float]]:
    """Self-aligned reward of every completion."""
    policy = run.policy
    run.stats(groups, ["logprob"])
    alone = mean_logprobs(policy, groups, [question_free(policy, empty)] * len(groups), run.temperature)
    given = sampled_logprobs(groups)
    return [self_aligned_reward(a, b, variant).tolist() for a, b in zip(given, alone, strict=True)]


def brevity(run: RunContext, groups: Sequence[Group]) -> list[list[float]]:
    """Relative length against the group's mean."""
    return [relative_length_reward([float(len(t.last)) for t in g]).tolist() for g in groups]


def efficient(run: RunContext, groups: Sequence[Group], gamma: float = 0.5) -> list[list[float | None]]:
    """Right, and short beside the group's own right answers; None without a reference."""
    result: list[list[float | None]] = []
    for group in groups:
        reference = group.prompt.answer
        if reference is None:
            result.append([None] * len(group))
            continue
        correct = [float(run.answers.correct(c, reference)) for c in group.completions]
        result.append(list(efficiency_reward(correct, [float(len(t.last)) for t in group], gamma).tolist()))
    return result
