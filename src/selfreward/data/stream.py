"""Which prompts come when, which are kept back, and which are too long."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from selfreward.errors import CheckpointError, ConfigError, DataError
from selfreward.types import Prompt


def _content(prompt: Prompt) -> str:
    """What the model is shown, as a key: a plain text equals one user message of that text."""
    messages = [{"role": "user", "content": prompt.text}] if prompt.messages is None else prompt.messages
    return json.dumps([sorted(message.items()) for message in messages])


def fingerprint(prompts: Sequence[Prompt]) -> str:
    """Sha256 of the ids and contents, in order: equal exactly when a stream would deal the same."""
    digest = hashlib.sha256()
    for prompt in prompts:
        digest.update(json.dumps([prompt.id, _content(prompt)]).encode())
    return digest.hexdigest()


def _hash(*parts: object) -> bytes:
    return hashlib.sha256(json.dumps(parts).encode()).digest()


class PromptStream:
    """Deals prompts forever, epoch after epoch, each epoch in its own order.

    The order of an epoch is a function of ``(seed, epoch, number of prompts)`` alone, by hash, so it
    is the same on every machine and under every library version. A call never deals a prompt twice
    unless it asks for more than there are: where a call spans two epochs, prompts that it has
    already dealt are put off to the next call, so every epoch still deals every prompt once.
    """

    def __init__(self, prompts: Sequence[Prompt], seed: int = 0) -> None:
        if not prompts:
            raise DataError("There are no prompts to train on.")
        self.prompts = list(prompts)
        self.seed = seed
        self.fingerprint = fingerprint(self.prompts)
        self._start(0)

    def __len__(self) -> int:
        return len(self.prompts)

    def _start(self, epoch: int) -> None:
        self.epoch = epoch
        self._order = sorted(range(len(self.prompts)), key=lambda i: _hash(self.seed, epoch, i))
        self._cursor = 0
        self._deferred: list[int] = []

    def next(self, n: int) -> list[Prompt]:
        """The next ``n`` prompts."""
        if n < 1:
            raise ValueError(f"next({n}): at least one prompt is dealt at a time.")
        dealt: list[Prompt] = []
        while len(dealt) < n:
            used: set[int] = set()
            for _ in range(min(n - len(dealt), len(self.prompts))):
                index = self._draw(used)
                used.add(index)
                dealt.append(self.prompts[index])
        return dealt

    def _draw(self, used: set[int]) -> int:
        if self._cursor == len(self._order) and not self._deferred:
            self._start(self.epoch + 1)
        for place, index in enumerate(self._deferred):
            if index not in used:
                return self._deferred.pop(place)
        while True:
            index = self._order[self._cursor]
            self._cursor += 1
            if index not in used:
                return index
            self._deferred.append(index)

    def state_dict(self) -> dict[str, Any]:
        """Where the stream stands, as plain JSON."""
        return {
            "fingerprint": self.fingerprint,
            "seed": self.seed,
            "epoch": self.epoch,
            "cursor": self._cursor,
            "deferred": list(self._deferred),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly where :meth:`state_dict` was taken, with its seed.

        Raises:
            CheckpointError: when the state was taken on other prompts, or is none.
        """
        if not isinstance(state, dict) or not self.state_dict().keys() <= state.keys():
            raise CheckpointError(f"The position in the data is damaged: expected {', '.join(self.state_dict())}.")
        if state["fingerprint"] != self.fingerprint:
            raise CheckpointError(
                f"The run was started on other prompts than the {len(self)} given now (ids or texts differ, or "
                f"their order does). Resume with the same data and limit, or start a new run."
            )
        self.seed = state["seed"]
        self._start(state["epoch"])
        self._cursor = state["cursor"]
        self._deferred = list(state["deferred"])


