"""Solutions as trees of steps: a policy proposes the next step, a value model says what a partial solution is worth.

The callbacks that :mod:`selfreward.rollouts.tree_search` needs for text. Partial solutions are continued through the
policy with their tokens as a forced prefix; one call serves the leaves of all trees. Nothing here asks for the
truth.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

import torch

from selfreward.errors import ConfigError
from selfreward.policy.policy import Policy
from selfreward.policy.reward_model import RewardModel
from selfreward.policy.sampling.params import Completion, SamplingParams
from selfreward.rollouts.tree_search import (
    Node,
    Proposal,
    best_leaf,
    descend,
    gate,
    leaves,
    never,
    search,
    uct,
    visit_weighted,
)
from selfreward.types import Group, Prompt, Segment, Trajectory


@dataclass(frozen=True)
class Partial:
    """A solution up to the end of a step. Equal texts are equal states.

    Attributes:
        head: the prompt's token ids.
        tokens: what the policy wrote, without an end token.
        logprobs: of ``tokens``, as sampled.
        ended: the policy ended the text here.
    """

    prompt: Prompt = field(compare=False)
    head: tuple[int, ...] = field(compare=False)
    text: str = ""
    ended: bool = False
    tokens: tuple[int, ...] = field(default=(), compare=False)
    logprobs: tuple[float, ...] = field(default=(), compare=False)

    @property
    def ids(self) -> torch.Tensor:
        """Long ``[T]``: the prompt and what was written."""
        return torch.tensor(self.head + self.tokens, dtype=torch.long)


class StepWriter:
    """Continues partial solutions step by step.

    Args:
        step: regular expression that matches one step at the start of the rest of a text.
        step_tokens: tokens drawn for a proposal. What lies behind its first step is thrown away, and a draw in
            which no step ends gives no proposal, so this should be the length of a long step.
        params: how to sample; ``max_new_tokens`` bounds a whole solution.
        complete: whether a text is a whole solution, where the policy cannot be waited for to end it (the
            self-critic of ReST-MCTS*). An end token always ends one.
        role: in the token account.

    Raises:
        ConfigError: for a step that is no regular expression, or matches the empty text.
    """

    def __init__(
        self,
        policy: Policy,
        step: str,
        step_tokens: int,
        params: SamplingParams,
        complete: Callable[[str], bool] = lambda text: False,
        *,
        role: str = "search",
    ) -> None:
        try:
            self.step = re.compile(step, re.DOTALL)
        except re.error as error:
            raise ConfigError(f"The step pattern {step!r} is not a regular expression: {error}.") from None
        if self.step.match(""):
            raise ConfigError(f"The step pattern {step!r} matches the empty text, so that a solution never goes on.")
        if step_tokens < 1:
            raise ConfigError(f"step_tokens is {step_tokens}; a step has at least one token.")
        self.policy, self.step_tokens, self.complete, self.role = policy, step_tokens, complete, role
        self.params = replace(params, stats=())

    def roots(self, prompts: Sequence[Prompt]) -> list[Node]:
        """One tree per prompt, with nothing written."""
        return [Node(Partial(p, tuple(self.policy.encode(p)))) for p in prompts]

    def propose(self, nodes: Sequence[Node], k: int) -> list[list[Proposal]]:
        """Up to ``k`` distinct next steps of every node, in one sampling call."""
        drawn = self._draw([n.state for n in nodes], k, self.step_tokens)
        found: list[list[Proposal]] = []
        for node, completions in zip(nodes, drawn, strict=True):
            steps = [self.cut(node.state, c, 1) for c in completions]
            found.append([(s[0], self.finished(s[0])) for s in steps if s])
        return found

    def play(self, nodes: Sequence[Node], steps: int) -> list[list[Partial]]:
        """One continuation of every node by up to ``steps`` steps, as the states along it."""
        drawn = self._draw([n.state for n in nodes], 1, steps * self.step_tokens)
        return [self.cut(n.state, c[0], steps) for n, c in zip(nodes, drawn, strict=True)]

    def ends(self, nodes: Sequence[Node]) -> list[list[Partial]]:
        """One continuation of every node to its end, as the states along it; the trees stay as they are."""
        drawn = self._draw([n.state for n in nodes], 1, self.params.max_new_tokens)
        return [self.cut(n.state, c[0]) for n, c in zip(nodes, drawn, strict=True)]

    def finish(self, nodes: Sequence[Node]) -> None:
        """Write every node on to its end and add what was written below it."""
        todo = [n for n in nodes if not n.finished]
        for node, states in zip(todo, self.ends(todo), strict=True):
            self.insert(node, states)

    def insert(self, node: Node, states: Sequence[Partial]) -> Node:
        """Grow a branch of these successive states below ``node``, sharing what is there; returns its end."""
        for state in states:
            node = node.add(state, self.finished(state))
        return node

    def tree_of(self, group: Group) -> Node:
        """The tree that whole samples of one prompt span: common beginnings are shared. Malformed ends are cut off."""
        root = self.roots([group.prompt])[0]
        for trajectory in group:
            self.insert(root, self.states(root.state, trajectory))
        return root

    def states(self, start: Partial, trajectory: Trajectory) -> list[Partial]:
        """The states that a sampled solution passes; ``start`` is that of its prompt's root."""
        last = trajectory.last
        logprobs = last.logprobs if last.logprobs is not None else torch.zeros(len(last))
        return self.cut(start, Completion(last.tokens, logprobs, last.finished))

    def along(self, groups: Sequence[Group]) -> list[list[list[Partial]]]:
        """The states that every sample of every group passes."""
        roots = self.roots([g.prompt for g in groups])
        return [[self.states(r.state, t) for t in g] for g, r in zip(groups, roots, strict=True)]

    def finished(self, state: Partial) -> bool:
        return state.ended or self.complete(state.text)

    def cut(self, start: Partial, written: Completion, limit: int = 10**9) -> list[Partial]:
        """The states that a continuation of ``start`` passes, up to ``limit`` steps or the first non-step."""
        ids = written.tokens.tolist()
        logprobs = written.logprobs.tolist()
        body = ids[:-1] if written.finished else ids
        texts = [self.policy.decode(body[: i + 1]) for i in range(len(body))]
        whole = texts[-1] if texts else ""
        found: list[Partial] = []
        at, used = 0, 0
        while len(found) < limit and (match := self.step.match(whole, at)):
            at = match.end()
            # The fewest tokens that spell the step; they may carry the start of the next one with them.
            used = next(i for i in range(used, len(texts)) if len(texts[i]) >= at) + 1
            at = len(texts[used - 1])
            ended = written.finished and used == len(body)
            state = replace(
                start,
                text=start.text + whole[:at],
                ended=ended,
                tokens=start.tokens + tuple(body[:used]),
                logprobs=start.logprobs + tuple(logprobs[:used]),
            )
            found.append(state)
            if self.finished(state):
                break
        if not found and written.finished and not body:
            found.append(replace(start, ended=True))
        return found

    def trajectory(self, state: Partial) -> Trajectory:
        """A finished solution as a trajectory, with the end token that a learner must see."""
        ends = self.policy.end_tokens[:1] if self.finished(state) else []
        tokens = torch.tensor([*state.tokens, *ends], dtype=torch.long)
        last = Segment("solver", tokens, state.text, trainable=True, finished=self.finished(state))
        return Trajectory(state.prompt, [Segment("prompt", torch.tensor(state.head, dtype=torch.long)), last])

    def harvest(self, root: Node) -> Group:
        """The finished leaves of a tree as a group; ``reward`` and ``meta["value"]`` are the leaf's value."""
        found = []
        for leaf in (n for n in leaves(root) if n.finished and n.parent is not None):
            found.append(self.trajectory(leaf.state))
            found[-1].reward, found[-1].meta = leaf.value, {"value": leaf.value}
        return Group(f"{root.state.prompt.id}/tree", root.state.prompt, found)

    def _draw(self, states: Sequence[Partial], n: int, tokens: int) -> list[list[Completion]]:
        room = [self.params.max_new_tokens - len(s.tokens) for s in states]
        open_ = [i for i, r in enumerate(room) if r > 0]
        limit = max(1, min(tokens, max((room[i] for i in open_), default=1)))
        drawn = self.policy.sample_ids(
            [states[i].head + states[i].tokens for i in open_],
            n,
            replace(self.params, max_new_tokens=limit),
            keys=[f"{states[i].prompt.id}/{states[i].text}" for i in open_],
            role=self.role,
        )
        nothing = Completion(torch.zeros(0, dtype=torch.long), torch.zeros(0), False)
        result = [[nothing] * n for _ in states]
        for i, completions in zip(open_, drawn, strict=True):
            result[i] = completions
        return result


