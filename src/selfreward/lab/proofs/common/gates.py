"""Gates: what a base can do before any training, measured first and put into the evidence."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from selfreward.errors import RecipeError
from selfreward.lab.proofs.rules import Bound, Sign
from selfreward.statistics import Estimate

if TYPE_CHECKING:
    from selfreward.policy.policy import Policy

Gate = Callable[[], dict[str, Any]]
Need = tuple[str, Sign, float]
"""``(name of a measured number, sign, limit)``: ``("teacher gap", ">=", 0.15)``."""


def gate(
    base: str,
    measure: Callable[[Policy], Mapping[str, Any]],
    *,
    needs: Sequence[Need] = (),
    stops: bool = False,
    digits: int | None = None,
) -> Gate:
    """A proof's gate that loads ``base`` on the CPU and measures it.

    Args:
        needs: what the numbers must meet. The record gets ``passed``; with ``stops`` the proof ends instead.
        digits: numbers are recorded to so many places.

    Example: ``gate("embedded:chain-hint", with_and_without_hint, needs=[("teacher gap", ">=", 0.15)], stops=True)``.
    """

    def run() -> dict[str, Any]:
        from selfreward.policy.loading import load_policy

        found = dict(measure(load_policy(base, device="cpu")))
        missed = [need for need in needs if not _meets(found, need)]
        if missed and stops:
            name, sign, limit = missed[0]
            wrong = f"{name} is {found[name]:.3g}, and must be {sign} {limit:g}"
            raise RecipeError(f"{base} cannot show what this proof is about: {wrong}.")
        if digits is not None:
            found = {name: round(value, digits) for name, value in found.items()}
        return found if stops or not needs else {**found, "passed": not missed}

    return run


def _meets(found: Mapping[str, Any], need: Need) -> bool:
    name, sign, limit = need
    return Bound("mean", sign, limit)(Estimate(found[name], found[name], found[name]))
