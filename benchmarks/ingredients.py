"""The work that is avoided, each kind able to be put back: what a factor of the benchmark is made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from models import END_OF_PROMPT

from selfreward.losses import PolicyGradient
from selfreward.policy.policy import Policy
from selfreward.policy.sampling import decoding
from selfreward.policy.sampling import torch_sampler as sampling
from selfreward.policy.scoring import forward as scoring
from selfreward.policy.scoring import prefix_trees
from selfreward.training import learner as learning

# What was exchanged: owner, attribute, its plain value, and the one that does the work again.
_swaps: list[tuple[Any, str, Any, Any]] = []


def swap(owner: Any, name: str, value: Any) -> None:
    _swaps.append((owner, name, getattr(owner, name), value))


def put_back(work: bool) -> None:
    """Do the avoided work from now on, or do not."""
    for owner, name, plain, changed in _swaps:
        setattr(owner, name, changed if work else plain)


def no_trees() -> None:
    """Every sequence is scored and trained on its own, padded to the longest."""
    swap(prefix_trees, "takes_trees", lambda model: False)


def no_merging() -> None:
    """Completions that are the same word for word share their prompt and nothing else."""
    inner = prefix_trees.common
    swap(prefix_trees, "common", lambda a, b: b.index(END_OF_PROMPT) + 1 if a == b else inner(a, b))


def no_packing() -> None:
    """Every tree has a row of its own, and batches are cut from sequences in the order in which they come."""

    def in_order(lengths, max_tokens=scoring.MICRO_TOKENS):
        batches: list[list[int]] = []
        for i, length in enumerate(lengths):
            widest = max((lengths[k] for k in batches[-1]), default=0) if batches else 0
            if batches and max(widest, length) * (len(batches[-1]) + 1) <= max_tokens:
                batches[-1].append(i)
            else:
                batches.append([i])
        return batches

    swap(scoring, "micro_batches", in_order)
    swap(learning, "micro_batches", in_order)
    swap(prefix_trees, "first_with_room", lambda free, needed: None)


def no_lean() -> None:
    """The model's own forward takes every decoding step."""
    swap(decoding, "lean", lambda model: False)


def no_compaction() -> None:
    """Finished rows stay in the batch until all have finished."""
    swap(sampling, "COMPACT_BELOW", -1.0)


def no_group_prefill() -> None:
    """The prompt of a group is read once per completion."""
    inner = sampling.TorchSampler._chunk

    def repeated(self, model, prompts, n, *rest):
        return inner(self, model, [p for p, k in zip(prompts, n) for _ in range(k)], [1] * sum(n), *rest)

    swap(sampling.TorchSampler, "_chunk", repeated)


def no_skipping() -> None:
    """Groups without advantage take part in forward and backward."""
    swap(PolicyGradient, "active", lambda self, row: True)


def again(*passes: tuple[str, ...]) -> None:
    """After sampling, one more forward over all completions for each of ``passes``."""
    inner = Policy.sample

    def sample(self, prompts, *rest, **options):
        groups = inner(self, prompts, *rest, **options)
        rows = [t for g in groups for t in g]
        for stats in passes:
            self.score([t.tokens for t in rows], [len(t.tokens) - len(t.last) for t in rows], stats=stats)
        return groups

    swap(Policy, "sample", sample)


def no_statistics_while_sampling() -> None:
    """Old log-probabilities, entropy and self-certainty are taken by a second forward."""
    again(("entropy", "self_certainty"))


def no_common_forward() -> None:
    """Old log-probabilities, entropy and self-certainty have a forward each."""
    again((), ("entropy",), ("self_certainty",))


def no_choice_of_positions() -> None:
    """Logits and their statistics are computed at every position of a sequence, its prompt too."""
    inner = scoring.forward_tokens

    def everywhere(model, tokens, wanted, *rest, **options):
        place = torch.arange(wanted.where.shape[1])
        last = (wanted.where * place).amax(-1, keepdim=True)
        out = inner(model, tokens, replace(wanted, where=(place >= 1) & (place <= last)), *rest, **options)
        return {k: v * wanted.where if v.dim() == 2 else v for k, v in out.items()}

    swap(scoring, "forward_tokens", everywhere)


def no_chunks() -> None:
    """All logits of a micro-batch exist at once."""
    swap(scoring, "CHUNK_ELEMENTS", 2**60)


def no_small_batches() -> None:
    """Micro-batches of a GPU's size."""
    large = scoring.MICRO_TOKENS
    inner = scoring.sharing
    swap(learning, "micro_batches", lambda sizes, max_tokens: scoring.micro_batches(sizes, large))
    swap(scoring, "sharing", lambda model, sequences, max_tokens: inner(model, sequences, large))


INGREDIENTS: dict[str, Callable[[], None]] = {
    "shared prefixes, identical completions once": no_trees,
    "identical completions once": no_merging,
    "packing, sorting by length": no_packing,
    "lean decoding": no_lean,
    "finished rows leave": no_compaction,
    "one prefill per group": no_group_prefill,
    "groups without advantage skipped": no_skipping,
    "statistics while sampling": no_statistics_while_sampling,
    "one forward for all statistics": no_common_forward,
    "logits at completions only": no_choice_of_positions,
    "logits in chunks": no_chunks,
    "small micro-batches": no_small_batches,
}
# The second and the ninth are parts of what stands before them; putting both back would count them twice.
ALL = [n for n in INGREDIENTS if n not in ("identical completions once", "one forward for all statistics")]


def leave_out(names: Sequence[str]) -> None:
    """Put back the work that these ingredients avoid, in this process."""
    for name in names:
        INGREDIENTS[name]()
    put_back(True)
