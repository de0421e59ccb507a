"""Decoders: the model one token further, for every row of a batch.

:class:`CacheDecoder` is the model itself with its cache, for every architecture. On models of a few million
parameters most of its time goes into calls, not into arithmetic; :class:`LeanDecoder` takes the same step for
Llama-shaped models (RMS norms, rotary positions, gated MLP) in about ten calls a layer, and stands in wherever it has
reproduced the model's own logits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from selfreward.policy.architecture import full_attention

if TYPE_CHECKING:
    from collections.abc import Callable

    from transformers import PreTrainedModel

# From this size on the arithmetic outweighs the calls, and the lean decoder's copies of the weights would cost memory.
LEAN_BELOW = 20_000_000
LEAN_FAMILIES = ("llama", "mistral", "qwen2", "qwen3")


class Decoder(Protocol):
    """Rows of a batch behind their prompts."""

    def step(self, tokens_R: Tensor) -> Tensor:
        """Append one token to every row; logits ``[R, V]`` of the next."""
        ...

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows only (long, in order)."""
        ...


class CacheDecoder:
    """The model with its own cache.

    Args:
        cache: as the prefill left it, ``R`` rows.
        mask_R_L: long, 1 where the prompts have tokens; room for what follows is added here.
    """

    def __init__(self, model: PreTrainedModel, cache: Any, mask_R_L: Tensor, limit: int) -> None:
        self.model, self.cache = model, cache
        self.used = mask_R_L.shape[1]
        self.next_R = mask_R_L.sum(-1)
        self.mask = torch.cat([mask_R_L, mask_R_L.new_ones(len(mask_R_L), limit)], 1)

    def step(self, tokens_R: Tensor) -> Tensor:
        self.used += 1
        output = self.model(
            input_ids=tokens_R[:, None],
            attention_mask=self.mask[:, : self.used],
            position_ids=self.next_R[:, None],
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self.next_R = self.next_R + 1
        return output.logits[:, -1]  # type: ignore[no-any-return]

    def keep(self, rows: Tensor) -> None:
        self.cache.batch_select_indices(rows)
        self.mask, self.next_R = self.mask[rows], self.next_R[rows]


class LeanDecoder:
    """The same step for Llama-shaped models in float32, with joined projections and one preallocated cache.

    Queries and keys keep the two halves of a rotary pair next to each other, so that a rotation is one complex
    multiplication; scores do not notice, because both are reordered alike. Norm weights and the softmax scale are
    folded into the matrices behind them. The weights are copied: make a new decoder after every update.
    """

    def __init__(
        self, model: PreTrainedModel, project: Callable[[Tensor], Tensor], cache: Any, mask_R_L: Tensor, limit: int
    ) -> None:
        inner: Any = model.base_model
        attention = inner.layers[0].self_attn
        rows, used = mask_R_L.shape
        self.project, self.inner = project, inner
        self.width = attention.head_dim
        self.kv = inner.config.num_key_value_heads
        self.heads = inner.config.num_attention_heads
        device = mask_R_L.device
        self.pairs = torch.arange(self.width, device=device).view(2, -1).t().flatten()  # 0, D/2, 1, D/2 + 1, ...
        self.layers = [self._layer(layer) for layer in inner.layers]
        self.last = _norm(inner.norm)
        self.used = used
        self.next_R = mask_R_L.sum(-1)
        places = torch.arange(used + limit, device=device)[None]
        cos, sin = inner.rotary_emb(inner.embed_tokens.weight, places)
        half = self.width // 2
        self.turns = torch.complex(cos[0, :, :half].float(), sin[0, :, :half].float())
        bias = torch.zeros(rows, used + limit, device=device)
        bias[:, :used].masked_fill_(mask_R_L == 0, float("-inf"))
        self.bias = bias if bool((mask_R_L == 0).any()) else None
        shape = (len(self.layers), 2, rows, self.kv, used + limit, self.width)
        self.cache = torch.empty(shape, device=device)
        for i, layer in enumerate(cache.layers):
            self.cache[i, 0, ..., :used, :] = layer.keys[..., self.pairs]
            self.cache[i, 1, ..., :used, :] = layer.values

    def _layer(self, layer: Any) -> dict[str, Any]:
        a, m = layer.self_attn, layer.mlp
        ahead, floor = _norm(layer.input_layernorm)
        behind, _ = _norm(layer.post_attention_layernorm)

        def turned(weight: Tensor) -> Tensor:
            return weight.view(-1, self.width, *weight.shape[1:])[:, self.pairs].flatten(0, 1)

        normed = hasattr(a, "q_norm")
        scale = 1.0 if normed else a.scaling
        joined = torch.cat([turned(a.q_proj.weight) * scale, turned(a.k_proj.weight), a.v_proj.weight]) * ahead
        bias = None
        if a.q_proj.bias is not None:
            bias = torch.cat([turned(a.q_proj.bias) * scale, turned(a.k_proj.bias), a.v_proj.bias])
        norms = None
        if normed:
            queries = (a.q_norm.weight[self.pairs] * a.scaling).expand(self.heads, -1)
            norms = torch.cat([queries, a.k_norm.weight[self.pairs].expand(self.kv, -1)])
        gates = None if m.gate_proj.bias is None else torch.cat([m.gate_proj.bias, m.up_proj.bias])
        return {
            "eps": layer.input_layernorm.variance_epsilon,
            "floor": floor,
            "qkv": (joined, bias),
            "norms": norms,
            "out": (a.o_proj.weight, a.o_proj.bias),
            "gate": (torch.cat([m.gate_proj.weight, m.up_proj.weight]) * behind, gates),
            "down": (m.down_proj.weight, m.down_proj.bias),
            "act": m.act_fn,
        }

    def step(self, tokens_R: Tensor) -> Tensor:
        rows, at = len(tokens_R), self.used
        self.used += 1
        turn = self.turns[self.next_R][:, None]
        self.next_R = self.next_R + 1
        bias = None
        if self.bias is not None:
            bias = self.bias[:, : self.used].repeat_interleave(self.kv, 0)[:, None]
        x = self.inner.embed_tokens(tokens_R)
        both = self.heads + self.kv
        for layer, (keys, values) in zip(self.layers, self.cache, strict=True):
            qkv = nn.functional.linear(_unit(x, layer["floor"]), *layer["qkv"])
            qkv = qkv.view(rows, both + self.kv, self.width)
            qk = qkv[:, :both]
            if layer["norms"] is not None:
                qk = torch.rms_norm(qk, (self.width,), None, layer["eps"]) * layer["norms"]
            paired = torch.view_as_complex(qk.unflatten(-1, (-1, 2))) * turn
            qk = torch.view_as_real(paired).flatten(-2)
            keys[:, :, at] = qk[:, self.heads :]
            values[:, :, at] = qkv[:, both:]
            q = qk[:, : self.heads].reshape(rows * self.kv, -1, self.width)
            k, v = keys.flatten(0, 1)[:, : self.used], values.flatten(0, 1)[:, : self.used]
            scores = torch.bmm(q, k.mT) if bias is None else torch.baddbmm(bias, q, k.mT)
            mixed = torch.bmm(scores.softmax(-1), v).view(rows, -1)
            x = x + nn.functional.linear(mixed, *layer["out"])
            gate, up = nn.functional.linear(_unit(x, layer["floor"]), *layer["gate"]).chunk(2, -1)
            x = x + nn.functional.linear(layer["act"](gate).mul_(up), *layer["down"])
        weight, floor = self.last
        return self.project(_unit(x, floor) * weight)

    def keep(self, rows: Tensor) -> None:
        kept = torch.empty(*self.cache.shape[:2], len(rows), *self.cache.shape[3:], device=self.cache.device)
        kept[..., : self.used, :] = self.cache[:, :, rows, :, : self.used]
        self.cache, self.next_R = kept, self.next_R[rows]
        self.bias = None if self.bias is None else self.bias[rows]


def _norm(module: Any) -> tuple[Tensor, Tensor]:
    """An RMS norm as a scale behind :func:`_unit`, and the floor of the length: ``sqrt(n)`` moves into the scale."""
    weight = module.weight
    root = len(weight) ** 0.5
    return weight * root, weight.new_tensor(module.variance_epsilon**0.5 * root)


def _unit(x: Tensor, floor: Tensor) -> Tensor:
    """``x`` at length one, in three calls; ``floor`` is what the epsilon of a norm adds to the length, squared."""
    return x / torch.hypot(torch.linalg.vector_norm(x, dim=-1, keepdim=True), floor)


def decoder(model: PreTrainedModel, cache: Any, mask_R_L: Tensor, limit: int) -> Decoder:
    """The quickest decoder that is true to ``model``, which has just read the prompts into ``cache``."""
    if lean(model):
        from selfreward.policy.architecture import head_of

        project = head_of(model)
        assert project is not None
        return LeanDecoder(model, project, cache, mask_R_L, limit)
    return CacheDecoder(model, cache, mask_R_L, limit)


def lean(model: PreTrainedModel) -> bool:
    """Whether :class:`LeanDecoder` may stand in for ``model``.

    Asked of the model's parts and of its logits once; whether the parts are still plain (nobody has wrapped a
    projection in an adapter or hung a hook on a layer), every time.
    """
    known = getattr(model, "_selfreward_lean", None)
    if known is None:
        known = _llama_shaped(model) and _plain(model) and _reproduces(model)
        object.__setattr__(model, "_selfreward_lean", known)
    return bool(known) and _plain(model)


def _plain(model: PreTrainedModel) -> bool:
    inner: Any = model.base_model
    parts: list[nn.Module] = [model, inner, inner.norm, inner.embed_tokens]
    for layer in inner.layers:
        projections = [layer.get_submodule(name) for name in _PROJECTIONS]
        if any(type(p) is not nn.Linear for p in projections):
            return False
        parts += [layer, *layer.children(), *projections]
    return not any(p._forward_hooks or p._forward_pre_hooks for p in parts)


_PROJECTIONS = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj",
                "mlp.up_proj", "mlp.down_proj")  # fmt: skip
