"""One update: experience and an objective in, changed weights out. It knows no method and no kind of policy."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from selfreward.losses import LossTerm, MicroBatch
from selfreward.policy.batching import micro_batches, right_pad
from selfreward.policy.precision import adamw
from selfreward.policy.protocol import TrainablePolicy, Wanted
from selfreward.runtime import distributed
from selfreward.training.guards import UpdateGuard
from selfreward.types import Experience, Pair, Row

Metrics = dict[str, float]


def units(n_rows: int, pairs: Sequence[Pair], alike: Sequence[Sequence[int]] = ()) -> list[list[int]]:
    """Indices of rows that must go through one forward, as disjoint sets; together they are all rows.

    Args:
        pairs: both rows of a pair belong together, since its loss compares them.
        alike: groups of row indices that share a prefix and are cheaper read together.
    """
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


def fill_behaviour(policy: TrainablePolicy, rows: Sequence[Row], temperature: float, max_tokens: int) -> None:
    """Score behaviour log-probabilities that nobody recorded (spliced or foreign text) under the current weights."""
    unknown = [row for row in rows if torch.isnan(row.behaviour).any()]
    if not unknown:
        return
    scored = policy.logprobs(unknown, temperature, max_tokens=max_tokens)
    for row, values in zip(unknown, scored, strict=True):
        row.behaviour = torch.where(torch.isnan(row.behaviour), values * row.mask, row.behaviour)


@dataclass
class Update:
    """The rows of one update before it is cut into micro-batches.

    Attributes:
        rows: all of them, also those that no term can learn from: they count in the weights.
        pairs: numbered by these rows.
        objective, weights: the loss terms, and for each the weight ``[T]`` of every token of every row.
        anchors: log-probabilities ``[T]`` of every row under the reference; None unless a term needs them.
        live: the rows that some term can learn from; only they are read.
        metrics: sums over the micro-batches so far.
    """

    rows: list[Row]
    pairs: list[Pair]
    objective: Sequence[LossTerm]
    weights: list[list[Tensor]]
    anchors: list[Tensor] | None
    live: set[int]
    metrics: Metrics = field(default_factory=lambda: {"loss": 0.0})

    @staticmethod
    def of(
        experience: Experience, chosen: Sequence[int], objective: Sequence[LossTerm], anchors: list[Tensor] | None
    ) -> Update:
        """The rows ``chosen`` of an experience; ``anchors`` are those of all its rows."""
        rows = [experience.rows[i] for i in chosen]
        place = {i: k for k, i in enumerate(chosen)}
        pairs = [
            Pair(place[p.chosen], place[p.rejected], p.weight, p.margin) for p in experience.pairs if p.chosen in place
        ]
        paired = {k for p in pairs for k in (p.chosen, p.rejected)}
        singles = [t for t in objective if not t.uses_pairs]
        live = {k for k, row in enumerate(rows) if k in paired or any(t.active(row) for t in singles)}
        weights = [term.weights(rows) for term in objective]
        mine = None if anchors is None else [anchors[i] for i in chosen]
        return Update(rows, pairs, objective, weights, mine, live)

    def add(self, metrics: Metrics) -> None:
        for name, number in metrics.items():
            self.metrics[name] = self.metrics.get(name, 0.0) + number


class Learner:
    """Runs the updates of one experience.

    Args:
        schedule: learning rate of an update, by its number from 0.
        micro_tokens: padded tokens in one forward; None is the policy's own choice.
        guard: judges every update before it changes a weight.
    """

    def __init__(
        self,
        policy: TrainablePolicy,
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
        self.micro_tokens = micro_tokens or policy.micro_tokens()
        self.updates = 0
        self.trained_tokens = 0

    def learn(
        self,
        experience: Experience,
        objective: Sequence[LossTerm],
        generator: torch.Generator,
        reference: TrainablePolicy | None = None,
    ) -> Metrics:
        """All updates of one rollout batch. Returns means over the updates, among them ``skipped_updates``.

        ``sampler_gap`` is the mean |log policy - log behaviour| per token (nats) at the first update alone.
        """
        rows = experience.rows
        fill_behaviour(self.policy, rows, self.temperature, self.micro_tokens)
        anchors: list[Tensor] | None = None
        if any(t.needs_reference for t in objective) and reference is not None:
            anchors = reference.logprobs(rows, self.temperature, role="reference")
        parts = units(len(rows), experience.pairs)
        records: list[Metrics] = []
        for _ in range(self.epochs):
            for chosen in split(parts, self.minibatches, generator):
                records.append(self._step(experience, chosen, objective, anchors))
        if not records:
            return {}
        names = dict.fromkeys(k for r in records for k in r)
        means = {k: sum(r.get(k, 0.0) for r in records) / len(records) for k in names}
        # Before the first update the weights are those that sampled: what is apart here, two programs see differently.
        return means | {"sampler_gap": records[0].get("log_ratio", 0.0)}

    def _step(
        self,
        experience: Experience,
        chosen: Sequence[int],
        objective: Sequence[LossTerm],
        anchors: list[Tensor] | None,
    ) -> Metrics:
        metrics = self.accumulate(experience, chosen, objective, anchors)
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
            rows = [experience.rows[i] for i in chosen]
            self.guard.failed(reason, self.updates, rows, {**metrics, "grad_norm": norm})
            metrics = {k: v for k, v in metrics.items() if math.isfinite(v)} | {"loss": 0.0}
        self.updates += 1
        good = reason is None
        return metrics | {"grad_norm": norm if good else 0.0, "lr": lr, "skipped_updates": float(not good)}

    def accumulate(
        self,
        experience: Experience,
        chosen: Sequence[int],
        objective: Sequence[LossTerm],
        anchors: list[Tensor] | None = None,
    ) -> Metrics:
        """Forward and backward of one update, over the rows ``chosen``; gradients are left on the parameters.

        Weights are taken over the whole update before it is cut into micro-batches, and rows that no
        term can learn from (zero advantage, no pair) count in them but skip the forward.
        """
        update = Update.of(experience, chosen, objective, anchors)
        parts, sizes = self._units(update)
        batches = micro_batches(sizes, self.micro_tokens)
        for batch in batches:
            self._backward(update, [k for b in batch for k in parts[b] if k in update.live])
        self.policy.finish_backward(len(batches))
        metrics = distributed.sum_metrics(update.metrics, largest=("ratio_gap",))
        distributed.sum_gradients(self.policy.parameters())
        self.trained_tokens += int(metrics.pop("trained_tokens", 0))
        if "log_ratio" in metrics:  # a sum until here
            metrics["log_ratio"] /= max(1.0, sum(float((update.rows[k].mask != 0).sum()) for k in update.live))
        return metrics

    def _units(self, update: Update) -> tuple[list[list[int]], list[int]]:
        """This process's share of the live rows, in units that go through one forward, and their sizes in tokens."""
        order = sorted(update.live)
        shared = [
            ([order[i] for i in members], size)
            for members, size in self.policy.shared_forwards([update.rows[k] for k in order], self.micro_tokens)
        ]
        size_of = {members[0]: size for members, size in shared}
        found = units(len(update.rows), update.pairs, [members for members, _ in shared])
        parts = [u for u in found if update.live & set(u)]
        inside = [[size_of[k] for k in part if k in size_of] for part in parts]
        padded = [max(sizes) * len(sizes) for sizes in inside]
        mine = distributed.shares(padded)[distributed.rank()]
        return [parts[i] for i in mine], [padded[i] for i in mine]

    def _backward(self, update: Update, inside: Sequence[int]) -> None:
        """One micro-batch: the rows ``inside`` of the update."""
        rows = [update.rows[k] for k in inside]
        device = self.policy.device
        channels = _padded(rows, device)
        said = self.policy.likelihoods(rows, _wanted(rows, channels, update.objective), self.temperature)
        place = {k: i for i, k in enumerate(inside)}
        batch = MicroBatch(
            logp=said.logp,
            **channels,
            weight=channels["mask"],
            reference=right_pad([update.anchors[k] for k in inside]).to(device) if update.anchors is not None else None,
            entropy=said.stats.get("entropy"),
            stats=dict(said.stats),
            candidates=said.candidates,
            pairs=[
                (place[p.chosen], place[p.rejected], p.weight, p.margin)
                for p in update.pairs
                if p.chosen in place and p.rejected in place
            ],
            total_pairs=len(update.pairs),
        )
        loss = said.logp.sum() * 0.0
        for term, own in zip(update.objective, update.weights, strict=True):
            batch.weight = right_pad([own[k] for k in inside]).to(device)
            value, found = term(batch)
            loss = loss + value
            update.add(found)
        loss.backward()
        with torch.no_grad():
            gaps = ((said.logp.detach() - batch.behaviour) * batch.mask).abs()
        update.add({"loss": float(loss.detach()), "trained_tokens": float(sum(len(r) for r in rows))})
        update.metrics["ratio_gap"] = max(update.metrics.get("ratio_gap", 0.0), float(gaps.max()))
        update.add({"log_ratio": float(gaps.sum())})