class StateValues(Protocol):
    """Who says what partial solutions are worth; :class:`ValueReader` does it with a scalar head."""

    def along(self, states: Sequence[Sequence[Partial]]) -> list[list[float]]:
        """Values of the successive states of continuations."""

    def evaluate(self, nodes: Sequence[Node]) -> list[float]:
        """The value of every node's state."""


class ValueReader:
    """What a scalar head thinks of partial solutions: the number at the last token of a step.

    Args:
        model: trained by :meth:`selfreward.policy.reward_model.RewardModel.fit_labels` on prompt and partial solution.
        link: ``clip`` to [0, 1], for a head trained on values; ``sigmoid`` for one trained on yes or no;
            ``raw`` as it is.
        account: whose token account is charged.
        ask: token ids behind a partial solution at whose end the number is read (a value prompt); without them
            it is read at the end of the step itself, and all states of a continuation in one forward.
    """

    def __init__(
        self,
        model: RewardModel,
        link: Literal["clip", "sigmoid", "raw"] = "clip",
        account: Policy | None = None,
        ask: Sequence[int] = (),
    ) -> None:
        self.model, self.link, self.account = model, link, account
        self.ask = torch.tensor(list(ask), dtype=torch.long)

    def along(self, states: Sequence[Sequence[Partial]]) -> list[list[float]]:
        """Values of the successive states of continuations."""
        if len(self.ask):
            sequences = [torch.cat([state.ids, self.ask]) for s in states for state in s]
            if self.account is not None:
                self.account.counts.add("scored", "value", sum(map(len, sequences)))
            numbers = self.model.model.numbers(sequences)
            last = iter(self._linked(torch.tensor([float(n[-1]) for n in numbers])))
            return [[next(last) for _ in s] for s in states]
        sequences = [s[-1].ids for s in states if s]
        if self.account is not None:
            self.account.counts.add("scored", "value", sum(map(len, sequences)))
        read = iter(self.model.model.numbers(sequences))
        return [self._values(next(read), s) if s else [] for s in states]

    def evaluate(self, nodes: Sequence[Node]) -> list[float]:
        return [v for (v,) in self.along([[n.state] for n in nodes])]

    def _values(self, numbers_T: torch.Tensor, states: Sequence[Partial]) -> list[float]:
        return self._linked(numbers_T[[len(s.head) + len(s.tokens) - 1 for s in states]])

    def _linked(self, numbers: torch.Tensor) -> list[float]:
        if self.link == "clip":
            numbers = numbers.clamp(0, 1)
        elif self.link == "sigmoid":
            numbers = numbers.sigmoid()
        return [float(v) for v in numbers]