_NORMS = ("input_layernorm", "post_attention_layernorm", "self_attn.q_norm", "self_attn.k_norm")
_PARAMETERS = {f"{p}.{w}" for p in _PROJECTIONS for w in ("weight", "bias")} | {f"{n}.weight" for n in _NORMS}


def _llama_shaped(model: PreTrainedModel) -> bool:
    """Layers of exactly the parts that the lean decoder computes, plain and unwrapped."""
    inner: Any = model.base_model
    if model.config.model_type not in LEAN_FAMILIES:
        return False
    if model.dtype != torch.float32 or not full_attention(model) or model.num_parameters() >= LEAN_BELOW:
        return False
    if not all(hasattr(inner, part) for part in ("layers", "norm", "embed_tokens", "rotary_emb")):
        return False
    if getattr(inner.rotary_emb, "rope_type", "default") in ("dynamic", "longrope"):  # these look at the length
        return False
    for layer in inner.layers:
        names = {name for name, _ in layer.named_parameters()}
        if not names <= _PARAMETERS or not {f"{p}.weight" for p in (*_PROJECTIONS, *_NORMS[:2])} <= names:
            return False
        if not hasattr(layer.self_attn, "scaling") or not hasattr(layer.input_layernorm, "variance_epsilon"):
            return False
    return True


