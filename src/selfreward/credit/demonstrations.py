"""A small seed of demonstrations beside many prompts without one: told apart, and made into rows to imitate."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from selfreward.errors import DataError
from selfreward.policy.policy import Policy
from selfreward.types import Prompt, Row

FIELD = "demonstration"


def split_seed(prompts: Sequence[Prompt]) -> tuple[list[Prompt], list[Prompt]]:
    """Prompts with a ``demonstration`` column, and the others. The seed is no prompt to sample for."""
    return [p for p in prompts if p.fields.get(FIELD)], [p for p in prompts if not p.fields.get(FIELD)]


def demonstration_rows(policy: Policy, seed: Sequence[Prompt], n: int, generator: torch.Generator) -> list[Row]:
    """``n`` rows drawn from the seed without replacement as long as it lasts, likelihood weight 1 on the answer.

    Raises:
        DataError: without a seed.
    """
    if not seed:
        raise DataError(f"Supervised tuning needs prompts with a column {FIELD!r}; the training data has none.")
    order: list[int] = []
    while len(order) < n:
        order += torch.randperm(len(seed), generator=generator).tolist()
    return [demonstration_row(policy, seed[i]) for i in order[:n]]


def demonstration_row(policy: Policy, prompt: Prompt) -> Row:
    """The prompt and its demonstration, ended, as a row whose answer tokens are to be imitated."""
    head = policy.encode(prompt)
    answer = list(policy.tokenizer(str(prompt.fields[FIELD]), add_special_tokens=False)["input_ids"])
    tokens = torch.tensor(head + answer + policy.end_tokens[:1], dtype=torch.long)
    learned = torch.zeros(len(tokens))
    learned[len(head) :] = 1.0
    zero = torch.zeros(len(tokens))
    return Row(tokens, zero, zero.clone(), zero.clone(), learned, zero.clone())
