"""Rub (rubric): outlines that are scored by a written rubric, by bases that write and grade them.

A completion is an outline of eight things in fixed order, ``a+ b- c- d+ e- f+ g+ h-``: each is treated (``+``) or
passed over (``-``). A criterion names a thing, and it is met where that thing is treated. A prompt lists three to five
criteria with their points, ``+3 c -2 a +1 g =``: ``c`` is worth three points, ``a`` is a fault that costs two. Of the
other things nothing is said. A prompt can always be fulfilled in full. A malformed outline meets nothing. A criterion
is a fault as often as not (one of each at least), so that no outline is good for every rubric: what is learnt from
another prompt's rubric is worth about nothing here.

The corpus was designed. A writer is *attentive* in 20 % of the texts (it fulfils its rubric but for slips) and
otherwise writes at random, so the base scores about .3. Graders are taught in two forms. ``? OUTLINE | CRITERION``
is answered by ``yes`` or ``no``, one criterion at a time; ``% OUTLINE | PROMPT |`` by one score from ``0`` to ``10``
for the whole rubric. Both have read the same number of outlines, with the same share of wrong verdicts, which is also
how often the base's own sampled verdicts are wrong. A tiny model has no instruction following, so grading has to be
in its text, and a criterion has to be decided by one look at one place. Properties of the letters at a place, and
letters that may stand at any place, were tried as criteria: models of this size graded them no better than chance
after thousands of updates. What is not in the text is any link from grading to writing.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

import torch

from selfreward.data.answers import AnswerSpace
from selfreward.data.task import Task
from selfreward.lab.pretraining.base import Base, Within
from selfreward.lab.pretraining.documents import Document, curriculum
from selfreward.lab.pretraining.pretrain import PretrainSettings
from selfreward.lab.tasks.splits import Split, split_of
from selfreward.signals.rubric import rubric_score
from selfreward.types import Prompt

if TYPE_CHECKING:
    from selfreward.lab.pretraining.pretrain import Document
    from selfreward.policy.policy import Policy

THINGS = "abcdefgh"
SCORES = tuple(str(k) for k in range(11))
POINTS = tuple(f"{points:+d}" for points in (-3, -2, -1, 1, 2, 3))
YES, NO = "yes", "no"
TOKENS = (*THINGS, *(t + sign for t in THINGS for sign in "+-"), *SCORES, *POINTS, YES, NO, "=", "|", "?", "%")
TEMPLATES = {
    "grade": "? {response} | {criterion}",
    "grade-all": "% {response} | {question} |",
    "yes": YES,
    "no": NO,
    "scores": " ".join(SCORES),
}
SETTINGS: dict[str, Any] = {
    "lr": 6e-4,
    "adam_eps": 1e-4,
    "kl": 0.0,
    "steps": 60,
    "prompts_per_step": 16,
    "group_size": 16,
    "max_new_tokens": 10,
    "grading_tokens": 2,
}

Rubric = tuple[tuple[str, int], ...]


# ---- rubrics and outlines ------------------------------------------------------------------------


def met(criterion: str, text: str) -> bool:
    """Whether the thing ``criterion`` is treated in the outline; never in a malformed one."""
    return well_formed(text) and criterion + "+" in text.split()


def true_score(rubric: Sequence[tuple[str, float]], text: str, low: float | None = 0.0) -> float:
    """The rubric's score of ``text``, by the rules above; malformed is 0."""
    if not well_formed(text):
        return 0.0
    return float(rubric_score([float(met(c, text)) for c, _ in rubric], [p for _, p in rubric], low=low))


def well_formed(completion: str) -> bool:
    """Eight things in their order, each treated or passed over, and nothing else."""
    words = completion.split()
    return len(words) == len(THINGS) and all(w in (t + "+", t + "-") for w, t in zip(words, THINGS, strict=True))


def question(rubric: Rubric) -> str:
    """The prompt: points and thing of every criterion."""
    return " ".join([*(f"{points:+d} {criterion}" for criterion, points in rubric), "="])


def parse(text: str) -> Rubric:
    """The rubric that a prompt spells."""
    words = text.removesuffix("=").split()
    return tuple((criterion, int(points)) for points, criterion in zip(words[::2], words[1::2], strict=True))


