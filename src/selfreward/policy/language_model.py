"""A causal language model with its tokenizer: facts about it, its weights, frozen copies, and how it is saved.

Here nothing is sampled and nothing is scored; :mod:`selfreward.policy.policy` adds that.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from selfreward.errors import ModelError
from selfreward.policy import sharding
from selfreward.policy.architecture import causal_model
from selfreward.policy.sampling.default import default_sampler
from selfreward.policy.text import TextCodec
from selfreward.runtime import distributed
from selfreward.runtime.files import whole_folder

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from selfreward.policy.sampling.params import Sampler


class Offloaded:
    """A frozen copy of a model whose weights wait in main memory until :meth:`get` asks for it."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._origin = model
        self._weights = {n: w.detach().cpu().clone() for n, w in model.named_parameters()}
        self._made: PreTrainedModel | None = None

    def get(self) -> PreTrainedModel:
        """The copy, made on the device of the model from which it was taken, with the weights of that time."""
        if self._made is None:
            self._made = frozen_model(self._origin)
            with torch.no_grad():
                for name, parameter in self._made.named_parameters():
                    parameter.copy_(self._weights[name])
            self._weights = {}
        return self._made


class LanguageModel(TextCodec):
    """A model and its tokenizer.

    Args:
        model: any Hugging Face causal LM, or a PEFT model around one.
        tokenizer: its tokenizer.
        sampler: how completions are drawn; by default chosen by the architecture.
        chat: see :class:`~selfreward.policy.text.TextCodec`.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        sampler: Sampler | None = None,
        chat: str = "auto",
    ) -> None:
        super().__init__(tokenizer, chat)
        self._model: PreTrainedModel | Offloaded = model
        self._adapter: dict[str, Tensor] | None = None  # a snapshot of a LoRA policy swaps this in
        for module in model.modules():
            # Dropout would make the scored distribution differ from the sampled one.
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        model.eval()
        self.sampler = sampler or default_sampler(causal_model(model))

    # ---------------------------------------------------------------- facts

    @property
    def model(self) -> PreTrainedModel:
        """The Hugging Face model. An offloaded copy is brought to its device by the first look at it."""
        if isinstance(self._model, Offloaded):
            self._model = self._model.get()
        return self._model

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def is_lora(self) -> bool:
        return hasattr(self.model, "peft_config")

    @property
    def context(self) -> int | None:
        """Longest sequence that the model accepts, or None where it does not say."""
        return getattr(causal_model(self.model).config.get_text_config(), "max_position_embeddings", None)

    @property
    def end_tokens(self) -> list[int]:
        """Ids that end a completion."""
        found: list[int] = []
        generation = getattr(causal_model(self.model), "generation_config", None)
        for value in (getattr(generation, "eos_token_id", None), self.tokenizer.eos_token_id):
            if value is not None:
                found += value if isinstance(value, list) else [value]
        return list(dict.fromkeys(int(v) for v in found))

    @property
    def pad_token(self) -> int:
        pad = self.tokenizer.pad_token_id
        return int(pad) if pad is not None else (self.end_tokens or [0])[0]

    def default_lr(self) -> float:
        """A starting point by size: 6e-4 below 5 million parameters, 1e-5 for LoRA, else 1e-6."""
        if self.is_lora:
            return 1e-5
        return 6e-4 if causal_model(self.model).num_parameters() < 5_000_000 else 1e-6

    def num_parameters(self) -> int:
        """Weights of the whole model, adapters among them."""
        return int(self.model.num_parameters())

    # ---------------------------------------------------------------- weights

    def parameters(self) -> list[torch.nn.Parameter]:
        """The trainable parameters, in the model's own order."""
        return [p for p in self.model.parameters() if p.requires_grad]

    def adapter_weights(self) -> dict[str, Tensor]:
        """The LoRA weights in the model by name, as they are now; empty for a policy without an adapter."""
        return {n: p for n, p in self.model.named_parameters() if "lora_" in n}

    def copied_weights(self) -> dict[str, Tensor]:
        """The weights that are a snapshot's own, by name: those of its adapter with LoRA, else all (shared ones once).

        They are no copies: what is written into them changes the snapshot.
        """
        return self._adapter if self._adapter is not None else dict(self.model.named_parameters())

    @contextlib.contextmanager
    def own_weights(self) -> Iterator[None]:
        """While open, the model computes with this policy's weights.

        They are in it already, but for a snapshot of a LoRA policy, which shares the model with the live policy: its
        adapter is swapped in for the time. Whoever calls ``model`` without a verb of the policy does so in here.
        """
        if self._adapter is None:
            yield
            return
        live = self.adapter_weights()
        kept = {k: v.detach().clone() for k, v in live.items()}
        with torch.no_grad():
            for k, v in live.items():
                v.copy_(self._adapter[k])
        try:
            yield
        finally:
            with torch.no_grad():
                for k, v in live.items():
                    v.copy_(kept[k])

    def snapshot(self, *, offload: bool = False) -> Self:
        """A frozen copy of the current weights.

        With LoRA only the adapter is copied; the base weights are shared and the adapter is swapped in
        for the duration of each call.

        Args:
            offload: on an accelerator, let the copy take memory there only once it is used. A copy of an adapter is
                small and one of sharded weights cannot be taken out of its processes: these are made at once.
        """
        frozen = copy.copy(self)
        frozen.sampler = self.sampler.for_copies()
        if self.is_lora:
            frozen._adapter = {k: v.detach().clone() for k, v in self.adapter_weights().items()}
        elif offload and self.device.type != "cpu" and not sharding.is_sharded(self.model):
            frozen._model = Offloaded(self.model)
        else:
            frozen._model = frozen_model(self.model)
        return frozen

    def state_dict(self) -> dict[str, Tensor]:
        """The trainable weights (shared tensors once), on the CPU."""
        names = {}
        for name, parameter in self.model.named_parameters():
            if parameter.requires_grad:
                names[name] = distributed.whole(parameter.detach()).cpu().contiguous()
        return names

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore what :meth:`state_dict` gave.

        Raises:
            ModelError: if the names or shapes are those of another model.
        """
        mine = {n: p for n, p in self.model.named_parameters() if p.requires_grad}
        if set(mine) != set(state):
            odd = sorted(set(mine) ^ set(state))[:3]
            raise ModelError(f"The saved weights belong to another model: they differ in {odd}.")
        with torch.no_grad():
            for name, parameter in mine.items():
                if parameter.shape != state[name].shape:
                    raise ModelError(
                        f"The saved weight {name} has shape {tuple(state[name].shape)}, "
                        f"the model needs {tuple(parameter.shape)}."
                    )
                distributed.fill(parameter, state[name])

    def save(self, folder: str | Path) -> None:
        """Write a folder that ``AutoModelForCausalLM`` (or PEFT, for LoRA) loads; it is there whole or not at all.

        All processes call this, because sharded weights are put together by all, and the first one writes.
        """
        gathered = sharding.whole_state(self.model)
        if not distributed.is_main():
            return
        given: dict[str, Any] = {} if gathered is None else {"state_dict": gathered}
        with whole_folder(Path(folder)) as partial:
            self.model.save_pretrained(str(partial), **given)
            self.tokenizer.save_pretrained(str(partial))


def frozen_model(model: PreTrainedModel) -> PreTrainedModel:
    """A second model with the same weights, not trained."""
    frozen: PreTrainedModel = sharding.sharded_copy(model) if sharding.is_sharded(model) else copy.deepcopy(model)
    frozen.requires_grad_(False)
    # A copied function is the same function: this one would go on using the live model's head.
    vars(frozen).pop("_selfreward_head", None)
    return frozen
