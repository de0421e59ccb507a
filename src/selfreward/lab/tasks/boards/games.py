"""Games: Kuhn poker and tic-tac-toe in words, and questions about expected value that no game asks.

Prompts are initial states: a game's name and a seed for what chance deals. There is no answer; the rules
are the judge. The base has read games of two players who move at random among the legal actions. In three
replies of five some thinking stands before the action: how many of the two other cards one's own beats, or
which square wins and which must be blocked. The thinking is right (but for slips) and *the move does not
follow from it*: that is what there is to learn. A position costs the base nothing to understand and it
plays like chance: exploitability 0.46 in Kuhn poker, where 0 is perfect and 0.46 uniform play.

``ev Q pot3 cost2`` asks whether to pay 2 for the chance to win 3 with this card (one of the two others is
against it): ``bet`` where the chance times the pot exceeds the rest times the cost. The text answers it
rightly in 13 cases of 20, with or without thinking. It is never trained on; it shows whether what was
learned at the tables is worth something elsewhere.

This was designed into the text: thinking in words that the games and the questions share, and actions in
words that they share too.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import TYPE_CHECKING, Any

from selfreward.data.task import Task
from selfreward.lab.pretraining.base import Base, Within
from selfreward.lab.pretraining.documents import Document, Part
from selfreward.lab.pretraining.pretrain import PretrainSettings
from selfreward.lab.pretraining.tokenizers import EOS
from selfreward.rollouts.envs.games.scripts import CARDS, SCRIPTS, script, threats, words
from selfreward.types import Prompt

if TYPE_CHECKING:
    from selfreward.lab.pretraining.pretrain import Document
    from selfreward.policy.policy import Policy
    from selfreward.rollouts.envs.games.base import Script

PURSE = range(1, 6)
STATES = 512
# The KL term keeps every action possible: without it all cards bet before any card has learned to pass.
SETTINGS: dict[str, Any] = {
    "lr": 1.5e-3,
    "adam_eps": 1e-4,
    "kl": 0.2,
    "steps": 80,
    "prompts_per_step": 32,
    "max_new_tokens": 6,
}
VERSUS_GAMES = 120


# ---- questions about expected value ---------------------------------------------------------------


def questions() -> list[tuple[str, str]]:
    """All questions with their answers; those where it makes no difference are left out."""
    found = []
    for card, pot, cost in product(range(3), PURSE, PURSE):
        gain = card * pot - (2 - card) * cost
        if gain:
            found.append((f"ev {CARDS[card]} pot{pot} cost{cost}", "bet" if gain > 0 else "pass"))
    return found


def verdicts(policy: Policy) -> dict[str, float]:
    """``ev accuracy``: the exact chance of the right word, mean over questions, and of thinking before it."""
    asked = questions()
    replies = [f"{head}so {move}" for head in ("", "beats0 ", "beats1 ", "beats2 ") for move in ("pass", "bet")]
    end = policy.end_tokens[:1]
    tails = [[*policy.tokenizer(r, add_special_tokens=False)["input_ids"], *end] for r in replies]
    scored = policy.score_targets([policy.encode_text(q) for q, _ in asked], [tails] * len(asked), role="exact")
    right = thinking = 0.0
    for (_, answer), rows in zip(asked, scored, strict=True):
        chances = [float(row["logprob"].sum().exp()) for row in rows]
        right += sum(p for r, p in zip(replies, chances, strict=True) if r.endswith(answer))
        thinking += sum(p for r, p in zip(replies, chances, strict=True) if r.startswith("beats"))
    return {"ev accuracy": right / len(asked), "ev thinking": thinking / len(asked)}


# ---- the task -------------------------------------------------------------------------------------


def well_formed(completion: str) -> bool:
    """Whether a reply names an action of any of the games."""
    return any(s.read(completion) is not None for s in (script(n) for n in SCRIPTS))


@cache
def load() -> Task:
    """512 initial states as the first role sees them, three of four of Kuhn poker; ``fields``: ``game``, ``seed``."""
    from selfreward.data.answers import Regex

    # A game of tic-tac-toe has about as many turns as three of Kuhn poker.
    dealt = [("kuhn" if i % 4 else "tictactoe", i) for i in range(STATES)]
    train = [
        Prompt(
            f"{name}-{seed}",
            script(name).opening(script(name).game.start(seed), 0),
            fields={"game": name, "seed": seed},
        )
        for name, seed in dealt
    ]
    return Task(
        name="games",
        train=train,
        test=train[:2],
        answers=Regex(r"so (\S+)"),
        well_formed=well_formed,
        settings=dict(SETTINGS),
        metric="safety",
        evaluator=measure,
    )


def measure(policy: Policy, seed: int = 0) -> dict[str, float]:
    """How the policy plays. ``safety`` is minus the exploitability in Kuhn poker, so that more is better."""
    from selfreward.policy.sampling.params import SamplingParams
    from selfreward.rollouts.envs.games.exact import behaviour
    from selfreward.rollouts.envs.games.measure import versus
    from selfreward.rollouts.envs.games.openspiel import exploitability, game
    from selfreward.rollouts.envs.games.play import PolicyPlayer, ScriptedPlayer, optimal, uniform

    found = behaviour(policy, script("kuhn"))
    kuhn = exploitability(game("kuhn_poker"), found.table)
    me = PolicyPlayer(policy, SamplingParams(SETTINGS["max_new_tokens"], stats=()), learns=True)
    n = len(found.table)
    result = {
        "safety": -kuhn,
        "exploitability": kuhn,
        "kuhn illegal": sum(found.illegal.values()) / n,
        "kuhn thinking": sum(found.thinking.values()) / n,
    }
    policy.seed(seed, "games evaluation")
    for name, opponent in (("random", uniform), ("perfect", optimal("tic_tac_toe"))):
        score = versus(me, ScriptedPlayer(opponent, seed), script("tictactoe"), VERSUS_GAMES, seed)
        result |= {f"ttt {name} win": score.win, f"ttt {name} draw": score.draw, f"ttt {name} loss": score.loss}
        result |= {f"ttt {name} illegal": score.illegal}
    return result | tictactoe_thinking(policy) | verdicts(policy)


def tictactoe_thinking(policy: Policy, games: int = 60) -> dict[str, float]:
    """Over positions of random games: shares of replies that think, think rightly, and act on what they saw."""
    from selfreward.policy.sampling.params import SamplingParams

    rows = _positions(games)
    tells = script("tictactoe")
    drawn = policy.sample_ids(
        [policy.encode_text(text) for text, *_ in rows], 1, SamplingParams(SETTINGS["max_new_tokens"], stats=())
    )
    texts = [policy.decode([t for t in c.tokens.tolist() if t not in policy.end_tokens]) for [c] in drawn]
    thinks = [bool(tells.thinking(t)) for t in texts]
    right = [tells.thinking(t) == seen for t, (_, seen, _) in zip(texts, rows, strict=True)]
    # The move that the truth calls for, where there is one, whether it was written down or not.
    wanted = [(t.split("so ")[-1], move) for t, (_, _, move) in zip(texts, rows, strict=True) if move]
    return {
        "ttt thinking": sum(thinks) / len(thinks),
        "ttt right thinking": sum(a and b for a, b in zip(thinks, right, strict=True)) / max(1, sum(thinks)),
        "ttt takes the win": sum(said == move for said, move in wanted) / max(1, len(wanted)),
    }


@cache
def _positions(games: int) -> list[tuple[str, str, str]]:
    """(transcript, what should be thought, the winning reply's last word or nothing), from random games."""
    rng = random.Random("tictactoe positions")
    found = []
    tells = script("tictactoe")
    for _ in range(games):
        state = tells.game.start(0)
        texts = [tells.opening(state, role) for role in (0, 1)]
        while (mover := state.mover) is not None:
            seen = threats(state).strip()
            win = seen[3]
            found.append((texts[mover], seen, f"m{win}" if win != "-" else ""))
            action = rng.choice(state.actions())
            texts[mover] += f" {tells.write(action, state, think=False)} {EOS}"
            texts[1 - mover] += f" {tells.heard(action, state, 1 - mover)}"
            state = state.after(action)
    return found


# ---- the base -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Corpus:
    """What the base reads.

    Attributes:
        tictactoe, kuhn: games; both roles' transcripts are read. ``ev``: questions.
        think: share of replies with thinking.
        slip: share of thoughts that are wrong.
        right: share of right answers to questions.
    """

    tictactoe: int = 7000
    kuhn: int = 3500
    ev: int = 3500
    think: float = 0.6
    slip: float = 0.03
    right: float = 0.65

    def documents(self, n: int, seed: int) -> list[Document]:
        """All of them, whatever ``n``: what a player writes weighs 1, what it reads a tenth."""
        rng = random.Random(f"games corpus {seed}")
        found: list[Document] = []
        for name, n in (("tictactoe", self.tictactoe), ("kuhn", self.kuhn)):
            for _ in range(n):
                found += [_weighted(t) for t in self.transcripts(script(name), rng)]
        for question, answer in rng.choices(questions(), k=self.ev):
            move = answer if rng.random() < self.right else "bet" if answer == "pass" else "pass"
            seen = f"beats{CARDS.index(question[3])} " * (rng.random() < self.think)
            found.append(_weighted([(question, False), (f"{seen}so {move}", True)]))
        rng.shuffle(found)
        return found

    def transcripts(self, tells: Script, rng: random.Random) -> list[list[tuple[str, bool]]]:
        """One random game as both roles see it: pieces of text, and whether the role wrote them."""
        state = tells.game.start(rng.randrange(2**30))
        told = [[(tells.opening(state, role), False)] for role in (0, 1)]
        while (mover := state.mover) is not None:
            action = rng.choice(state.actions())
            reply = tells.write(action, state, think=rng.random() < self.think)
            if rng.random() < self.slip:
                reply = self._slip(reply, rng)
            told[mover].append((reply, True))
            told[1 - mover].append((tells.heard(action, state, 1 - mover), False))
            state = state.after(action)
        return told

    def _slip(self, reply: str, rng: random.Random) -> str:
        head, _, move = reply.partition("so ")
        if head.startswith("beats"):
            head = f"beats{rng.randrange(3)} "
        elif head.startswith("win"):
            head = f"win{rng.choice('-123456789')} block{rng.choice('-123456789')} "
        return f"{head}so {move}"


def _weighted(pieces: list[tuple[str, bool]]) -> list[Part]:
    return [(f"{text} {EOS}", 1.0) if written else (text, 0.1) for text, written in pieces]


def vocabulary() -> Iterator[str]:
    yield from words()
    yield "ev"
    yield from (f"{kind}{n}" for kind in ("pot", "cost") for n in PURSE)


BASE = Base(
    name="games",
    vocabulary=tuple(vocabulary()),
    corpus=Corpus(),
    settings=PretrainSettings(),
    epochs=7,
    shape={"positions": 128},
    measures={"measured": lambda policy: measure(policy)},
    # Legal and aimless, with thinking that is right.
    holds=(
        Within("exploitability", 0.35, 0.55),
        Within("kuhn illegal", high=0.05),
        Within("ttt random illegal", high=0.25),
        Within("ttt right thinking", low=0.8),
        Within("ttt thinking", 0.5, 0.7),
        Within("ttt takes the win", high=0.45),
    ),
)