def rubrics(split: Split, rng: random.Random) -> Iterator[Rubric]:
    """Endless random rubrics of one split: three to five criteria, as often a fault as not, one of each at least."""
    while True:
        things = rng.sample(THINGS, rng.randint(3, 5))
        signs = rng.choices((1, -1), k=len(things))
        if len(set(signs)) == 1:
            continue
        rubric = tuple((thing, s * rng.randint(1, 3)) for thing, s in zip(things, signs, strict=True))
        if split_of("rub " + " ".join(sorted(question(rubric).split()))) == split:
            yield rubric


def text_split(text: str) -> Split:
    """Graders read none of the outlines that they are measured on."""
    return split_of("rub text " + text)


def random_text(rng: random.Random) -> str:
    return " ".join(t + rng.choice("+-") for t in THINGS)


def good_text(rubric: Rubric, rng: random.Random) -> str:
    """A random outline with the full score."""
    signs = {criterion: "+" if points > 0 else "-" for criterion, points in rubric}
    return " ".join(t + (signs.get(t) or rng.choice("+-")) for t in THINGS)


def written(rubric: Rubric, rng: random.Random, attentive: float, slip: float = 0.0, split: Split | None = None) -> str:
    """An outline by a writer who fulfils the rubric with probability ``attentive``, but turns one thing around with
    probability ``slip``, and else writes at random; of one split if asked for."""
    while True:
        text = good_text(rubric, rng) if rng.random() < attentive else random_text(rng)
        if rng.random() < slip:
            words, at = text.split(), rng.randrange(len(THINGS))
            words[at] = words[at][0] + ("-" if words[at][1] == "+" else "+")
            text = " ".join(words)
        if split in (None, text_split(text)):
            return text


# ---- the task ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Text(AnswerSpace):
    """The answer is the outline itself; the reference is the rubric, and full marks are right."""

    def extract(self, text: str) -> str | None:
        return text if well_formed(text) else None

    def correct(self, text: str, reference: str) -> bool:
        return true_score(parse(reference), text) == 1.0


def prompt(name: str, rubric: Rubric) -> Prompt:
    items = [{"criterion": c, "points": p} for c, p in rubric]
    return Prompt(name, question(rubric), fields={"rubric": items}, reference=question(rubric))


def _prompts(split: Split, n: int, skip: int = 0) -> list[Prompt]:
    found: dict[str, Prompt] = {}
    for rubric in rubrics(split, random.Random(f"rub {split}")):
        if len(found) == n + skip:
            break
        found.setdefault(question(rubric), prompt(f"rub-{split}-{len(found)}", rubric))
    return list(found.values())[skip:]


def dev_prompts(n: int = 200) -> list[Prompt]:
    """Prompts of the training split that no run trains on."""
    return _prompts("train", n, skip=2000)


@cache
def load() -> Task:
    """2000 training and 200 test prompts; ``fields["rubric"]`` holds the criteria and their points."""
    test = _prompts("test", 200)
    return Task(
        name="rub",
        train=_prompts("train", 2000),
        test=test,
        answers=Text(),
        well_formed=well_formed,
        settings=dict(SETTINGS),
        templates=dict(TEMPLATES),
        metric="score",
        evaluator=RubricEvaluator(test),
    )


def bank(n: int = 1000) -> list[tuple[str, str, bool]]:
    """Fixed graded items ``(outline, criterion, met)``, the same for every model; rubrics and outlines of the test
    split."""
    rng = random.Random("rub bank")
    source = rubrics("test", rng)
    items: list[tuple[str, str, bool]] = []
    while len(items) < n:
        rubric = next(source)
        text = written(rubric, rng, 0.5, split="test")
        criterion = rng.choice(rubric)[0]
        items.append((text, criterion, met(criterion, text)))
    return items