def split_holdout(
    prompts: Sequence[Prompt], fraction: float, max_size: int | None = None, seed: int = 0
) -> tuple[list[Prompt], list[Prompt]]:
    """Keep some prompts back for evaluation.

    The contents with the smallest hashes are held out, so prompts of equal content never cross and
    neither their order nor their ids matter.

    Args:
        fraction: held-out share, in [0, 1).
        max_size: at most so many held-out prompts.

    Returns:
        ``(train, heldout)``, each in the given order. With a positive ``fraction`` and two or more
        different contents of one prompt each, at least one prompt is held out.
    """
    if not 0 <= fraction < 1:
        raise ConfigError(f"The held-out fraction is {fraction}; it must be at least 0 and below 1.")
    if max_size is not None and max_size < 0:
        raise ConfigError(f"The held-out maximum is {max_size}; it must be 0 or more.")
    copies: dict[str, int] = {}
    for prompt in prompts:
        copies[_content(prompt)] = copies.get(_content(prompt), 0) + 1
    room = max(1, round(fraction * len(prompts))) if fraction else 0
    if max_size is not None:
        room = min(room, max_size)
    held: set[str] = set()
    for content in sorted(copies, key=lambda c: _hash(seed, c))[: len(copies) - 1]:
        if copies[content] <= room:
            room -= copies[content]
            held.add(content)
    train = [p for p in prompts if _content(p) not in held]
    return train, [p for p in prompts if _content(p) in held]


@dataclass
class Lengths:
    """What :func:`check_lengths` found.

    Attributes:
        kept: the prompts that fit, in order.
        too_long: id to token count of those that do not.
        limit: the largest allowed token count.
        longest: the largest token count of all.
    """

    kept: list[Prompt]
    limit: int
    longest: int = 0
    too_long: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        if not self.too_long:
            return f"All {len(self.kept)} prompts fit in {self.limit} tokens (the longest has {self.longest})."
        first = ", ".join(f"{key} ({length} tokens)" for key, length in list(self.too_long.items())[:5])
        others = f" and {len(self.too_long) - 5} more" if len(self.too_long) > 5 else ""
        total = len(self.kept) + len(self.too_long)
        return f"{len(self.too_long)} of {total} prompts are longer than {self.limit} tokens: {first}{others}."


def check_lengths(
    prompts: Sequence[Prompt],
    encode: Callable[[Prompt], Sequence[int]],
    max_prompt_tokens: int | None,
    context: int | None,
    policy: Literal["error", "drop"] = "error",
    *,
    max_new_tokens: int = 0,
) -> Lengths:
    """Find the prompts that do not leave room for a completion.

    Args:
        encode: the tokens that the model will be shown for a prompt.
        max_prompt_tokens: the user's limit.
        context: how many tokens the model can hold, prompt and completion together.
        policy: what to do about prompts that are too long: raise, or leave them out.
        max_new_tokens: tokens of ``context`` that the completion needs.

    Raises:
        DataError: naming the prompts (an id that the data lacks is the line number) and what to set.
    """
    if policy not in ("error", "drop"):
        raise ConfigError(f"Unknown policy {policy!r} for prompts that are too long; use 'error' or 'drop'.")
    limits = [] if max_prompt_tokens is None else [max_prompt_tokens]
    if context is not None:
        if max_new_tokens >= context:
            raise ConfigError(
                f"max_new_tokens={max_new_tokens} leaves no room for a prompt: the model holds {context} tokens in all."
            )
        limits.append(context - max_new_tokens)
    lengths = [len(encode(prompt)) for prompt in prompts]
    longest = max(lengths, default=0)
    found = Lengths([], min(limits, default=longest), longest)
    for prompt, length in zip(prompts, lengths, strict=True):
        if length <= found.limit:
            found.kept.append(prompt)
        else:
            found.too_long[prompt.id] = length
    if found.too_long and (policy == "error" or not found.kept):
        raise DataError(f"{found} {_remedy(longest, max_prompt_tokens, context, max_new_tokens)}")
    return found


def _remedy(longest: int, max_prompt_tokens: int | None, context: int | None, max_new_tokens: int) -> str:
    if context is None or longest + max_new_tokens <= context:
        keep = f"Set max_prompt_tokens={longest} to keep them"
    elif longest < context:
        raised = (
            "" if max_prompt_tokens is None or max_prompt_tokens >= longest else f" and max_prompt_tokens={longest}"
        )
        keep = (
            f"The model holds {context} tokens, prompt and completion together: "
            f"set max_new_tokens={context - longest}{raised} to keep them"
        )
    else:
        keep = f"The model holds {context} tokens in all: shorten them or use a model with a longer context"
    return f"{keep}, or leave them out with prompt_policy='drop'."
