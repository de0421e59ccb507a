"""One forward, every likelihood: log-probabilities and statistics of given tokens.

Logits exist only at the positions that are asked for, and only a chunk of them at a time, so that
memory does not grow with sequences x tokens x vocabulary. What several sequences begin with is read once
(:mod:`selfreward.policy.scoring.prefix_trees`). The same function serves signals (without gradient) and the trainer
(with it; chunks are then recomputed in the backward pass).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from selfreward.errors import DataError
from selfreward.policy.architecture import causal_model, head_of
from selfreward.policy.batching import MICRO_TOKENS, micro_batches, right_pad
from selfreward.policy.precision import recomputing
from selfreward.policy.protocol import Wanted
from selfreward.policy.scoring import prefix_trees
from selfreward.policy.scoring.distribution import token_statistics

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Logits held at once, in elements: 64 MB of float32.
CHUNK_ELEMENTS = 2**24
# Tokens (with padding) in one forward with gradient on a CPU, times the model's width. See micro_tokens.
CPU_MICRO_NUMBERS = 2**17
# Sequences that share nothing are packed into common rows where more than a fifth of a padded batch would be padding.
DENSE_ENOUGH = 0.8


def must_fit(context: int | None, lengths: Sequence[tuple[str, int]], room: int = 0) -> None:
    """Check what is to be read, by name, against the model's context.

    Beyond it rotary positions give numbers that mean nothing, without a word.

    Args:
        lengths: tokens of each sequence, with what the sequence is called.
        room: tokens to be written after it.

    Raises:
        DataError: for a sequence that has no tokens, or does not fit.
    """
    for name, length in lengths:
        if not length:
            raise DataError(f"There is nothing to read in {name}: it has no tokens. A model needs one to go on from.")
        if context is not None and length + room > context:
            much = f"{length} tokens" + (f" and {room} to be written" if room else "")
            cure = ", or lower max_new_tokens" if room else ""
            raise DataError(
                f"Too long for the model: {name} has {much}, the model reads {context} "
                f"(max_position_embeddings in its configuration). Shorten the text{cure}."
            )


def forward_tokens(
    model: PreTrainedModel,
    tokens_B_T: Tensor,
    wanted: Wanted,
    temperature: float = 1.0,
    *,
    stats: Sequence[str] = (),
    top_k: int = 0,
    hidden: bool = False,
) -> dict[str, Tensor]:
    """Score right-padded sequences at the wanted positions.

    Args:
        tokens_B_T: long ``[B, T]``, right-padded (padding is never attended to by what precedes it).
        wanted: where, and what is to be differentiated beside ``logprob``.
        stats: further statistics, taken without gradient.
        top_k: also return the most likely tokens (without gradient).
        hidden: also return the last hidden state *at* every token.

    Returns:
        ``logprob`` and each statistic, float32 ``[B, T]``, zero where not wanted; ``candidates`` ``[B, T, K]`` where
        some are named (the vocabulary is reduced chunk by chunk); ``top_tokens`` and ``top_logprobs``
        ``[B, T, top_k]``; ``hidden`` ``[B, T, D]``.
    """
    device = next(model.parameters()).device
    tokens_B_T, where_B_T = tokens_B_T.to(device), wanted.where.to(device).clone()
    where_B_T[:, 0] = False
    causal = causal_model(model)
    with recomputing(causal):
        read = _read(model, tokens_B_T, where_B_T, merge=wanted.candidates is None, hidden=hidden)
    others_N_K = None if wanted.candidates is None else wanted.candidates.to(device)[where_B_T]
    names = tuple(dict.fromkeys(("logprob", *stats, *wanted.with_gradient)))
    chunk = _Chunk(read.project, names, wanted.with_gradient, temperature, top_k)
    rows = max(1, CHUNK_ELEMENTS // causal.config.get_text_config().vocab_size)
    several = torch.is_grad_enabled() and len(read.targets) > rows
    pieces = read.targets.split(rows)
    named = [None] * len(pieces) if others_N_K is None else others_N_K.split(rows)
    parts = [
        checkpoint(chunk, *piece, use_reentrant=False) if several else chunk(*piece)
        for piece in zip(read.inputs.split(rows), pieces, named, strict=True)
    ]
    result: dict[str, Tensor] = {}
    for name in parts[0]:
        values = torch.cat([p[name] for p in parts])
        values = values if read.again is None else values[read.again]
        values = values if name == "top_tokens" else values.float()
        mask = where_B_T if values.dim() == 1 else where_B_T[..., None]
        result[name] = values.new_zeros(*where_B_T.shape, *values.shape[1:]).masked_scatter(mask, values)
    if read.states is not None and hidden:
        result["hidden"] = read.states
    return result


class _Read(NamedTuple):
    """What a model has read.

    Attributes:
        inputs: hidden states ``[N, D]`` before the wanted tokens; logits ``[N, V]`` where the model has no plain head.
        targets: long ``[N]``, the wanted tokens.
        project: from ``inputs`` to logits.
        again: where each wanted token stands among the distinct ones; None where all are kept.
        states: hidden states ``[B, T, D]``, where the sequences were read as they are.
    """

    inputs: Tensor
    targets: Tensor
    project: Callable[[Tensor], Tensor]
    again: Tensor | None = None
    states: Tensor | None = None


def _read(model: PreTrainedModel, tokens_B_T: Tensor, where_B_T: Tensor, *, merge: bool, hidden: bool) -> _Read:
    causal, project = causal_model(model), head_of(model)
    targets_N = tokens_B_T[where_B_T]
    if project is None:
        output = causal(input_ids=tokens_B_T, use_cache=False, output_hidden_states=hidden)
        states = output.hidden_states[-1] if hidden else None
        return _Read(output.logits[where_B_T.roll(-1, 1)], targets_N, _identity, states=states)
    if not hidden and prefix_trees.takes_trees(causal) and where_B_T.any():
        inputs_N, targets_N, again_N = _distinct(causal, tokens_B_T, where_B_T, targets_N, merge)
        return _Read(inputs_N, targets_N, project, again_N)
    states = causal.base_model(input_ids=tokens_B_T, use_cache=False).last_hidden_state
    return _Read(states[where_B_T.roll(-1, 1)], targets_N, project, states=states)


@dataclass(frozen=True)
class _Chunk:
    """Likelihoods and statistics of some of the wanted tokens, whose logits exist inside this call alone."""

    project: Callable[[Tensor], Tensor]
    names: tuple[str, ...]
    with_gradient: tuple[str, ...]
    temperature: float
    top_k: int

    def __call__(self, inputs: Tensor, targets: Tensor, others: Tensor | None) -> dict[str, Tensor]:
        logits = self.project(inputs)
        if torch.is_grad_enabled():
            return self._differentiable(logits, targets, others)
        taken = token_statistics(logits, targets, self.names, temperature=self.temperature)
        found = {k: taken[k] for k in self.names}
        if self.top_k or others is not None:
            logprobs = (logits.float() / self.temperature).log_softmax(-1)
            if self.top_k:
                found["top_logprobs"], found["top_tokens"] = logprobs.topk(self.top_k)
            if others is not None:
                found["candidates"] = logprobs.gather(-1, others)
        return found

    def _differentiable(self, logits: Tensor, targets: Tensor, others: Tensor | None) -> dict[str, Tensor]:
        scaled = logits.float() / self.temperature
        normaliser = scaled.logsumexp(-1)
        with torch.no_grad():
            taken = token_statistics(logits.detach(), targets, self.names, temperature=self.temperature)
        taken["logprob"] = scaled.gather(-1, targets[:, None]).squeeze(-1) - normaliser
        if "entropy" in self.with_gradient:
            taken["entropy"] = normaliser - ((scaled - normaliser[:, None]).exp() * scaled).sum(-1)
        rest = tuple(name for name in self.with_gradient if name != "entropy")
        if rest:
            taken |= token_statistics(logits, targets, rest, temperature=self.temperature)
        found = {k: taken[k] for k in self.names}
        if others is not None:
            found["candidates"] = scaled.gather(-1, others) - normaliser[:, None]
        return found


def _identity(x: Tensor) -> Tensor:
    return x


def _distinct(
    causal: PreTrainedModel, tokens_B_T: Tensor, wanted_B_T: Tensor, targets_N: Tensor, merge: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Hidden states before the wanted tokens, the tokens, and (with ``merge``) where each came from.

    With ``merge``, equal tokens after equal prefixes are one prediction: identical completions are scored once.
    """
    place = torch.arange(tokens_B_T.shape[1], device=tokens_B_T.device)
    needed = (wanted_B_T * place).amax(-1).tolist()  # the last wanted token itself need not be read
    rows = [i for i, n in enumerate(needed) if n]
    sequences = [tokens_B_T[i, : needed[i]].tolist() for i in rows]
    trees = prefix_trees.build_trees(sequences, causal.config.get_text_config().hidden_size)
    tokens = sum(map(len, sequences))
    if len(trees) == len(rows) and tokens >= DENSE_ENOUGH * len(rows) * max(map(len, sequences)):
        states = causal.base_model(input_ids=tokens_B_T, use_cache=False).last_hidden_state
        return states[wanted_B_T.roll(-1, 1)], targets_N, None
    packed = prefix_trees.pack(trees)
    width = tokens_B_T.shape[1]
    at = torch.zeros(tokens_B_T.shape, dtype=torch.long)
    for row, path in zip(rows, packed.paths, strict=True):
        at[row, 1 : 1 + len(path)] = torch.tensor(path)[: width - 1]
    at_N = at.to(tokens_B_T.device)[wanted_B_T]
    states = prefix_trees.states(causal, packed).flatten(0, 1)
    if not merge:
        return states[at_N], targets_N, None
    vocabulary = causal.config.get_text_config().vocab_size
    pairs, again_N = torch.unique(at_N * vocabulary + targets_N, return_inverse=True)
    return states[pairs // vocabulary], pairs % vocabulary, again_N


def sharing(
    model: PreTrainedModel, sequences: Sequence[Tensor], max_tokens: int = MICRO_TOKENS
) -> list[tuple[list[int], int]]:
    """Which sequences share a forward because they begin alike: their indices, and the distinct tokens to read."""
    causal = causal_model(model)
    if not prefix_trees.takes_trees(causal):
        return [([i], len(s)) for i, s in enumerate(sequences)]
    width = causal.config.get_text_config().hidden_size
    trees = prefix_trees.build_trees([s.tolist() for s in sequences], width, min(prefix_trees.LARGEST, max_tokens))
    return [(t.members, len(t)) for t in trees]


def micro_tokens(model: PreTrainedModel) -> int:
    """Tokens (with padding) in one forward with gradient: enough to fill a GPU.

    On a CPU what stays near its caches: 2048 at a width of 64, 512 from 256 on. Larger batches ran no faster on the
    machines that we measured, and the memory of a step grows with them.
    """
    causal = causal_model(model)
    if causal.device.type != "cpu":
        return MICRO_TOKENS
    return max(512, CPU_MICRO_NUMBERS // int(causal.config.get_text_config().hidden_size))


@torch.no_grad()
def score_tokens(
    model: PreTrainedModel,
    sequences: Sequence[Tensor],
    starts: Sequence[int],
    *,
    stats: Sequence[str] = (),
    temperature: float = 1.0,
    max_tokens: int = MICRO_TOKENS,
    hidden_at: Sequence[int] | None = None,
    top_k: int = 0,
    candidates: Sequence[Tensor] | None = None,
) -> list[dict[str, Tensor]]:
    """Score the tokens of each sequence from its ``start`` on, without gradient.

    Args:
        sequences: ``B`` long tensors ``[T_b]``.
        starts: first scored position of each sequence (at least 1 is used).
        stats: see :func:`selfreward.policy.scoring.distribution.token_statistics`.
        hidden_at: position of the hidden state to return per sequence (negative counts from the end).
        top_k: see :func:`forward_tokens`.
        candidates: per sequence long ``[T_b - start_b, K]``: also return ``candidates``, their log-probabilities.

    Returns:
        Per sequence a dict of CPU tensors ``[T_b - start_b]`` (``logprob`` and each statistic), and
        ``hidden`` ``[D]`` when asked for.
    """
    result: list[dict[str, Tensor]] = [{} for _ in sequences]
    # Hidden states are read sequence by sequence, so these count as such.
    alone = [([i], len(s)) for i, s in enumerate(sequences)]
    shared = sharing(model, sequences, max_tokens) if hidden_at is None else alone
    for some in micro_batches([n for _, n in shared], max_tokens):
        batch = [i for at in some for i in shared[at][0]]
        tokens = right_pad([sequences[i] for i in batch])
        place = torch.arange(tokens.shape[1])[None]
        first = torch.tensor([max(1, starts[i]) for i in batch])[:, None]
        last = torch.tensor([len(sequences[i]) for i in batch])[:, None]
        wanted = (place >= first) & (place < last)
        others = None
        if candidates is not None:
            width = candidates[batch[0]].shape[-1]
            others = right_pad([torch.cat([torch.zeros(starts[i], width).long(), candidates[i]]) for i in batch])
        out = forward_tokens(
            model,
            tokens,
            Wanted(wanted, candidates=others),
            temperature,
            stats=stats,
            top_k=top_k,
            hidden=hidden_at is not None,
        )
        states = out.pop("hidden", None)
        for row, i in enumerate(batch):
            result[i] = {k: v[row, starts[i] : len(sequences[i])].cpu() for k, v in out.items()}
            if states is not None and hidden_at is not None:
                at = hidden_at[i] if hidden_at[i] >= 0 else len(sequences[i]) + hidden_at[i]
                result[i]["hidden"] = states[row, at].float().cpu()
    return result


@torch.no_grad()
def next_token_logprobs(model: PreTrainedModel, contexts: Sequence[Sequence[int]]) -> Tensor:
    """Float ``[N, V]`` on the CPU, in nats: the distribution of the token after each of ``N`` contexts."""
    causal, project = causal_model(model), head_of(model)
    device = next(model.parameters()).device
    result: list[Tensor] = [torch.empty(0)] * len(contexts)
    for batch in micro_batches([len(c) for c in contexts], MICRO_TOKENS):
        ids = right_pad([torch.tensor(contexts[i]) for i in batch]).to(device)
        last = torch.tensor([len(contexts[i]) - 1 for i in batch], device=device)
        row = torch.arange(len(batch), device=device)
        if project is None:
            logits = causal(input_ids=ids, use_cache=False).logits[row, last]
        else:
            logits = project(causal.base_model(input_ids=ids, use_cache=False).last_hidden_state[row, last])
        for i, values in zip(batch, logits.float().log_softmax(-1).cpu(), strict=True):
            result[i] = values
    return torch.stack(result)
