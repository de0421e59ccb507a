"""Many games at once: players, matches, and the loop that lets every waiting seat reply in one batch.

A match keeps one transcript per role: what it read as segments of others, what it wrote as segments of
its own. Only the latter carry a loss, so an opponent's words are never learned. A reply that names no
legal action ends the match at once.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import torch

from selfreward.policy.sampling.params import SamplingParams
from selfreward.rollouts.envs.games.base import ROLES, Illegal, Script, State, illegal_returns, legal, other
from selfreward.runtime.seeding import stream_seed
from selfreward.types import Group, Prompt, Segment, Trajectory

if TYPE_CHECKING:
    from selfreward.policy.policy import Policy

Chooser = Callable[[State], Mapping[str, float]]
"""A position to a distribution over its actions."""


@dataclass
class Match:
    """One game between two players.

    Attributes:
        prompt: the initial state as the task deals it.
        key: names the random draws of the match.
        transcripts: per role, the segments that it has read and written.
        illegal: the role whose reply named no legal action.
    """

    prompt: Prompt
    script: Script
    players: tuple[Player, Player]
    key: str
    state: State
    rule: Illegal = "loss"
    transcripts: tuple[list[Segment], list[Segment]] = field(default_factory=lambda: ([], []))
    illegal: int | None = None
    turns: int = 0

    @property
    def mover(self) -> int | None:
        """The role to reply; None when the match is over."""
        return None if self.illegal is not None else self.state.mover

    @property
    def returns(self) -> tuple[float, float]:
        if self.illegal is not None:
            return illegal_returns(self.illegal, self.script.game.stake, self.rule)
        return self.state.returns()

    def seat(self, role: int) -> list[int]:
        """The tokens that ``role`` has before it when it replies."""
        return [int(t) for s in self.transcripts[role] for t in s.tokens]

    def take(self, role: int, reply: Segment) -> None:
        """Play the reply of ``role``: its action if it is legal, the end of the match otherwise."""
        self.transcripts[role].append(reply)
        self.turns += 1
        action = self.script.read(reply.text) if reply.finished else None
        if action is None or not legal(self.state, action):
            self.illegal = role
            return
        there = other(role)
        self.hear(there, self.script.heard(action, self.state, there), "opponent")
        self.state = self.state.after(action)

    def hear(self, role: int, text: str, by: str) -> None:
        tokens = self.players[role].tokens(text, first=not self.transcripts[role])
        self.transcripts[role].append(Segment(by, torch.tensor(tokens, dtype=torch.long), text))

    def trajectory(self, role: int) -> Trajectory | None:
        """The transcript of ``role`` with its pay-off; None where it wrote nothing that can be learned."""
        if not any(s.trainable for s in self.transcripts[role]):
            return None
        own = [s for s in self.transcripts[role] if s.trainable]
        meta = {
            "game": self.script.game.name,
            "role": role,
            "moves": [s.text for s in self.transcripts[role][1:]],
            "illegal": self.illegal == role,
            "thinking": sum(len(self.script.thinking(s.text).split()) for s in own) / len(own),
        }
        return Trajectory(self.prompt, self.transcripts[role], self.returns[role], meta=meta)


class Player(Protocol):
    """Whoever sits at a table."""

    def reply(self, matches: Sequence[Match], roles: Sequence[int]) -> list[Segment]:
        """One reply for each match, in the seat of the given role."""

    def tokens(self, text: str, first: bool) -> list[int]:
        """Token ids of what the player reads; ``first`` for the opening. Empty for one that does not read."""


class PolicyPlayer:
    """A language model. One batch serves all seats, of whichever game.

    Args:
        learns: whether its replies may be trained on.
        role: the name of its segments and its cost account.
    """

    def __init__(self, policy: Policy, params: SamplingParams, *, learns: bool = True, role: str = "player") -> None:
        self.policy, self.params, self.learns, self.role = policy, params, learns, role

    def tokens(self, text: str, first: bool) -> list[int]:
        if first:
            return self.policy.encode_text(text)
        return list(self.policy.tokenizer(text, add_special_tokens=False)["input_ids"])

    def reply(self, matches: Sequence[Match], roles: Sequence[int]) -> list[Segment]:
        contexts = [m.seat(role) for m, role in zip(matches, roles, strict=True)]
        keys = [f"{m.key}/{role}" for m, role in zip(matches, roles, strict=True)]
        drawn = self.policy.sample_ids(contexts, 1, self.params, keys=keys, role=self.role)
        segments = []
        for [completion] in drawn:
            tokens = completion.tokens
            text = self.policy.decode(tokens[:-1] if completion.finished else tokens)
            kept = completion.logprobs, self.learns, completion.finished
            segments.append(Segment(self.role, tokens, text, *kept, stats=completion.stats))
        return segments


class ScriptedPlayer:
    """Draws its actions from given distributions, and writes them as text where a match asks for it.

    Args:
        choose: position to distribution, for example :func:`uniform` or :func:`optimal`.
        voice: a policy in whose tokens the replies are written, so that they can be learned (demonstrations).
        think: whether the written replies have thinking before the action.
    """

    def __init__(self, choose: Chooser, seed: int = 0, voice: Policy | None = None, think: bool = True) -> None:
        self.choose, self.seed, self.voice, self.think = choose, seed, voice, think

    def tokens(self, text: str, first: bool) -> list[int]:
        return PolicyPlayer(self.voice, SamplingParams()).tokens(text, first) if self.voice else []

    def reply(self, matches: Sequence[Match], roles: Sequence[int]) -> list[Segment]:
        segments = []
        for match in matches:
            chances = self.choose(match.state)
            rng = random.Random(stream_seed(self.seed, match.key, match.turns))
            action = rng.choices(list(chances), list(chances.values()))[0]
            text = match.script.write(action, match.state, self.think)
            ids = [*self.tokens(text, first=False), *self.voice.end_tokens[:1]] if self.voice else []
            tokens = torch.tensor(ids, dtype=torch.long)
            segments.append(Segment("expert", tokens, text, trainable=self.voice is not None))
        return segments


def uniform(state: State) -> dict[str, float]:
    """Every legal action alike."""
    actions = state.actions()
    return dict.fromkeys(actions, 1 / len(actions))


def optimal(name: str) -> Chooser:
    """Equilibrium play of an OpenSpiel game (see :func:`selfreward.rollouts.envs.games.openspiel.equilibrium`)."""
    from selfreward.rollouts.envs.games.openspiel import optimal_move

    return lambda state: optimal_move(state, name)  # type: ignore[arg-type]


def table(
    prompt: Prompt, script: Script, players: tuple[Player, Player], key: str, seed: int, rule: Illegal = "loss"
) -> Match:
    """A match that is ready to be played: chance has dealt, both roles have read their openings."""
    match = Match(prompt, script, players, key, script.game.start(seed), rule)
    for role in ROLES:
        match.hear(role, script.opening(match.state, role), "prompt")
    return match


def seatings(
    prompts: Sequence[Prompt], me: Player, opponent: Callable[[str], Player], games: int = 1, rule: Illegal = "loss"
) -> list[Match]:
    """``games`` matches per initial state (the prompts' fields ``game`` and ``seed``), as many from either side.

    Args:
        opponent: by the name of the game, asked once for each. Where that is oneself one match has both sides.
    """
    from selfreward.rollouts.envs.games.scripts import script

    others: dict[str, Player] = {}
    found = []
    for prompt in prompts:
        tells, seed = script(prompt.fields["game"]), int(prompt.fields["seed"])
        name = tells.game.name
        there = others[name] if name in others else others.setdefault(name, opponent(name))
        pairs = [(me, me)] if there is me else [(me, there), (there, me)]
        for g in range(games):
            for side, pair in enumerate(pairs):
                found.append(table(prompt, tells, pair, f"{prompt.id}/{g}/{side}", seed, rule))
    return found


def learnable(matches: Sequence[Match]) -> list[tuple[Match, int, Trajectory]]:
    """(match, role, transcript) for every seat whose words can be learned, with its pay-off as reward."""
    seats = [(m, role, m.trajectory(role)) for m in matches for role in ROLES]
    return [(m, role, t) for m, role, t in seats if t is not None]


def by_position(seats: Sequence[tuple[Match, int, Trajectory]], prompts: Sequence[Prompt]) -> list[Group]:
    """The transcripts of :func:`learnable` as one group per initial state, in the order of ``prompts``."""
    groups = {p.id: Group(f"{p.id}/player", p, []) for p in prompts}
    for match, _, trajectory in seats:
        groups[match.prompt.id].trajectories.append(trajectory)
    return [g for g in groups.values() if len(g)]


def play(matches: Sequence[Match]) -> Sequence[Match]:
    """Play all matches to their ends, in rounds: every player answers for all of its seats at once."""
    while True:
        waiting: dict[int, tuple[Player, list[tuple[Match, int]]]] = {}
        for match in matches:
            role = match.mover
            if role is not None:
                player = match.players[role]
                waiting.setdefault(id(player), (player, []))[1].append((match, role))
        if not waiting:
            return matches
        for player, seats in waiting.values():
            replies = player.reply([m for m, _ in seats], [r for _, r in seats])
            for (match, role), reply in zip(seats, replies, strict=True):
                match.take(role, reply)
