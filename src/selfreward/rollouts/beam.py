"""Beam search: the likeliest whole completion that a bounded search finds, by the model's own library."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch

from selfreward.errors import RecipeError
from selfreward.policy.architecture import causal_model
from selfreward.policy.policy import Policy
from selfreward.types import Group, Prompt, Segment, Trajectory

# Prompts decoded at once; each costs ``width`` sequences.
BATCH = 64


@torch.no_grad()
def beam_search(
    policy: Policy,
    prompts: Sequence[Prompt],
    width: int,
    max_new_tokens: int,
    *,
    length_penalty: float = 1.0,
    role: str = "solver",
) -> list[Group]:
    """One completion per prompt: the best of ``width`` beams by ``log p / length ** length_penalty``.

    Prompts of equal length are decoded together, so that nothing is padded. Width 1 is greedy decoding.
    """
    if width < 1:
        raise RecipeError(f"The beam width is {width}; it must be at least 1.")
    heads = [policy.encode(p) for p in prompts]
    by_length: dict[int, list[int]] = defaultdict(list)
    for i, head in enumerate(heads):
        by_length[len(head)].append(i)
    ends, groups = set(policy.end_tokens), {}
    with policy.own_weights():
        for same in by_length.values():
            for at in range(0, len(same), BATCH):
                chosen = same[at : at + BATCH]
                ids = torch.tensor([heads[i] for i in chosen], device=policy.device)
                written = causal_model(policy.model).generate(  # type: ignore[operator]
                    input_ids=ids,
                    attention_mask=torch.ones_like(ids),
                    num_beams=width,
                    do_sample=False,
                    max_new_tokens=max_new_tokens,
                    length_penalty=length_penalty,
                    early_stopping=False,
                    pad_token_id=policy.pad_token,
                    eos_token_id=policy.end_tokens,
                )
                for i, tokens in zip(chosen, written[:, ids.shape[1] :].tolist(), strict=True):
                    stop = next((n for n, token in enumerate(tokens) if token in ends), None)
                    kept = torch.tensor(tokens[: len(tokens) if stop is None else stop + 1], dtype=torch.long)
                    text = policy.decode(kept if stop is None else kept[:-1])
                    answer = Segment(role, kept, text, trainable=True, finished=stop is not None)
                    before = Segment("prompt", torch.tensor(heads[i], dtype=torch.long))
                    groups[i] = Group(f"{prompts[i].id}/beam", prompts[i], [Trajectory(prompts[i], [before, answer])])
                    policy.counts.add("generated", role, width * len(kept))
    return [groups[i] for i in range(len(prompts))]