def _padded(rows: Sequence[Row], device: torch.device) -> dict[str, Any]:
    """The channels of rows as a :class:`MicroBatch` names them, ``[B, T]`` each."""

    def stack(values: Sequence[Tensor]) -> Tensor:
        return right_pad(values).to(device)

    channels = {
        name: stack([getattr(r, name) for r in rows]) for name in ("behaviour", "advantage", "mask", "nll", "kl")
    }
    # A row without a channel has zeros in it, of the others' width.
    like = {name: values for r in rows for name, values in r.extra.items()}
    extra = {k: stack([r.extra.get(k, v.new_zeros(len(r), *v.shape[1:])) for r in rows]) for k, v in like.items()}
    return {**channels, "extra": extra}


def _wanted(rows: Sequence[Row], channels: Mapping[str, Any], objective: Sequence[LossTerm]) -> Wanted:
    """What the terms of an objective ask of the policy about these rows."""
    where = (channels["mask"] != 0) | (channels["nll"] != 0) | (channels["kl"] != 0)
    for term in objective:
        asked = [term.wanted(r) for r in rows]
        if any(a is not None for a in asked):
            own = [torch.zeros(len(r)) if a is None else a.float() for r, a in zip(rows, asked, strict=True)]
            where |= right_pad(own).to(where.device) != 0
    entropy = ("entropy",) if any(t.needs_entropy for t in objective) else ()
    statistics = dict.fromkeys((*entropy, *(name for t in objective for name in t.needs_stats)))
    named = [t.needs_candidates for t in objective if t.needs_candidates in channels["extra"]]
    return Wanted(where, tuple(statistics), channels["extra"][named[0]] if named else None)


def make_optimizer(
    policy: TrainablePolicy, lr: float, betas: tuple[float, float], eps: float, weight_decay: float
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
