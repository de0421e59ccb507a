"""Models for the benchmark: Llama configurations with a character tokenizer, at random or taught to add."""

from __future__ import annotations

import random
from pathlib import Path

import torch

SIZES = {"0.2": (64, 4), "0.8": (128, 4), "3": (256, 4), "10": (384, 6)}
CHARACTERS = "0123456789+-*/=?:.,'\"()[] abcdefghijklmnopqrstuvwxyzQ"
SPECIAL = ["<pad>", "<end>", "<unk>"]
END_OF_PROMPT = len(SPECIAL) + CHARACTERS.index("=")  # every question ends with =


def tokenizer(extra: int = 0):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = [*SPECIAL, *dict.fromkeys(CHARACTERS), *(f"<{i}>" for i in range(extra))]
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    from tokenizers import decoders

    inner.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", eos_token="<end>", unk_token="<unk>")


def make(folder: Path, size: str, start: str, vocabulary: int = 0, positions: int = 1024) -> Path:
    """A model folder, made once."""
    if (folder / "config.json").exists():
        return folder
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    torch.set_num_threads(1)
    hidden, layers = SIZES[size]
    tok = tokenizer(max(0, vocabulary - 60))
    config = LlamaConfig(
        vocab_size=len(tok),
        hidden_size=hidden,
        intermediate_size=8 * hidden // 3 // 8 * 8,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 32,
        num_key_value_heads=hidden // 32,
        max_position_embeddings=positions,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tok.eos_token_id,
        pad_token_id=tok.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    if start == "warm":
        teach(model, tok)
    model.save_pretrained(folder)
    tok.save_pretrained(folder)
    return folder


def question(rng: random.Random, length: int = 0) -> tuple[str, int]:
    """An addition, after filler where a long prompt is wanted."""
    a, b = rng.randrange(20), rng.randrange(20)
    text = f"{a}+{b}="
    filler = "".join(rng.choices("abcdefghij ", k=max(0, length - len(text))))
    return filler + text, a + b


def teach(model, tok, batch: int = 64, enough: float = 0.5, most: int = 3000) -> None:
    """Additions with dots of random length before the answer, so that lengths vary, until half are right."""
    rng = random.Random(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3 if model.config.hidden_size < 256 else 5e-4)
    for update in range(1, most + 1):
        rows = []
        for _ in range(batch):
            text, total = question(rng)
            rows.append(tok(text + "." * rng.choice((0, 2, 4, 8, 16)) + str(total))["input_ids"] + [tok.eos_token_id])
        width = max(map(len, rows))
        ids = torch.tensor([r + [tok.pad_token_id] * (width - len(r)) for r in rows])
        mask = torch.tensor([[1] * len(r) + [0] * (width - len(r)) for r in rows])
        labels = ids.masked_fill(mask == 0, -100)
        model(input_ids=ids, attention_mask=mask, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if update % 25 == 0 and right(model, tok, random.Random(update)) >= enough:
            return


@torch.no_grad()
def right(model, tok, rng: random.Random, n: int = 100) -> float:
    """Share of additions that the model samples correctly."""
    asked = [question(rng) for _ in range(n)]
    tok.padding_side = "left"
    batch = tok([text for text, _ in asked], return_tensors="pt", padding=True)
    out = model.generate(
        batch["input_ids"],
        attention_mask=batch["attention_mask"],
        do_sample=True,
        top_k=0,
        max_new_tokens=24,
        pad_token_id=tok.pad_token_id,
    )
    texts = tok.batch_decode(out[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
    return sum(text.strip(". ") == str(total) for text, (_, total) in zip(texts, asked)) / n
