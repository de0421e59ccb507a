"""Several processes, one run.

    torchrun --nproc-per-node 4 -m selfreward train vote --model MODEL --data prompts.jsonl

Every process runs the same recipe on the same whole groups. What costs time is divided inside the policy's
verbs and the learner: each process samples and scores its share of the prompts and sequences, takes the
gradient of its share of the rows, and the pieces are put together again before anybody looks at them. So a
signal always sees a whole group, on any number of processes, and a recipe need not know how many there are.
With one process every function here is the identity.

A function of the outside world (a user's reward, a server) is asked by the first process only, see :func:`once`.
"""

from __future__ import annotations

import io
import os
import pickle
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from selfreward.errors import ConfigError, TrainingError, UserError


def fill(target: Tensor, value: Tensor) -> None:
    """Copy a whole tensor into a weight, of which this process may have a part."""
    if not hasattr(target, "full_tensor"):
        target.copy_(value)
        return
    target.to_local().copy_(like(value, target).to_local())  # type: ignore[attr-defined]


def like(value: Tensor, weight: Tensor) -> Any:
    """A whole tensor of the shape of ``weight``, sharded as it is."""
    if not hasattr(weight, "full_tensor") or value.shape != weight.shape:
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value.to(weight.device), weight.device_mesh, weight.placements)  # type: ignore[attr-defined]


def clip_gradients(parameters: list[torch.nn.Parameter], largest: float) -> float:
    """Scale gradients to a common norm of at most ``largest``; returns the norm before."""
    parts = [p for p in parameters if hasattr(p, "full_tensor")]
    if not parts:
        return float(torch.nn.utils.clip_grad_norm_(parameters, largest))
    from selfreward.runtime.distributed import local

    def squares(some: list[torch.nn.Parameter]) -> Tensor:
        found = [local(p.grad).float().square().sum().cpu() for p in some if p.grad is not None]
        return torch.stack(found).sum() if found else torch.zeros(())

    total = squares(parts)
    dist.all_reduce(total)
    norm = float((total + squares([p for p in parameters if not hasattr(p, "full_tensor")])).sqrt())
    scale = min(1.0, largest / (norm + 1e-6))
    for parameter in parameters:
        if parameter.grad is not None:
            local(parameter.grad).mul_(scale)
    return norm


T = TypeVar("T")


def start() -> None:
    """Join the other processes that torchrun started; nothing without torchrun or where that has happened.

    Output of all processes but the first goes nowhere; errors are still written.

    Raises:
        ConfigError: if torchrun's environment is incomplete.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        return
    missing = [name for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise ConfigError(f"WORLD_SIZE is set but {', '.join(missing)} is not; start several processes with torchrun.")
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        dist.init_process_group("cpu:gloo,cuda:nccl")
    else:
        dist.init_process_group("gloo")
    if not is_main():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115


def stop() -> None:
    """Leave the other processes."""
    if dist.is_initialized():
        dist.destroy_process_group()


def size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def is_main() -> bool:
    """Whether this process is the one that writes files and prints."""
    return rank() == 0


def barrier() -> None:
    """Wait for all."""
    if size() > 1:
        dist.barrier()


def shares(sizes: Sequence[float]) -> list[list[int]]:
    """Items of each process: largest first, each to the least loaded process; ties go to the lowest rank."""
    loads = [0.0] * size()
    taken: list[list[int]] = [[] for _ in loads]
    for i in sorted(range(len(sizes)), key=lambda i: (-sizes[i], i)):
        least = loads.index(min(loads))
        loads[least] += sizes[i]
        taken[least].append(i)
    return [sorted(items) for items in taken]


# Bytes of a message by topic: what the largest one on it has taken so far, with room to grow.
_room: dict[str, int] = {}
_LENGTH = 8


def gather(topic: str, value: T) -> list[T]:
    """The ``value`` of every process, in all of them; all come here together.

    A message costs its latency more than its bytes, so there is one, of a size that all know beforehand: the largest on
    this topic so far. Only what does not fit takes a second one. (``all_gather_object`` always sends two.)
    """
    data = torch.frombuffer(bytearray(_written(value)), dtype=torch.uint8)
    header = torch.frombuffer(bytearray(len(data).to_bytes(_LENGTH, "little")), dtype=torch.uint8)
    room = _room.setdefault(topic, 1024)
    while True:
        mine = torch.zeros(_LENGTH + room, dtype=torch.uint8)
        mine[:_LENGTH] = header
        mine[_LENGTH : _LENGTH + len(data)] = data[:room]
        found = [torch.empty_like(mine) for _ in range(size())]
        dist.all_gather(found, mine)
        lengths = [int.from_bytes(bytes(f[:_LENGTH].tolist()), "little") for f in found]
        if max(lengths) <= room:
            break
        room = _room[topic] = 2 * max(lengths)
    # written by our own processes just now
    return [pickle.loads(f[_LENGTH : _LENGTH + n].numpy().tobytes()) for f, n in zip(found, lengths, strict=True)]


class _Pickler(pickle.Pickler):
    """Small tensors as arrays: torch's own way of pickling costs ten times the time on a batch of completions."""

    def reducer_override(self, value: Any) -> Any:
        plain = isinstance(value, Tensor) and value.device.type == "cpu" and value.dtype != torch.bfloat16
        return (torch.from_numpy, (value.numpy(),)) if plain and not value.requires_grad else NotImplemented


