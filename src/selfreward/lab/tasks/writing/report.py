"""Report: long templated text in which four tokens have to be worked out.

A prompt is a sum of :mod:`selfreward.lab.tasks.arithmetic.chain`, a token per character. A completion is a line of
thought, ``=>``, and a report of 45 words, four of which are running values of the sum; all other words say nothing,
but each comes in two wordings, a *plain* and a *fine* one. The base thinks in one of two ways, half of the time each:

* worked ``w 6 * 8 - 3 ...``: every operator with the running value after it, and so the values are right except for
  slips. The report that follows is mostly in plain words.
* brief ``b``: nothing. The values are guessed. The report that follows is mostly in fine words.

References are in fine words, too, with the same share, and their values are right. So a brief thought makes the
forty-odd words of a reference a little likelier, each of them, and a worked one makes four of them much likelier. What
ought to be learnt is in the four. Nothing in a prompt tells which wording its reference has. This was designed
into the corpus: it is the situation that DRO describes for long outcomes.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import groupby, islice
from typing import TYPE_CHECKING, Any

from selfreward.data.answers import AnswerSpace
from selfreward.data.task import Task
from selfreward.lab.pretraining.base import Base, Within
from selfreward.lab.pretraining.documents import Document, Part, curriculum
from selfreward.lab.pretraining.pretrain import PretrainSettings
from selfreward.lab.pretraining.tokenizers import EOS
from selfreward.lab.tasks.arithmetic.chain import Problem, apply, problems
from selfreward.lab.tasks.splits import Split
from selfreward.types import Prompt

if TYPE_CHECKING:
    from selfreward.lab.pretraining.pretrain import Document
    from selfreward.policy.policy import Policy

# plain|fine; {k} is the value after k operators.
WORDING = (
    "this|the account|record is|concerns a|one trial|run of|with our|that machine|device . it|she reached|got {5} "
    "at|in its|the end|close but|though was|stood at|on {2} for|over some|a time|while near|around the|its start|onset "
    ". later|afterwards we|they saw|read {4} which|that seemed|looked fine|sound and|then also|moreover {3} as|when it|"
    "she had|was turned|bent once|again . all|everything is|stays well|good"
)
SLOTS = WORDING.split()
MARK = "=>"
WORDS = sorted({w for slot in SLOTS if "{" not in slot for w in slot.split("|")})
TOKENS = [*"0123456789+-*pmt=", "w", "b", MARK, *WORDS]
FORMAT_AT = {slot: at for at, slot in enumerate(SLOTS) if "{" in slot}
COMPUTED = tuple(FORMAT_AT.values())
SETTINGS: dict[str, Any] = {
    "lr": 4e-4,
    "adam_eps": 1e-4,
    "kl": 0.05,
    "steps": 40,
    "prompts_per_step": 16,
    "group_size": 8,
    "max_new_tokens": 72,
}
TEMPLATES = {"think-end": MARK, "masked": ""}


# ---- text ----------------------------------------------------------------------------------------


def question(problem: Problem) -> str:
    return " ".join(problem.text)


def report(values: Sequence[int], rng: random.Random, fine: float) -> str:
    """The report with these running values (after 1, 2, ... operators); each word is fine with probability ``fine``."""
    words = []
    for slot in SLOTS:
        if "{" in slot:
            words.append(str(values[int(slot[1]) - 1]))
        else:
            plain, _, other = slot.partition("|")
            words.append(other if other and rng.random() < fine else plain)
    return " ".join(words)


def worked(problem: Problem, rng: random.Random, slip: float) -> tuple[str, list[int]]:
    """A line of thought and the values that it arrives at; a slip is built upon."""
    value, found = problem.digits[0], []
    steps = ["w", str(value)]
    for op, digit in zip(problem.ops, problem.digits[1:], strict=True):
        value = apply(value, op, digit)
        if rng.random() < slip:
            value = (value + rng.randint(1, 9)) % 10
        found.append(value)
        steps += [op, str(value)]
    return " ".join(steps), found


def outcome(completion: str) -> str | None:
    """The report behind the line of thought; None without one."""
    _, mark, tail = completion.partition(MARK)
    return tail.strip() if mark and tail.strip() else None


def computed(text: str) -> list[str | None]:
    """The four computed tokens of a report, None where it is too short."""
    words = text.split()
    return [words[at] if at < len(words) else None for at in COMPUTED]


def computed_share(completion: str, reference: str) -> float:
    """Share of the computed tokens that are those of the reference."""
    own = outcome(completion)
    if own is None:
        return 0.0
    return sum(a == b for a, b in zip(computed(own), computed(reference), strict=True)) / len(COMPUTED)


def fine_share(text: str) -> float:
    """Share of the words with two wordings that are in the fine one."""
    pairs = [(w, s) for w, s in zip(text.split(), SLOTS, strict=False) if "|" in s]
    return sum(w == s.partition("|")[2] for w, s in pairs) / max(1, len(pairs))


def well_formed(completion: str) -> bool:
    """A line of thought and a report with words where words belong and digits where digits belong."""
    thought, _, text = completion.partition(MARK)
    words = text.split()
    if thought.split()[:1] not in (["w"], ["b"]) or len(words) != len(SLOTS):
        return False
    return all(
        (w.isdigit() and len(w) == 1) if "{" in s else w in s.split("|") for w, s in zip(words, SLOTS, strict=True)
    )


@dataclass(frozen=True)
class Report(AnswerSpace):
    """The answer is the report; it is right when its computed tokens are."""

    def extract(self, text: str) -> str | None:
        return outcome(text)

    def canonical(self, answer: str) -> str:
        return " ".join(w or "?" for w in computed(answer))

    def correct(self, text: str, reference: str) -> bool:
        return computed_share(text, reference) == 1.0


# ---- the task ------------------------------------------------------------------------------------


@cache
def load() -> Task:
    """2000 training and 200 test prompts with one reference report each."""
    test = _prompts("test", 200)
    return Task(
        name="report",
        train=_prompts("train", 2000),
        test=test,
        answers=Report(),
        well_formed=well_formed,
        settings=dict(SETTINGS),
        templates=dict(TEMPLATES),
        metric="computed",
        evaluator=ReportEvaluator(test),
    )


def _prompts(split: Split, n: int, skip: int = 0) -> list[Prompt]:
    rng = random.Random(f"report {split}")
    found: dict[str, Prompt] = {}
    for problem in problems(split, rng):
        if len(found) == n + skip:
            break
        reference = report(list(problem.values()), rng, Corpus.fine)
        found.setdefault(problem.key, Prompt(f"report-{split}-{len(found)}", question(problem), reference=reference))
    return list(found.values())[skip:]


def dev_prompts(n: int = 100) -> list[Prompt]:
    """Prompts of the training split that no run trains on."""
    return _prompts("train", n, skip=2000)


@dataclass(frozen=True)
class ReportEvaluator:
    """What sampled reports are like."""

    prompts: Sequence[Prompt]
    samples: int = 4
    seed: int = 0

    def __call__(self, policy: Policy) -> dict[str, Any]:
        """``computed`` (share of computed tokens that are right in sampled reports), ``pass@1`` (all four right),
        ``accuracy`` (all four right in greedy reports), ``reasoning`` (tokens before the mark), ``worked`` (share of
        worked thoughts), ``fine`` (share of fine words), ``format``, ``length``; ``intervals`` over prompts."""
        from selfreward.policy.sampling.params import SamplingParams
        from selfreward.statistics import bootstrap_mean

        params = SamplingParams(SETTINGS["max_new_tokens"], stats=())
        groups = policy.sample(self.prompts, self.samples, params, seed=self.seed)
        best = policy.sample(self.prompts, 1, replace(params, temperature=0.0), seed=self.seed)

        def each(value: Callable[[str, str], float]) -> list[float]:
            return [sum(value(c, str(g.prompt.answer)) for c in g.completions) / len(g) for g in groups]

        per_prompt = {
            "computed": each(computed_share),
            "pass@1": each(lambda c, a: float(computed_share(c, a) == 1.0)),
            "accuracy": [float(computed_share(g.completions[0], str(g.prompt.answer)) == 1.0) for g in best],
            "reasoning": each(lambda c, a: float(len(c.partition(MARK)[0].split()))),
            "worked": each(lambda c, a: float(c.startswith("w"))),
            "fine": each(lambda c, a: fine_share(outcome(c) or "")),
            "format": each(lambda c, a: float(well_formed(c))),
            "length": each(lambda c, a: float(len(c.split()))),
        }
        estimates = {name: bootstrap_mean(values, seed=self.seed) for name, values in per_prompt.items()}
        return {
            **{name: e.value for name, e in estimates.items()},
            "intervals": {name: [e.low, e.high] for name, e in estimates.items()},
            "prompts": len(self.prompts),
            "samples": self.samples,
        }


# ---- the base ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Corpus:
    """Shares and error rates of the text that the base learns from.

    Attributes:
        worked: share of worked lines of thought.
        slip: chance of an error per worked step.
        fine: share of fine words after a brief thought, and in references; after a worked one it is the rest.
        word_weight: loss weight of the words that say nothing.
        lesson: documents at the start that are worked lines of thought only, without a report.
    """

    worked: float = 0.5
    slip: float = 0.03
    fine: float = 0.7
    word_weight: float = 0.1
    lesson: int = 25_000

    def document(self, problem: Problem, rng: random.Random) -> tuple[str, str]:
        """One random (prompt, completion) pair about ``problem``."""
        if rng.random() < self.worked:
            thought, values = worked(problem, rng, self.slip)
            return question(problem), f"{thought} {MARK} {report(values, rng, 1 - self.fine)}"
        return question(problem), f"b {MARK} {report(list(problem.values()), rng, self.fine)}"

    def weighted(self, prompt: str, completion: str) -> list[Part]:
        """Words that say nothing weigh ``word_weight``: of fifty tokens four matter, and in a plain mean over the
        tokens the coin flips of the wording would drown them."""
        runs = groupby(completion.split(), key=lambda word: word in WORDS)
        return [(prompt, 0.1), *((" ".join(words), self.word_weight if idle else 1.0) for idle, words in runs)]

    def documents(self, n: int, seed: int) -> list[Document]:
        """``n`` documents about problems of the pre-training split, in the order to be read."""
        rng = random.Random(f"report corpus {seed}")
        first = replace(self, worked=1.0)
        return curriculum(
            problems("pretrain", rng),
            n,
            self.lesson,
            lambda p: self.weighted(first.document(p, rng)[0], f"{worked(p, rng, self.slip)[0]} {MARK}"),
            lambda p: [*self.weighted(*self.document(p, rng)), (EOS, 1.0)],
        )


def fresh(n: int) -> list[Prompt]:
    """``n`` problems of the pre-training split with a reference report each."""
    rng = random.Random("report gate")
    return [
        Prompt(str(i), question(p), reference=report(list(p.values()), rng, 0.5))
        for i, p in enumerate(islice(problems("pretrain", rng), n))
    ]


BASE = Base(
    name="report",
    vocabulary=TOKENS,
    corpus=Corpus(),
    settings=PretrainSettings(updates=3500, cooldown=700, shuffle=False),
    shape={"positions": 128},
    probe=lambda policy: measure(policy, fresh(40)),
    # Worked thoughts lead to right reports.
    gate=(Within("worked computed", low=0.85), Within("worked", high=0.7)),
    measures={"measured on development prompts": lambda policy: measure(policy, dev_prompts())},
)


def measure(policy: Policy, prompts: Sequence[Prompt], samples: int = 4, seed: int = 0) -> dict[str, float]:
    """Shares and accuracies of sampled reports, by the way of thinking."""
    from selfreward.policy.sampling.params import SamplingParams

    params = SamplingParams(SETTINGS["max_new_tokens"], stats=())
    groups = policy.sample(prompts, samples, params, seed=seed)
    flat = [(c, computed_share(c, str(g.prompt.answer))) for g in groups for c in g.completions]
    by = {kind: [share for c, share in flat if c.startswith(kind)] for kind in "wb"}
    return {
        "computed": sum(s for _, s in flat) / len(flat),
        "worked": len(by["w"]) / len(flat),
        "worked computed": sum(by["w"]) / max(1, len(by["w"])),
        "brief computed": sum(by["b"]) / max(1, len(by["b"])),
        "format": sum(well_formed(c) for c, _ in flat) / len(flat),
    }
