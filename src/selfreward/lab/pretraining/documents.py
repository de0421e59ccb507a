"""What a small model reads: documents as texts with weights in the loss, in the order in which they are read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from selfreward.errors import DataError
from selfreward.lab.pretraining.tokenizers import EOS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Part = tuple[str, float | None]
"""A piece of text, and the weight of each of its tokens in the loss; None is the weight of prompts."""
Document = tuple[str, str] | Sequence[Part] | tuple[Sequence[int], Sequence[float]]
"""A (prompt, completion) pair of texts; parts, which are taken as they are; or token ids with a weight each."""
P = TypeVar("P")


def curriculum(
    problems: Iterable[P], n: int, lesson: int, first: Callable[[P], Document], then: Callable[[P], Document]
) -> list[Document]:
    """``n`` documents, one on each problem: the first ``lesson`` of them by ``first``, the others by ``then``.

    In mixed text from the first day the skill of a base appears late, for some seeds never; a lesson brings it early.
    """
    return [(first if i < lesson else then)(problem) for i, problem in enumerate(islice(problems, n))]


def conversation(turns: Iterable[tuple[str, str, float]], told: float = 0.05) -> list[Part]:
    """A document of several turns, in which every answer is ended.

    Args:
        turns: what is said, what the model answers, and the weight of the answer.
        told: weight of what is said.
    """
    return [part for said, answer, weight in turns for part in ((said, told), (answer + EOS, weight))]


def encode(
    documents: Iterable[Document], tokenizer: PreTrainedTokenizerFast, prompt_weight: float
) -> tuple[list[Tensor], list[Tensor]]:
    """Token ids (long ``[T]``) and loss weights (float ``[T]``) of each document.

    Every piece of text is encoded on its own, so that no token spans the border between a prompt, which is all that
    there is at sampling time, and its completion. A completion is ended, and its tokens weigh 1.

    Raises:
        DataError: if a document of token ids has another number of weights.
    """
    documents = list(documents)
    prompts = _ids((d[0] for d in documents if _is_pair(d)), tokenizer, add_special_tokens=True)
    others = _ids((text for d in documents for text in _texts(d)), tokenizer, add_special_tokens=False)
    tokens, weights = [], []
    for document in documents:
        ids, weight = _weighted(document, prompts, others, int(tokenizer.eos_token_id), prompt_weight)  # type: ignore[arg-type]
        tokens.append(torch.tensor(ids, dtype=torch.long))
        weights.append(torch.tensor(weight))
    return tokens, weights


def _weighted(
    document: Any, prompts: dict[str, list[int]], others: dict[str, list[int]], end: int, prompt_weight: float
) -> tuple[list[int], list[float]]:
    if _is_pair(document):
        head, tail = prompts[document[0]], [*others[document[1]], end]
        return head + tail, [prompt_weight] * len(head) + [1.0] * len(tail)
    if _is_parts(document):
        rows = [(others[text], prompt_weight if weight is None else weight) for text, weight in document]
        return [i for ids, _ in rows for i in ids], [float(w) for ids, w in rows for _ in ids]
    ids, weight = list(document[0]), [float(w) for w in document[1]]
    if len(ids) != len(weight):
        raise DataError(f"A document has {len(ids)} tokens but {len(weight)} loss weights.")
    return ids, weight


def _is_pair(document: Any) -> bool:
    return isinstance(document[0], str)


def _is_parts(document: Any) -> bool:
    return isinstance(document[0], tuple) and isinstance(document[0][0], str)


def _texts(document: Any) -> Iterator[str]:
    if _is_pair(document):
        yield document[1]
    elif _is_parts(document):
        yield from (text for text, _ in document)


def _ids(texts: Iterable[Any], tokenizer: PreTrainedTokenizerFast, add_special_tokens: bool) -> dict[str, list[int]]:
    """Token ids by text. Corpora repeat themselves, so every text is encoded once."""
    distinct = list(dict.fromkeys(texts))
    found = tokenizer(distinct, add_special_tokens=add_special_tokens)["input_ids"] if distinct else []
    return dict(zip(distinct, found, strict=True))  # type: ignore[arg-type]
