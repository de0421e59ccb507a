"""What the training loop asks of a policy, whatever its kind.

The learner knows rows, pairs, loss terms, weights and gradients; the trainer knows steps, measurements and files. What
a row looks like to a model (token ids to be padded, observations to be stacked) is the policy's own business: it is
asked for the log-probabilities of what was chosen in the rows, and that is all that a loss sees.

:class:`selfreward.policy.policy.Policy` is the policy over the tokens of a language model. A policy of another kind
derives from :class:`TrainablePolicy`, gives the members without a body, and inherits the rest. What else a recipe calls
(``sample``, ``choose``) is between the recipe and its kind of policy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, Self

import torch
from torch import Tensor

from selfreward.types import Row


@dataclass
class TokenCount:
    """Tokens by kind of work and role, for cost accounting. Policies without tokens count decisions."""

    generated: dict[str, int] = field(default_factory=dict)
    scored: dict[str, int] = field(default_factory=dict)

    def add(self, kind: str, role: str, n: int) -> None:
        counts = {"generated": self.generated, "scored": self.scored}[kind]
        counts[role] = counts.get(role, 0) + n


@dataclass(frozen=True)
class Wanted:
    """What is asked about right-padded sequences that go through one forward.

    Attributes:
        where: bool ``[B, T]``; True at ``t`` asks for the prediction *of* what was chosen at ``t``.
        with_gradient: statistics to be differentiated, for losses on them: ``entropy``, or one of
            :data:`selfreward.policy.scoring.distribution.STATS`.
        candidates: long ``[B, T, K]``: ask for the log-probabilities of these choices in the place of each ``t``, too.
    """

    where: Tensor
    with_gradient: tuple[str, ...] = ()
    candidates: Tensor | None = None


@dataclass(frozen=True)
class Likelihoods:
    """A policy's answer to :class:`Wanted`, with gradient, zero where nothing was wanted.

    Attributes:
        logp: float ``[B, T]``, the log-probability of what was chosen.
        stats: float ``[B, T]`` by name, what ``with_gradient`` asked for.
        candidates: float ``[B, T, K]``; None where none were named.
    """

    logp: Tensor
    stats: Mapping[str, Tensor] = field(default_factory=dict)
    candidates: Tensor | None = None


class TrainablePolicy(Protocol):
    """A policy as the learner and the trainer see it.

    Sizes (``max_tokens``, the length of a row) are in tokens, or in whatever a policy decides one after another.

    Attributes:
        counts: what was generated and scored so far, by role. The trainer saves and restores it.
    """

    counts: TokenCount

    # ---------------------------------------------------------------- likelihoods

    def likelihoods(self, rows: Sequence[Row], wanted: Wanted, temperature: float = 1.0) -> Likelihoods:
        """One forward with gradient. ``B`` are the rows in order, ``T`` is the longest of them; others are padded.

        Raises:
            RecipeError: for a statistic, or candidates, that this kind of policy does not have.
        """
        ...

    def logprobs(
        self, rows: Sequence[Row], temperature: float = 1.0, *, role: str | None = None, max_tokens: int | None = None
    ) -> list[Tensor]:
        """Float ``[T]`` per row on the CPU, without gradient: the log-probability of what was chosen at every position.

        Args:
            role: the account on which the work is counted as scored; None counts it nowhere.
            max_tokens: padded tokens in one forward; None is the policy's own choice.
        """
        ...

    def shared_forwards(self, rows: Sequence[Row], max_tokens: int) -> list[tuple[list[int], int]]:
        """Rows that cost less in one forward than apart: their indices, and what they cost together, in tokens.

        Every row is in exactly one set. By default each is alone.
        """
        return [([i], len(row)) for i, row in enumerate(rows)]

    def micro_tokens(self) -> int:
        """Padded tokens in one forward with gradient where the user does not say."""
        return 16_384

    def finish_backward(self, done: int) -> None:
        """Called after the last of the ``done`` backward passes of an update, in all processes.

        Where one process cannot run alone (sharded weights), it goes on with empty passes here until all have run as
        many.
        """
        return

    # ---------------------------------------------------------------- weights

    @property
    def device(self) -> torch.device:
        """Where the forward runs and where a loss is computed."""
        return self.parameters()[0].device

    def parameters(self) -> list[torch.nn.Parameter]:
        """What is trained, in an order that does not change."""
        ...

    def num_parameters(self) -> int:
        """Weights of the whole model, also those that are not trained."""
        return sum(p.numel() for p in self.parameters())

    def state_dict(self) -> dict[str, Tensor]:
        """The trained weights by name, on the CPU."""
        ...

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore what :meth:`state_dict` gave."""
        ...

    def snapshot(self, *, offload: bool = False) -> Self:
        """A frozen copy of the policy as it is now.

        Args:
            offload: the copy may never be needed; let its weights wait where memory costs less until it is used.
        """
        ...

    def save(self, folder: str | Path) -> None:
        """Write the policy as a folder, whole or not at all. All processes call this and the first one writes."""
        ...

    # ---------------------------------------------------------------- the run

    def seed(self, seed: int, *key: object) -> None:
        """Start a fresh, reproducible sequence of draws; the trainer does so once per step."""
        ...

    @property
    def context(self) -> int | None:
        """The longest row that the policy reads, or None where there is no limit."""
        return None

    @property
    def numbers(self) -> Mapping[str, float]:
        """What the policy has measured of itself lately, for the metrics of a step."""
        return {}

    def default_lr(self) -> float:
        """A learning rate to start from where the user gives none."""
        return 1e-3

    def describe(self, row: Row) -> str:
        """A row in words, for somebody who looks at a saved batch."""
        return ""
