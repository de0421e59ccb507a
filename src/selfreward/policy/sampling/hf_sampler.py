"""The sampler of last resort: the model's own ``generate``, prompt by prompt."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from selfreward.policy.architecture import CANNOT, alike
from selfreward.policy.sampling.params import Completion, Sampler, SamplingParams
from selfreward.policy.scoring.forward import score_tokens
from selfreward.runtime.seeding import stream_seed

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class HFSampler(Sampler):
    """``model.generate``, for architectures whose cache cannot be repeated or thinned out row by row.

    Log-probabilities and statistics come from a second forward of the same model.
    """

    @torch.inference_mode()
    def __call__(
        self,
        model: PreTrainedModel,
        prompts: Sequence[Sequence[int]],
        n: Sequence[int],
        params: SamplingParams,
        *,
        keys: Sequence[str],
        seed: int,
        end_tokens: Sequence[int],
        pad_token: int,
    ) -> list[list[Completion]]:
        device = next(model.parameters()).device
        result: list[list[Completion]] = []
        for prompt, count, key in zip(prompts, n, keys, strict=True):
            if not count:
                result.append([])
                continue
            ids = torch.tensor([list(prompt)], dtype=torch.long, device=device)
            cuda = [device] if device.type == "cuda" else []
            with torch.random.fork_rng(devices=cuda), own_settings_off(model):
                torch.manual_seed(stream_seed(seed, key))
                # top_k and top_p are passed explicitly: generate() otherwise truncates to 50 tokens.
                sampling = (
                    {"do_sample": False}
                    if params.temperature == 0
                    else {
                        "do_sample": True,
                        "temperature": params.temperature,
                        "top_k": params.top_k,
                        "top_p": params.top_p,
                    }
                )
                out = model.generate(  # type: ignore[operator]
                    ids,
                    attention_mask=torch.ones_like(ids),
                    num_return_sequences=count if params.temperature > 0 else 1,
                    max_new_tokens=params.max_new_tokens,
                    eos_token_id=list(end_tokens),
                    pad_token_id=pad_token,
                    **sampling,
                )
            out = out[:, len(prompt) :].cpu().expand(count, -1)
            cut = [_until_end(row, end_tokens) for row in out]
            sequences = [torch.cat([ids[0].cpu(), tokens]) for tokens, _ in cut]
            scores = score_tokens(
                model,
                sequences,
                [len(prompt)] * count,
                stats=params.stats,
                temperature=params.temperature or 1.0,
            )
            result.append(
                [
                    Completion(tokens, s["logprob"], finished, {k: s[k] for k in params.stats})
                    for (tokens, finished), s in zip(cut, scores, strict=True)
                ]
            )
        return result


def _until_end(tokens: Tensor, end_tokens: Sequence[int]) -> tuple[Tensor, bool]:
    hits = torch.isin(tokens, torch.tensor(list(end_tokens))).nonzero()
    if len(hits):
        return tokens[: int(hits[0]) + 1].clone(), True
    return tokens.clone(), False


@contextlib.contextmanager
def own_settings_off(model: PreTrainedModel) -> Iterator[None]:
    """``generate`` obeys nothing but its arguments: not the repetition penalty, say, that came with the model.

    A ``GenerationConfig`` as an argument would not do: what it leaves open is filled in from the model's.
    """
    from transformers import GenerationConfig

    kept = model.generation_config
    model.generation_config = GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = kept


def generates(model: PreTrainedModel) -> bool:
    """Whether ``generate`` draws from what a forward of the whole sequence gives: four greedy tokens."""
    device, vocabulary = next(model.parameters()).device, model.config.get_text_config().vocab_size
    ids = torch.tensor([[k % vocabulary for k in (22, 29, 36)]], device=device)
    with torch.no_grad(), own_settings_off(model):
        try:
            out = model.generate(  # type: ignore[operator]
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=4,
                do_sample=False,
                pad_token_id=0,
                output_logits=True,
                return_dict_in_generate=True,
            )
            whole = model(input_ids=out.sequences[:, :-1], use_cache=False).logits
        except CANNOT:
            return False
    return alike(torch.stack(out.logits, 1), whole[:, -4:].to(out.logits[0].device))
