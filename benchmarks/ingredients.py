"""The work that is avoided, each kind able to be put back: what a factor of the benchmark is made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence


def no_trees() -> None:
    """Every sequence is scored and trained on its own, padded to the longest."""
    from selfreward import prefixes

    prefixes.takes_trees = lambda model: False


def no_lean() -> None:
    """The model's own forward takes every decoding step."""
    from selfreward import decoding

    decoding.lean = lambda model: False


def no_compaction() -> None:
    """Finished rows stay in the batch until all have finished."""
    from selfreward import sampling

    sampling.COMPACT_BELOW = -1.0


def no_group_prefill() -> None:
    """The prompt of a group is read once per completion."""
    from selfreward.sampling import TorchSampler

    inner = TorchSampler._chunk

    def repeated(self, model, prompts, n, *rest):
        return inner(self, model, [p for p, k in zip(prompts, n) for _ in range(k)], [1] * sum(n), *rest)

    TorchSampler._chunk = repeated


def no_skipping() -> None:
    """Groups without advantage take part in forward and backward."""
    from selfreward.losses import PolicyGradient

    PolicyGradient.active = lambda self, row: True


def no_statistics_while_sampling() -> None:
    """Entropy and self-certainty are taken by a second forward."""
    from selfreward.policy import Policy

    inner = Policy.sample

    def twice(self, prompts, *rest, **options):
        groups = inner(self, prompts, *rest, **options)
        rows = [t for g in groups for t in g]
        self.score(
            [t.tokens for t in rows],
            [len(t.tokens) - len(t.last) for t in rows],
            stats=("entropy", "self_certainty"),
        )
        return groups

    Policy.sample = twice


INGREDIENTS: dict[str, Callable[[], None]] = {
    "shared prefixes and identical completions once": no_trees,
    "lean decoding": no_lean,
    "finished rows leave": no_compaction,
    "one prefill per group": no_group_prefill,
    "groups without advantage skipped": no_skipping,
    "statistics while sampling": no_statistics_while_sampling,
}


def leave_out(names: Sequence[str]) -> None:
    """Put back the work that these ingredients avoid, in this process."""
    for name in names:
        INGREDIENTS[name]()
