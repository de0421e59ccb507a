"""Tiny random models of several architectures, made in memory."""

from __future__ import annotations

import functools
from pathlib import Path

import torch

from selfreward.lab.pretraining.tokenizers import char_tokenizer
from selfreward.policy.policy import Policy

ALPHABET = "0123456789+-*=# abcdefghijklmnopqrstuvwxyzAB"

SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
}
ARCHITECTURES = {
    "llama": {},
    "llama-untied": {"tie_word_embeddings": False},
    "qwen2": {},
    "qwen3": {},
    "gemma2": {"sliding_window": 8},
    "gemma3_text": {"sliding_window": 8},
    "mistral": {"sliding_window": 8},
    "gpt2": {},
}


@functools.cache
def tokenizer():
    return char_tokenizer(ALPHABET)


def make_model(kind: str = "llama", seed: int = 0):
    from transformers import AutoConfig, AutoModelForCausalLM

    tok = tokenizer()
    extra = ARCHITECTURES[kind]
    name = kind.split("-")[0]
    if name == "gpt2":
        shape = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128}
    else:
        shape = {**SHAPE, "tie_word_embeddings": True, **extra}
    config = AutoConfig.for_model(
        name,
        vocab_size=len(tok),
        pad_token_id=tok.pad_token_id,
        bos_token_id=tok.bos_token_id,
        eos_token_id=tok.eos_token_id,
        **shape,
    )
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config).float()
    with torch.no_grad():
        for parameter in model.parameters():  # far from uniform, so that a wrong position or mask shows
            parameter.mul_(3.0) if parameter.ndim > 1 else None
    return model


def odd_model(name: str, **shape):
    """A random model of any architecture that transformers can configure, with weights that leave no doubt."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    tok = tokenizer()
    ends = {"bos_token_id": tok.bos_token_id, "eos_token_id": tok.eos_token_id, "pad_token_id": tok.pad_token_id}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(name, vocab_size=len(tok), **ends, **shape))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(8.0) if parameter.ndim > 1 else None
    return model.eval()


def make_policy(kind: str = "llama", seed: int = 0, **options) -> Policy:
    return Policy(make_model(kind, seed), tokenizer(), **options)


def save_model(folder: Path, kind: str = "llama", seed: int = 0) -> Path:
    make_policy(kind, seed).save(folder)
    return folder


def save_random(words, folder: Path) -> Path:
    """A random model whose tokens are ``words``, saved into ``folder``."""
    from transformers import AutoModelForCausalLM

    from selfreward.lab.pretraining.pretrain import llama_config
    from selfreward.lab.pretraining.tokenizers import word_tokenizer

    tok = word_tokenizer(words)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(llama_config(tok, width=32, ff=64, positions=160)).float()
    Policy(model, tok).save(folder)
    return folder
