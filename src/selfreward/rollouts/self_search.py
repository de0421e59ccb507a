"""Self-search: a model that thinks, asks, writes what a search engine would have found, and answers.

One generation is a sequence of blocks: ``<think>`` .. ``</think>``, then ``<search>`` .. ``</search>`` and
``<information>`` .. ``</information>`` as often as needed, at last ``<answer>`` .. ``</answer>``. Here are the
grammar, the rewards and the mask of SSRL (Fan et al. 2025, arXiv 2508.10874), and what happens when a real
retriever writes the information in the model's place.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from selfreward.policy.sampling.params import SamplingParams
from selfreward.types import Group, Prompt, Segment, Trajectory

if TYPE_CHECKING:
    from selfreward.policy.policy import Policy
    from selfreward.policy.sampling.params import Completion
    from selfreward.rollouts.envs.retrieval import Retriever

TAGS = ("think", "search", "information", "answer")
_TAG = re.compile(rf"<(/?)({'|'.join(TAGS)})>")
INFORMATION = re.compile(r"<information>.*?</information>", re.DOTALL)
_SEARCH = re.compile(r"<search>(.*?)</search>", re.DOTALL)
# Which block may follow which; None is the beginning.
_NEXT: dict[str | None, tuple[str, ...]] = {
    None: ("think",),
    "think": ("search", "answer"),
    "search": ("information",),
    "information": ("think", "search", "answer"),
    "answer": (),
}
TEMPLATE = "\n<information> {documents} </information>\n"


# ---- the grammar ----------------------------------------------------------------------------------


class Block(NamedTuple):
    """One block: its tag, its text without outer white space, and where it lies, tags included."""

    tag: str
    text: str
    start: int
    end: int


@dataclass(frozen=True)
class Parsed:
    """The blocks of a text in order; ``error`` says what is wrong with it, empty where nothing is."""

    blocks: tuple[Block, ...]
    error: str = ""

    def texts(self, tag: str) -> list[str]:
        return [b.text for b in self.blocks if b.tag == tag]


def parse(text: str) -> Parsed:
    """Cut a text into blocks and check their order.

    Well formed is: it begins with thinking and ends with an answer; a search is followed by information;
    information stands only after a search; no block is empty or inside another; nothing stands between
    blocks. What was read before the first error is returned with it.
    """
    blocks: list[Block] = []
    place, opened, before = 0, None, None
    for found in _TAG.finditer(text):
        closing, tag = found[1] == "/", found[2]
        if opened is None:
            if stray := text[place : found.start()].strip():
                return Parsed(tuple(blocks), f"{stray!r} stands outside of every block")
            if closing:
                return Parsed(tuple(blocks), f"</{tag}> closes nothing")
            opened = (tag, found.start(), found.end())
        elif closing and tag == opened[0]:
            block = Block(tag, text[opened[2] : found.start()].strip(), opened[1], found.end())
            if tag not in _NEXT[before]:
                where = f"after <{before}>" if before else "at the beginning"
                return Parsed(tuple(blocks), f"<{tag}> must not stand {where}")
            blocks.append(block)
            if not block.text:
                return Parsed(tuple(blocks), f"<{tag}> is empty")
            before, opened = tag, None
        else:
            return Parsed(tuple(blocks), f"<{found[1]}{tag}> stands inside of <{opened[0]}>")
        place = found.end()
    if opened:
        return Parsed(tuple(blocks), f"<{opened[0]}> is never closed")
    if stray := text[place:].strip():
        return Parsed(tuple(blocks), f"{stray!r} stands outside of every block")
    if before != "answer":
        return Parsed(tuple(blocks), "there is no answer at the end")
    return Parsed(tuple(blocks))


def formed(text: str, searches: int = 1) -> bool:
    """Whether a text keeps to the grammar and searches at least so many times."""
    parsed = parse(text)
    return not parsed.error and len(parsed.texts("search")) >= searches


# ---- the mask -------------------------------------------------------------------------------------


def information_mask(policy: Policy, tokens: Tensor) -> Tensor:
    """Float 0/1 ``[T]``: 0 for tokens inside ``<information>`` blocks, tags included, and 1 elsewhere.

    The model wrote them, but as a search engine: no loss touches them (SSRL).
    """
    mask = torch.ones(len(tokens))
    for found in INFORMATION.finditer(policy.decode(tokens)):
        # A token belongs to the block from the first that reaches into it on.
        first = token_at(policy, tokens, found.start() + 1) - 1
        mask[first : token_at(policy, tokens, found.end())] = 0.0
    return mask


def token_at(policy: Policy, tokens: Tensor, length: int) -> int:
    """How many tokens, at least, decode to ``length`` characters or more."""
    return bisect_left(range(len(tokens) + 1), length, key=lambda n: len(policy.decode(tokens[:n])))


# ---- a real retriever -----------------------------------------------------------------------------

When = Callable[[list[float]], bool]
"""Mean entropies of the queries so far, the present one last, to: shall the real retriever be asked?"""


def always(entropies: list[float]) -> bool:
    """Hand every query to the retriever."""
    return True


def rising_entropy(entropies: list[float]) -> bool:
    """Ask for the first query, and later where the query was less certain than the one before (SSRL).

    The public implementation has ``-p log2 p`` of the sampled tokens in place of their entropy.
    """
    return len(entropies) < 2 or entropies[-1] > entropies[-2]


@dataclass
class _Open:
    """A trajectory that is still being written."""

    head: list[int]
    segments: list[Segment]
    entropies: list[float]

    def context(self) -> list[int]:
        return self.head + [int(t) for s in self.segments for t in s.tokens]


def sample_with(
    policy: Policy,
    prompts: Sequence[Prompt],
    retriever: Retriever,
    n: int = 1,
    params: SamplingParams | None = None,
    *,
    k: int = 1,
    searches: int = 4,
    when: When = always,
    template: str = TEMPLATE,
    seed: int | None = None,
) -> list[Group]:
    """Sample, and let ``retriever`` write the information of the first ``searches`` queries.

    What the model would have written after ``</search>`` is thrown away, so the draw of everything else is as
    it would be with a search engine in the loop. Queries that find nothing are left to the model.

    Args:
        n: trajectories per prompt.
        k: documents per query.
        when: which queries are handed to the retriever; the others the model answers itself.
        template: how documents are shown, with the field ``documents``.
        seed: starts a sequence of draws of its own; by default the policy's goes on.

    Returns:
        One group per prompt. Segments have the roles ``prompt``, ``solver`` and ``information``; the last are
        not trainable. ``meta["completion"]`` is the whole text, ``meta["retrieved"]`` what was found.
    """
    params = params or SamplingParams()
    heads = [policy.encode(p) for p in prompts]
    open_ = [_Open(head, [], []) for head in heads for _ in range(n)]
    if seed is not None:
        policy.seed(seed, "sample with a retriever")
    todo = list(range(len(open_)))
    for turn in range(searches + 1):
        drawn = policy.sample_ids([open_[i].context() for i in todo], 1, params, keys=[f"{i}" for i in todo])
        asked: list[tuple[int, str]] = []
        for i, [completion] in zip(todo, drawn, strict=True):
            cut = _cut(policy, completion, open_[i], when) if turn < searches else None
            tokens = completion.tokens if cut is None else completion.tokens[: cut[0]]
            finished = completion.finished if cut is None else True
            text = policy.decode(tokens)
            open_[i].segments.append(
                Segment("solver", tokens, text, completion.logprobs[: len(tokens)], True, finished)
            )
            if cut is not None:
                asked.append((i, cut[1]))
        found = retriever.search([query for _, query in asked], k) if asked else []
        todo = [i for i, _ in asked]
        for (i, _), documents in zip(asked, found, strict=True):
            if documents:
                text = template.format(documents=" ".join(documents))
                ids = policy.tokenizer(text, add_special_tokens=False)["input_ids"]
                open_[i].segments.append(Segment("information", torch.tensor(ids, dtype=torch.long), text.strip()))
    return [
        Group(f"{prompt.id}/retrieved", prompt, [_closed(prompt, one) for one in open_[p * n : (p + 1) * n]])
        for p, prompt in enumerate(prompts)
    ]


def _closed(prompt: Prompt, one: _Open) -> Trajectory:
    head = Segment("prompt", torch.tensor(one.head, dtype=torch.long))
    meta = {
        "completion": " ".join(s.text.strip() for s in one.segments),
        "retrieved": [s.text for s in one.segments if s.role == "information"],
    }
    return Trajectory(prompt, [head, *one.segments], meta=meta)


def _cut(policy: Policy, completion: Completion, one: _Open, when: When) -> tuple[int, str] | None:
    """(tokens to keep, query) at the first query that the retriever shall answer, if any."""
    text = policy.decode(completion.tokens)
    for found in _SEARCH.finditer(text):
        if not found[1].strip():
            continue
        first, last = (token_at(policy, completion.tokens, at) for at in found.span())
        entropy = completion.stats.get("entropy")
        one.entropies.append(float(entropy[first:last].mean()) if entropy is not None and last > first else 0.0)
        if when(one.entropies):
            return last, found[1].strip()
    return None
