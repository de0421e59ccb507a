"""What training a large model on one device needs: recomputed activations, exact weights behind half-precision ones.

A bfloat16 number has 8 significant bits, so a weight of 0.02 moves in steps of 1e-4 and an update of 1e-6 is rounded
away: the model would not learn, without any error. :class:`MasterAdamW` keeps a float32 copy of every such weight,
takes its steps there, and writes the rounded result back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

HALF = (torch.bfloat16, torch.float16)


@contextmanager
def recomputing(model: torch.nn.Module) -> Iterator[None]:
    """Where activation checkpointing is on and a graph is built, layers recompute their activations in the backward.

    Outside, layers are in evaluation mode: a layer that recomputes refuses the cache, and sampling would go on without
    the tokens before, silently.
    """
    chosen = [m for m in model.modules() if getattr(m, "gradient_checkpointing", False)]
    if not chosen or not torch.is_grad_enabled():
        yield
        return
    kept = [m.training for m in chosen]
    for module in chosen:
        module.training = True  # the layer's own flag; its dropout stays off
    try:
        yield
    finally:
        for module, training in zip(chosen, kept, strict=True):
            module.training = training


class MasterAdamW(torch.optim.Optimizer):
    """AdamW on float32 copies of half-precision weights; for float32 weights it is AdamW.

    A weight that somebody else has changed since the last step (a rollback, a reset) is taken over as it is.

    Args:
        parameters: the model's own.
        options: of ``torch.optim.AdamW``.
    """

    def __init__(self, parameters: Iterable[Tensor], **options: Any) -> None:
        super().__init__(list(parameters), options)
        self.mine: list[Tensor] = [p for group in self.param_groups for p in group["params"]]
        self.masters = [p.detach().float().clone() if p.dtype in HALF else p for p in self.mine]
        self.inner = torch.optim.AdamW(self.masters, **options)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        assert closure is None
        pairs = [(p, m) for p, m in zip(self.mine, self.masters, strict=True) if p is not m]
        for own, master in pairs:
            master.copy_(torch.where(own == master.to(own.dtype), master, own.float()))
            master.grad = None if own.grad is None else own.grad.float()
        for inner, outer in zip(self.inner.param_groups, self.param_groups, strict=True):
            inner["lr"] = outer["lr"]
        self.inner.step()
        for own, master in pairs:
            own.copy_(master)
            master.grad = None

    def state_dict(self) -> dict[str, Any]:
        state = self.inner.state_dict()
        exact = {i: m.detach().clone() for i, (p, m) in enumerate(zip(self.mine, self.masters)) if p is not m}
        both = {i: dict(own) | ({"master": exact[i]} if i in exact else {}) for i, own in state["state"].items()}
        return state | {"state": both}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        moments = {}
        for i, own in state_dict["state"].items():
            moments[i] = {k: v for k, v in own.items() if k != "master"}
            if "master" in own:
                with torch.no_grad():
                    self.masters[i].copy_(own["master"])
        self.inner.load_state_dict(state_dict | {"state": moments})


def adamw(parameters: Iterable[Tensor], **options: Any) -> torch.optim.Optimizer:
    """AdamW that takes its steps in float32, whatever the weights are kept in."""
    chosen = list(parameters)
    if any(hasattr(p, "full_tensor") for p in chosen):
        options["foreach"] = False  # sharded and whole weights do not go into one operation
    elif all(p.device.type in ("cpu", "cuda") for p in chosen):
        options["fused"] = True  # one call for all tensors takes a fifth of the time
    if any(p.dtype in HALF for p in chosen):
        return MasterAdamW(chosen, **options)
    return torch.optim.AdamW(chosen, **options)
