"""Tree search on trees small enough to be worked by hand."""

from __future__ import annotations

import math

import pytest
import torch

from selfreward.errors import ConfigError, RecipeError
from selfreward.rollouts.tree_search import (
    Node,
    best_first,
    best_leaf,
    descend,
    gate,
    leaves,
    never,
    path,
    reach_targets,
    running_mean,
    running_sum,
    search,
    sibling_pairs,
    softmax,
    ucb,
    uct,
    value_targets,
    visit_weighted,
    walk,
)


def grown(value=0.0, visits=0, children=()):
    node = Node(value=value, visits=visits)
    for i, child in enumerate(children):
        child.parent, child.state = node, i
        node.children.append(child)
    return node


def tree():
    """The example of value_targets: root - a - (a1 correct, a2 wrong), root - b - (b1 wrong)."""
    root = Node("")
    a, b = root.add("a"), root.add("b")
    return root, {"a": a, "b": b, "a1": a.add("a1", True), "a2": a.add("a2", True), "b1": b.add("b1", True)}


def test_process_labels_of_a_tree():
    root, at = tree()
    found = dict(value_targets(root, lambda leaf: leaf is at["a1"]))
    assert found == {at["a"]: 0.5, at["a1"]: 1.0, at["a2"]: 0.25, at["b"]: 0.0, at["b1"]: 0.0}
    # An open leaf has no label, and a path of three to the truth rises by thirds.
    at["b"].add("b2").add("b3", True)
    found = dict(value_targets(root, lambda leaf: leaf.state == "b3"))
    assert [round(found[n], 6) for n in path(at["b"].children[1].children[0])[1:]] == [0.333333, 0.666667, 1.0]
    # b1 takes the distance of b, which is 3: 1/3 - (2/3)/3. The whole branch of a is dead: 0 - 1/4.
    assert found[at["b1"]] == pytest.approx(1 / 9) and found[at["a"]] == found[at["a1"]] == 0
    root.add("open")
    assert len(dict(value_targets(root, lambda leaf: leaf.state == "b3"))) == len(found)
    assert value_targets(root, lambda leaf: False) == []


def test_the_nearest_of_several_correct_leaves_counts():
    root = Node("")
    a = root.add("a")
    near, far = a.add("near", True), a.add("far").add("far end", True)
    found = dict(value_targets(root, lambda leaf: True))
    # M of a is 2 by the near leaf; the other path goes on from there with M 2 and 1.
    assert found[a] == 0.5 and found[near] == 1 and found[far.parent] == 0.75 and found[far] == 1


def test_reach_labels_every_finished_path():
    root, at = tree()
    hard = dict(reach_targets(root, lambda leaf: leaf is at["a1"]))
    assert hard == {at["a"]: 1, at["a1"]: 1, at["a2"]: 0, at["b"]: 0, at["b1"]: 0}
    soft = dict(reach_targets(root, lambda leaf: leaf is at["a1"], soft=True))
    assert soft[at["a"]] == 0.5
    assert set(dict(reach_targets(root, lambda leaf: False)).values()) == {0.0}


def test_uct_by_hand():
    # sqrt(2 ln 4 / 3) = .9614 and sqrt(2 ln 4 / 1) = 1.6651.
    often, seldom, new = grown(0.8, 3), grown(0.3, 1), grown(0.1)
    parent = grown(0.6, 4, [often, seldom, new])
    # With c = .7: .8 + .673 = 1.473, .3 + 1.166 = 1.466, and .1 + 1 for the child without visits.
    assert uct(0.7, 1.0)(parent) is often
    assert uct(0.8, 1.0)(parent) is seldom  # 1.569 and 1.632
    assert uct(0.7, 1.5)(parent) is new
    # Agent Q: .8 + sqrt(ln 4 / 4) = 1.389, .3 + sqrt(ln 4 / 2) = 1.133, .1 + sqrt(ln 4) = 1.277.
    assert ucb(1.0)(parent) is often
    assert ucb(2.0)(parent) is new  # 1.977, 1.965, 2.455
    assert descend(uct(0.0, 0.0))(grown(0, 5, [parent])) is often
    assert math.isclose(math.sqrt(2 * math.log(4) / 3), 0.9614, abs_tol=1e-4)


def test_softmax_draws_in_proportion():
    parent = grown(0, 0, [grown(0.0), grown(math.log(3))])
    rule = softmax(1.0, torch.Generator().manual_seed(0))
    drawn = [rule(parent).state for _ in range(2000)]
    assert 0.72 < sum(drawn) / 2000 < 0.78
    with pytest.raises(ConfigError, match="temperature"):
        softmax(0, torch.Generator())


def test_best_first_looks_at_the_whole_tree():
    deep = grown(0.9)
    root = grown(0, 0, [grown(0.2, 0, [deep, grown(0.1)]), grown(0.5)])
    assert best_first()(root) is deep
    assert best_first(lambda n: n.value - 0.3 * n.depth)(root) is deep  # .3 against .2
    assert best_first(lambda n: n.value - 0.5 * n.depth)(root).value == 0.5  # -.1 against 0
    deep.finished, deep.visits = True, 1
    assert best_first()(root).value == 0.5


