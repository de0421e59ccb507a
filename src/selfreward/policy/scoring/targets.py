"""Forced scoring of many targets under shared contexts, each context read once.

A probe asks how likely several given continuations are after one context, or after the successive
states of one response. Scoring every context with every target would read the context anew each
time. Here contexts that begin alike (one is a prefix of another) are read together in one forward,
the first token of every target is predicted from that forward itself, and only the rest of a target
costs another one, which attends to the context's cached keys and values. Targets that differ in their
last token only share even that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from selfreward.errors import RecipeError
from selfreward.policy.architecture import CANNOT, alike, causal_model, full_attention, head_of
from selfreward.policy.batching import MICRO_TOKENS, micro_batches, right_pad
from selfreward.policy.scoring.distribution import token_statistics
from selfreward.policy.scoring.forward import CHUNK_ELEMENTS, score_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Ids = Sequence[int]
Scored = list[list[dict[str, Tensor]]]


class Branch(NamedTuple):
    """The tokens of a target that must be read (all but its last), after ``length`` tokens of a trunk."""

    trunk: int
    length: int
    tokens: tuple[int, ...]


@dataclass
class Plan:
    """What has to be read: whole ``trunks``, ``branches`` off them, and for each context its place on a trunk."""

    trunks: list[tuple[int, ...]]
    branches: list[Branch]
    places: list[tuple[int, int]]

    @property
    def tokens(self) -> int:
        """Tokens that go through the model."""
        return sum(map(len, self.trunks)) + sum(len(b.tokens) for b in self.branches)


def plan(contexts: Sequence[Ids], targets: Sequence[Sequence[Ids]]) -> Plan:
    """Contexts that are prefixes of others share a trunk; targets that start alike share a branch.

    Example: contexts ``[1, 2]`` and ``[1, 2, 3]`` with targets ``[7, 8]`` and ``[7, 9]`` each are one
    trunk ``1 2 3`` and two branches ``7``, at lengths 2 and 3: five tokens, where scoring the four
    concatenations reads eighteen.

    Raises:
        RecipeError: for an empty context or target, or a different number of contexts and targets.
    """
    if len(contexts) != len(targets):
        raise RecipeError(f"{len(contexts)} contexts were given with {len(targets)} lists of targets.")
    whole = [tuple(c) for c in contexts]
    for i, (context, own) in enumerate(zip(whole, targets, strict=True)):
        if not context:
            raise RecipeError(f"Context {i} is empty; the first token of a sequence has no prediction.")
        if any(len(t) == 0 for t in own):
            raise RecipeError(f"Context {i} has an empty target; a target needs at least one token.")
    trunks: list[tuple[int, ...]] = []
    at: dict[tuple[int, ...], int] = {}
    # In lexicographic order a prefix comes directly before what continues it.
    for context in sorted(set(whole), reverse=True):
        if not trunks or trunks[-1][: len(context)] != context:
            trunks.append(context)
        at[context] = len(trunks) - 1
    places = [(at[c], len(c)) for c in whole]
    branches: dict[Branch, None] = {}
    for (trunk, length), own in zip(places, targets, strict=True):
        for target in own:
            if len(target) > 1:
                branches[Branch(trunk, length, tuple(target[:-1]))] = None
    return Plan(trunks, list(branches), places)


def neighbours(contexts: Sequence[Ids], parts: int) -> list[list[int]]:
    """Indices of contexts in at most ``parts`` blocks of about equal length, with those that begin alike together.

    Example: ``[[1, 2], [7], [1], [7, 8]]`` in two blocks are ``[2, 0]`` and ``[1, 3]``.
    """
    if parts == 1:
        return [list(range(len(contexts)))] if contexts else []
    order = sorted(range(len(contexts)), key=lambda i: tuple(contexts[i]))
    most = -(-len(order) // parts)
    return [order[k : k + most] for k in range(0, len(order), max(1, most))]


def can_share(model: PreTrainedModel) -> bool:
    """Whether the model's cache keeps every token of the context, so that branches can be cut from it.

    Sliding windows forget, recurrent states cannot be rewound, and distances that are counted in the cache (MPT) see
    the gap between a short context and its branch. Asked of the model itself, once.
    """
    causal = causal_model(model)
    known = getattr(causal, "_selfreward_branches", None)
    if known is None:
        known = head_of(model) is not None and full_attention(causal) and _keeps_all(causal) and _reproduces(causal)
        object.__setattr__(causal, "_selfreward_branches", known)
    return bool(known)


def _keeps_all(causal: PreTrainedModel) -> bool:
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    try:
        layers = DynamicCache(config=causal.config).layers
    except CANNOT:
        return False
    return all(type(layer) is DynamicLayer for layer in layers)


def _reproduces(causal: PreTrainedModel) -> bool:
    """A branch off the start of a trunk and one off its end: the states are those of whole sequences."""
    vocabulary = causal.config.get_text_config().vocab_size
    trunk, target = ([k % vocabulary for k in ids] for ids in ((22, 29, 36, 43, 50), (5, 9, 3, 7)))
    contexts = [trunk[:2], trunk]
    drawn = plan(contexts, [[target], [target]])
    with torch.no_grad():
        try:
            found = _states(causal, drawn, MICRO_TOKENS)[len(drawn.trunks) :]
            whole = [
                causal.base_model(
                    input_ids=torch.tensor([[*c, *target[:-1]]], device=causal.device), use_cache=False
                ).last_hidden_state[0, -3:]
                for c in contexts
            ]
        except CANNOT:
            return False
    return alike(torch.stack(found), torch.stack(whole))


@torch.no_grad()
def score_targets(
    model: PreTrainedModel,
    contexts: Sequence[Ids],
    targets: Sequence[Sequence[Ids]],
    *,
    stats: Sequence[str] = (),
    temperature: float = 1.0,
    max_tokens: int = MICRO_TOKENS,
) -> tuple[Scored, int]:
    """Log-probabilities of every target under its context, and the number of tokens that were read.

    Args:
        contexts: ``N`` token id lists.
        targets: for each context any number of token id lists.
        stats: see :func:`selfreward.policy.scoring.distribution.token_statistics`; reduced inside the forward.
        max_tokens: padded tokens (cached ones included) in one forward.

    Returns:
        Per context and target a dict of CPU tensors ``[T]``: ``logprob`` and each statistic. Equal to
        scoring ``context + target`` as one sequence, which is also what models without a shareable
        cache get.
    """
    drawn = plan(contexts, targets)
    names = tuple(dict.fromkeys(("logprob", *stats)))
    project = head_of(model)
    if project is None or not can_share(model):
        return _concatenated(model, contexts, targets, stats, temperature)
    states = _states(model, drawn, max_tokens)
    where = {b: len(drawn.trunks) + i for i, b in enumerate(drawn.branches)}
    inputs, wanted, sizes = [], [], []
    for (trunk, length), own in zip(drawn.places, targets, strict=True):
        for target in own:
            inputs.append(states[trunk][length - 1 : length])
            if len(target) > 1:
                inputs.append(states[where[Branch(trunk, length, tuple(target[:-1]))]])
            wanted += list(target)
            sizes.append(len(target))
    if not sizes:
        return [[] for _ in contexts], drawn.tokens
    inputs_N, targets_N = torch.cat(inputs), torch.tensor(wanted, device=inputs[0].device)
    rows = max(1, CHUNK_ELEMENTS // causal_model(model).config.get_text_config().vocab_size)
    parts = [
        token_statistics(project(a), b, names, temperature=temperature)
        for a, b in zip(inputs_N.split(rows), targets_N.split(rows), strict=True)
    ]
    values = {k: torch.cat([p[k] for p in parts]).float().cpu().split(sizes) for k in names}
    flat = iter([{k: values[k][i] for k in names} for i in range(len(sizes))])
    return [[next(flat) for _ in own] for own in targets], drawn.tokens


def _states(model: PreTrainedModel, drawn: Plan, max_tokens: int) -> list[Tensor]:
    """Last hidden states ``[T, D]`` of every trunk, then of every branch."""
    from transformers import DynamicCache

    base = causal_model(model).base_model
    device = next(model.parameters()).device
    states: list[Tensor] = [torch.empty(0)] * (len(drawn.trunks) + len(drawn.branches))
    for batch in micro_batches([len(t) for t in drawn.trunks], max_tokens):
        ids = right_pad([torch.tensor(drawn.trunks[i]) for i in batch]).to(device)
        cache = DynamicCache(config=causal_model(model).config)
        hidden = base(input_ids=ids, past_key_values=cache, use_cache=True).last_hidden_state
        row = {trunk: k for k, trunk in enumerate(batch)}
        for trunk, k in row.items():
            states[trunk] = hidden[k, : len(drawn.trunks[trunk])]
        mine = [i for i, b in enumerate(drawn.branches) if b.trunk in row]
        for some in micro_batches([ids.shape[1] + len(drawn.branches[i].tokens) for i in mine], max_tokens):
            chosen = [mine[i] for i in some]
            found = _read(base, [drawn.branches[i] for i in chosen], row, cache, ids.shape[1], device)
            for i, values in zip(chosen, found, strict=True):
                states[len(drawn.trunks) + i] = values
    return states


def _read(
    base: torch.nn.Module, branches: list[Branch], row: dict[int, int], cache: object, width: int, device: torch.device
) -> list[Tensor]:
    """Hidden states of branches, each attending to its own part of its trunk's cache."""
    from transformers import DynamicCache

    pick = torch.tensor([row[b.trunk] for b in branches], device=device)
    # Picked rows are copies, so the trunk's own cache is not extended.
    own = DynamicCache([(k[pick], v[pick]) for k, v, *_ in cache])  # type: ignore[attr-defined]
    ids = right_pad([torch.tensor(b.tokens) for b in branches]).to(device)
    start = torch.tensor([b.length for b in branches], device=device)[:, None]
    mask = torch.cat([torch.arange(width, device=device)[None] < start, torch.ones_like(ids, dtype=torch.bool)], 1)
    hidden = base(
        input_ids=ids,
        attention_mask=mask.long(),
        position_ids=start + torch.arange(ids.shape[1], device=device)[None],
        past_key_values=own,
        use_cache=True,
    ).last_hidden_state
    return [hidden[i, : len(b.tokens)] for i, b in enumerate(branches)]


def _concatenated(
    model: PreTrainedModel,
    contexts: Sequence[Ids],
    targets: Sequence[Sequence[Ids]],
    stats: Sequence[str],
    temperature: float,
) -> tuple[Scored, int]:
    pairs = [(list(c), list(t)) for c, own in zip(contexts, targets, strict=True) for t in own]
    sequences = [torch.tensor(c + t, dtype=torch.long) for c, t in pairs]
    scored = iter(score_tokens(model, sequences, [len(c) for c, _ in pairs], stats=stats, temperature=temperature))
    return [[next(scored) for _ in own] for own in targets], sum(map(len, sequences))
