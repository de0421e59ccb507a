"""Training small language models from scratch, and how they are saved.

A model is trained on procedural text until a labelled *gate* passes: the skills of models this small appear in a
sudden transition whose time varies several-fold between seeds, so a fixed number of updates is either wasteful or
too few. Labels are used here and only here: what comes after is the business of the recipes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from selfreward.errors import ConfigError, DataError, UserError, nearest
from selfreward.lab.pretraining.documents import Document, encode
from selfreward.runtime.files import whole_folder

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

Gate = Callable[["PreTrainedModel"], tuple[bool, dict[str, float]]]
"""Looks at a model in evaluation mode: (good enough?, what was measured)."""
OnStep = Callable[[int, dict[str, float]], None]
"""Told of every update: its number, from 1, and what is known of it."""


@dataclass(frozen=True)
class PretrainSettings:
    """How to pre-train.

    Attributes:
        updates: optimiser steps; with a gate, the most that are taken.
        batch: documents per update.
        batch_tokens: if set, documents per update are instead as many as fit into this number of
            tokens, padding included.
        pool: batches that are cut from one pool sorted by length. 1 keeps batches mixed; more saves
            padding, but batches then come in random order, so that a curriculum is lost, and tokens of short
            documents weigh more than those of long ones.
        shuffle: a new random order in every epoch; without it the documents come as they are given,
            which makes a curriculum possible.
        lr, warmup, betas, weight_decay, clip: AdamW with linear warm-up and gradient-norm clipping.
            Without a gate the rate falls along a cosine to 0 at ``updates``.
        gate_every: updates between two looks of the gate.
        cooldown: with a gate the rate stays up until the gate passes, then falls along a cosine to 0
            over this many updates.
        prompt_weight: loss weight of prompt tokens of text pairs; completion tokens weigh 1.
        label_smoothing: of the training loss.
        bf16: autocast to bfloat16 (pays on CPUs from about 4 M parameters).
        weights: number format of the saved weights, float16 or float32.
        device: where to train.
        seed: of the initial weights and the order of the documents.
    """

    updates: int = 4500
    batch: int = 32
    batch_tokens: int | None = None
    pool: int = 1
    shuffle: bool = True
    lr: float = 4e-3
    warmup: int = 50
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.0
    clip: float = 1.0
    gate_every: int = 250
    cooldown: int = 1000
    prompt_weight: float = 0.1
    label_smoothing: float = 0.0
    bf16: bool = False
    weights: str = "float16"
    device: str = "cpu"
    seed: int = 0

    def __post_init__(self) -> None:
        positive = ("updates", "batch", "pool", "lr", "clip", "gate_every", "cooldown")
        for name in positive:
            if not getattr(self, name) > 0:
                raise ConfigError(f"Pre-training: {name} is {getattr(self, name)}; it must be above 0.")
        if self.batch_tokens is not None and self.batch_tokens <= 0:
            raise ConfigError(f"Pre-training: batch_tokens is {self.batch_tokens}; it must be above 0, or unset.")
        if not 0 <= self.label_smoothing < 1 or not 0 <= self.prompt_weight <= 1:
            raise ConfigError("Pre-training: label_smoothing must lie in [0, 1), prompt_weight in [0, 1].")
        if self.weights not in ("float16", "float32"):
            raise ConfigError(f"Pre-training: weights is {self.weights!r}; it must be 'float16' or 'float32'.")

    def updated(self, **changes: Any) -> PretrainSettings:
        """A copy with some values changed.

        Raises:
            ConfigError: for an unknown name (with the nearest valid one) or a value of the wrong type.
        """
        names = {f.name for f in fields(self)}
        for name, value in changes.items():
            if name not in names:
                raise ConfigError(f"Pre-training has no setting {name!r}.{nearest(name, names)}")
            now = getattr(self, name)
            wanted: Any = int if name == "batch_tokens" else type(now)
            if wanted is float and isinstance(value, int) and not isinstance(value, bool):
                changes[name] = value = float(value)
            if wanted is tuple and isinstance(value, list):
                changes[name] = value = tuple(value)
            if type(value) is not wanted and not (name == "batch_tokens" and value is None):
                raise ConfigError(f"Pre-training: {name} is {value!r}; it must be of type {wanted.__name__}.")
        return replace(self, **changes)

    def rate(self, update: int, falls_from: int, falls_to: int) -> float:
        """Learning rate of ``update`` (from 1): up over the warm-up, level, cosine to 0 at ``falls_to``."""
        if update <= self.warmup:
            return self.lr * update / self.warmup
        done = (update - falls_from) / max(1, falls_to - falls_from)
        return self.lr * 0.5 * (1 + math.cos(math.pi * min(1.0, max(0.0, done))))


@dataclass
class Pretrained:
    """What :func:`fit` made. ``passed`` is the gate's verdict on the final weights, None without a gate."""

    folder: Path
    model: PreTrainedModel
    updates: int
    loss: float
    passed: bool | None = None
    metrics: dict[str, float] = field(default_factory=dict)


