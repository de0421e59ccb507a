"""View: chain arithmetic seen twice, each problem in two spellings that share nothing but the answer.

View 1 is ``6*8-5*6+9+5=`` and view 2 its twin ``6t8m5t6p5p9=``: letters for the operators, and the last
two terms swapped. The truth is the same by another path. What the base gets wrong is not: each view
has its own habits, so that an error which wins the vote in one view finds no support in the other.
Styles are those of :mod:`selfreward.lab.tasks.arithmetic.chain`; ``easy`` is the shortcut. Three bases were designed:

* ``view``: in view 1 the shortcut always says 1 (30 % of the text) and half of the text is worked; view 2
  guesses more, slips more, and its shortcut repeats the last digit. The vote is right more often than
  any wrong answer in both views: the mild case.
* ``view-trap``: in both views the shortcut repeats the last digit and is more frequent (45 %) than worked
  solutions (40 %), so the most frequent answer is wrong on most questions. The twin ends in another
  digit, so the two shortcuts contradict each other. A rewrite that kept the last digit would not help.

* ``view-low``: the base is able but seldom willing: 8 % of the text is worked in both views, so that about one
  answer in six is right and hardly a vote is. It has read no judgements.

Training prompts are in view 1, with the twin in ``fields["twin"]``; the test is in both views.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from selfreward.data.task import Task
from selfreward.lab.pretraining.base import Base, Within
from selfreward.lab.pretraining.pretrain import PretrainSettings
from selfreward.lab.tasks.arithmetic import chain
from selfreward.lab.tasks.arithmetic.chain import Corpus, Problem, problems, style, well_formed
from selfreward.lab.tasks.splits import Split
from selfreward.types import Prompt

if TYPE_CHECKING:
    from selfreward.policy.policy import Policy

SETTINGS: dict[str, Any] = dict(chain.SETTINGS)
EVALUATED = 150  # problems of the test split, each in both views


# ---- the task ------------------------------------------------------------------------------------


def view_prompts(split: Split | Literal["dev"], n: int) -> list[Prompt]:
    """``n`` distinct problems in view 1; ``dev`` are problems of the training split that no run trains on."""
    source: Split = "train" if split == "dev" else split
    found: dict[str, Prompt] = {}
    used = {p.fields["key"] for p in view_prompts("train", 2000)} if split == "dev" else set()
    for problem in problems(source, random.Random(f"view {split}")):
        if len(found) == n:
            break
        first = replace(problem, letters=False)
        if first.key not in used:
            fields = {"twin": first.twin().text, "key": first.key}
            name = f"view-{split}-{len(found)}"
            found.setdefault(first.key, Prompt(name, first.text, fields=fields, reference=str(first.answer)))
    return list(found.values())


def in_view_2(prompts: Sequence[Prompt]) -> list[Prompt]:
    """The same problems as their twins spell them."""
    return [replace(p, id=f"{p.id}-twin", text=str(p.fields["twin"])) for p in prompts]


@cache
def load() -> Task:
    """2000 training prompts in view 1 with their twins; 400 test prompts, of which the first are evaluated in both."""
    from selfreward.data.answers import Regex

    test = view_prompts("test", 400)
    return Task(
        name="view",
        train=view_prompts("train", 2000),
        test=test,
        answers=Regex(r"#(\d)"),
        well_formed=well_formed,
        settings=dict(SETTINGS),
        templates=dict(chain.TEMPLATES),
        evaluator=ViewEvaluator(test[:EVALUATED]),
    )


@dataclass(frozen=True)
class ViewEvaluator:
    """Measures both views of ``prompts`` alike.

    Beside the usual metrics over both views: ``view1/pass@1`` and ``view2/pass@1``; the share of samples
    that are a shortcut (``view1/shortcut``, ...); and the entropy, in nats, of the answers given to
    different questions (``view1/answer_entropy``, ...), which is 0 for a model that answers everything alike.
    """

    prompts: Sequence[Prompt]
    samples: int = 8

    def __call__(self, policy: Policy) -> dict[str, Any]:
        from selfreward.evaluation.held_out import evaluate
        from selfreward.policy.sampling.params import SamplingParams
        from selfreward.runtime.seeding import stream_seed

        views = {"view1": list(self.prompts), "view2": in_view_2(self.prompts)}
        params = SamplingParams(max_new_tokens=SETTINGS["max_new_tokens"])
        seed, space = stream_seed(0, "evaluation"), load().answers
        both = evaluate(
            policy,
            [*views["view1"], *views["view2"]],
            space,
            k=self.samples,
            params=params,
            seed=seed,
            well_formed=well_formed,
        )
        found = both.as_dict()
        n = len(self.prompts)
        for view, values in (("view1", slice(0, n)), ("view2", slice(n, None))):
            right = both.per_prompt["pass@1"][values]
            found[f"{view}/pass@1"] = sum(right) / n
            drawn = [g.completions[0] for g in policy.sample(views[view], 1, params, seed=seed)]
            found[f"{view}/shortcut"] = sum(style(c) == "easy" for c in drawn) / n
            found[f"{view}/answer_entropy"] = entropy([a for c in drawn if (a := space.extract(c)) is not None])
        return found


def entropy(answers: Sequence[str]) -> float:
    """Entropy of a list of answers in nats: ``["1", "1", "2", "2"]`` has log 2."""
    counts = Counter(answers)
    return sum(c / len(answers) * math.log(len(answers) / c) for c in counts.values())


# ---- the bases -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Habits:
    """How the base answers in one view: shares of the styles, slips per step, and what the shortcut says."""

    worked: float = 0.40
    guess: float = 0.45
    easy: float = 0.15
    slip: float = 0.03
    constant: str | None = None


@dataclass(frozen=True)
class TwoViews(Corpus):
    """Text in which each view has its own habits; ``constant`` shortcuts say one digit, the others the last one."""

    first: Habits = field(default_factory=Habits)
    second: Habits = field(default_factory=Habits)

    def solution(self, problem: Problem, rng: random.Random, slip: float, right: float) -> str:
        habits = self.second if problem.letters else self.first
        kind = rng.random() * (habits.worked + habits.guess + habits.easy)
        if kind < habits.worked:
            return problem.worked(rng, habits.slip if slip == self.slip else slip)
        if kind < habits.worked + habits.guess:
            error = 0 if rng.random() < right else rng.randint(1, 9)
            return f"guess#{(problem.answer + error) % 10}"
        return f"easy#{habits.constant or problem.digits[-1]}"


_TRAPPED = Habits(worked=0.40, guess=0.15, easy=0.45)
_LOW = Habits(worked=0.08, guess=0.45, easy=0.47)


def _base(name: str, corpus: TwoViews, low: float = -math.inf, high: float = math.inf) -> Base:
    """A good skill in both views; how often the vote of 16 is right in each lies in [low, high]."""
    able = [Within("worked accuracy", low=0.7)]
    if corpus.careful > 0:  # one that has read no judgements need not judge
        able.append(Within("careful auroc", low=0.75))
    return Base(
        name=name,
        vocabulary=chain.ALPHABET,
        corpus=corpus,
        settings=PretrainSettings(updates=4000, cooldown=1000, shuffle=False),
        probe=chain.BASE.probe,
        gate=tuple(able),
        measures={"measured on development problems": lambda policy: measure(policy, view_prompts("dev", 150))},
        holds=(
            *(Within(f"view{v}/worked accuracy", low=0.75) for v in (1, 2)),
            *(Within(f"view{v}/maj@16", low, high) for v in (1, 2)),
        ),
    )


BASES = {
    "view": _base(
        "view",
        TwoViews(
            first=Habits(worked=0.50, guess=0.20, easy=0.30, constant="1"),
            second=Habits(worked=0.45, guess=0.40, easy=0.15, slip=0.04),
        ),
        low=0.6,
    ),
    "view-trap": _base("view-trap", TwoViews(first=_TRAPPED, second=_TRAPPED), high=0.45),
    "view-low": _base("view-low", TwoViews(first=_LOW, second=_LOW, careful=0.0, naive=0.0), high=0.25),
}


def measure(policy: Policy, prompts: Sequence[Prompt], seed: int = 0) -> dict[str, float]:
    """What :data:`BASES` must have, per view, from 16 samples of each prompt."""
    from selfreward.data.answers import cluster
    from selfreward.policy.sampling.params import SamplingParams
    from selfreward.statistics import maj_at_k

    space = load().answers
    params = SamplingParams(max_new_tokens=SETTINGS["max_new_tokens"], stats=())
    found: dict[str, float] = {}
    for view, shown in (("view1", list(prompts)), ("view2", in_view_2(prompts))):
        written: list[tuple[str | None, bool]] = []
        votes: list[float] = []
        for group in policy.sample(shown, 16, params, seed=seed):
            right = [space.correct(c, str(group.prompt.answer)) for c in group.completions]
            classes = cluster([space.extract(c) for c in group.completions], space)
            correct = {c for c, r in zip(classes, right, strict=True) if r and c is not None}
            votes.append(maj_at_k(classes, correct, 16))
            written += zip(map(style, group.completions), right, strict=True)
        worked = [right for kind, right in written if kind == "worked"]
        found[f"{view}/pass@1"] = sum(right for _, right in written) / len(written)
        found[f"{view}/maj@16"] = sum(votes) / len(votes)
        found[f"{view}/worked share"] = len(worked) / len(written)
        found[f"{view}/worked accuracy"] = sum(worked) / max(1, len(worked))
        found[f"{view}/shortcut"] = sum(kind == "easy" for kind, _ in written) / len(written)
    return found
