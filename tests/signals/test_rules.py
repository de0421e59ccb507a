"""Controls that swap parts between prompts: who gets whose part."""

from __future__ import annotations

import pytest

from selfreward.errors import RecipeError
from selfreward.signals.rules import somebody_elses


def test_everybody_gets_the_part_of_the_next_other_one():
    assert somebody_elses(["a", "b", "b", "c"]) == [1, 3, 3, 0]
    assert somebody_elses([]) == []


@pytest.mark.parametrize("owners", [["a"], ["a", "a", "a"]])
def test_a_swap_with_oneself_is_refused(owners):
    with pytest.raises(RecipeError, match=r"judge=swapped needs two different prompts.*Raise prompts_per_step"):
        somebody_elses(owners, "judge=swapped")