def pretrain(
    documents: Sequence[Document],
    tokenizer: PreTrainedTokenizerFast,
    model_config: PreTrainedConfig,
    settings: PretrainSettings,
    out: str | Path,
    on_step: OnStep | None = None,
    gate: Gate | None = None,
) -> Pretrained:
    """Train a causal language model from random weights and save it as a Hugging Face folder.

    The result depends on the arguments alone (on one machine and thread count), and the global
    random state of torch is left as it was.

    Args:
        model_config: any configuration that ``AutoModelForCausalLM.from_config`` takes, for example
            from :func:`llama_config`.
        out: the folder to write; an existing model there is replaced only when the new one is whole.
        on_step, gate: as for :func:`fit`.

    Raises:
        ConfigError: if ``out`` holds something else than a model.
        DataError: if there are no documents or one is longer than the model's context.
    """
    from transformers import AutoModelForCausalLM

    folder = free_folder(Path(out))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = AutoModelForCausalLM.from_config(model_config).float().to(settings.device)
    return fit(model, tokenizer, documents, settings, folder, on_step, gate)


def fit(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    documents: Sequence[Document],
    settings: PretrainSettings,
    folder: Path,
    on_step: OnStep | None = None,
    gate: Gate | None = None,
) -> Pretrained:
    """Train ``model`` on ``documents`` by the next-token loss, and save it to ``folder``.

    Args:
        on_step: called with the update and ``{"loss", "lr"}``, and after a look of the gate also its
            metrics.
        gate: looked at every ``settings.gate_every`` updates until it passes, and once at the end.

    Raises:
        DataError: if there are no documents or one is longer than the model's context.
    """
    tokens, weights = encode(documents, tokenizer, settings.prompt_weight)
    _check_lengths([len(t) for t in tokens], model)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=settings.lr, betas=settings.betas, weight_decay=settings.weight_decay)
    stream = batches([len(t) for t in tokens], settings, torch.Generator().manual_seed(settings.seed))
    last = settings.updates
    falls_from = settings.warmup if gate is None else max(settings.warmup, last - settings.cooldown)
    passed: bool | None = None if gate is None else False
    metrics: dict[str, float] = {}
    update, loss = 0, math.nan
    model.train()
    while update < last:
        update += 1
        rows = next(stream)
        for group in optimiser.param_groups:
            group["lr"] = rate = settings.rate(update, falls_from, last)
        ids_B_T = pad_right([tokens[i] for i in rows], int(tokenizer.pad_token_id or 0))
        loss = _step(model, optimiser, ids_B_T, pad_right([weights[i] for i in rows], 0.0), settings)
        record = {"loss": loss, "lr": rate}
        look = gate is not None and not passed and update % settings.gate_every == 0
        if gate is not None and (look or update == last):
            passed, metrics = _look(gate, model)
            record |= metrics
            if look and passed and update < falls_from:
                falls_from, last = update, update + settings.cooldown
        if on_step is not None:
            on_step(update, record)
    model.eval()
    save_base(model, tokenizer, folder, settings.weights)
    return Pretrained(folder, model, update, loss, passed, metrics)


def _check_lengths(lengths: Sequence[int], model: PreTrainedModel) -> None:
    longest = max(lengths, default=0)
    context = getattr(model.config, "max_position_embeddings", longest)
    if longest < 2 or longest > context:
        raise DataError(f"The longest of {len(lengths)} documents has {longest} tokens; it must have 2 to {context}.")