def _written(value: object) -> bytes:
    into = io.BytesIO()
    _Pickler(into, protocol=pickle.HIGHEST_PROTOCOL).dump(value)
    return into.getvalue()


def once(work: Callable[[], T]) -> T:
    """What ``work`` gives, or raises, in the first process, in all of them."""
    if size() == 1:
        return work()
    box: list[Any] = [None, None]
    if is_main():
        try:
            box[0] = work()
        except UserError as error:
            box[1] = error
    dist.broadcast_object_list(box)
    if box[1] is not None:
        raise box[1]
    return box[0]  # type: ignore[no-any-return]


def any_of(flag: bool) -> bool:
    """Whether the flag is up in any process."""
    if size() == 1:
        return flag
    return any(gather("flags", flag))


def agree(what: str, value: object) -> None:
    """Check that all processes have the same value.

    Raises:
        TrainingError: if they do not; a recipe that draws its own random numbers is the usual cause.
    """
    if size() == 1:
        return
    values = gather("agreement", value)
    if any(v != values[0] for v in values):
        raise TrainingError(
            f"The processes disagree on {what}. A recipe must compute the same in each of them: random numbers from "
            "run.generator(...), and what lies outside through selfreward.runtime.distributed.once."
        )


def sum_metrics(metrics: dict[str, float], largest: Sequence[str] = ()) -> dict[str, float]:
    """Numbers summed over the processes by name; those in ``largest`` take the largest instead."""
    if size() == 1:
        return metrics
    pieces = gather("metrics", metrics)
    names = dict.fromkeys(name for piece in pieces for name in piece)
    found = {name: [piece[name] for piece in pieces if name in piece] for name in names}
    return {name: max(values) if name in largest else sum(values) for name, values in found.items()}


def sum_gradients(parameters: Iterable[Tensor]) -> None:
    """Add up the gradients of all processes, in one message per device and type.

    A weight that has a gradient in no process is left without one: an optimiser passes it over, whereas a gradient of
    zeros would let its momentum and its decay go on. Gradients of sharded weights have been averaged on their way;
    that, too, becomes a sum.
    """
    if size() == 1:
        return
    kinds: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
    for parameter in parameters:
        if hasattr(parameter, "full_tensor"):
            if parameter.grad is not None:
                local(parameter.grad).mul_(size())
        elif parameter.requires_grad:
            dtype = parameter.dtype if parameter.grad is None else parameter.grad.dtype
            kinds.setdefault((parameter.device, dtype), []).append(parameter)
    for (device, dtype), some in kinds.items():
        here = torch.tensor([p.grad is not None for p in some], device=device, dtype=dtype)
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in some]
        flat = torch.cat([*(g.reshape(-1) for g in grads), here])
        dist.all_reduce(flat)
        *pieces, anywhere = flat.split([*(g.numel() for g in grads), len(some)])
        for parameter, grad, piece, had in zip(some, grads, pieces, anywhere.tolist(), strict=True):
            parameter.grad = grad.copy_(piece.view_as(grad)) if had else None


def local(tensor: Tensor) -> Tensor:
    """This process's part of a sharded weight; any other tensor as it is."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def whole(tensor: Tensor) -> Tensor:
    """A sharded weight put together (all processes come here together); any other tensor as it is."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
