"""ReST-MCTS* (049) on CHAIN-LONG: ten steps, of which a misread operator spoils all that follow.

Rules are those of the method card, written down before the run. *Search*: per seed, a value model is taught by 16
samples of each of 150 training questions, labelled by the tree that they span; then 80 held-out questions are
answered by MCTS*, by best-of-N with the same value model, and by self-consistency, the last two with as many
samples as MCTS* has spent tokens on (rounded up). The negative control is the same search with a value model
whose targets were permuted. *Self-training*: two cycles from the same start on the same questions, solutions
found by the search or by plain sampling with as many tokens, at most four per question, equal updates.
*Values*: how well the first value model tells states from which the answer is within reach from others.

The base is the one that can be asked for its errors. On the other one a value head stayed at chance: after 250
updates on 11,700 labelled states its AUROC within a depth was .41 to .57; here it is .74 to .92.

Settings were chosen on development questions, one seed. The paper's exploration (.7, and 1 for a child without a
visit) visits every child before it goes deeper and finished no solution of ten steps in 32 rounds; written on from the
best beginning it answered .22 to .27 of 60 questions. With .1 for both and rollouts of one step it was .63, .72 and
.70 after 16, 24 and 32 rounds, best-of-N with as many tokens .47 to .55 (without rollouts .67, .80, .85; with three
steps .57, .68, .67). At a rate of 6e-4 ReST-EM's greedy answers were all right after 12 steps, which leaves no room;
at 2e-4 it ended at .32 and the tree's at 1.00: greedy answers flip together, when the habit falls below a half.
ReST-EM draws 14 samples per question, the tokens of search and warm-up.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from selfreward.lab.proofs.proof import Proof
from selfreward.lab.proofs.results import Results
from selfreward.lab.proofs.rules import ACCURACY, leads, measured, weakest
from selfreward.signals.selection import select
from selfreward.statistics import Estimate, auroc, mean_interval
from selfreward.training.comparison import Arm, Study

if TYPE_CHECKING:
    from selfreward.policy.policy import Policy
    from selfreward.policy.reward_model import RewardModel
    from selfreward.policy.sampling.params import SamplingParams
    from selfreward.rollouts.step_tree import Partial, StepWriter
    from selfreward.rollouts.tree_search import Node
    from selfreward.types import Group, Prompt

BASE = "embedded:chain-long-judged"
BUDGETS = (16, 24, 32)
AT_BUDGETS = f"in held-out questions answered, at budgets of {', '.join(map(str, BUDGETS))} rounds,"
TAUGHT, ASKED, SAMPLES, POOL = 150, 80, 16, 48
SEARCH: dict[str, Any] = {"branch": 5, "roll": 1, "explore": 0.1, "unvisited": 0.1}
UPDATES = 150


def value_prompt(policy: Policy) -> list[int]:
    """What the value model is asked behind a partial solution."""
    from selfreward.lab.tasks.arithmetic import chain_long

    return list(policy.tokenizer(chain_long.ASK, add_special_tokens=False)["input_ids"])


def values(
    policy: Policy, prompts: Sequence[Prompt], writer: StepWriter, seed: int, samples: int = SAMPLES
) -> tuple[RewardModel, RewardModel]:
    """The first value model, and one with permuted targets."""
    import torch

    from selfreward.lab.embedded import load_task
    from selfreward.policy.reward_model import RewardModel
    from selfreward.rollouts.step_tree import StateLabels
    from selfreward.rollouts.tree_search import value_targets

    answers = load_task("chain-long").answers
    seen = StateLabels()
    for group in policy.sample(prompts, samples, writer.params, seed=seed):
        reference = str(group.prompt.answer)
        tree = writer.tree_of(group)
        labelled = value_targets(tree, lambda leaf, r=reference: answers.correct(leaf.state.text, r))  # type: ignore[misc]
        seen.add(labelled, value_prompt(policy))
    mixed = seen.permuted(torch.Generator().manual_seed(seed))
    models = RewardModel(policy), RewardModel(policy)
    for model, labels in zip(models, (seen, mixed), strict=True):
        model.fit_labels(labels.ids, labels.targets, kind="regression", updates=UPDATES, batch=64, lr=1e-3, seed=seed)
    return models


def tree_curve(
    policy: Policy, writer: StepWriter, model: RewardModel, prompts: Sequence[Prompt], budgets: Sequence[int], seed: int
) -> dict[int, tuple[float, float]]:
    """Rounds -> (share of questions answered rightly, generated tokens per question)."""
    from selfreward.lab.embedded import load_task
    from selfreward.rollouts.step_tree import ValueReader, value_guided, written_out

    answers = load_task("chain-long").answers
    policy.seed(seed, "search")
    before = policy.counts.generated.get(writer.role, 0)
    found: dict[int, tuple[float, float]] = {}

    def look(number: int, trees: list[Node]) -> None:
        nonlocal before
        if number in budgets:
            grown = policy.counts.generated[writer.role]
            right = [answers.correct(s.text, str(s.prompt.answer)) for s in written_out(writer, trees)]
            spent = policy.counts.generated[writer.role]
            found[number] = sum(right) / len(right), (spent - before) / len(prompts)
            before += spent - grown  # what was written to answer now is no part of a larger budget

    value_guided(
        writer,
        ValueReader(model, account=policy, ask=value_prompt(policy)),
        prompts,
        rounds=max(budgets),
        threshold=None,
        on_round=look,
        **SEARCH,
    )
    return found


def whole_samples(group: Group, scores: Sequence[float], n: int, rule: str) -> float:
    """Share of right choices among runs of ``n`` samples of one question."""
    from selfreward.data.answers import cluster
    from selfreward.lab.embedded import load_task

    answers = load_task("chain-long").answers
    classes = cluster([answers.extract(c) for c in group.completions], answers)
    right = [answers.correct(c, str(group.prompt.answer)) for c in group.completions]
    n = min(n, len(classes))
    hits = []
    for start in range(0, len(classes) - n + 1, n):
        chosen = select(classes[start : start + n], scores[start : start + n], rule).index
        hits.append(chosen is not None and right[start + chosen])
    return sum(hits) / len(hits)


def search_study(seed: int, folder: Path) -> dict[str, Any]:
    """Accuracy at equal tokens, and what the value model sees."""
    from selfreward.lab.tasks.arithmetic import chain_long
    from selfreward.policy.loading import load_policy

    policy = load_policy(BASE, device="cpu")
    taught = chain_long.prompts_of("train", TAUGHT, f"-value-{seed}")
    asked = chain_long.prompts_of("test", ASKED, f"-search-{seed}")
    return answered(policy, taught, asked, seed)


def answered(policy: Policy, taught: Sequence[Prompt], asked: Sequence[Prompt], seed: int) -> dict[str, Any]:
    """The study on given questions: the value model is taught by some, the others are answered at equal tokens."""
    from selfreward.lab.tasks.arithmetic import chain_long
    from selfreward.policy.sampling.params import SamplingParams
    from selfreward.rollouts.step_tree import StepWriter, ValueReader

    task = chain_long.load()
    params: SamplingParams = SamplingParams(chain_long.SETTINGS["max_new_tokens"], stats=())
    writer = StepWriter(policy, chain_long.STEP, 2, params, task.well_formed)
    model, shuffled = values(policy, taught, writer, seed)
    pool = policy.sample(asked, POOL, params, seed=seed + 1000)
    ask = value_prompt(policy)
    read = {name: ValueReader(m, "raw", ask=ask) for name, m in (("value", model), ("shuffled", shuffled))}
    states = writer.along(pool)
    last: list[list[float]] = []
    seen: dict[str, list[float]] = {"value": [], "shuffled": []}
    truth: list[bool] = []
    for group, rows in zip(pool, states, strict=True):
        whole = [row[-1:] if len(row) == chain_long.OPERATORS else [] for row in rows]
        last.append([v[0] if v else -1.0 for v in read["value"].along(whole)])
        for name, reader in read.items():
            seen[name] += [v for numbers in reader.along(rows[:4]) for v in numbers]
        truth += [chain_long.on_track(group.prompt.question, s.text) for row in rows[:4] for s in row]
    length = float(np.mean([len(t.last) for g in pool for t in g]))
    after: dict[str, float] = {
        "value auc": auroc(seen["value"], truth),
        "shuffled auc": auroc(seen["shuffled"], truth),
        "pass@1": float(np.mean([task.answers.correct(c, str(g.prompt.answer)) for g in pool for c in g.completions])),
    }
    visited = 0
    for name, value in (("mcts", model), ("shuffled", shuffled)):
        for rounds, (accuracy, tokens) in tree_curve(policy, writer, value, asked, BUDGETS, seed).items():
            after[f"{name}@{rounds}"] = accuracy
            if name == "mcts":
                n = math.ceil(tokens / length)
                after |= {f"tokens@{rounds}": tokens, f"samples@{rounds}": float(n)}
                for label, rule in (("bon", "best"), ("vote", "majority")):
                    scored = zip(pool, last, strict=True)
                    after[f"{label}@{rounds}"] = float(np.mean([whole_samples(g, s, n, rule) for g, s in scored]))
                visited = rounds * len(asked)
    return {
        "after": after,
        "tokens": {"generated": sum(policy.counts.generated.values())},
        "mechanism": {"name": "tree rounds", "count": visited},
    }


class FixedValues:
    """A value of every state that no processor rounds otherwise: higher the further it is, apart by its text."""

    def along(self, states: Sequence[Sequence[Partial]]) -> list[list[float]]:
        return [[len(s.tokens) / 100 + zlib.crc32(s.text.encode()) / 2**33 for s in row] for row in states]

    def evaluate(self, nodes: Sequence[Node]) -> list[float]:
        return [v for (v,) in self.along([[n.state] for n in nodes])]


def trace() -> dict[str, list[float]]:
    """What the search finds where fixed values lead it, the labels of what it found, and a value model's first fits.

    In a run the search follows values that 150 updates have taught, so that a rounding error of another processor
    soon leads it elsewhere.
    """
    from selfreward.lab.tasks.arithmetic import chain_long
    from selfreward.policy.loading import load_policy
    from selfreward.policy.reward_model import RewardModel
    from selfreward.policy.sampling.params import SamplingParams
    from selfreward.rollouts.step_tree import StepWriter, value_guided
    from selfreward.rollouts.tree_search import value_targets, walk

    task, policy = chain_long.load(), load_policy(BASE, device="cpu")
    params = SamplingParams(chain_long.SETTINGS["max_new_tokens"], stats=())
    writer = StepWriter(policy, chain_long.STEP, 2, params, task.well_formed)
    prompts = chain_long.prompts_of("train", 12, "-trace")
    policy.seed(0, "trace")
    trees = value_guided(writer, FixedValues(), prompts, rounds=40, threshold=None, **SEARCH)
    found = [writer.harvest(tree) for tree in trees]
    right = [[task.answers.correct(c, str(g.prompt.answer)) for c in g.completions] for g in found]
    labelled: list[tuple[Node, float]] = []
    for tree, group, verdicts in zip(trees, found, right, strict=True):
        texts = set(compress(group.completions, verdicts))
        labelled += value_targets(tree, lambda leaf, texts=texts: leaf.state.text in texts)  # type: ignore[misc]
    sequences, targets = [node.state.ids for node, _ in labelled], [target for _, target in labelled]
    model = RewardModel(policy)
    fits = [model.fit_labels(sequences, targets, kind="regression", updates=1, batch=64) for _ in range(3)]
    return {
        "states": [float(sum(1 for _ in walk(tree)) - 1) for tree in trees],
        "solutions": [float(len(verdicts)) for verdicts in right],
        "right": [float(sum(verdicts)) for verdicts in right],
        "labels": [float(len(labelled)), float(np.mean(targets))],
        "value loss": [fit["loss"] for fit in fits],
    }


def smallest_lead(results: Results, other: str) -> Estimate:
    """The lead of MCTS* over ``other`` at the budget where its mean is smallest."""
    own, theirs = ({b: results.values("search", f"{name}@{b}") for b in BUDGETS} for name in ("mcts", other))
    return weakest(mean_interval(own[b] - theirs[b]) for b in BUDGETS)


PROOF = Proof(
    slug="rest-mcts",
    id="049",
    claim="A value model that was taught by trees labelled from answers alone guides a search that beats best-of-N at "
    "the same tokens, and training on what it finds gives a better policy than training on samples.",
    task=BASE,
    main="rest-mcts",
    trace=trace,
    arms=(
        Arm("rest-mcts", "rest-mcts", {"rounds": 24, "warmup": 2, "updates": UPDATES, **SEARCH}),
        Arm("rest-em", "rest-mcts", {"by": "samples", "warmup": 0, "samples": 14}, {"steps": 12}),
        Study("search", search_study, labels="outcome"),
    ),
    settings={
        "model": BASE,
        "data": BASE,
        "steps": 14,
        "prompts_per_step": 24,
        "epochs": 2,
        "minibatches": 4,
        "lr": 2e-4,
        "eval_every": 20,
        "eval_prompts": 200,
        "eval_samples": 8,
        "checkpoint_every": 20,
    },
    rules=(
        measured(
            "at least best-of-N",
            f"the smallest mean lead of MCTS* over best-of-N with the same value model and tokens {AT_BUDGETS}",
            lambda r: smallest_lead(r, "bon"),
            at_least=0,
        ),
        measured(
            "above self-consistency",
            f"the smallest mean lead of MCTS* over a vote at the same tokens {AT_BUDGETS}",
            lambda r: smallest_lead(r, "vote"),
            above=0,
            end="low",
        ),
        measured(
            "values matter",
            f"the smallest mean lead of MCTS* over the same search by permuted values {AT_BUDGETS}",
            lambda r: smallest_lead(r, "shuffled"),
            above=0,
            end="low",
        ),
        measured(
            "values see what is in reach",
            "the AUROC by which values tell states with the answer in reach from others, minus that of a value model "
            "with permuted targets,",
            lambda r: r.values("search", "value auc") - r.values("search", "shuffled auc"),
            above=0,
            end="low",
        ),
        leads("above ReST-EM", "rest-mcts", "rest-em", ACCURACY, note="after two cycles"),
    ),
    reason="The search does what is claimed: with as many tokens it answers .57 to .67 of the questions where "
    "best-of-N answers .44 to .48 and a vote .25 to .28, and with permuted values .08 to .25. Two rules "
    "fail. AUROC over all states: targets rise along a solution while being on the right way gets rarer, "
    "so that depth alone gives a model with permuted targets .12 to .59, by seed; the value model has .65 "
    "to .77, and within a depth .74 to .92 on development questions. Self-training: in the first cycle "
    ".50 to .79 of the questions give a solution to train on, in the second .21 to .58. The value model "
    "is to blame, which between the cycles is taught by the search's own trees: afterwards its AUROC in "
    "the first four steps is .24 to .47, that is, upside down, where it was .9 before. Likely why, not "
    "measured: wrong beginnings that the search drops early have no finished leaf below and so no label "
    "(the released code labels alike); what is left at these depths are beginnings that all lead to the "
    "answer. Labels kept from the warm-up, or labels for unfinished branches, were not tried. The greedy "
    "answers of both arms stay where they began (.38) except for one seed of the tree (.45); pass@1 is "
    ".22 and .23.",
)
