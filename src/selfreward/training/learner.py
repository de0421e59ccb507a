"""One update: experience and an objective in, changed weights out. It knows no method."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from selfreward.losses import LossTerm, MicroBatch
from selfreward.policy import sharding
from selfreward.policy.architecture import causal_model
from selfreward.policy.precision import adamw
from selfreward.policy.scoring.forward import forward_tokens, micro_batches, right_pad, score_tokens, sharing
from selfreward.policy.scoring.forward import micro_tokens as largest_batch
from selfreward.runtime import distributed
from selfreward.training.guards import UpdateGuard
from selfreward.types import Experience, Pair, Row

if TYPE_CHECKING:
    from selfreward.policy.policy import Policy


Metrics = dict[str, float]


def units(n_rows: int, pairs: Sequence[Pair], alike: Sequence[Sequence[int]] = ()) -> list[list[int]]:
    """Rows that share a forward: connected by pairs, or ``alike`` (lists of rows); every other row alone."""
    parent = list(range(n_rows))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for pair in pairs:
        parent[root(pair.chosen)] = root(pair.rejected)
    for rows in alike:
        for row in rows[1:]:
            parent[root(row)] = root(rows[0])
    found: dict[int, list[int]] = {}
    for i in range(n_rows):
        found.setdefault(root(i), []).append(i)
    return list(found.values())


def split(parts: list[list[int]], n: int, generator: torch.Generator) -> list[list[int]]:
    """Row indices of ``n`` minibatches of whole units, shuffled; fewer when there are fewer units."""
    if n <= 1:
        return [[i for part in parts for i in part]]
    order = torch.randperm(len(parts), generator=generator).tolist()
    n = min(n, len(parts))
    return [[i for at in order[k::n] for i in parts[at]] for k in range(n)]


def fill_behaviour(policy: Policy, rows: Sequence[Row], temperature: float, max_tokens: int) -> None:
    """Score behaviour log-probabilities that nobody recorded (spliced or foreign text) under the current weights."""
    unknown = [row for row in rows if torch.isnan(row.behaviour).any()]
    scored = score_tokens(
        policy.model, [r.tokens for r in unknown], [0] * len(unknown), temperature=temperature, max_tokens=max_tokens
    )
    for row, values in zip(unknown, scored, strict=True):
        row.behaviour = torch.where(torch.isnan(row.behaviour), values["logprob"] * row.mask, row.behaviour)


def reference_logprobs(reference: Policy, rows: Sequence[Row], temperature: float, max_tokens: int) -> list[Tensor]:
    """Float ``[T]`` per row under the frozen reference."""
    scored = reference.score([r.tokens for r in rows], [0] * len(rows), temperature=temperature, role="reference")
    return [s["logprob"] for s in scored]


class Learner:
    """Runs the updates of one experience.

    Args:
        schedule: learning rate of an update, by its number from 0.
        micro_tokens: padded tokens in one forward; None chooses by device and model.
        guard: judges every update before it changes a weight.
    """

    def __init__(
        self,
        policy: Policy,
        optimizer: torch.optim.Optimizer,
        schedule: Callable[[int], float],
        *,
        temperature: float = 1.0,
        grad_clip: float = 1.0,
        epochs: int = 1,
        minibatches: int = 1,
        micro_tokens: int | None = None,
        guard: UpdateGuard | None = None,
    ) -> None:
        self.guard = guard or UpdateGuard()
        self.policy, self.optimizer, self.schedule = policy, optimizer, schedule
        self.temperature, self.grad_clip = temperature, grad_clip
        self.epochs, self.minibatches = epochs, minibatches
        self.micro_tokens = micro_tokens or largest_batch(policy.model)
        self.updates = 0
        self.trained_tokens = 0

    def learn(
        self,
        experience: Experience,
        objective: Sequence[LossTerm],
        generator: torch.Generator,
        reference: Policy | None = None,
    ) -> Metrics:
        """All updates of one rollout batch. Returns means over the updates, among them ``skipped_updates``.

        ``sampler_gap`` is the mean |log policy - log behaviour| per token (nats) at the first update alone.
        """
        rows = experience.rows
        fill_behaviour(self.policy, rows, self.temperature, self.micro_tokens)
        anchors: list[Tensor] | None = None
        if any(t.needs_reference for t in objective) and reference is not None:
            anchors = reference_logprobs(reference, rows, self.temperature, self.micro_tokens)
        parts = units(len(rows), experience.pairs)
        records: list[Metrics] = []
        for _ in range(self.epochs):
            for chosen in split(parts, self.minibatches, generator):
                records.append(self._update(rows, experience.pairs, chosen, objective, anchors))
        if not records:
            return {}
        names = dict.fromkeys(k for r in records for k in r)
        means = {k: sum(r.get(k, 0.0) for r in records) / len(records) for k in names}
        # Before the first update the weights are those that sampled: what is apart here, two programs see differently.
        return means | {"sampler_gap": records[0].get("log_ratio", 0.0)}

    def _update(
        self,
        rows: Sequence[Row],
        pairs: Sequence[Pair],
        chosen: Sequence[int],
        objective: Sequence[LossTerm],
        anchors: list[Tensor] | None,
    ) -> Metrics:
        metrics = self.accumulate(rows, pairs, chosen, objective, anchors)
        lr = self.schedule(self.updates)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        norm = distributed.clip_gradients(self.policy.parameters(), self.grad_clip)
        ratio = metrics.get("log_ratio", 0.0)
        reason = self.guard.reason(metrics["loss"], norm, ratio)
        if reason is None:
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if reason is None:
            self.guard.passed()
        else:
            self.guard.failed(reason, self.updates, [rows[i] for i in chosen], {**metrics, "grad_norm": norm})
            metrics = {k: v for k, v in metrics.items() if math.isfinite(v)} | {"loss": 0.0}
        self.updates += 1
        good = reason is None
        return metrics | {"grad_norm": norm if good else 0.0, "lr": lr, "skipped_updates": float(not good)}

    def accumulate(
        self,
        rows: Sequence[Row],
        pairs: Sequence[Pair],
        chosen: Sequence[int],
        objective: Sequence[LossTerm],
        anchors: list[Tensor] | None = None,
    ) -> Metrics:
        """Forward and backward of one update; gradients are left on the parameters.

        Weights are taken over the whole update before it is cut into micro-batches, and rows that no
        term can learn from (zero advantage, no pair) count in them but skip the forward.
        """
        picked = [rows[i] for i in chosen]
        at = {i: k for k, i in enumerate(chosen)}
        weights = [term.weights(picked) for term in objective]
        mine = [p for p in pairs if p.chosen in at]
        paired = {at[i] for p in mine for i in (p.chosen, p.rejected)}
        singles = [t for t in objective if not t.uses_pairs]
        live = {k for k, row in enumerate(picked) if k in paired or any(t.active(row) for t in singles)}
        parts, sizes = self._units(picked, live, [Pair(at[p.chosen], at[p.rejected]) for p in mine])
        batches = micro_batches(sizes, self.micro_tokens)
        metrics: Metrics = {"loss": 0.0}
        for batch in batches:
            inside = [k for b in batch for k in parts[b] if k in live]
            self._backward(picked, inside, mine, at, objective, weights, anchors, chosen, metrics)
        sharding.fill_backward(self.policy.model, len(batches))
        metrics = distributed.sum_metrics(metrics, largest=("ratio_gap",))
        distributed.sum_gradients(self.policy.parameters())
        self.trained_tokens += int(metrics.pop("trained_tokens", 0))
        if "log_ratio" in metrics:  # a sum until here
            metrics["log_ratio"] /= max(1.0, sum(float((picked[k].mask != 0).sum()) for k in live))
        return metrics

    def _units(self, picked: Sequence[Row], live: set[int], pairs: Sequence[Pair]) -> tuple[list[list[int]], list[int]]:
        """This process's share of the live rows, in units that go through one forward, and their sizes in tokens."""
        order = sorted(live)
        trees = [
            ([order[i] for i in members], size)
            for members, size in sharing(self.policy.model, [picked[k].tokens for k in order], self.micro_tokens)
        ]
        size_of = {members[0]: size for members, size in trees}
        parts = [u for u in units(len(picked), pairs, [members for members, _ in trees]) if live & set(u)]
        inside = [[size_of[k] for k in part if k in size_of] for part in parts]
        padded = [max(sizes) * len(sizes) for sizes in inside]
        mine = distributed.shares(padded)[distributed.rank()]
        return [parts[i] for i in mine], [padded[i] for i in mine]

    def _backward(
        self,
        picked: Sequence[Row],
        inside: Sequence[int],
        pairs: Sequence[Pair],
        at: dict[int, int],
        objective: Sequence[LossTerm],
        weights: list[list[Tensor]],
        anchors: list[Tensor] | None,
        chosen: Sequence[int],
        metrics: Metrics,
    ) -> None:
        rows = [picked[k] for k in inside]
        device = self.policy.device
        tokens = right_pad([r.tokens for r in rows])

        def stack(values: Sequence[Tensor]) -> Tensor:
            return right_pad(values).to(device)

        mask, nll, kl = stack([r.mask for r in rows]), stack([r.nll for r in rows]), stack([r.kl for r in rows])
        wants_entropy = any(t.needs_entropy for t in objective)
        wanted = (mask != 0) | (nll != 0) | (kl != 0)
        for term in objective:
            asked = [term.wanted(r) for r in rows]
            if any(a is not None for a in asked):
                wanted |= stack([torch.zeros(len(r)) if a is None else a.float() for r, a in zip(rows, asked)]) != 0
        # A row without a channel has zeros in it, of the others' width.
        like = {name: values for r in rows for name, values in r.extra.items()}
        extra = {k: stack([r.extra.get(k, v.new_zeros(len(r), *v.shape[1:])) for r in rows]) for k, v in like.items()}
        candidates = next((extra[t.needs_candidates] for t in objective if t.needs_candidates in extra), None)
        statistics = tuple(dict.fromkeys(name for t in objective for name in t.needs_stats))
        out = forward_tokens(
            self.policy.model,
            tokens,
            wanted,
            temperature=self.temperature,
            stats=("entropy",) if wants_entropy else (),
            entropy_with_gradient=wants_entropy,
            with_gradient=statistics,
            candidates=candidates,
        )
        place = {k: i for i, k in enumerate(inside)}
        local = [
            (place[at[p.chosen]], place[at[p.rejected]], p.weight, p.margin)
            for p in pairs
            if at[p.chosen] in place and at[p.rejected] in place
        ]
        batch = MicroBatch(
            logp=out["logprob"],
            behaviour=stack([r.behaviour for r in rows]),
            advantage=stack([r.advantage for r in rows]),
            mask=mask,
            weight=mask,
            nll=nll,
            kl=kl,
            reference=stack([anchors[chosen[k]] for k in inside]) if anchors is not None else None,
            entropy=out.get("entropy") if wants_entropy else None,
            extra=extra,
            candidates=out.get("candidates"),
            stats={k: out[k] for k in statistics},
            pairs=local,
            total_pairs=len(pairs),
        )
        loss = out["logprob"].sum() * 0.0
        for term, own in zip(objective, weights, strict=True):
            batch.weight = stack([own[k] for k in inside])
            value, found = term(batch)
            loss = loss + value
            for name, number in found.items():
                metrics[name] = metrics.get(name, 0.0) + number
        loss.backward()
        metrics["loss"] += float(loss.detach())
        metrics["trained_tokens"] = metrics.get("trained_tokens", 0.0) + sum(len(r) for r in rows)
        with torch.no_grad():
            gaps = ((out["logprob"].detach() - batch.behaviour) * mask).abs()
        metrics["ratio_gap"] = max(metrics.get("ratio_gap", 0.0), float(gaps.max()))
        metrics["log_ratio"] = metrics.get("log_ratio", 0.0) + float(gaps.sum())


def make_optimizer(
    policy: Policy, lr: float, betas: tuple[float, float], eps: float, weight_decay: float
) -> torch.optim.Optimizer:
    """AdamW over the trainable parameters, in float32 whatever these are kept in."""
    return adamw(policy.parameters(), lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)


def make_schedule(kind: str, peak: float, warmup: int, total: int) -> Callable[[int], float]:
    """Learning rate by update number: linear warm-up, then constant, or linear or cosine to zero at ``total``."""

    def rate(update: int) -> float:
        if update < warmup:
            return peak * (update + 1) / warmup
        done = min(1.0, (update - warmup) / max(1, total - warmup))
        if kind == "linear":
            return peak * (1 - done)
        if kind == "cosine":
            return peak * 0.5 * (1 + math.cos(math.pi * done))
        return peak

    return rate


def default_lr(policy: Policy) -> float:
    """A starting point by size: 6e-4 below 5 million parameters, 1e-5 for LoRA, else 1e-6."""
    if policy.is_lora:
        return 1e-5
    return 6e-4 if causal_model(policy.model).num_parameters() < 5_000_000 else 1e-6
