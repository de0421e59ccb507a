"""Completions that somebody else wrote, as a policy would have written them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from selfreward.data.rollout_files import CHARACTERS
from selfreward.types import Group, Segment

if TYPE_CHECKING:
    from selfreward.policy.policy import Policy


def tokenize(groups: Sequence[Group], policy: Policy) -> None:
    """Give the completions of bare texts (:func:`selfreward.data.rollout_files.text_group`) the tokens that ``policy``
    would have written, so that it can score them."""
    ends = policy.end_tokens[:1]
    for group in groups:
        head = torch.tensor(policy.encode(group.prompt), dtype=torch.long)
        for trajectory in group:
            segment = trajectory.last
            ids = list(policy.tokenizer(segment.text, add_special_tokens=False)["input_ids"])
            segment.tokens = torch.tensor(ids + ends, dtype=torch.long)
            segment.meta.pop(CHARACTERS, None)
            trajectory.segments = [Segment("prompt", head), segment]