def _reproduces(model: PreTrainedModel) -> bool:
    """Two prompts of unequal length, three steps, one row dropped: the logits of both decoders."""
    from transformers import DynamicCache

    from selfreward.policy.architecture import head_of

    project = head_of(model)
    if project is None:
        return False
    device = model.device
    vocabulary = model.config.get_text_config().vocab_size
    ids = (torch.tensor([[0, 0, 3], [4, 5, 6]], device=device) * 7 + 1) % vocabulary
    mask = torch.tensor([[0, 0, 1], [1, 1, 1]], device=device)
    both: list[Decoder] = []
    with torch.inference_mode():
        try:
            for kind in ("lean", "cache"):
                cache = DynamicCache(config=model.config)
                model(
                    input_ids=ids,
                    attention_mask=mask,
                    position_ids=(mask.cumsum(-1) - 1).clamp(min=0),
                    past_key_values=cache,
                    use_cache=True,
                )
                both.append(
                    LeanDecoder(model, project, cache, mask, 3)
                    if kind == "lean"
                    else CacheDecoder(model, cache, mask, 3)
                )
            for step in range(3):
                tokens = torch.tensor([step + 2, step + 5], device=device)[-len(mask) :] % vocabulary
                mine, theirs = (d.step(tokens) for d in both)
                if not torch.allclose(mine, theirs, atol=1e-4, rtol=1e-3):
                    return False
                if step == 1:
                    mask = mask[1:]
                    for d in both:
                        d.keep(torch.tensor([1], device=device))
        except (RuntimeError, ValueError, TypeError, AttributeError, IndexError):
            return False
    return True
