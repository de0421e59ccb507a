"""Weights spread over processes (FSDP2), for models that do not fit one device.

    torchrun --nproc-per-node 4 -m selfreward train vote --model MODEL --data prompts.jsonl --set shard=true

The layers are sharded: each process keeps a part of every layer and has it whole only while it runs. Embeddings, final
norm and head stay whole everywhere; the head is applied to chosen positions outside the model's own forward.

A sharded layer can only run in all processes at once, while our processes work on different prompts and stop sampling
at different tokens. So inside :func:`in_step` every forward is announced, and a process that has finished its share
goes on with empty forwards for as long as anybody else is at work.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor

from selfreward.errors import ConfigError
from selfreward.runtime.distributed import gather, rank, shares, size

if TYPE_CHECKING:
    from selfreward.runtime.distributed import T

_models: list[weakref.ref[torch.nn.Module]] = []
_announcing = False


def is_sharded(model: torch.nn.Module) -> bool:
    """Whether :func:`shard` was here."""
    return any(hasattr(m, "unshard") for m in model.modules())


def shard(model: Any, *, ready: bool = True) -> None:
    """Spread the layers of a causal LM (or of a PEFT model around one) over all processes, in place.

    Args:
        ready: the weights are there; False for a model without storage that is filled afterwards.

    Raises:
        ConfigError: with a single process, or for an architecture that does not name its layers.
    """
    from torch.distributed.fsdp import fully_shard

    from selfreward.policy.architecture import causal_model

    if not dist.is_initialized() or dist.get_world_size() == 1:
        raise ConfigError("shard=true spreads a model over several processes; start them with torchrun.")
    causal = causal_model(model)
    names = set(getattr(causal, "_no_split_modules", None) or ())
    layers = [m for m in causal.base_model.modules() if type(m).__name__ in names]
    if not layers or causal.base_model is causal:
        raise ConfigError(f"{type(causal).__name__} does not say what its layers are; it cannot be sharded.")
    for layer in layers:
        fully_shard(layer, reshard_after_forward=True)  # each is a root of its own, and a root would stay whole
    number = len(_models) + 1
    _models.append(weakref.ref(causal))

    def announce(*_: Any) -> None:
        if _announcing:
            _announce(number)

    causal.base_model.register_forward_pre_hook(announce)
    if ready:
        _find_out(causal)


def _find_out(causal: Any) -> None:
    """What is looked at once per model, with forwards of its own, is looked at by all processes together."""
    from selfreward.policy.architecture import head_of
    from selfreward.policy.scoring import prefix_trees

    if head_of(causal) is not None:
        prefix_trees.takes_trees(causal)


@contextmanager
def in_step() -> Iterator[None]:
    """Processes in this block run forwards of one sharded model, each as many as it needs."""
    global _announcing
    if not any(ref() is not None for ref in _models):
        yield
        return
    _announcing = True
    try:
        yield
    finally:
        _announcing = False
    while number := _announce(0):
        model = _models[number - 1]()
        assert model is not None
        with torch.no_grad():
            _empty(model)


def _announce(number: int) -> int:
    """The largest number that any process announces: 0 when all have finished."""
    box = torch.tensor(number)
    dist.all_reduce(box, op=dist.ReduceOp.MAX)
    return int(box)


def _empty(model: Any) -> Tensor:
    """A forward of one token."""
    ids = torch.zeros(1, 1, dtype=torch.long, device=next(model.parameters()).device)
    states: Tensor = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
    return states


def fill_backward(model: torch.nn.Module, done: int) -> None:
    """Empty passes until this process has run as many forwards and backwards as the one with the most."""
    if not is_sharded(model):
        return
    from selfreward.policy.architecture import causal_model
    from selfreward.policy.precision import recomputing

    most = torch.tensor(done)
    dist.all_reduce(most, op=dist.ReduceOp.MAX)
    for _ in range(int(most) - done):
        causal = causal_model(model)  # type: ignore[arg-type]
        with recomputing(causal):
            states = _empty(causal)
        (states.sum() * 0.0).backward()


def whole_state(model: torch.nn.Module) -> dict[str, Tensor] | None:
    """All weights put together on the CPU; None where nothing is sharded. All processes come here together."""
    if not is_sharded(model):
        return None
    from selfreward.runtime.distributed import whole

    return {name: whole(value).detach().cpu() for name, value in model.state_dict().items()}


def sharded_copy(model: Any) -> Any:
    """A second model with the same weights, sharded alike. FSDP refuses ``copy.deepcopy``."""
    from selfreward.runtime.distributed import local

    with torch.device("meta"):
        fresh = type(model)(model.config)
    fresh.to(next(model.parameters()).dtype)
    fresh.requires_grad_(False)
    shard(fresh, ready=False)
    fresh.to_empty(device=next(model.parameters()).device)
    fresh.tie_weights()
    with torch.no_grad():
        for (name, mine), theirs in zip(fresh.named_parameters(), model.parameters(), strict=True):
            assert mine.shape == theirs.shape, name
            local(mine).copy_(local(theirs))
        held = dict(model.named_buffers())
        for name, buffer in fresh.named_buffers():
            buffer.copy_(held[name])
    fresh.generation_config = model.generation_config
    fresh.eval()
    _find_out(fresh)
    return fresh


def spread(sizes: Sequence[float], work: Callable[[list[int]], Sequence[T]]) -> list[T]:
    """Results of ``work`` on all items, each computed by one process and known to all, in the items' order.

    Args:
        sizes: how much work each item is, on any scale.
        work: takes indices of items and returns one result for each, in their order.
    """
    parts = shares(sizes)
    mine = parts[rank()]
    with in_step():
        done = list(work(mine)) if mine else []
    if len(done) != len(mine):
        raise ValueError(f"{len(mine)} items gave {len(done)} results")
    if size() == 1:
        return done
    result: list[Any] = [None] * len(sizes)
    for part, values in zip(parts, gather("results", done), strict=True):
        for i, value in zip(part, values, strict=True):
            result[i] = value
    return result