def _step(
    model: PreTrainedModel,
    optimiser: torch.optim.Optimizer,
    ids_B_T: Tensor,
    weight_B_T: Tensor,
    settings: PretrainSettings,
) -> float:
    """One optimiser step; the loss before it."""
    device = torch.device(settings.device)
    ids_B_T, weight_B_T = ids_B_T.to(device), weight_B_T.to(device)
    # Padding comes after every real token, so causal attention alone keeps it out of sight.
    with torch.autocast(device.type, torch.bfloat16, enabled=settings.bf16):
        logits = model(input_ids=ids_B_T, use_cache=False).logits
    loss = weighted_cross_entropy(logits.float(), ids_B_T, weight_B_T, settings.label_smoothing)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_([p for g in optimiser.param_groups for p in g["params"]], settings.clip)
    optimiser.step()
    return loss.detach().item()


def _look(gate: Gate, model: PreTrainedModel) -> tuple[bool, dict[str, float]]:
    model.eval()
    with torch.no_grad():
        verdict = gate(model)
    model.train()
    return verdict


def weighted_cross_entropy(logits_B_T_V: Tensor, ids_B_T: Tensor, weight_B_T: Tensor, smoothing: float) -> Tensor:
    """Scalar: mean next-token loss with one weight per predicted token (position 0 is never predicted)."""
    nll = F.cross_entropy(
        logits_B_T_V[:, :-1].flatten(0, 1), ids_B_T[:, 1:].flatten(), reduction="none", label_smoothing=smoothing
    )
    weight = weight_B_T[:, 1:].flatten()
    return (nll * weight).sum() / weight.sum()


def batches(lengths: Sequence[int], settings: PretrainSettings, generator: torch.Generator) -> Iterator[list[int]]:
    """Endless batches of document indices; every document comes once per epoch."""
    size = torch.tensor(lengths)
    span = settings.batch * settings.pool
    while True:
        order = torch.randperm(len(size), generator=generator) if settings.shuffle else torch.arange(len(size))
        cut: list[list[int]] = []
        for start in range(0, len(order), span):
            pool = order[start : start + span]
            if settings.pool > 1:
                pool = pool[size[pool].argsort(stable=True)]
            cut += _cut(pool.tolist(), lengths, settings)
        mixed = torch.randperm(len(cut), generator=generator).tolist() if settings.pool > 1 else range(len(cut))
        yield from (cut[i] for i in mixed)


def _cut(pool: Sequence[int], lengths: Sequence[int], settings: PretrainSettings) -> list[list[int]]:
    cut: list[list[int]] = [[]]
    for i in pool:
        if settings.batch_tokens is None:
            full = len(cut[-1]) >= settings.batch
        else:
            longest = max([lengths[i], *(lengths[j] for j in cut[-1])])
            full = bool(cut[-1]) and longest * (len(cut[-1]) + 1) > settings.batch_tokens
        if full:
            cut.append([])
        cut[-1].append(i)
    return [c for c in cut if c]


def pad_right(rows: Sequence[Tensor], value: float) -> Tensor:
    """``[B, T]`` from rows ``[T_i]``."""
    return torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_value=value)


# ---- saving --------------------------------------------------------------------------------------


def save_base(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path, weights: str) -> None:
    """Write ``folder`` so that the Auto classes load it; half-precision files load as float32."""
    import copy

    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        with whole_folder(folder, durable=False) as part:
            stored = copy.deepcopy(model).cpu().to(getattr(torch, weights))
            stored.generation_config.eos_token_id = tokenizer.eos_token_id
            stored.generation_config.pad_token_id = tokenizer.pad_token_id
            stored.save_pretrained(part)
            tokenizer.save_pretrained(part)
            # The numbers were trained in float32; half precision is only how they travel.
            stored.config.dtype = torch.float32
            stored.config.save_pretrained(part)
    except OSError as error:
        raise UserError(f"Cannot write the model to {folder}: {error}") from error


def free_folder(out: Path) -> Path:
    """``out``, if a model may be written there.

    Raises:
        ConfigError: if it is a file, or a folder with other files than a model.
    """
    if out.is_file():
        raise ConfigError(f"{out} is a file; the model is written to a folder.")
    if out.is_dir() and any(out.iterdir()) and not (out / "config.json").is_file():
        raise ConfigError(f"Folder {out} holds other files than a model; choose an empty or new one.")
    return out


def llama_config(
    tokenizer: PreTrainedTokenizerFast,
    *,
    width: int = 64,
    layers: int = 2,
    heads: int = 4,
    ff: int = 160,
    positions: int = 256,
    **more: Any,
) -> PreTrainedConfig:
    """A small Llama with tied embeddings for this tokenizer; ``more`` are further fields of ``LlamaConfig``."""
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        intermediate_size=ff,
        max_position_embeddings=positions,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        **more,
    )
