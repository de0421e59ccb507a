"""Samplers: token ids in, completions out.

Every prompt owns a random stream that is derived from ``(seed, key)`` alone, and tokens are drawn by
inverting the cumulative distribution. A completion therefore depends neither on which other
prompts share its batch nor on how many processes split the work, and there is no generator state to
save: resuming a run needs only the step number.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from torch import Tensor

from selfreward.errors import ConfigError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class SamplingParams:
    """How to sample. ``temperature=0`` is greedy; ``top_k=0`` and ``top_p=1`` do not truncate.

    ``stats`` names the per-token statistics to take while sampling (see
    :func:`selfreward.policy.scoring.distribution.token_statistics`). ``max_rows`` bounds the rows in flight.
    """

    max_new_tokens: int = 64
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    stats: tuple[str, ...] = ("entropy", "self_certainty")
    max_rows: int = 1024

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise ConfigError(f"max_new_tokens is {self.max_new_tokens}; it must be at least 1.")
        if self.temperature < 0:
            raise ConfigError(f"temperature is {self.temperature}; it must be 0 (greedy) or more.")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p is {self.top_p}; it must lie in (0, 1].")
        if self.top_k < 0:
            raise ConfigError(f"top_k is {self.top_k}; it must be 0 (off) or more.")


@dataclass
class Completion:
    """One sampled completion. ``tokens`` long ``[T]`` with the end token when ``finished``.

    ``logprobs`` are those of the tempered, *untruncated* distribution, which is what the loss scores.
    """

    tokens: Tensor
    logprobs: Tensor
    finished: bool
    stats: dict[str, Tensor] = field(default_factory=dict)


class Sampler(Protocol):
    """Anything that turns ``P`` prompts into ``P`` lists of completions, ``n[i]`` for prompt ``i``.

    A sampler that draws with the model it is given needs :meth:`__call__` alone and inherits the rest; one that draws
    elsewhere (:mod:`selfreward.policy.engine.sampler`) has more to say.

    Attributes:
        numbers: what the sampler has measured of itself lately, for the metrics of a step.
    """

    numbers: Mapping[str, float] = MappingProxyType({})

    def prepare(self, model: torch.nn.Module, prompts: Sequence[Sequence[int]]) -> None:
        """Called before each drawing, in all processes together and with all prompts."""
        return

    def for_copies(self) -> Sampler:
        """The sampler of frozen copies of the policy, which have other weights than the policy itself."""
        return self

    def __call__(
        self,
        model: PreTrainedModel,
        prompts: Sequence[Sequence[int]],
        n: Sequence[int],
        params: SamplingParams,
        *,
        keys: Sequence[str],
        seed: int,
        end_tokens: Sequence[int],
        pad_token: int,
    ) -> list[list[Completion]]: ...


def occurrences(items: Sequence[Hashable]) -> list[int]:
    """How often each item stood earlier in the list: of ``a b a a``, ``0 0 1 2``. Repeats need draws of their own."""
    seen: Counter[Hashable] = Counter()
    result = []
    for item in items:
        result.append(seen[item])
        seen[item] += 1
    return result
