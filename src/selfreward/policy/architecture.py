"""What is found out about the architecture of a causal language model: its layers, its head, what its attention sees.

Architectures are not listed by name. What cannot be read off a model is tried on it, once, and believed if the numbers
are those of its own forward.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from selfreward.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def decoder_layers(model: PreTrainedModel) -> torch.nn.ModuleList:
    """The decoder's layers, whatever the architecture calls them.

    Raises:
        ModelError: if no list of modules has as many members as the configuration has layers.
    """
    causal = causal_model(model)
    wanted = causal.config.get_text_config().num_hidden_layers
    for _, module in causal.named_modules():
        if isinstance(module, torch.nn.ModuleList) and len(module) == wanted:
            return module
    raise ModelError(f"{type(causal).__name__} has no list of {wanted} layers to steer.")


def layer_of(model: PreTrainedModel, layer: int) -> torch.nn.Module:
    """Layer ``layer``; negative counts from the last.

    Raises:
        ConfigError: if the model has no such layer.
    """
    layers = decoder_layers(model)
    if not -len(layers) <= layer < len(layers):
        raise ConfigError(f"The model has layers 0 to {len(layers) - 1} (or -1 for the last), not {layer}.")
    return layers[layer]


# What a model that does not know how to do something does when it is asked to.
CANNOT = (TypeError, ValueError, RuntimeError, AttributeError, IndexError, KeyError)


def alike(mine_R_T_V: Tensor, theirs_R_T_V: Tensor) -> bool:
    """Whether the logits (or states) of some rows and steps are the same but for rounding.

    In half precision a mixture of experts may choose otherwise at a step; there the middle step of each row counts.
    Numbers that are not finite are left for whoever samples to report.
    """
    if mine_R_T_V.shape != theirs_R_T_V.shape:
        return False
    mine, theirs = mine_R_T_V.float().nan_to_num(), theirs_R_T_V.float().nan_to_num()
    spread = (theirs - theirs.mean(-1, keepdim=True)).norm(dim=-1).clamp(min=1e-3)
    gap = (mine - theirs).norm(dim=-1) / spread
    if theirs_R_T_V.dtype == torch.float32:
        return bool((gap <= 0.01).all())
    return bool((gap.median(-1).values <= 0.1).all())


def full_attention(model: PreTrainedModel) -> bool:
    """Whether every layer attends to all that precedes, and the head stands apart from the layers."""
    config = model.config.get_text_config()
    kinds = getattr(config, "layer_types", None) or getattr(config, "attention_layers", None) or ["full_attention"]
    windowed = getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True)
    causal = model.base_model is not model
    return causal and set(kinds) <= {"full_attention", "global"} and not windowed and not _masks_by_place(model)


def _masks_by_place(model: PreTrainedModel) -> bool:
    """Whether an attention has a causal mask of its own, ``bias [1, 1, L, L]``, by places in the row (GPT-Neo, GPT-1).

    It knows nothing of depths: it cuts windows where no sequence has them, and ends at ``L`` nodes.
    """
    return any(name.endswith("bias") and mask.ndim == 4 for name, mask in model.named_buffers())


def causal_model(model: PreTrainedModel) -> PreTrainedModel:
    """The Hugging Face causal LM inside ``model`` (which may be a PEFT wrapper)."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]


def head_of(model: PreTrainedModel) -> Callable[[Tensor], Tensor] | None:
    """A function from last hidden states to logits, or None where the model has no plain head.

    Some architectures scale or cap their logits. Whatever the recipe of the architecture, the
    function is compared with the model's own logits once and used only if it reproduces them.
    """
    causal = causal_model(model)
    if hasattr(causal, "_selfreward_head"):
        return causal._selfreward_head  # type: ignore[return-value]
    head = causal.get_output_embeddings()
    result: Callable[[Tensor], Tensor] | None = None
    if head is not None and causal.base_model is not causal:
        cap = getattr(causal.config, "final_logit_softcapping", None)

        def project(hidden: Tensor) -> Tensor:
            logits = head(hidden)
            return torch.tanh(logits / cap) * cap if cap else logits

        with torch.no_grad():
            device = next(causal.parameters()).device
            ids = (torch.arange(5, device=device) % causal.config.get_text_config().vocab_size)[None]
            mine = project(causal.base_model(input_ids=ids, use_cache=False).last_hidden_state)
            theirs = causal(input_ids=ids, use_cache=False).logits
            if mine.shape == theirs.shape and torch.allclose(mine.float(), theirs.float(), atol=1e-3, rtol=1e-3):
                result = project
    object.__setattr__(causal, "_selfreward_head", result)
    return result
