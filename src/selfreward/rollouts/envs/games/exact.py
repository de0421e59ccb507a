"""The exact behaviour policy of a language model in a small game, without sampling.

A reply is thinking and an action, so the chance of an action is a sum over thoughts; and what a role
wrote at an earlier turn stands in its transcript, so a later decision is averaged over those transcripts
by how likely each is. For a role with perfect recall the averaged table has the same pay-offs against
every opponent as the model itself (Kuhn 1953), and its best response can be computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from selfreward.rollouts.envs.games.base import ROLES, Script, State, other

if TYPE_CHECKING:
    from selfreward.policy.policy import Policy


@dataclass
class Behaviour:
    """What :func:`behaviour` found.

    Attributes:
        table: information state -> legal action -> probability, renormalised over legal replies.
        illegal: probability, per information state, of every reply that is none of the listed legal ones.
        thinking: probability, per information state, that a legal reply has thinking in it.
    """

    table: dict[str, dict[str, float]] = field(default_factory=dict)
    illegal: dict[str, float] = field(default_factory=dict)
    thinking: dict[str, float] = field(default_factory=dict)


def behaviour(policy: Policy, script: Script, temperature: float = 1.0) -> Behaviour:
    """Enumerate the information states of both roles and read the model's probabilities there.

    Costs one scored reply per transcript and listed reply; Kuhn poker has about 200.
    """
    found = Behaviour()
    for role in ROLES:
        # Every decision: the positions that the role cannot tell apart, and its transcripts with their weights.
        level: dict[str, list[State]] = {}
        contexts: dict[str, dict[tuple[int, ...], float]] = {}
        for state, _ in script.game.starts():
            opening = tuple(policy.encode_text(script.opening(state, role)))
            for decision, heard in _decisions(script, state, role):
                view = decision.view(role)
                level.setdefault(view, []).append(decision)
                contexts.setdefault(view, {})[opening + _ids(policy, heard)] = 1.0
        while level:
            level, contexts = _one_level(policy, script, role, level, contexts, found, temperature)
    return found


def _one_level(
    policy: Policy,
    script: Script,
    role: int,
    level: dict[str, list[State]],
    contexts: dict[str, dict[tuple[int, ...], float]],
    found: Behaviour,
    temperature: float,
) -> tuple[dict[str, list[State]], dict[str, dict[tuple[int, ...], float]]]:
    """Read the decisions of one level into ``found``; returns the next level of the same role."""
    deeper: dict[str, list[State]] = {}
    later: dict[str, dict[tuple[int, ...], float]] = {}
    views = list(level)
    heads = [(view, head) for view in views for head in contexts[view]]
    replies = {view: script.replies(level[view][0]) for view in views}
    end = tuple(policy.end_tokens[:1])
    tails = {text: _ids(policy, text) + end for view in views for text in replies[view]}
    scored = policy.score_targets(
        [list(head) for _, head in heads],
        [[list(tails[text]) for text in replies[view]] for view, _ in heads],
        temperature=temperature,
        role="exact",
    )
    for view in views:
        actions = level[view][0].actions()
        mass = dict.fromkeys(actions, 0.0)
        thinking = total = 0.0
        written: dict[str, dict[tuple[int, ...], float]] = {a: {} for a in actions}
        for (where, head), rows in zip(heads, scored, strict=True):
            if where != view:
                continue
            weight = contexts[view][head]
            total += weight
            for text, row in zip(replies[view], rows, strict=True):
                action = script.read(text)
                if action not in mass:
                    continue
                chance = weight * float(row["logprob"].sum().exp())
                mass[action] += chance
                thinking += chance * bool(script.thinking(text))
                written[action][head + tails[text]] = chance
        legal = sum(mass.values())
        # Where nothing legal has any mass, no action is better founded than another.
        found.table[view] = {a: m / legal if legal > 0 else 1 / len(mass) for a, m in mass.items()}
        found.illegal[view] = 1 - legal / total if total > 0 else 1.0
        found.thinking[view] = thinking / legal if legal > 0 else 0.0
        for state in level[view]:
            for action in actions:
                for decision, heard in _decisions(script, state.after(action), role):
                    below = decision.view(role)
                    deeper.setdefault(below, []).append(decision)
                    extended = {head + _ids(policy, heard): p for head, p in written[action].items()}
                    later.setdefault(below, {}).update(extended)
    return deeper, later


def _decisions(script: Script, state: State, role: int) -> list[tuple[State, Sequence[str]]]:
    """The next positions in which ``role`` moves, whatever the other does, with what it reads on the way."""
    found: list[tuple[State, Sequence[str]]] = []
    todo: list[tuple[State, tuple[str, ...]]] = [(state, ())]
    while todo:
        now, heard = todo.pop()
        if now.mover == role:
            found.append((now, heard))
        elif now.mover == other(role):
            todo += [(now.after(a), (*heard, script.heard(a, now, role))) for a in now.actions()]
    return found


def _ids(policy: Policy, texts: str | Sequence[str]) -> tuple[int, ...]:
    parts = [texts] if isinstance(texts, str) else texts
    return tuple(int(i) for t in parts for i in policy.tokenizer(t, add_special_tokens=False)["input_ids"])
