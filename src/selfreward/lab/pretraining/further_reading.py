"""Bases that are another base after further reading: new habits on old skills, in seconds instead of minutes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from selfreward.lab.pretraining.pretrain import Pretrained, PretrainSettings, batches, encode, pad_right, save_base
from selfreward.lab.pretraining.pretrain import weighted_cross_entropy as cross_entropy

if TYPE_CHECKING:
    from selfreward.lab.pretraining.pretrain import Document


def read_further(
    base: str,
    documents: Sequence[Document],
    settings: PretrainSettings,
    out: str | Path,
    on_step: Callable[[int, dict[str, float]], None] | None = None,
) -> Pretrained:
    """Go on training the embedded ``base`` on other ``documents`` and save it to ``out``.

    Args:
        settings: as for pre-training; the rate rises, then falls along a cosine to 0 at ``updates``.
    """
    from selfreward.policy.loading import load_policy

    policy = load_policy(f"embedded:{base}", device=settings.device)
    model, tokenizer = policy.model, policy.tokenizer
    tokens, weights = encode(documents, tokenizer, settings.prompt_weight)  # type: ignore[arg-type]
    optimiser = torch.optim.AdamW(
        policy.parameters(), lr=settings.lr, betas=settings.betas, weight_decay=settings.weight_decay
    )
    stream = batches([len(t) for t in tokens], settings, torch.Generator().manual_seed(settings.seed))
    loss = torch.zeros(())
    for update in range(1, settings.updates + 1):
        chosen = next(stream)
        ids = pad_right([tokens[i] for i in chosen], policy.pad_token).to(policy.device)
        weight = pad_right([weights[i] for i in chosen], 0.0).to(policy.device)
        for group in optimiser.param_groups:
            group["lr"] = settings.rate(update, settings.warmup, settings.updates)
        logits = model(input_ids=ids, use_cache=False).logits
        loss = cross_entropy(logits.float(), ids, weight, settings.label_smoothing)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), settings.clip)
        optimiser.step()
        if on_step is not None:
            on_step(update, {"loss": float(loss.detach()), "lr": optimiser.param_groups[0]["lr"]})
    folder = Path(out)
    save_base(model, tokenizer, folder, settings.weights)  # type: ignore[arg-type]
    return Pretrained(folder, model, settings.updates, float(loss.detach()))
