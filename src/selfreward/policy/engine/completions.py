"""One group of completions asked of a server with the OpenAI completions interface."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from selfreward.policy.sampling.params import SamplingParams
from selfreward.runtime.endpoint import Endpoint

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Completions as token ids, each with the server's log-probabilities where it gives them.
Answers = list[tuple[list[int], list[float] | None]]


def drawn_group(
    server: Endpoint,
    prompt: Sequence[int],
    n: int,
    params: SamplingParams,
    seed: int,
    end_tokens: Sequence[int],
) -> Answers | None:
    """A group by token ids, with the server's log-probabilities; None where the server did not give one.

    A greedy group is one completion, repeated.
    """
    copies = n if params.temperature == 0 else 1
    body = {
        "prompt": list(prompt),
        "n": n // copies,
        "max_tokens": params.max_new_tokens,
        "temperature": params.temperature,
        "top_p": params.top_p,
        "top_k": params.top_k,
        "seed": seed,
        "logprobs": 0,
        "return_token_ids": True,
        "stop_token_ids": list(end_tokens),
    }

    def read(answer: Any) -> Answers:
        choices = sorted(answer["choices"], key=lambda c: int(c["index"]))
        if len(choices) != n // copies:
            raise ValueError(f"{len(choices)} completions, {n // copies} were asked for")
        found: Answers = []
        for choice in choices:
            tokens = [int(t) for t in choice["token_ids"]]
            logprobs = [float(v) for v in choice["logprobs"]["token_logprobs"]]
            if not 0 < len(tokens) == len(logprobs) <= params.max_new_tokens:
                raise ValueError(f"{len(tokens)} tokens with {len(logprobs)} log-probabilities")
            if not all(map(math.isfinite, logprobs)):
                raise ValueError("log-probabilities that are not finite")
            found.append((tokens, logprobs))
        return found * copies

    return server.post("/completions", {"model": server.model, **body}, read)


def written_group(
    server: Endpoint,
    tokenizer: PreTrainedTokenizerBase,
    prompt: Sequence[int],
    n: int,
    params: SamplingParams,
    seed: int,
    end_tokens: Sequence[int],
) -> Answers | None:
    """A group by text, without log-probabilities; None where the server did not give one.

    Servers that ignore ``n`` are asked again until the group is whole.
    """
    bos = tokenizer.bos_token_id
    ids = list(prompt[1:]) if bos is not None and len(prompt) > 1 and prompt[0] == bos else list(prompt)
    text = str(tokenizer.decode(ids, skip_special_tokens=False))
    body = {
        "model": server.model,
        "prompt": text,
        "max_tokens": params.max_new_tokens,
        "temperature": params.temperature,
        "top_p": params.top_p,
    }
    if params.top_k:  # not every server knows it; one that does not says so
        body["top_k"] = params.top_k

    def read(answer: Any) -> Answers:
        found: Answers = []
        for choice in answer["choices"]:
            tokens = list(tokenizer(str(choice["text"]), add_special_tokens=False)["input_ids"])
            if choice.get("finish_reason") == "stop" and end_tokens:
                tokens = [*tokens[: params.max_new_tokens - 1], int(end_tokens[0])]
            if tokens:
                found.append((tokens[: params.max_new_tokens], None))
        if not found:
            raise ValueError("no completion with a text")
        return found

    group: Answers = []
    while len(group) < n:
        more = server.post("/completions", {**body, "n": n - len(group), "seed": seed + len(group)}, read)
        if more is None:
            return None
        group += more
    return group[:n]
