"""Prefs (preferences): four preference games with known solutions; the base plays every answer alike.

Each prompt is a game; a completion is an answer, and only comparisons of two answers exist.

- ``cycle =``: rock, paper and scissors of unequal strength (paper beats rock 95 to 5, scissors beat paper 85 to 15,
  rock beats scissors 90 to 10), and a dud that loses to each of them 90 to 10. No score explains this; the minimax
  winner is a mix of the three.
- ``raters =``: three raters with the orders x y z, y z x and z x y, one of whom is asked at random. The majority goes
  in a circle; the fourth answer is everybody's last.
- ``noisy =``: six answers in a line, best first, but three in ten comparisons come out the wrong way.
- ``halves =``: strings of six letters h and t. A string is good when the majority of its first half equals that of its
  second, and a good one beats another 90 to 10. No letter in no place is good or bad in itself.

Truth: exploitability for the first two (how much more than half the best reply wins), mean quality for the others.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from selfreward.data.answers import Exact
from selfreward.data.task import Task
from selfreward.lab.pretraining.base import Base
from selfreward.lab.pretraining.pretrain import PretrainSettings
from selfreward.types import Prompt

if TYPE_CHECKING:
    from selfreward.policy.policy import Policy

HALF = 3
STRINGS = tuple(" ".join(s) for s in product("ht", repeat=2 * HALF))
GAMES: dict[str, tuple[str, ...]] = {
    "cycle": ("rock", "paper", "scissors", "dud"),
    "raters": ("x", "y", "z", "last"),
    "noisy": tuple(f"n{i}" for i in range(6)),
    "halves": STRINGS,
}
ORDERS = (("x", "y", "z", "last"), ("y", "z", "x", "last"), ("z", "x", "y", "last"))
BEATS = {("paper", "rock"): 0.95, ("scissors", "paper"): 0.85, ("rock", "scissors"): 0.9}
FLIP = 0.3
TOKENS = (*GAMES, *GAMES["cycle"], *GAMES["raters"], *GAMES["noisy"], "h", "t", "=")
SETTINGS: dict[str, Any] = {
    "lr": 1e-2,
    "adam_eps": 1e-1,
    "kl": 0.02,
    "steps": 400,
    "prompts_per_step": 4,
    "group_size": 16,
    "max_new_tokens": 2 * HALF + 1,
    "preference": "selfreward.lab.tasks.writing.prefs:prefer",
}


# ---- the games -----------------------------------------------------------------------------------


def good(text: str) -> bool:
    """Whether the two halves of a string have the same majority."""
    letters = text.split()
    return (letters[:HALF].count("h") > HALF / 2) == (letters[HALF:].count("h") > HALF / 2)


def chance(game: str, first: str, second: str) -> float:
    """The probability that ``first`` is preferred. What is no answer to the game loses to every answer."""
    known = [text in GAMES[game] for text in (first, second)]
    if first == second or not any(known):
        return 0.5
    if not all(known):
        return float(known[0])
    if game == "cycle":
        if "dud" in (first, second):
            return 0.9 if second == "dud" else 0.1
        return BEATS[first, second] if (first, second) in BEATS else 1 - BEATS[second, first]
    if game == "raters":
        return sum(order.index(first) < order.index(second) for order in ORDERS) / len(ORDERS)
    if game == "noisy":
        return 1 - FLIP if GAMES[game].index(first) < GAMES[game].index(second) else FLIP
    return 0.5 + 0.4 * (good(first) - good(second))


def prefer(question: str, pairs: Sequence[tuple[str, str]], rng: random.Random) -> list[float]:
    """Whether the first of each pair is preferred: a drawn 0 or 1 where raters or noise decide, else the chance."""
    game = question.split()[0]
    chances = [chance(game, a, b) for a, b in pairs]
    return [float(rng.random() < p) for p in chances] if game in ("raters", "noisy") else chances


@cache
def wins(game: str) -> Tensor:
    """Float ``[N, N]``: :func:`chance` of every answer against every other."""
    return torch.tensor([[chance(game, a, b) for b in GAMES[game]] for a in GAMES[game]])


def letters(text: str) -> list[float]:
    """A string as a reward model sees it that scores every letter by itself: one number per place and letter."""
    words = text.split()[: 2 * HALF]
    words += [""] * (2 * HALF - len(words))
    return [float(word == letter) for word in words for letter in "ht"] + [float(text == a) for a in TOKENS]


# ---- the task ------------------------------------------------------------------------------------


@cache
def load() -> Task:
    """The same four prompts for training and test: what is learnt is how to play, not what to generalise."""
    prompts = [Prompt(game, f"{game} =") for game in GAMES]
    return Task(
        name="prefs",
        train=prompts,
        test=prompts,
        answers=Exact(),
        well_formed=lambda text: any(text in answers for answers in GAMES.values()),
        settings=dict(SETTINGS),
        metric="unexploited",
        evaluator=evaluate,
    )


def mixes(policy: Policy) -> dict[str, Tensor]:
    """How often the policy gives each answer, ``[N]`` by game: exact probabilities, renormalised over the answers."""
    return {game: policy.choose([f"{game} ="], answers).probs[0] for game, answers in GAMES.items()}


def evaluate(policy: Policy) -> dict[str, Any]:
    """Of the current policy: ``cycle`` and ``raters`` (exploitability), ``noisy`` (mean quality, 1 for the best answer
    and 0 for the worst), ``halves`` (share of good strings), ``unexploited`` (1 minus the mean exploitability), and the
    mix of the first two games, answer by answer (``cycle_rock``)."""
    from selfreward.signals.win_rates import exploitability

    found = mixes(policy)
    cycle, raters = (exploitability(found[game], wins(game)) for game in ("cycle", "raters"))
    quality = torch.linspace(1, 0, len(GAMES["noisy"]))
    return {
        "cycle": cycle,
        "raters": raters,
        "noisy": float(found["noisy"] @ quality),
        "halves": float(found["halves"] @ torch.tensor([float(good(s)) for s in STRINGS])),
        "unexploited": 1 - (cycle + raters) / 2,
        **{
            f"{game}_{answer}": float(p)
            for game in ("cycle", "raters")
            for answer, p in zip(GAMES[game], found[game], strict=True)
        },
        "prompts": len(GAMES),
    }


# ---- the base ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Corpus:
    """Documents: a game and one of its answers, all alike."""

    def documents(self, n: int, seed: int) -> list[tuple[str, str]]:
        rng = random.Random(f"prefs corpus {seed}")
        games = [rng.choice(list(GAMES)) for _ in range(n)]
        return [(f"{game} =", rng.choice(GAMES[game])) for game in games]


BASE = Base(
    name="prefs",
    vocabulary=TOKENS,
    corpus=Corpus(),
    settings=PretrainSettings(updates=600, lr=2e-3),
    shape={"width": 32, "layers": 1, "ff": 64, "positions": 16},
    measures={"measured": evaluate},
)
