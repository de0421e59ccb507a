"""The sampler of our own: batched decoding in which a prompt is read once per group and finished rows leave."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from selfreward.policy.sampling.decoding import decoder
from selfreward.policy.sampling.params import Completion, Sampler
from selfreward.policy.scoring.distribution import token_statistics
from selfreward.runtime.seeding import stream_seed

if TYPE_CHECKING:
    from transformers import DynamicCache, PreTrainedModel

    from selfreward.policy.sampling.params import SamplingParams

# Rows leave the batch in bulk: copying the cache for every single finished row costs more than it saves.
COMPACT_BELOW = 0.85
# Logits kept until their statistics are taken: 4 MB of float32.
WAITING_ELEMENTS = 2**20


def uniforms(seed: int, key: str, n: int, length: int) -> Tensor:
    """Float ``[n, length]`` in [0, 1): the random numbers of one prompt."""
    return torch.rand(n, length, generator=torch.Generator().manual_seed(stream_seed(seed, key)))


def truncate(logits_N_V: Tensor, top_k: int, top_p: float) -> Tensor:
    """Set logits outside the top ``top_k`` and the nucleus ``top_p`` to minus infinity."""
    if 0 < top_k < logits_N_V.shape[-1]:
        kth = logits_N_V.topk(top_k, dim=-1).values[..., -1:]
        logits_N_V = logits_N_V.masked_fill(logits_N_V < kth, float("-inf"))
    if top_p < 1:
        ordered, index = logits_N_V.sort(dim=-1, descending=True)
        before = ordered.softmax(-1).cumsum(-1) - ordered.softmax(-1)
        drop = torch.zeros_like(logits_N_V, dtype=torch.bool).scatter(-1, index, before >= top_p)
        logits_N_V = logits_N_V.masked_fill(drop, float("-inf"))
    return logits_N_V


def draw(logits_N_V: Tensor, uniform_N: Tensor, params: SamplingParams) -> Tensor:
    """Long ``[N]``: one token per row, by inverting the cumulative distribution at ``uniform_N``."""
    if params.temperature == 0:
        return logits_N_V.argmax(-1)
    logits = truncate(logits_N_V.float() / params.temperature, params.top_k, params.top_p)
    cumulative = logits.softmax(-1).cumsum(-1)
    # Scaling by the total absorbs rounding; "right" never lands on a token of probability zero.
    target = uniform_N.to(cumulative)[:, None] * cumulative[:, -1:]
    return torch.searchsorted(cumulative, target, right=True).squeeze(-1).clamp_(max=logits.shape[-1] - 1)


def left_pad(prompts: Sequence[Sequence[int]], pad_token: int) -> tuple[Tensor, Tensor]:
    """``(ids, mask)``, both long ``[P, L]``."""
    longest = max(len(p) for p in prompts)
    ids = torch.full((len(prompts), longest), pad_token, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for i, p in enumerate(prompts):
        ids[i, longest - len(p) :] = torch.tensor(p, dtype=torch.long)
        mask[i, longest - len(p) :] = 1
    return ids, mask


def prefill(
    model: PreTrainedModel, ids_P_L: Tensor, mask_P_L: Tensor, n: Sequence[int]
) -> tuple[DynamicCache, Tensor, Tensor]:
    """Read left-padded prompts once, and give prompt ``i`` ``n[i]`` rows: cache, logits ``[R, V]``, mask."""
    from transformers import DynamicCache

    cache = DynamicCache(config=model.config)
    logits = model(
        input_ids=ids_P_L,
        attention_mask=mask_P_L,
        position_ids=(mask_P_L.cumsum(-1) - 1).clamp(min=0),
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    ).logits[:, -1]
    if max(n) > 1:
        copies = torch.tensor(list(n), device=ids_P_L.device)
        if min(n) == max(n):
            cache.batch_repeat_interleave(n[0])
        else:
            cache.batch_select_indices(torch.arange(len(copies), device=ids_P_L.device).repeat_interleave(copies))
        logits, mask_P_L = logits.repeat_interleave(copies, 0), mask_P_L.repeat_interleave(copies, 0)
    return cache, logits, mask_P_L


class TorchSampler(Sampler):
    """The default sampler: one prefill per group, finished rows leave the batch, statistics for free."""

    @torch.inference_mode()
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
    ) -> list[list[Completion]]:
        # Prompts of similar length share a chunk, so that padding is small.
        order = sorted((i for i in range(len(prompts)) if n[i]), key=lambda i: len(prompts[i]))
        result: list[list[Completion]] = [[] for _ in prompts]
        for chunk in _chunks(order, n, params.max_rows):
            noise = torch.cat([uniforms(seed, keys[i], n[i], params.max_new_tokens) for i in chunk])
            counts = [n[i] for i in chunk]
            rows = iter(self._chunk(model, [prompts[i] for i in chunk], counts, params, noise, end_tokens, pad_token))
            for i in chunk:
                result[i] = list(islice(rows, n[i]))
        return result

    def _chunk(
        self,
        model: PreTrainedModel,
        prompts: Sequence[Sequence[int]],
        n: Sequence[int],
        params: SamplingParams,
        noise_R_T: Tensor,
        end_tokens: Sequence[int],
        pad_token: int,
    ) -> list[Completion]:
        device = next(model.parameters()).device
        ids, mask = (x.to(device) for x in left_pad(prompts, pad_token))
        cache, logits, mask = prefill(model, ids, mask, n)
        total, limit = sum(n), params.max_new_tokens
        going_on = decoder(model, cache, mask, limit)
        del cache
        noise = noise_R_T.to(device)
        ends = torch.tensor(list(end_tokens), dtype=torch.long, device=device)
        tokens = torch.zeros(total, limit, dtype=torch.long, device=device)
        taken = _Statistics(("logprob", *params.stats), total, limit, params.temperature or 1.0, device)
        rows = torch.arange(total, device=device)  # which output row each batch row writes
        live = torch.ones(total, dtype=torch.bool, device=device)
        for t in range(limit):
            chosen = draw(logits, noise[rows, t], params)
            taken.add(rows, t, logits, chosen)
            tokens[rows, t] = chosen
            live = live & (chosen[:, None] != ends).all(-1)
            alive = int(live.sum())
            if alive == 0 or t + 1 == limit:
                break
            if alive <= COMPACT_BELOW * len(rows):
                keep = live.nonzero().squeeze(-1)
                going_on.keep(keep)
                rows, chosen, live = rows[keep], chosen[keep], live[keep]
            logits = going_on.step(chosen)
        tokens, stats = tokens.cpu(), taken.finish()
        # What a row drew after its first end token, until it left the batch, is cut off here.
        ended = torch.isin(tokens, ends.cpu()).int()
        finished = ended.any(-1).tolist()
        length = torch.where(ended.any(-1), ended.argmax(-1) + 1, limit).tolist()
        return [
            Completion(
                tokens[r, : length[r]].clone(),
                stats["logprob"][r, : length[r]].clone(),
                finished[r],
                {k: stats[k][r, : length[r]].clone() for k in params.stats},
            )
            for r in range(total)
        ]


class _Statistics:
    """Statistics of what is drawn, taken for several steps at once while their logits are few."""

    def __init__(self, names: Sequence[str], rows: int, limit: int, temperature: float, device: torch.device) -> None:
        self.values = {name: torch.zeros(rows, limit, device=device) for name in names}
        self.temperature = temperature
        self.waiting: list[tuple[Tensor, int, Tensor, Tensor]] = []
        self.elements = 0

    def add(self, rows: Tensor, t: int, logits: Tensor, chosen: Tensor) -> None:
        self.waiting.append((rows, t, logits, chosen))
        self.elements += logits.numel()
        if self.elements > WAITING_ELEMENTS:
            self.flush()

    def flush(self) -> None:
        if not self.waiting:
            return
        all_rows, steps, logits, chosen = zip(*self.waiting, strict=True)
        names = tuple(self.values)
        found = token_statistics(torch.cat(logits), torch.cat(chosen), names, temperature=self.temperature)
        at = torch.cat([rows.new_full((len(rows),), t) for rows, t in zip(all_rows, steps, strict=True)])
        for name, values in found.items():
            self.values[name][torch.cat(all_rows), at] = values
        self.waiting, self.elements = [], 0

    def finish(self) -> dict[str, Tensor]:
        self.flush()
        return {name: values.cpu() for name, values in self.values.items()}


def _chunks(order: Sequence[int], n: Sequence[int], max_rows: int) -> list[list[int]]:
    """Cut ``order`` into runs whose completions are at most ``max_rows`` together (or of one prompt)."""
    result: list[list[int]] = []
    rows = 0
    for i in order:
        if not result or rows + n[i] > max_rows:
            result.append([])
            rows = 0
        result[-1].append(i)
        rows += n[i]
    return result