@dataclass(frozen=True)
class RubricEvaluator:
    """True rubric score of held-out completions, and how well the policy grades a fixed bank."""

    prompts: Sequence[Prompt]
    samples: int = 8
    seed: int = 0

    def __call__(self, policy: Policy) -> dict[str, Any]:
        """``score`` (mean true score in [0, 1] at temperature 1), ``raw_score`` (without the clip at 0), ``pass@1``
        (full marks), ``accuracy`` (full marks of greedy completions), ``format``, ``length``, ``own_score`` (its own
        expected grade of the same completions), ``gap`` (own minus true); ``grader_f1``, ``grader_accuracy`` and
        ``grader_kappa`` on :func:`bank` of a verdict sampled at temperature 1, as training reads it (in expectation),
        and ``likelier_f1``, ``likelier_accuracy`` and ``likelier_kappa`` of the likelier verdict."""
        from selfreward.policy.sampling.params import SamplingParams
        from selfreward.signals.rubric import f1_score
        from selfreward.statistics import bootstrap_mean

        params = SamplingParams(SETTINGS["max_new_tokens"], stats=())
        groups = policy.sample(self.prompts, self.samples, params, seed=self.seed)
        best = policy.sample(self.prompts, 1, replace(params, temperature=0.0), seed=self.seed)
        asked = [parse(str(p.text)) for p in self.prompts]
        scores = [[true_score(r, c) for c in g.completions] for r, g in zip(asked, groups, strict=True)]
        raw = [[true_score(r, c, low=None) for c in g.completions] for r, g in zip(asked, groups, strict=True)]
        own = [self._own(policy, r, g.completions) for r, g in zip(asked, groups, strict=True)]
        per_prompt = {
            "score": [sum(row) / len(row) for row in scores],
            "raw_score": [sum(row) / len(row) for row in raw],
            "pass@1": [sum(s == 1.0 for s in row) / len(row) for row in scores],
            "accuracy": [float(true_score(r, g.completions[0]) == 1.0) for r, g in zip(asked, best, strict=True)],
            "format": [sum(map(well_formed, g.completions)) / len(g) for g in groups],
            "length": [sum(len(c.split()) for c in g.completions) / len(g) for g in groups],
            "own_score": own,
        }
        estimates = {k: bootstrap_mean(v, seed=self.seed) for k, v in per_prompt.items()}
        items = bank()
        chances = grades(policy, [(t, c) for t, c, _ in items])
        truth = [m for _, _, m in items]
        likelier = [float(p > 0.5) for p in chances]
        return {
            **{name: e.value for name, e in estimates.items()},
            "gap": estimates["own_score"].value - estimates["score"].value,
            "grader_f1": f1_score(chances, truth),
            "grader_accuracy": accuracy(chances, truth),
            "grader_kappa": kappa(chances, truth),
            "likelier_f1": f1_score(likelier, truth),
            "likelier_accuracy": accuracy(likelier, truth),
            "likelier_kappa": kappa(likelier, truth),
            "intervals": {name: [e.low, e.high] for name, e in estimates.items()},
            "prompts": len(self.prompts),
            "samples": self.samples,
        }

    def _own(self, policy: Policy, rubric: Rubric, completions: Sequence[str]) -> float:
        few = completions[:2]
        chances = grades(policy, [(t, c) for t in few for c, _ in rubric])
        rows = [chances[i * len(rubric) : (i + 1) * len(rubric)] for i in range(len(few))]
        return sum(float(rubric_score(row, [p for _, p in rubric])) for row in rows) / len(rows)


def accuracy(chances: Sequence[float], truth: Sequence[bool]) -> float:
    """Expected share of right verdicts."""
    return sum(p if t else 1 - p for p, t in zip(chances, truth, strict=True)) / len(truth)


def kappa(chances: Sequence[float], truth: Sequence[bool]) -> float:
    """Expected agreement with the truth beyond that of verdicts drawn with the same frequencies (Cohen).

    Example: verdicts ``[1, 1, 0, 0]`` of truth ``[1, 1, 1, 0]`` agree in 3/4, by chance in 1/2, so kappa is 1/2.
    """
    said, true = sum(chances) / len(truth), sum(truth) / len(truth)
    chance = said * true + (1 - said) * (1 - true)
    return (accuracy(chances, truth) - chance) / (1 - chance) if chance < 1 else 0.0


def grades(policy: Policy, items: Sequence[tuple[str, str]]) -> list[float]:
    """Probability that ``policy`` says yes, per ``(outline, criterion)``."""
    fields = [{"response": text, "criterion": criterion} for text, criterion in items]
    return policy.ask(TEMPLATES["grade"], fields, (YES, NO)).probs[:, 0].tolist()


