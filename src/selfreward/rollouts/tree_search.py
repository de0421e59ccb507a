"""Tree search by callbacks, for many trees at once, and what a finished tree teaches.

The search knows neither text nor models. Five callbacks make a method of it: ``propose`` children, ``evaluate``
them, ``select`` a leaf, ``backup`` what was found, ``stop`` when a leaf is good enough. Every round selects one
leaf per tree and then calls ``propose`` and ``evaluate`` once for *all* trees, so that a hundred questions cost
as many model calls as one.

Sources: ReST-MCTS* (Zhang et al. 2024, arXiv 2406.03816, and its released ``MCTS/``), Agent Q (arXiv 2408.07199),
SWE-Search (arXiv 2410.20285).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from selfreward.errors import ConfigError, RecipeError

if TYPE_CHECKING:
    from torch import Generator


@dataclass(eq=False)
class Node:
    """A state and what the search knows of it.

    Attributes:
        state: what the callbacks understand (a partial solution, say); two siblings never hold equal ones.
        finished: nothing can follow.
        value: V, from ``evaluate`` at first, then from ``backup``.
        prior: V as ``evaluate`` gave it.
        visits: N, how often a search passed here.
        expanded: whether children were proposed.
    """

    state: Any = None
    parent: Node | None = field(default=None, repr=False)
    finished: bool = False
    value: float = 0.0
    prior: float = 0.0
    visits: int = 0
    expanded: bool = False
    children: list[Node] = field(default_factory=list, repr=False)
    note: dict[str, Any] = field(default_factory=dict)

    @property
    def depth(self) -> int:
        return 0 if self.parent is None else self.parent.depth + 1

    def add(self, state: Any, finished: bool = False) -> Node:
        """The child with this state: the one that is there, or a new one."""
        for child in self.children:
            if child.state == state:
                return child
        child = Node(state, self, finished)
        self.children.append(child)
        return child


Proposal = tuple[Any, bool]  # (state, finished)
Propose = Callable[[Sequence[Node], int], Sequence[Sequence[Proposal]]]
Evaluate = Callable[[Sequence[Node]], Sequence[float]]
Select = Callable[[Node], Node]
Backup = Callable[[Node, float], None]
Stop = Callable[[Node], bool]
ChildRule = Callable[[Node], Node]


# ---- the search ----------------------------------------------------------------------------------


def search(
    roots: Sequence[Node],
    *,
    propose: Propose,
    evaluate: Evaluate,
    select: Select,
    backup: Backup,
    stop: Stop,
    rounds: int,
    branch: int,
    simulate: Evaluate | None = None,
    alpha: float = 0.5,
    on_round: Callable[[int], None] | None = None,
) -> list[Node | None]:
    """Grow all trees for up to ``rounds`` rounds; returns the accepted leaf of each tree, or None.

    A round, for every tree that has not stopped: select a leaf; if ``stop`` accepts it the tree is done;
    otherwise expand it into up to ``branch`` distinct children and evaluate them. With ``simulate`` the best new
    child is looked at further: ``V = (1 - alpha) V + alpha * simulated``, which counts as a visit. Then back up.
    A finished leaf, or one for which nothing is proposed, is backed up as it is.

    Args:
        roots: one per tree; a root that has grown already is grown further.
        propose: children of many leaves at once, as (state, finished); equal ones are merged.
        evaluate: the value of many nodes at once.
        backup: called with the leaf and the value of its best new child (its own where it has none).
        simulate: the value seen when playing on from many nodes at once.
        on_round: called with the number of each finished round, from 1.

    Raises:
        ConfigError: for a number of rounds or children below 1, or ``alpha`` outside [0, 1].
        RecipeError: if a callback returns another number of items than it was given, or a value that is no number.
    """
    if rounds < 1 or branch < 1 or not 0 <= alpha <= 1:
        raise ConfigError(f"rounds={rounds}, branch={branch}, alpha={alpha}: rounds and branch >= 1, 0 <= alpha <= 1.")
    accepted: list[Node | None] = [None] * len(roots)
    for number in range(1, rounds + 1):
        leaves: list[Node] = []
        for i, root in enumerate(roots):
            if accepted[i] is not None:
                continue
            leaf = select(root)
            if leaf.parent is not None and stop(leaf):
                accepted[i] = leaf
            else:
                leaves.append(leaf)
        if not leaves:
            break
        expand([leaf for leaf in leaves if not leaf.finished and not leaf.expanded], propose, evaluate, branch)
        best = [max(leaf.children, key=lambda c: c.value) if leaf.children else leaf for leaf in leaves]
        if simulate is not None:
            playable = [
                child for child, leaf in zip(best, leaves, strict=True) if child is not leaf and not child.finished
            ]
            for child, value in zip(playable, _checked("simulate", simulate, playable), strict=True):
                child.value = (1 - alpha) * child.value + alpha * value
            for child, leaf in zip(best, leaves, strict=True):
                child.visits += child is not leaf
        for leaf, child in zip(leaves, best, strict=True):
            backup(leaf, child.value)
        if on_round is not None:
            on_round(number)
    return accepted


def expand(leaves: Sequence[Node], propose: Propose, evaluate: Evaluate, branch: int) -> list[Node]:
    """Propose and evaluate children of all leaves; returns the new ones. A leaf without proposals is finished."""
    proposed = propose(leaves, branch) if leaves else []
    if len(proposed) != len(leaves):
        raise RecipeError(f"propose was given {len(leaves)} leaves and returned {len(proposed)} lists of proposals.")
    new: list[Node] = []
    for leaf, states in zip(leaves, proposed, strict=True):
        for state, finished in states:
            leaf.add(state, finished)
        leaf.expanded = bool(leaf.children)
        leaf.finished = not leaf.children
        new += leaf.children
    for child, value in zip(new, _checked("evaluate", evaluate, new), strict=True):
        child.value = child.prior = value
    return new


def _checked(name: str, callback: Evaluate, nodes: Sequence[Node]) -> list[float]:
    values = [float(v) for v in callback(nodes)] if nodes else []
    if len(values) != len(nodes) or not all(map(math.isfinite, values)):
        raise RecipeError(f"{name} was given {len(nodes)} nodes and must return as many finite numbers, not {values}.")
    return values


# ---- select --------------------------------------------------------------------------------------


def descend(rule: ChildRule) -> Select:
    """From the root to a leaf, choosing among the children of every expanded node by ``rule``."""

    def select(root: Node) -> Node:
        node = root
        while node.children:
            node = rule(node)
        return node

    return select


def uct(explore: float = 0.7, unvisited: float = 1.0) -> ChildRule:
    """``V + c sqrt(2 ln N_parent / N)``, and ``V + unvisited`` for a child without visits (ReST-MCTS*; first of ties).

    The released code breaks ties at random; here the first child wins, so that a search repeats itself.
    """

    def score(parent: Node, child: Node) -> float:
        if not child.visits:
            return child.value + unvisited
        return child.value + explore * math.sqrt(2 * math.log(max(1, parent.visits)) / child.visits)

    return lambda parent: max(parent.children, key=lambda c: score(parent, c))


def ucb(explore: float = 1.0) -> ChildRule:
    """``V + c sqrt(ln N_parent / (1 + N))`` (Agent Q, arXiv 2408.07199)."""
    return lambda parent: max(
        parent.children,
        key=lambda c: c.value + explore * math.sqrt(math.log(max(1, parent.visits)) / (1 + c.visits)),
    )


def softmax(temperature: float, generator: Generator) -> ChildRule:
    """A child at random, with probability in proportion to ``exp(V / temperature)``."""
    if temperature <= 0:
        raise ConfigError(f"The temperature of a softmax selection is {temperature}; it must be above 0.")

    def rule(parent: Node) -> Node:
        import torch

        chances = torch.softmax(torch.tensor([c.value for c in parent.children]) / temperature, 0)
        return parent.children[int(torch.multinomial(chances, 1, generator=generator))]

    return rule


def best_first(score: Callable[[Node], float] = lambda node: node.value) -> Select:
    """The open leaf of the whole tree with the best ``score`` (a value with bonuses and penalties, say).

    A leaf that is finished is open until it has been visited once, so that it can be accepted and is not
    looked at for ever. Once nothing is open, the best leaf of all.
    """

    def select(root: Node) -> Node:
        found = list(leaves(root))
        return max([n for n in found if not n.finished or not n.visits] or found, key=score)

    return select


# ---- backup --------------------------------------------------------------------------------------


def ancestry(node: Node) -> Iterator[Node]:
    """The node, its parent, and so on to the root."""
    at: Node | None = node
    while at is not None:
        yield at
        at = at.parent


def visit_weighted(leaf: Node, value: float) -> None:
    """On the way up ``N += 1`` and ``V = sum_c N_c V_c / sum_c N_c`` over the visited children (ReST-MCTS*).

    ``value`` is not used: it is in the children already.
    """
    for node in ancestry(leaf):
        node.visits += 1
        weight = sum(c.visits for c in node.children)
        if weight:
            node.value = sum(c.visits * c.value for c in node.children) / weight


def running_mean(leaf: Node, value: float) -> None:
    """On the way up ``V = (V N + value) / (N + 1)``, then ``N += 1`` (Agent Q)."""
    for node in ancestry(leaf):
        node.value = (node.value * node.visits + value) / (node.visits + 1)
        node.visits += 1


def running_sum(leaf: Node, value: float) -> None:
    """On the way up ``N += 1``; ``note["sum"]`` grows by ``value`` and V is its mean per visit (SWE-Search)."""
    for node in ancestry(leaf):
        node.visits += 1
        node.note["sum"] = node.note.get("sum", 0.0) + value
        node.value = node.note["sum"] / node.visits


# ---- stop ----------------------------------------------------------------------------------------


def gate(threshold: float = 0.9, finished: bool = True) -> Stop:
    """Accept a leaf whose value reaches the threshold.

    Args:
        finished: only finished leaves. The released code of ReST-MCTS* accepts partial solutions as well.
    """
    return lambda leaf: leaf.value >= threshold and (leaf.finished or not finished)


def never(leaf: Node) -> bool:
    """Accept nothing: spend the whole budget on the tree (for training data)."""
    return False


# ---- what is in a tree ---------------------------------------------------------------------------


def walk(root: Node) -> Iterator[Node]:
    """All nodes, parents before children."""
    todo = [root]
    while todo:
        node = todo.pop()
        yield node
        todo += reversed(node.children)


def leaves(root: Node) -> Iterator[Node]:
    """The nodes without children."""
    return (n for n in walk(root) if not n.children)


def path(node: Node) -> list[Node]:
    """From the root to ``node``."""
    return list(ancestry(node))[::-1]


def best_leaf(root: Node, finished: bool = True) -> Node | None:
    """The leaf with the highest value, the first of several; None where there is none.

    Args:
        finished: look at finished leaves only.
    """
    found = [n for n in leaves(root) if n.parent is not None and (n.finished or not finished)]
    return max(found, key=lambda n: n.value, default=None)


def sibling_pairs(root: Node, gap: float = 0.0) -> list[tuple[Node, Node]]:
    """(better, worse) children of one parent whose values differ by more than ``gap`` (Agent Q), best pairs first.

    Example: children worth .9, .5 and .4 with gap .3 give (.9, .4) and (.9, .5).
    """
    found = [
        (a, b) for parent in walk(root) for a in parent.children for b in parent.children if a.value - b.value > gap
    ]
    return sorted(found, key=lambda pair: pair[1].value - pair[0].value)


def value_targets(root: Node, correct: Callable[[Node], bool]) -> list[tuple[Node, float]]:
    """Process labels of a tree from the truth of its finished leaves alone (ReST-MCTS*, section 3.2, as released).

    ``s`` is +1 for a node with a correct leaf below it, else -1. ``M`` is the number of nodes from it to the
    nearest correct leaf, itself included (1 at the leaf); below a dead branch it is the M of the nearest ancestor
    that has one. From ``V = 0`` at the root, ``V_k = max(0, V_(k-1) + s (1 - V_(k-1)) / M_k)``. With ``m = M - 1``
    this is the paper's weighted reward. A path to a correct leaf rises to 1 in even steps.

    Returns:
        (node, target) for the nodes on the way to a finished leaf, root excluded; nothing at all for a tree
        without a correct leaf, from which nobody can tell how far the truth is.

    Example: root - a - (a1 correct, a2 wrong), root - b - (b1 wrong). M: a1 1, a 2, root 3. Targets: a 0 + 1/2 =
    .5; a1 .5 + .5/1 = 1; a2 has the M of a, .5 - .5/2 = .25; b has the M of the root, max(0, 0 - 1/3) = 0; b1 0.
    """
    ends = [n for n in leaves(root) if n.finished and n.parent is not None]
    distance: dict[Node, int] = {}
    alive: set[Node] = set()
    verdicts = {leaf: bool(correct(leaf)) for leaf in ends}
    for leaf in (n for n in ends if verdicts[n]):
        for steps, node in enumerate(ancestry(leaf), 1):
            distance[node] = min(steps, distance.get(node, steps))
            alive.add(node)
    for leaf in (n for n in ends if n not in alive):
        branch: list[Node] = []
        for node in ancestry(leaf):
            if node in alive:
                distance |= dict.fromkeys(branch, distance[node])
                break
            branch.append(node)
    targets: dict[Node, float] = {root: 0.0}
    for node in walk(root):
        if node.parent is not None and node in distance:
            above = targets[node.parent]
            sign = 1 if node in alive else -1
            targets[node] = max(0.0, above + sign * (1 - above) / distance[node])
    return [(n, v) for n, v in targets.items() if n is not root]


def reach_targets(root: Node, correct: Callable[[Node], bool], soft: bool = False) -> list[tuple[Node, float]]:
    """Can a correct leaf be reached from here? 1 or 0 per node on the way to a finished leaf, root excluded.

    Args:
        soft: the share of correct ones among the finished leaves below instead (Math-Shepherd, arXiv 2312.08935,
            calls these soft and hard estimation).

    Unlike :func:`value_targets` it labels every tree, also one without a correct leaf.
    """
    below: dict[Node, list[bool]] = {}
    for leaf in leaves(root):
        if leaf.finished and leaf.parent is not None:
            verdict = bool(correct(leaf))
            for node in ancestry(leaf):
                below.setdefault(node, []).append(verdict)
    found = [(n, below[n]) for n in walk(root) if n in below and n is not root]
    return [(n, sum(v) / len(v) if soft else float(any(v))) for n, v in found]
