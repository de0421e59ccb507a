"""Activation steering: push a model's hidden states along one direction while it writes.

The direction is taken from the model itself: hidden states of concise minus verbose right answers to
the same question, averaged. Added at every generated token it makes answers shorter, subtracted
longer, without any training. Works on any Hugging Face decoder.
Zhao et al. 2025, arXiv 2506.15647 (efficiency steering): h <- h + strength * v at one layer.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from selfreward.errors import ConfigError, DataError, ModelError
from selfreward.policy.architecture import causal_model, decoder_layers, layer_of
from selfreward.policy.batching import MICRO_TOKENS, micro_batches, right_pad
from selfreward.types import Group, Trajectory

if TYPE_CHECKING:
    from selfreward.policy.policy import Policy

Position = Literal["mean", "first", "last"]
Where = Literal["generated", "all"]
POSITIONS = ("mean", "first", "last")


@dataclass
class SteeringVector:
    """A direction ``[D]`` in the output of one decoder layer (counted from 0).

    Attributes:
        position: which tokens of the answers it was read at.
        pairs: how many pairs it is the mean of.
        meta: what else is worth keeping: the model, the data, mean lengths of both sides.
    """

    layer: int
    vector: Tensor
    position: str = "mean"
    pairs: int = 0
    meta: dict[str, Any] = field(default_factory=dict)

    def save(self, path: str | Path) -> Path:
        """One safetensors file; everything beside the vector is in its header.

        Raises:
            ConfigError: if ``path`` is a folder.
        """
        from safetensors.torch import save_file

        file = Path(path)
        if file.is_dir():
            raise ConfigError(
                f"{path} is a folder; a steering vector is one file, for example {file / 'v.safetensors'}."
            )
        file.parent.mkdir(parents=True, exist_ok=True)
        header = {"layer": self.layer, "position": self.position, "pairs": self.pairs, "meta": self.meta}
        save_file({"vector": self.vector.float().contiguous()}, str(file), {"steering": json.dumps(header)})
        return file

    @classmethod
    def load(cls, path: str | Path) -> SteeringVector:
        """Read what :meth:`save` wrote.

        Raises:
            DataError: if the file is missing or is something else.
        """
        from safetensors import SafetensorError, safe_open

        if not Path(path).is_file():
            raise DataError(f"There is no steering vector at {path}. Make one with: selfreward steer --out {path}")
        try:
            with safe_open(str(path), framework="pt") as file:
                header = json.loads((file.metadata() or {})["steering"])
                vector = file.get_tensor("vector")
            return cls(int(header["layer"]), vector, header["position"], int(header["pairs"]), header["meta"])
        except (SafetensorError, KeyError, ValueError, TypeError) as error:
            raise DataError(f"{path} is not a steering vector as `selfreward steer` writes it ({error}).") from None

    def random_like(self, seed: int = 0) -> SteeringVector:
        """A random direction of the same norm: the control."""
        noise = torch.randn(self.vector.shape, generator=torch.Generator().manual_seed(seed))
        scale = self.vector.norm() / noise.norm()
        return SteeringVector(self.layer, noise * scale, self.position, self.pairs, {**self.meta, "random": seed})


def _hidden(output: Any) -> Tensor:
    hidden: Tensor = output[0] if isinstance(output, tuple) else output
    return hidden


@contextlib.contextmanager
def hook(module: torch.nn.Module, function: Callable[[Tensor], Tensor | None]) -> Iterator[None]:
    """While open, ``function`` sees what ``module`` returns (``[B, T, D]``) and may replace it."""

    def forward(_: Any, __: Any, output: Any) -> Any:
        changed = function(_hidden(output))
        if changed is None:
            return output
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    handle = module.register_forward_hook(forward)
    try:
        yield
    finally:
        handle.remove()


@torch.no_grad()
def capture(policy: Policy, trajectories: Sequence[Trajectory], layer: int, position: Position = "mean") -> Tensor:
    """Float ``[N, D]``: the output of ``layer`` at the last answer's tokens of each trajectory.

    Only states that decide a token are read, since only those are pushed: the answer's final token (its
    end token, where it ended) decides nothing and is left out. ``position`` is the mean over the others,
    the first, or the last of them. (At the last *prompt* token two answers to one question have the same
    state, since a decoder does not look ahead.) An answer of one token is read at that token.
    """
    if position not in POSITIONS:
        raise ConfigError(f"position is {position!r}; it must be one of {', '.join(POSITIONS)}.")
    module, causal = layer_of(policy.model, layer), causal_model(policy.model)
    result: list[Tensor] = [torch.empty(0)] * len(trajectories)
    sequences = [t.tokens for t in trajectories]
    starts = [len(t.tokens) - len(t.last) for t in trajectories]
    seen: list[Tensor] = []
    with hook(module, seen.append):
        for batch in micro_batches([len(s) for s in sequences], MICRO_TOKENS):
            seen.clear()
            causal(input_ids=right_pad([sequences[i] for i in batch]).long().to(policy.device), use_cache=False)
            for row, i in enumerate(batch):
                states = seen[0][row, starts[i] : max(len(sequences[i]) - 1, starts[i] + 1)].float()
                chosen = states.mean(0) if position == "mean" else states[0 if position == "first" else -1]
                result[i] = chosen.cpu()
    return torch.stack(result) if result else torch.empty(0)


def contrast_pairs(
    groups: Sequence[Group], correct: Sequence[Sequence[float]], least: int = 1
) -> list[tuple[Trajectory, Trajectory]]:
    """Per group its shortest and its longest right answer, where they differ by ``least`` tokens at least."""
    pairs = []
    for group, verdicts in zip(groups, correct, strict=True):
        right = sorted((t for t, ok in zip(group, verdicts, strict=True) if ok), key=lambda t: len(t.last))
        if len(right) > 1 and len(right[-1].last) - len(right[0].last) >= least:
            pairs.append((right[0], right[-1]))
    return pairs


def direction(
    policy: Policy, pairs: Sequence[tuple[Trajectory, Trajectory]], layer: int, position: Position = "mean"
) -> SteeringVector:
    """Mean over pairs of the concise answer's state minus the verbose answer's.

    Example: states ``[3, 0]`` and ``[1, 1]`` in one pair, ``[1, 2]`` and ``[1, 1]`` in another: ``[1, 0]``.

    Raises:
        DataError: without a pair.
    """
    if not pairs:
        raise DataError(
            "No question has two right answers of different length, so there is nothing to contrast. "
            "Take more prompts or more samples, or an easier data set."
        )
    concise = capture(policy, [a for a, _ in pairs], layer, position)
    verbose = capture(policy, [b for _, b in pairs], layer, position)
    index = layer if layer >= 0 else len(decoder_layers(policy.model)) + layer
    lengths = [sum(len(p[side].last) for p in pairs) / len(pairs) for side in (0, 1)]
    meta = {"concise length": round(lengths[0], 3), "verbose length": round(lengths[1], 3)}
    return SteeringVector(index, (concise - verbose).mean(0), position, len(pairs), meta)


@contextlib.contextmanager
def steered(policy: Policy, vector: SteeringVector, strength: float, where: Where = "generated") -> Iterator[Policy]:
    """While open, the policy samples with ``strength * vector`` added to one layer's output.

    Args:
        where: ``generated`` adds it where the next token is decided: at the last prompt token and at every
            token after it. ``all`` adds it at prompt tokens, too, which also holds for scoring.

    Raises:
        ModelError: if the vector is of another width than the model.
        ConfigError: for ``generated`` with a model that samples through ``generate``, whose recorded
            log-probabilities would not be those of the steered model.
    """
    from selfreward.policy.sampling.torch_sampler import TorchSampler

    module = layer_of(policy.model, vector.layer)
    width = causal_model(policy.model).config.get_text_config().hidden_size
    if vector.vector.shape != (width,):
        raise ModelError(f"The steering vector has {vector.vector.numel()} numbers; this model's states have {width}.")
    if where == "generated" and not isinstance(policy.sampler, TorchSampler):
        raise ConfigError("This architecture can only be steered everywhere (where='all').")

    def add(hidden: Tensor) -> Tensor:
        shift = (strength * vector.vector).to(hidden)
        if where == "all":
            return hidden + shift
        # Prompts are padded on the left and come first: the last position is the one that decides.
        return torch.cat([hidden[:, :-1], hidden[:, -1:] + shift], 1)

    with hook(module, add):
        yield policy
