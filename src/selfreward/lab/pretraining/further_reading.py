"""Further reading: a base that was trained before learns new habits from other text, in seconds instead of minutes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from selfreward.lab.pretraining.pretrain import OnStep, Pretrained, PretrainSettings, fit

if TYPE_CHECKING:
    from selfreward.lab.pretraining.documents import Document


def read_further(
    start: str,
    documents: Sequence[Document],
    settings: PretrainSettings,
    out: Path,
    on_step: OnStep | None = None,
    added: Mapping[str, str] | None = None,
) -> Pretrained:
    """Go on training the embedded base ``start`` on other ``documents`` and save the result to ``out``.

    Args:
        settings: as for pre-training; the rate rises, then falls along a cosine to 0 at ``updates``.
        added: new special tokens of the vocabulary; see :func:`add_tokens`.
    """
    from selfreward.policy.loading import load_policy

    policy = load_policy(f"embedded:{start}", device=settings.device)
    tokenizer: Any = policy.tokenizer
    if added:
        add_tokens(policy.model, tokenizer, added)
    return fit(policy.model, tokenizer, documents, settings, out, on_step)  # type: ignore[arg-type]


def add_tokens(model: Any, tokenizer: Any, added: Mapping[str, str]) -> None:
    """Give model and tokenizer new special tokens, each of which starts with the embedding of an old one.

    Args:
        added: for each new token the old one.
    """
    tokenizer.add_special_tokens({"additional_special_tokens": list(added)})
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    table, index = model.get_input_embeddings().weight, tokenizer.get_vocab()
    with torch.no_grad():
        for new, old in added.items():
            table[index[new]] = table[index[old]]
