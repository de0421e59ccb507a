"""The strings of :mod:`selfreward.lab.tasks.writing.con`: constraints, true scores, prompts, judgements, rewrites."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from selfreward.data.answers import AnswerSpace
from selfreward.lab.tasks.splits import Split, split_of
from selfreward.types import Prompt

if TYPE_CHECKING:
    from selfreward.policy.policy import Policy

LETTERS = "abcdefgh"
LENGTH = 6
CONSTRAINTS = 5
KINDS = "<>+-"
SCORES = tuple(str(k) for k in range(CONSTRAINTS + 1))
WORDS = tuple(kind + letter for kind in KINDS for letter in LETTERS)
TOKENS = (*LETTERS, *WORDS, *SCORES, "y", "n", "=", "|", "?", "*", "!", "#")
TEMPLATES = {
    "judge": "? {question} | {response} =",
    "better": "* {question} | {response} =",
    "worse": "! {question} | {response} =",
}
JUDGE_TOKENS = 2 * CONSTRAINTS + 3
SETTINGS: dict[str, Any] = {
    "lr": 6e-4,
    "adam_eps": 1e-4,
    "kl": 0.0,
    "steps": 48,
    "prompts_per_step": 16,
    "group_size": 4,
    "max_new_tokens": LENGTH + 2,
}
SEED_SET = 64


# ---- constraints and strings ---------------------------------------------------------------------


def met(constraint: str, text: str) -> bool:
    """Whether a well-formed string meets one constraint; a malformed one meets none."""
    if not well_formed(text):
        return False
    kind, letter = constraint[0], constraint[1]
    letters = text.split()
    if kind == "<":
        return letters[0] == letter
    if kind == ">":
        return letters[-1] == letter
    return (letter in letters) == (kind == "+")


def true_score(question: str, text: str) -> int:
    """How many constraints of ``question`` the string meets, 0 to 5."""
    return sum(met(c, text) for c in constraints_of(question))


def constraints_of(question: str) -> list[str]:
    """The five constraints that a prompt spells."""
    return question.removesuffix("=").split()


def well_formed(completion: str) -> bool:
    """Six letters and nothing else."""
    words = completion.split()
    return len(words) == LENGTH and all(len(w) == 1 and w in LETTERS for w in words)


def draw_constraints(rng: random.Random) -> list[str]:
    """Five constraints that can be met together, one letter each: at most one start, then contained and forbidden
    letters in random order, at most one end."""
    kinds = rng.sample("<>", rng.randint(0, 2))
    while len(kinds) < CONSTRAINTS:
        kinds.append(rng.choice("++-"))
    if kinds.count("+") > 3 or kinds.count("-") > 3:
        return draw_constraints(rng)
    words = [kind + letter for kind, letter in zip(kinds, rng.sample(LETTERS, CONSTRAINTS), strict=True)]
    rng.shuffle(words)
    return sorted(words, key=lambda w: "<+->".index(w[0].replace("-", "+")))


def questions(split: Split, rng: random.Random) -> Iterator[str]:
    """Endless random prompts of one split; the same constraints in another order belong to the same split."""
    while True:
        words = draw_constraints(rng)
        if split_of("con " + " ".join(sorted(words))) == split:
            yield " ".join(words) + " ="


def careful(question: str, rng: random.Random) -> str:
    """A string that meets all constraints: wanted letters first, in the order of the prompt, then allowed ones."""
    words = constraints_of(question)
    allowed = [x for x in LETTERS if "-" + x not in words]
    letters = [c[1] for c in words if c[0] in "<+"]
    ending = [c[1] for c in words if c[0] == ">"]
    return " ".join([*letters, *rng.choices(allowed, k=LENGTH - len(letters) - len(ending)), *ending])


def careless(rng: random.Random) -> str:
    """A filler letter over and over, mostly an a, and other letters in between."""
    filler = rng.choices(LETTERS, weights=(70, 8, 6, 4, 4, 3, 3, 2))[0]
    return " ".join(filler if rng.random() < 0.8 else rng.choice(LETTERS) for _ in range(LENGTH))


def repaired(question: str, text: str, rng: random.Random) -> str:
    """The string with its faults repaired and everything else kept: forbidden letters are replaced, missing ones
    are put where no constraint needs the old letter."""
    words = constraints_of(question)
    wanted = {c[1] for c in words if c[0] == "+"}
    allowed = [x for x in LETTERS if "-" + x not in words]
    letters = [x if x in allowed else "" for x in text.split()]
    for c in words:
        if c[0] in "<>":
            letters[0 if c[0] == "<" else -1] = c[1]
    fixed = {0 if c[0] == "<" else LENGTH - 1 for c in words if c[0] in "<>"}
    for letter in sorted(wanted - set(letters)):
        free = [
            i for i in range(LENGTH) if i not in fixed and (letters[i] not in wanted or letters.count(letters[i]) > 1)
        ]
        empty = [i for i in free if not letters[i]]
        letters[rng.choice(empty or free)] = letter
    return " ".join(x or rng.choice(allowed) for x in letters)


def spoiled(question: str, text: str, rng: random.Random) -> str:
    """The string with most of its merits broken and its faults kept."""
    letters = text.split()
    for c in constraints_of(question):
        kind, letter = c[0], c[1]
        if not met(c, " ".join(letters)) or rng.random() < 0.25:
            continue
        if kind == "-":
            letters[rng.randrange(LENGTH)] = letter
        else:
            at = {"<": [0], ">": [LENGTH - 1]}.get(kind, [i for i in range(LENGTH) if letters[i] == letter])
            for i in at:
                letters[i] = rng.choice([x for x in LETTERS if x != letter])
    return " ".join(letters)


def judgement(question: str, verdicts: Sequence[bool]) -> str:
    """A verdict per constraint, then their number."""
    words = [f"{c} {'y' if v else 'n'}" for c, v in zip(constraints_of(question), verdicts, strict=True)]
    return " ".join([*words, "#", str(sum(verdicts))])


# ---- the task ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Text(AnswerSpace):
    """The answer is the string itself; the reference is the prompt, and meeting all constraints is right."""

    def extract(self, text: str) -> str | None:
        return text if well_formed(text) else None

    def correct(self, text: str, reference: str) -> bool:
        return true_score(reference, text) == CONSTRAINTS

    def grade(self, text: str, reference: str) -> float:
        """Constraints met, 0 to 5."""
        return float(true_score(reference, text))


def prompts(split: Split, n: int, skip: int = 0) -> list[Prompt]:
    """``n`` different prompts. ``fields["demonstration"]`` of the first training prompts is a careful string: the seed
    of human-written data."""
    rng = random.Random(f"con {split}")
    source = questions(split, rng)
    found: dict[str, Prompt] = {}
    while len(found) < n + skip:
        question = next(source)
        if question in found:
            continue
        fields = {}
        if split == "train" and len(found) < SEED_SET:
            fields["demonstration"] = careful(question, random.Random(question))
        found[question] = Prompt(f"con-{split}-{len(found)}", question, fields=fields, reference=question)
    return list(found.values())[skip:]


def dev_prompts(n: int = 200) -> list[Prompt]:
    """Prompts of the training split that no run trains on."""
    return prompts("train", n, skip=2000)


@cache
def bank(n: int = 200) -> tuple[tuple[str, str, int], ...]:
    """Fixed items ``(question, string, true score)`` about test prompts, the same for every model."""
    rng = random.Random("con bank")
    source = questions("test", rng)
    items = []
    for _ in range(n):
        question = next(source)
        text = careful(question, rng) if rng.random() < 0.6 else careless(rng)
        for _ in range(rng.choice((0, 0, 1, 2))):
            letters = text.split()
            letters[rng.randrange(LENGTH)] = rng.choice(LETTERS)
            text = " ".join(letters)
        items.append((question, text, true_score(question, text)))
    return tuple(items)


@dataclass(frozen=True)
class ConstraintEvaluator:
    """True scores of held-out completions, and how well the policy judges a fixed bank."""

    prompts: Sequence[Prompt]
    samples: int = 8
    seed: int = 0

    def __call__(self, policy: Policy) -> dict[str, Any]:
        """``score`` (share of constraints met by a sample), ``greedy_score``, ``pass@1`` (all met by a sample),
        ``accuracy`` (by the greedy string), ``format``, ``distinct`` (different strings among the samples, share),
        ``judge`` (rank correlation of its score with the truth on :func:`bank`), ``judge_auc`` (all met or not) and
        ``judge_spread`` (standard deviation of its scores)."""
        from selfreward.policy.sampling.params import SamplingParams
        from selfreward.statistics import bootstrap_mean

        params = SamplingParams(SETTINGS["max_new_tokens"], stats=())
        groups = policy.sample(self.prompts, self.samples, params, seed=self.seed)
        best = policy.sample(self.prompts, 1, replace(params, temperature=0.0), seed=self.seed)
        asked = [str(p.text) for p in self.prompts]
        scores = [[true_score(q, c) for c in g.completions] for q, g in zip(asked, groups, strict=True)]
        greedy = [true_score(q, g.completions[0]) for q, g in zip(asked, best, strict=True)]
        per_prompt = {
            "score": [sum(row) / len(row) / CONSTRAINTS for row in scores],
            "greedy_score": [s / CONSTRAINTS for s in greedy],
            "pass@1": [sum(s == CONSTRAINTS for s in row) / len(row) for row in scores],
            "accuracy": [float(s == CONSTRAINTS) for s in greedy],
            "format": [sum(map(well_formed, g.completions)) / len(g) for g in groups],
            "distinct": [len(set(g.completions)) / len(g) for g in groups],
        }
        estimates = {k: bootstrap_mean(v, seed=self.seed) for k, v in per_prompt.items()}
        return {
            **{name: e.value for name, e in estimates.items()},
            **judging(policy, bank(), seed=self.seed),
            "intervals": {name: [e.low, e.high] for name, e in estimates.items()},
            "prompts": len(self.prompts),
            "samples": self.samples,
        }


def judging(policy: Policy, items: Sequence[tuple[str, str, int]], votes: int = 3, seed: int = 0) -> dict[str, float]:
    """Rank correlation, area under the curve and spread of the policy's mean score of ``votes`` judgements."""
    import statistics as plain

    from selfreward.policy.sampling.params import SamplingParams
    from selfreward.signals.judge import mean_of, parse_score
    from selfreward.statistics import auroc, spearman

    asked = [
        Prompt(str(i), TEMPLATES["judge"].format(question=q.removesuffix(" ="), response=t))
        for i, (q, t, _) in enumerate(items)
    ]
    groups = policy.sample(asked, votes, SamplingParams(JUDGE_TOKENS, stats=()), role="judge", seed=seed)
    means = [mean_of([parse_score(c, 0, CONSTRAINTS) for c in g.completions]) for g in groups]
    found = [(m if m is not None else 0.0, float(t)) for m, (_, _, t) in zip(means, items, strict=True)]
    score, truth = [f[0] for f in found], [f[1] for f in found]
    constant = len(set(score)) == 1
    return {
        "judge": 0.0 if constant else float(spearman(score, truth)),
        "judge_auc": float(auroc(score, [t == CONSTRAINTS for t in truth])),
        "judge_spread": plain.pstdev(score),
    }