def test_three_ways_to_back_up():
    # Visit-weighted: (3 * .8 + 1 * .4) / 4 = .7; the child without visits does not count.
    leaf = grown(0.4)
    parent = grown(0.0, 3, [grown(0.8, 3), leaf, grown(0.9)])
    leaf.visits = 1
    root = grown(0.0, 3, [parent])
    visit_weighted(parent, 123.0)
    assert parent.value == pytest.approx(0.7) and parent.visits == 4 and root.value == pytest.approx(0.7)
    # Running mean: (.5 * 3 + 1) / 4 = .625 at the parent; the leaf had no visit and becomes 1.
    leaf = grown(0.2)
    parent = grown(0.5, 3, [leaf])
    running_mean(leaf, 1.0)
    assert (leaf.value, leaf.visits) == (1.0, 1) and (parent.value, parent.visits) == (0.625, 4)
    leaf = grown()
    parent = grown(0, 0, [leaf])
    for value in (4.0, 1.0):
        running_sum(leaf, value)
    assert parent.note["sum"] == 5 and parent.value == 2.5 and parent.visits == 2


def binary(depth=3):
    """Strings over 0 and 1 of a fixed length; worth the share of ones."""

    def propose(nodes, k):
        asked.append(len(nodes))
        return [[(n.state + c, len(n.state) + 1 == depth) for c in "01"[:k]] for n in nodes]

    asked: list[int] = []
    return propose, lambda nodes: [n.state.count("1") / depth for n in nodes], asked


def test_all_trees_grow_in_one_call_per_round():
    propose, evaluate, asked = binary()
    roots = [Node(""), Node("")]
    found = search(
        roots,
        propose=propose,
        evaluate=evaluate,
        select=best_first(),
        backup=running_mean,
        stop=gate(0.9),
        rounds=10,
        branch=2,
    )
    assert [n.state for n in found] == ["111", "111"] and asked == [2, 2, 2]
    assert [n.state for n in path(found[0])] == ["", "1", "11", "111"] and found[0].depth == 3
    assert best_leaf(roots[0]).state == "111" and best_leaf(Node("")) is None


def test_a_search_that_never_stops_spends_its_rounds_and_merges_twins():
    propose, evaluate, asked = binary(2)
    root, rounds = Node(""), []
    twins = lambda nodes, k: [two * 2 for two in propose(nodes, k)]  # noqa: E731
    # An unvisited child is worth V + 1 by default, so that a bad one may never be looked at; 9 is enough here.
    keep = {"evaluate": evaluate, "select": descend(uct(unvisited=9)), "backup": visit_weighted, "stop": never}
    assert search([root], propose=twins, rounds=40, branch=2, on_round=rounds.append, **keep) == [None]
    assert rounds == list(range(1, 41)) and root.visits == 40
    assert sorted(n.state for n in leaves(root)) == ["00", "01", "10", "11"] and len(list(walk(root))) == 7
    assert sum(asked) == 3  # finished leaves are visited again, but nothing is proposed for them


def test_simulation_is_blended_into_the_best_child():
    propose, evaluate, _ = binary(3)
    root = Node("")
    keep = {"evaluate": evaluate, "select": descend(uct()), "backup": visit_weighted, "stop": never}
    search([root], propose=propose, rounds=1, branch=2, simulate=lambda nodes: [1.0] * len(nodes), **keep)
    zero, one = root.children
    # V("1") = 1/3 at first; half of it and half of 1 is 2/3. Only that child was visited, so the root has its value.
    assert one.value == pytest.approx(2 / 3) and one.visits == 1 and zero.visits == 0
    assert root.value == pytest.approx(2 / 3) and one.prior == pytest.approx(1 / 3)


def test_pairs_of_siblings():
    root = grown(0, 0, [grown(0.9), grown(0.5), grown(0.4)])
    assert [(a.value, b.value) for a, b in sibling_pairs(root, 0.3)] == [(0.9, 0.4), (0.9, 0.5)]
    assert sibling_pairs(root, 0.6) == []


def test_a_leaf_without_proposals_is_finished():
    root = Node("")
    keep = {"select": descend(uct()), "backup": visit_weighted, "stop": never, "evaluate": lambda n: [0.0] * len(n)}
    search([root], propose=lambda nodes, k: [[] for _ in nodes], rounds=2, branch=2, **keep)
    assert root.finished and not root.expanded and root.visits == 2


def test_errors_speak():
    keep = {"select": descend(uct()), "backup": visit_weighted, "stop": never, "branch": 2}
    propose, evaluate, _ = binary()
    with pytest.raises(ConfigError, match="rounds=0"):
        search([Node("")], propose=propose, evaluate=evaluate, rounds=0, **keep)
    with pytest.raises(RecipeError, match="returned 0 lists"):
        search([Node("")], propose=lambda nodes, k: [], evaluate=evaluate, rounds=1, **keep)
    with pytest.raises(RecipeError, match="evaluate was given 2 nodes"):
        search([Node("")], propose=propose, evaluate=lambda nodes: [math.nan, 0.0], rounds=1, **keep)
