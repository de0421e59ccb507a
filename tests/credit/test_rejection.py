"""Rejection sets by hand."""

from __future__ import annotations

import pytest
import torch

from selfreward.credit.rejection import likelihood_experience, rejection_set
from selfreward.errors import ConfigError
from selfreward.types import Group, Prompt, Segment, Trajectory


def group(name, *solutions):
    """Trajectories of (text, reward)."""
    prompt = Prompt(name, name)
    found = []
    for text, reward in solutions:
        head = Segment("prompt", torch.tensor([1, 2]))
        tail = Segment("solver", torch.tensor([3] * max(1, len(text))), text, trainable=True)
        found.append(Trajectory(prompt, [head, tail], reward))
    return Group(name, prompt, found)


def texts(found):
    return [[t.completion for t in row] for row in found.kept]


GROUP = group("p", ("a", 0.9), ("a", 0.9), ("b", 0.5), ("c", 0.2))
ABOVE = {"reward": lambda t: t.reward > 0.3}


def test_predicates_then_duplicates_then_the_best_few():
    found = rejection_set([GROUP], ABOVE, cap=2)
    assert texts(found) == [["a", "b"]] and found.lost == {"reward": 1, "duplicate": 1}
    found = rejection_set([GROUP], ABOVE, cap=1)
    assert texts(found) == [["a"]] and found.lost == {"reward": 1, "duplicate": 1, "cap": 1}
    # The released code of B-STaR looks for duplicates last, so that they use up the cap.
    found = rejection_set([GROUP], ABOVE, cap=2, dedupe="after")
    assert texts(found) == [["a"]] and found.lost == {"reward": 1, "cap": 1, "duplicate": 1}
    assert texts(rejection_set([GROUP], ABOVE, dedupe="never")) == [["a", "a", "b"]]


def test_predicates_are_asked_in_order():
    found = rejection_set([GROUP], {"not b": lambda t: t.completion != "b", **ABOVE, "none": lambda t: False})
    assert found.lost == {"not b": 1, "reward": 1, "none": 2} and len(found) == found.solved == 0


def test_the_cap_grows_until_the_target_is_met():
    easy = group("easy", ("a", 1.0), ("b", 0.9), ("c", 0.8), ("d", 0.7))
    hard = group("hard", ("e", 0.6), ("f", 0.1))
    for target, cap, kept in (
        (2, 1, [["a"], ["e"]]),
        (3, 2, [["a", "b"], ["e"]]),
        (99, 4, [["a", "b", "c", "d"], ["e"]]),
    ):
        found = rejection_set([easy, hard], ABOVE, target=target)
        assert (found.cap, texts(found)) == (cap, kept)
    assert rejection_set([easy, hard], ABOVE, target=99, cap=2).cap == 2


def test_the_total_takes_turns():
    easy = group("easy", ("a", 1.0), ("b", 0.9), ("c", 0.8))
    hard = group("hard", ("e", 0.6), ("f", 0.5))
    assert texts(rejection_set([easy, hard], {}, total=3)) == [["a", "b"], ["e"]]
    assert rejection_set([easy, hard], {}, total=1).lost == {"total": 4}


def test_weights_of_the_likelihood():
    found = rejection_set([group("easy", ("aa", 1.0), ("b", 0.9)), group("hard", ("c", 0.6)), group("none")], {})
    rows = likelihood_experience(found).rows
    assert [r.nll.tolist() for r in rows] == [[0, 0, 1, 1], [0, 0, 1], [0, 0, 1]]
    rows = likelihood_experience(found, weight="prompt").rows
    assert [float(r.nll.max()) for r in rows] == [0.5, 0.5, 1.0]
    stats = likelihood_experience(found).stats
    assert stats["rejection/kept"] == 3 and stats["rejection/solved"] == pytest.approx(2 / 3)


def test_a_limit_below_one_is_an_error():
    with pytest.raises(ConfigError, match="cap of a rejection set is 0"):
        rejection_set([GROUP], {}, cap=0)