# ---- the base ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Corpus:
    """Shares and error rates of the text that the base learns from.

    Attributes:
        grade, grade_all: shares of documents that grade one criterion, and the whole rubric.
        attentive: share of outlines that fulfil their rubric, among the written ones.
        judged: the same among the graded ones.
        slip: chance that one thing of an attentive outline is turned around.
        noise: share of wrong verdicts (criterion by criterion, and a random score for the whole).
        lesson: documents at the start in which all writing is attentive and most documents are grades, all right. In
            mixed text from the first day the skills appear late, for some seeds never.
    """

    grade: float = 0.20
    grade_all: float = 0.20
    attentive: float = 0.2
    judged: float = 0.4
    slip: float = 0.1
    noise: float = 0.15
    lesson: int = 64_000

    def document(self, rubric: Rubric, rng: random.Random) -> tuple[str, str]:
        """One random (prompt, completion) pair."""
        kind = rng.random()
        if kind >= self.grade + self.grade_all:
            return question(rubric), written(rubric, rng, self.attentive, self.slip)
        text = written(rubric, rng, self.judged, self.slip, "pretrain")
        wrong = rng.random() < self.noise
        if kind < self.grade:
            criterion = rng.choice(rubric)[0]
            verdict = met(criterion, text) != wrong
            return TEMPLATES["grade"].format(response=text, criterion=criterion), YES if verdict else NO
        score = rng.randrange(11) if wrong else round(10 * true_score(rubric, text))
        return TEMPLATES["grade-all"].format(question=question(rubric), response=text), SCORES[score]

    def documents(self, n: int, seed: int) -> list[Document]:
        """``n`` documents about rubrics of the pre-training split."""
        rng = random.Random(f"rub corpus {seed}")
        first = replace(self, grade=0.5, grade_all=0.25, attentive=1.0, noise=0.0)
        source = rubrics("pretrain", rng)
        return curriculum(source, n, self.lesson, lambda r: first.document(r, rng), lambda r: self.document(r, rng))


def skills(policy: Policy, n: int = 400) -> dict[str, float]:
    """What a base can do, for rubrics of the pre-training split and outlines that it has not read: accuracy of its
    likelier ``grades``, rank correlation of its ``whole`` scores with the truth, mean true score of what it
    ``writes``."""
    from selfreward.policy.sampling.params import SamplingParams
    from selfreward.statistics import spearman

    rng = random.Random("rub skills")
    source = rubrics("pretrain", rng)
    some = [next(source) for _ in range(n)]
    texts = [written(rubric, rng, 0.4, 0.1, "train") for rubric in some]
    asked = [(text, rng.choice(rubric)[0]) for rubric, text in zip(some, texts, strict=True)]
    verdicts = [p > 0.5 for p in grades(policy, asked)]
    fields = [{"question": question(r), "response": t} for r, t in zip(some, texts, strict=True)]
    chosen = policy.ask(TEMPLATES["grade-all"], fields, SCORES)
    whole = (chosen.probs @ torch.arange(11.0)).tolist()
    groups = policy.sample(
        [prompt(str(i), r) for i, r in enumerate(some)], 1, SamplingParams(SETTINGS["max_new_tokens"], stats=()), seed=0
    )
    return {
        "grades": sum(v == met(c, t) for v, (t, c) in zip(verdicts, asked, strict=True)) / n,
        "whole": spearman(whole, [true_score(r, t) for r, t in zip(some, texts, strict=True)]),
        "writes": sum(true_score(r, g.completions[0]) for r, g in zip(some, groups, strict=True)) / n,
    }


BASE = Base(
    name="rub",
    vocabulary=TOKENS,
    corpus=Corpus(),
    # The first look comes after the lesson.
    settings=PretrainSettings(updates=4000, cooldown=700, gate_every=2250, shuffle=False, lr=2e-3, prompt_weight=0.0),
    shape={"positions": 64},
    probe=lambda policy: skills(policy),
    gate=(Within("grades", low=0.9), Within("whole", low=0.5), Within("writes", 0.27, 0.45)),
    measures={"measured on development prompts": lambda policy: RubricEvaluator(dev_prompts())(policy)},
)

OTHER = replace(BASE, name="rub-other", seed=1)
"""A second base of the same size."""
BASES = {base.name: base for base in (BASE, OTHER)}