@dataclass
class StateLabels:
    """Partial solutions with a number each: what a value or process reward model is taught from."""

    ids: list[torch.Tensor] = field(default_factory=list)
    targets: list[float] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.ids)

    def add(self, labelled: Sequence[tuple[Node, float]], ask: Sequence[int] = ()) -> None:
        """Labels of a tree (:func:`selfreward.rollouts.tree_search.value_targets`, say), with the value prompt behind
        them."""
        end = torch.tensor(list(ask), dtype=torch.long)
        self.ids += [torch.cat([node.state.ids, end]) for node, _ in labelled]
        self.targets += [float(value) for _, value in labelled]

    def permuted(self, generator: torch.Generator) -> StateLabels:
        """The same states with each other's numbers: a control without information."""
        order = torch.randperm(len(self), generator=generator).tolist()
        return StateLabels(self.ids, [self.targets[i] for i in order])

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Three tensors, however many states there are."""
        tokens = torch.cat(self.ids) if self.ids else torch.zeros(0)
        lengths = torch.tensor([len(i) for i in self.ids], dtype=torch.int32)
        return {"tokens": tokens.to(torch.int32), "lengths": lengths, "targets": torch.tensor(self.targets)}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        self.ids = list(state["tokens"].long().split(state["lengths"].tolist())) if len(state["lengths"]) else []
        self.targets = state["targets"].tolist()


def value_guided(
    writer: StepWriter,
    reader: StateValues,
    prompts: Sequence[Prompt],
    *,
    rounds: int = 50,
    branch: int = 3,
    explore: float = 0.7,
    unvisited: float = 1.0,
    alpha: float = 0.5,
    roll: int = 3,
    threshold: float | None = 0.9,
    on_round: Callable[[int, list[Node]], None] | None = None,
) -> list[Node]:
    """MCTS* of ReST-MCTS* (arXiv 2406.03816, algorithm 2): the trees of all prompts, grown side by side.

    Args:
        rounds: selections per tree.
        branch: proposals per expansion.
        explore, unvisited: of :func:`selfreward.rollouts.tree_search.uct`.
        alpha, roll: the best new child is played on by ``roll`` steps, and the highest value on the way enters
            its own with weight ``alpha``; 0 steps switch that off.
        threshold: a finished leaf worth as much ends its tree; None spends all rounds (for training data).
        on_round: called with the number of the round and all trees.

    Returns:
        The roots; the accepted leaf of a tree, if there is one, is in its ``note["accepted"]``.
    """
    roots = writer.roots(prompts)

    def simulate(nodes: Sequence[Node]) -> list[float]:
        values = reader.along(writer.play(nodes, roll))
        return [max(v, default=n.value) for n, v in zip(nodes, values, strict=True)]

    accepted = search(
        roots,
        propose=writer.propose,
        evaluate=reader.evaluate,
        select=descend(uct(explore, unvisited)),
        backup=visit_weighted,
        stop=never if threshold is None else gate(threshold),
        rounds=rounds,
        branch=branch,
        simulate=simulate if roll else None,
        alpha=alpha,
        on_round=None if on_round is None else lambda number: on_round(number, roots),
    )
    for root, leaf in zip(roots, accepted, strict=True):
        root.note["accepted"] = leaf
    return roots


def solution(root: Node) -> Node | None:
    """The answer of a searched tree: the accepted leaf, else the finished leaf with the highest value, or None."""
    return root.note.get("accepted") or best_leaf(root)


def written_out(writer: StepWriter, roots: Sequence[Node]) -> list[Partial]:
    """The answer of every searched tree, however far it grew.

    Where no leaf is finished, the open one with the highest value is written on to its end (released code: its
    "summary"), outside of the tree, which can be grown further.
    """
    chosen = [solution(root) or best_leaf(root, finished=False) or root for root in roots]
    short = [node for node in chosen if not node.finished]
    written = iter(writer.ends(short))
    return [node.state if node.finished else [node.state, *next(written)][-1] for node in chosen]
