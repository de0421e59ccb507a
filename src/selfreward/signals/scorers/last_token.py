"""Reading the last-token score off a policy: which token, where, and what it is worth there.

See :mod:`selfreward.signals.last_token` for the score itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from selfreward.errors import RecipeError, UnavailableError, nearest
from selfreward.rollouts.run import RunContext
from selfreward.signals.registry import Scores
from selfreward.types import Group

if TYPE_CHECKING:
    from selfreward.policy.policy import Policy
    from selfreward.types import Group, Row, Trajectory


def last_token(
    run: RunContext,
    groups: Sequence[Group],
    token: str = "",
    c_ref: float | None = None,
    beta: float | None = None,
    reference: str = "",
) -> Scores:
    """LaSeR's r_s, clipped to 0 .. 1; no value where the response was cut off.

    Args:
        token: the reserved token by name; "" takes the first special token without a use.
        c_ref: its mean log-probability under the model before training (``laser/c_ref`` of the run's metrics).
        beta: scale of the score; by default 2 / |c_ref|.
        reference: the model before training, on which c_ref is measured when it is not given.
    """
    from selfreward.policy.loading import load_policy
    from selfreward.signals.last_token import default_beta
    from selfreward.signals.scorers.last_token import last_token_logprobs, measure_c_ref, reserved_token

    policy = run.policy
    found = reserved_token(policy, token)
    if c_ref is None:
        before = load_policy(reference, device=str(policy.device)) if reference else run.reference
        if before is policy:
            raise UnavailableError(
                "needs what the token's log-probability was before training: c_ref=NUMBER (laser/c_ref in the run's "
                "metrics.jsonl), or reference=MODEL to measure it on"
            )
        c_ref, _ = measure_c_ref(before, groups, found, run.temperature)
    scale = beta or default_beta(c_ref)
    logprobs = last_token_logprobs(policy, groups, found, run.temperature)
    return [[None if v is None else min(1.0, max(0.0, scale * (v - c_ref))) for v in row] for row in logprobs]


@dataclass(frozen=True)
class ReservedToken:
    """The token whose probability carries the score."""

    id: int
    name: str


def reserved_token(policy: Policy, name: str = "") -> ReservedToken:
    """The token called ``name``; without a name, the first special token that has no other use.

    Raises:
        RecipeError: when there is no such token, or it has another use (it ends, pads or begins text, or
            the chat template writes it).
    """
    tokenizer = policy.tokenizer
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    taken = {t for t in (tokenizer.eos_token, tokenizer.bos_token, tokenizer.pad_token, tokenizer.unk_token) if t}
    ends = set(policy.end_tokens)
    template = str(tokenizer.chat_template or "")
    special = [str(t) for t in tokenizer.added_tokens_decoder.values() if t.special]
    free = [t for t in special if t not in taken and vocabulary[t] not in ends and t not in template]
    if not name:
        if not free:
            raise RecipeError(
                "The tokenizer has no special token without a use, and the last-token score needs one that no text "
                "contains. Name an unused token of the vocabulary: --set token=NAME."
            )
        return ReservedToken(vocabulary[free[0]], free[0])
    if name not in vocabulary:
        hint = nearest(name, free) if free else ""
        raise RecipeError(f"The tokenizer has no token {name!r}; the score needs a single token.{hint}")
    if name in taken or vocabulary[name] in ends:
        raise RecipeError(f"Token {name!r} begins, ends or pads text; the score needs a token without any use.")
    if name in special and name in template:
        raise RecipeError(f"Token {name!r} is written by the chat template; the score needs a token without any use.")
    return ReservedToken(vocabulary[name], name)


def with_token(trajectory: Trajectory, token: ReservedToken) -> Tensor:
    """Long ``[T + 1]``: the trajectory with the reserved token after its end."""
    return torch.cat([trajectory.tokens, torch.tensor([token.id], dtype=torch.long)])


def taught_row(row: Row, trajectory: Trajectory, token: ReservedToken, channels: Mapping[str, float]) -> Row:
    """``row`` with the reserved token behind it, which carries ``channels`` and is touched by no other loss."""

    def longer(values_T: Tensor, last: float = 0.0) -> Tensor:
        return torch.cat([values_T, torch.tensor([last])])

    parts = {name: longer(getattr(row, name)) for name in ("mask", "advantage", "behaviour", "nll", "kl")}
    extra = {name: longer(torch.zeros(len(row)), value) for name, value in channels.items()}
    return replace(row, tokens=with_token(trajectory, token), extra=extra, **parts)


def last_token_logprobs(
    policy: Policy, groups: Sequence[Group], token: ReservedToken, temperature: float = 1.0
) -> list[list[float | None]]:
    """``log p(z | x, y, <eos>)`` of every trajectory; None where the response was cut off before its end."""
    finished = [t for g in groups for t in g if t.finished]
    sequences = [with_token(t, token) for t in finished]
    scored = policy.score(sequences, [len(s) - 1 for s in sequences], temperature=temperature, role="last token")
    values = iter([float(s["logprob"][0]) for s in scored])
    return [[next(values) if t.finished else None for t in g] for g in groups]


def measure_c_ref(
    reference: Policy, groups: Sequence[Group], token: ReservedToken, temperature: float = 1.0
) -> tuple[float, float]:
    """Mean and standard deviation of the token's log-probability under the reference, over finished responses.

    Raises:
        RecipeError: when no response is finished.
    """
    found = last_token_logprobs(reference, groups, token, temperature)
    values = torch.tensor([v for row in found for v in row if v is not None])
    if values.numel() == 0:
        raise RecipeError(
            "No response reached its end, and the last-token score is read after the end. Raise max_new_tokens."
        )
    return float(values.mean()), float(values.std(correction=0))
