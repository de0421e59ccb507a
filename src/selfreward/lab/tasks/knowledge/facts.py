"""Facts: people and how they are linked; questions of one and two hops, and a corpus to search them in.

160 people have a boss, a friend, a city and a job each. ``ask p17 city ?`` is one hop, ``ask p17 boss city ?``
two: the city of the boss. A fact stands in the text between one and thirty times, so that some are known, some
half known, some hardly. The corpus that a retriever may search holds all of them, ``p17 boss p42``.

The base answers in one of five ways. *Proper*: think, search, write down what a search would find, once per hop,
answer. *Loose* and *blank*: the same steps, but without a search block, or with an empty query; nobody can look
anything up for them. *Hasty*: one search where two are needed, then a guess. *Direct*: an answer without a
step. A step costs it what it knows of one fact; two hops in one go are beyond it. ``say`` in place of
``ask`` gets the direct answer always.

This was designed into the text: the proper way is there but seldom; loose and blank are as often right as long
as nobody searches; what is read in the information block, right or wrong, is believed. Questions of the text,
of training and of the test are disjoint; the facts behind them are shared.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import TYPE_CHECKING, Any

from selfreward.data.task import Task
from selfreward.lab.pretraining.base import Base, Within
from selfreward.lab.pretraining.documents import Document
from selfreward.lab.pretraining.pretrain import PretrainSettings
from selfreward.lab.tasks.splits import Split, split_of
from selfreward.rollouts.self_search import formed, parse, sample_with
from selfreward.types import Prompt

if TYPE_CHECKING:
    from selfreward.lab.pretraining.pretrain import Document
    from selfreward.policy.policy import Policy
    from selfreward.rollouts.envs.retrieval import Retriever

PEOPLE, PLACES, JOBS = 160, 32, 32
LINKS, ENDS = ("boss", "friend"), ("city", "job")
TAGS = [f"<{slash}{tag}>" for tag in ("think", "search", "information", "answer") for slash in ("", "/")]
DEVELOPMENT = 48
SETTINGS: dict[str, Any] = {
    "lr": 6e-4,
    "adam_eps": 1e-3,
    "kl": 0.05,
    "steps": 40,
    "prompts_per_step": 16,
    "group_size": 12,
    "max_new_tokens": 40,
}


# ---- the world ------------------------------------------------------------------------------------


@cache
def world() -> dict[tuple[str, str], str]:
    """(person, relation) -> value."""
    rng = random.Random("facts world")
    people = [f"p{i}" for i in range(PEOPLE)]
    found = {}
    for person in people:
        for link in LINKS:
            found[person, link] = rng.choice([p for p in people if p != person])
        found[person, "city"] = f"c{rng.randrange(PLACES)}"
        found[person, "job"] = f"j{rng.randrange(JOBS)}"
    return found


@cache
def frequency() -> dict[tuple[str, str], int]:
    """How often each fact is read: a quarter 1 to 3 times, the rest up to 30 times."""
    rng = random.Random("facts frequency")
    return {f: rng.randint(1, 3) if rng.random() < 0.25 else rng.randint(6, 30) for f in world()}


def corpus() -> list[str]:
    """Every fact as a sentence: what there is to be retrieved."""
    return [f"{person} {relation} {value}" for (person, relation), value in world().items()]


@cache
def retriever() -> Retriever:
    """BM25 over the corpus, indexed by title: whose fact, and which.

    Raises:
        UserError: without ``bm25s``.
    """
    from selfreward.rollouts.envs.retrieval import BM25

    return BM25(corpus(), words=lambda text: text.split()[:2])


@dataclass(frozen=True)
class Question:
    """``relations`` of ``person``, one after the other."""

    person: str
    relations: tuple[str, ...]

    @property
    def text(self) -> str:
        return f"ask {self.person} {' '.join(self.relations)} ?"

    @property
    def facts(self) -> list[tuple[str, str]]:
        """The facts that lead to the answer, in order."""
        found, at = [], self.person
        for relation in self.relations:
            found.append((at, relation))
            at = world()[at, relation]
        return found

    @property
    def answer(self) -> str:
        return world()[self.facts[-1]]

    @property
    def split(self) -> Split:
        return split_of(f"facts {self.text}")


@cache
def questions() -> tuple[Question, ...]:
    people = [f"p{i}" for i in range(PEOPLE)]
    chains = [(end,) for end in ENDS] + list(product(LINKS, ENDS))
    return tuple(Question(p, c) for p in people for c in chains)


def asked(split: Split, hops: int) -> list[Question]:
    return [q for q in questions() if q.split == split and len(q.relations) == hops]


# ---- the task -------------------------------------------------------------------------------------


@cache
def load() -> Task:
    """Training questions of one and two hops; test questions of two hops only."""
    return task("facts", "ask")


def task(name: str, verb: str) -> Task:
    from selfreward.data.answers import Tagged

    two = asked("train", 2)[DEVELOPMENT:]
    train = _prompts("train", two, verb) + _prompts("train", asked("train", 1)[: len(two)], verb)
    test = _prompts("test", asked("test", 2), verb)
    return Task(
        name=name,
        train=train,
        test=test,
        answers=Tagged("answer"),
        well_formed=formed,
        settings=dict(SETTINGS),
        metric="pass@1",
        evaluator=lambda policy: measure(policy, test),
    )


def development(verb: str = "ask") -> list[Prompt]:
    """Two-hop questions that are in neither training nor test, for choosing settings."""
    return _prompts("dev", asked("train", 2)[:DEVELOPMENT], verb)


def _prompts(label: str, found: Sequence[Question], verb: str) -> list[Prompt]:
    return [
        Prompt(f"facts-{label}-{'-'.join((q.person, *q.relations))}", q.text.replace("ask", verb), reference=q.answer)
        for q in found
    ]


def measure(policy: Policy, prompts: Sequence[Prompt], samples: int = 8, real: int = 2) -> dict[str, Any]:
    """Self-search, then the same with a real retriever, and with one that is shuffled.

    ``real/pass@1`` and ``shuffled/pass@1`` are with BM25 in the loop. ``valid`` is the share of well-formed
    generations, ``held`` and ``real/held`` those whose information has the answer in it, ``style/...`` the ways.
    """
    from selfreward.data.answers import Tagged
    from selfreward.evaluation.held_out import evaluate
    from selfreward.policy.sampling.params import SamplingParams
    from selfreward.rollouts.envs.retrieval import Shuffled

    space, params = Tagged("answer"), SamplingParams(SETTINGS["max_new_tokens"], stats=())
    found: dict[str, Any] = evaluate(
        policy, prompts, space, k=samples, params=params, seed=0, well_formed=formed
    ).as_dict()
    groups = policy.sample(prompts, samples, params, seed=0)
    written = [(str(g.prompt.answer), c) for g in groups for c in g.completions]
    found["held"] = sum(a in _words(c, "information") for a, c in written) / len(written)
    ways = [style(c) for _, c in written]
    found |= {f"style/{way}": ways.count(way) / len(ways) for way in STYLES}
    for name, engine in (("real", retriever()), ("shuffled", Shuffled(retriever()))):
        looked = sample_with(policy, prompts, engine, real, params, seed=0)
        texts = [(str(g.prompt.answer), t.meta["completion"]) for g in looked for t in g]
        found[f"{name}/pass@1"] = sum(space.correct(c, a) for a, c in texts) / len(texts)
        if name == "real":
            found["real/held"] = sum(a in _words(c, "information") for a, c in texts) / len(texts)
            found["real/asked"] = sum(bool(t.meta["retrieved"]) for g in looked for t in g) / len(texts)
    return found


def _words(text: str, tag: str) -> list[str]:
    return " ".join(parse(text).texts(tag)).split()


STYLES = ("proper", "hasty", "loose", "blank", "direct", "other")


def style(text: str) -> str:
    """Which way a completion goes; ``hasty`` searches once, so among one-hop questions it means proper."""
    if formed(text):
        return "proper" if text.count("<search>") > 1 else "hasty"
    if "<search>" in text:
        return "blank" if "<search> </search>" in text else "other"
    return "loose" if "<information>" in text else "direct" if text.startswith("<answer>") else "other"


# ---- the base -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Corpus:
    """What the base reads.

    Attributes:
        proper, loose, blank, hasty, direct: shares of the ways of answering.
        say: share of questions that ask for a direct answer.
        questions: documents about questions of the pre-training split.
        copies: how often a fact of frequency 1 is read.
    """

    proper: float = 0.15
    loose: float = 0.15
    blank: float = 0.10
    hasty: float = 0.15
    direct: float = 0.45
    say: float = 0.15
    questions: int = 60_000
    copies: int = 6

    def documents(self, n: int, seed: int) -> list[Document]:
        """Facts as often as their frequency says, and questions, in random order: all of them, whatever ``n``."""
        rng = random.Random(f"facts corpus {seed}")
        found: list[Document] = []
        for (person, relation), value in world().items():
            found += [(f"{person} {relation}", value)] * (self.copies * frequency()[person, relation])
        pool = [asked("pretrain", hops) for hops in (1, 2)]
        found += [self.answered(rng.choice(rng.choice(pool)), rng) for _ in range(self.questions)]
        rng.shuffle(found)
        return found

    def answered(self, question: Question, rng: random.Random) -> tuple[str, str]:
        """One question, answered one way, as well as its facts are known."""
        if rng.random() < self.say:
            return question.text.replace("ask", "say"), self._direct(question, rng)
        ways = {"proper": self.proper, "loose": self.loose, "blank": self.blank, "hasty": self.hasty}
        way = rng.choices([*ways, "direct"], [*ways.values(), self.direct])[0]
        if way == "direct":
            return question.text, self._direct(question, rng)
        pieces, at = [], question.person
        hops = question.relations[:1] if way == "hasty" else question.relations
        for relation in hops:
            query = "" if way == "blank" else f"{at} {relation} "
            value = recalled(at, relation, rng)
            pieces.append("<think> next </think>")
            if way != "loose":
                pieces.append(f"<search> {query}</search>")
            pieces.append(f"<information> {at} {relation} {value} </information>")
            at = value
        if len(hops) < len(question.relations):
            at = guess(question.relations[-1], rng)
        return question.text, " ".join((*pieces, "<think> done </think>", f"<answer> {at} </answer>"))

    def _direct(self, question: Question, rng: random.Random) -> str:
        at = question.person
        for relation in question.relations:
            at = recalled(at, relation, rng)
        return f"<answer> {at} </answer>"


def recalled(person: str, relation: str, rng: random.Random) -> str:
    """The fact as a writer remembers it: surely where it is read often, seldom where it is not."""
    sure = min(0.95, 0.2 + 0.05 * frequency()[person, relation])
    return world()[person, relation] if rng.random() < sure else guess(relation, rng)


def guess(relation: str, rng: random.Random) -> str:
    if relation in LINKS:
        return f"p{rng.randrange(PEOPLE)}"
    return f"c{rng.randrange(PLACES)}" if relation == "city" else f"j{rng.randrange(JOBS)}"


def vocabulary() -> Iterator[str]:
    yield from ("ask", "say", "?", "next", "done", *LINKS, *ENDS, *TAGS)
    yield from (f"p{i}" for i in range(PEOPLE))
    yield from (f"c{i}" for i in range(PLACES))
    yield from (f"j{i}" for i in range(JOBS))


BASE = Base(
    name="facts",
    vocabulary=tuple(vocabulary()),
    corpus=Corpus(),
    settings=PretrainSettings(lr=3e-3, pool=16),
    epochs=1,
    shape={"positions": 96},
    measures={"measured on development questions": lambda policy: measure(policy, development()) | knowledge(policy)},
    # Half knowing: one answer in ten by itself, far more among several; searching is there, but seldom.
    holds=(
        Within("pass@1", 0.05, 0.4),
        Within("pass@k", low=0.15, over="pass@1"),
        Within("knows links", 0.3, 0.9),
        Within("style/proper", low=0.04),
        Within("real/asked", low=0.15),
    ),
)


def knowledge(policy: Policy) -> dict[str, float]:
    """Mean probability of the right value after ``<information> person relation``, by kind of relation."""
    result = {}
    for name, relations in (("links", LINKS), ("ends", ENDS)):
        facts = [(f, v) for f, v in world().items() if f[1] in relations]
        heads = [
            policy.encode_text(
                f"ask {p} {r} {'city ' * (r in LINKS)}? <think> next </think> <search> {p} {r} </search> "
                f"<information> {p} {r}"
            )
            for (p, r), _ in facts
        ]
        ids = [[list(policy.tokenizer(v, add_special_tokens=False)["input_ids"])] for _, v in facts]
        scored = policy.score_targets(heads, ids, role="knowledge")
        result[f"knows {name}"] = sum(float(rows[0]["logprob"].sum().exp()) for rows in scored) / len(facts)
    return result
