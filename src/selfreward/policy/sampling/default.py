"""The sampler that fits a model: our own where its steps reproduce the model's forward, else ``generate``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from selfreward.errors import ModelError
from selfreward.policy.architecture import CANNOT, alike
from selfreward.policy.sampling.decoding import CacheDecoder
from selfreward.policy.sampling.torch_sampler import TorchSampler, left_pad, prefill

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from selfreward.policy.sampling.params import Sampler


def default_sampler(model: PreTrainedModel) -> Sampler:
    """:class:`TorchSampler` where its steps are true to the model, else
    :class:`~selfreward.policy.sampling.hf_sampler.HFSampler`.

    Asked of the model itself, once.

    Raises:
        ModelError: if not even the model's ``generate`` draws from what a forward of the whole sequence gives.
    """
    from selfreward.policy.sampling.hf_sampler import HFSampler, generates

    kind = getattr(model, "_selfreward_sampler", None)
    if kind is None:
        if steps_agree(model):
            kind = TorchSampler
        elif generates(model):
            kind = HFSampler
        else:
            raise ModelError(
                f"{type(model).__name__} cannot be sampled: token by token it gives other probabilities than for the "
                "whole sequence at once. Take a causal language model whose `generate` agrees with its forward."
            )
        object.__setattr__(model, "_selfreward_sampler", kind)
    return kind()  # type: ignore[no-any-return]


def steps_agree(model: PreTrainedModel) -> bool:
    """Whether :class:`TorchSampler` steps as the model reads.

    Two prompts of unequal length, two rows of each, two steps, and a row that leaves in between.
    """
    device, vocabulary = next(model.parameters()).device, model.config.get_text_config().vocab_size
    prompts = [[22 % vocabulary], [29 % vocabulary, 36 % vocabulary, 43 % vocabulary]]
    then = [5 % vocabulary, 9 % vocabulary]
    ids, mask = (x.to(device) for x in left_pad(prompts, 0))
    with torch.no_grad():
        try:
            cache, first, mask = prefill(model, ids, mask, [2, 2])
            rows = CacheDecoder(model, cache, mask, 2)
            second = rows.step(first.new_full((4,), then[0], dtype=torch.long))
            rows.keep(torch.tensor([1, 2, 3], device=device))
            third = rows.step(first.new_full((3,), then[1], dtype=torch.long))
            whole = [
                model(input_ids=torch.tensor([[*p, *then]], device=device), use_cache=False).logits[0, -3:]
                for p in prompts
            ]
        except CANNOT:
            return False
    found = torch.stack([first[1:], second[1:], third], 1)
    return alike(found, torch.stack([whole[0], whole[1], whole[1]]))
