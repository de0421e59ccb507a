"""The page of recipes and blocks is read from the imports."""

from __future__ import annotations

from selfreward.lab.catalogue.blocks_page import blocks_of, blocks_page, code_lines, wirings
from selfreward.recipes.registry import RECIPES

SOURCE = '''"""A recipe.

Of two lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from selfreward.policy.policy import Policy
from selfreward.signals import rules
from selfreward.signals.vote import vote, vote_rewards

if TYPE_CHECKING:
    from selfreward.policy.critic import Critic


def collect(self):
    # why
    from selfreward.losses import NLL

    return self.learn_from(vote([]), NLL)
'''


def test_blocks_are_imports_at_run_time_without_plumbing():
    assert blocks_of(SOURCE) == {
        "losses": ["NLL"],
        "recipes.grpo": ["learn_from"],
        "signals.rules": [],
        "signals.vote": ["vote", "vote_rewards"],
    }
    assert blocks_of("import torch\nfrom selfreward import credit\n") == {"credit": []}


def test_code_lines_leave_out_words():
    assert code_lines(SOURCE) == 10


def test_every_recipe_is_on_the_page():
    found = wirings()
    assert sorted(n for w in found for n in w.recipes) == sorted(RECIPES)
    at = {name: w for w in found for name in w.recipes}
    assert at["vote"].blocks["signals.vote"] == ["vote", "vote_rewards"] and at["vote"].ids == []
    assert at["rest-mcts"].ids == ["049"] and "rollouts.step_tree" in at["rest-mcts"].blocks
    page = blocks_page(found)
    assert all(f"`{name}`" in page for name in RECIPES) and "The median file of a published system has" in page
    assert f"| `rest-mcts` | 049 | {at['rest-mcts'].lines} |" in page
