"""DRO with R3 (018) on REPORT: long templated text in which four tokens depend on a line of thought.

The rules are those of the method card, written down before the run. All arms start from the same base and take the
same number of updates on the same prompts; the two arms that test the filter share a smaller set of prompts, which
they see several times. No rule reads two arms, which were added after the others had run: the one without
the masked baseline, which cancels under a group's mean (a test says so), and overlap of the sampled report with the
reference, which orders traces worse than chance (gate).

Settings come from development prompts with one seed. The shape of the weights, which is not published, orders the
base's traces right in .87 of pairs where it is squared and in .74 where it is proportional; squared is taken for
all arms with weights. A rate of 6e-4 without KL destroys the format (squared .48 to .82, proportional .48 to .08);
2e-4 teaches squared .70, proportional .61, aggregate .24; 4e-4 with a KL weight of 0.05, which is taken, squared
.69 after 20 steps and .83 after 40. Runs have 24 steps, for reasons of cost; the curves still rise there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from selfreward.lab.proofs.common.gates import gate
from selfreward.lab.proofs.proof import Proof
from selfreward.lab.proofs.rules import PERCENT, POINTS, Metric, falls, keeps, leads, measured, not_below
from selfreward.training.comparison import Arm

if TYPE_CHECKING:
    from selfreward.policy.policy import Policy
    from selfreward.types import Prompt

BASE = "embedded:report"
COMPUTED = Metric("computed", "the share of computed tokens that are right", POINTS)
THOUGHT = Metric("reasoning", "tokens of reasoning")
R3 = {"shape": "squared"}
STEPS_PER_EPOCH, FEW = 10, {"limit": 80}


def signal_quality(policy: Policy, prompts: Sequence[Prompt], seed: int = 0) -> dict[str, float]:
    """Chance that a better trace of a group has the higher reward (ties count half), for the base's own traces.

    A trace is as good as the share of computed tokens that its own report gets right.
    """
    import torch

    from selfreward.lab.tasks.writing.report import MARK, SETTINGS, computed_share
    from selfreward.policy.sampling.params import SamplingParams
    from selfreward.signals import reference as r3
    from selfreward.signals.scorers.reference import ReferenceScorer
    from selfreward.statistics import within_group_accuracy

    groups = policy.sample(prompts, 8, SamplingParams(SETTINGS["max_new_tokens"], stats=()), seed=seed)
    truth: list[list[float]] = []
    found: dict[str, list[list[float]]] = {}
    scorer = ReferenceScorer(policy, MARK)
    for group in groups:
        answer = str(group.prompt.answer)
        parts = [(t, o, c) for c in group.completions for t, o in [scorer.split(c) or ("", "")] if t]
        if not parts:
            continue
        logprob = scorer(group.prompt, [t for t, _, _ in parts], answer).logprob
        spread = r3.token_spread(logprob)
        shuffled = torch.randperm(len(spread), generator=torch.Generator().manual_seed(seed))
        top = r3.spread_weights(spread, "top") > 0
        rewards = {
            "r3": r3.reasoning_reflection(logprob, r3.spread_weights(spread)),
            "r3 squared": r3.reasoning_reflection(logprob, r3.spread_weights(spread, "squared")),
            "r3 top": r3.reasoning_reflection(logprob, r3.spread_weights(spread, "top")),
            "r3 propagated": r3.reasoning_reflection(r3.propagated(logprob, top), r3.spread_weights(spread)),
            "permuted weights": r3.reasoning_reflection(logprob, r3.spread_weights(spread)[shuffled]),
            "aggregate": r3.reasoning_reflection(logprob, r3.spread_weights(spread, "uniform")),
            "overlap": torch.tensor([r3.overlap(o.split(), answer.split()) for _, o, _ in parts]),
        }
        truth.append([computed_share(c, answer) for _, _, c in parts])
        for name, values in rewards.items():
            found.setdefault(name, []).append(values.tolist())
    return {name: within_group_accuracy(rows, truth, seed=seed).value for name, rows in found.items()}


def on_development(base: Policy) -> dict[str, float]:
    """How well each reward orders the base's traces on development prompts, before any training."""
    from selfreward.lab.tasks.writing.report import dev_prompts

    return {f"within-group accuracy of {k}": v for k, v in signal_quality(base, dev_prompts(60)).items()}


def r3_over_aggregate() -> list[float]:
    """Lead of R3 over the aggregate in ordering the base's traces on test prompts, in three draws."""
    from selfreward.lab.tasks.writing.report import load
    from selfreward.policy.loading import load_policy

    base = load_policy(BASE, device="cpu")
    draws = [signal_quality(base, load().test[:60], seed) for seed in range(3)]
    return [draw["r3 squared"] - draw["aggregate"] for draw in draws]


PROOF = Proof(
    slug="dro-r3",
    id="018",
    claim="Weighting the reference's tokens by how much their likelihood varies between reasoning traces rewards the "
    "reasoning better than the whole likelihood, which shortens it.",
    task=BASE,
    main="r3",
    gate=gate(BASE, on_development, needs=[("within-group accuracy of r3 squared", ">", 0.5)]),
    arms=(
        Arm("r3", "dro-r3", R3),
        Arm("aggregate", "dro-r3", {"reward": "aggregate"}),
        Arm("no-baseline", "dro-r3", {**R3, "masked": False}),
        Arm("overlap", "dro-r3", {"reward": "overlap"}),
        Arm("permuted-weights", "dro-r3", {**R3, "permute": True}),
        Arm("computed-tokens", "computed-tokens"),
        Arm("few", "dro-r3", R3, settings=FEW),
        Arm("few-filtered", "dro-r3", {**R3, "filter_every": STEPS_PER_EPOCH}, settings=FEW),
    ),
    settings={
        "model": BASE,
        "prompts_per_step": 8,
        "steps": 24,
        "eval_every": 24,
        "checkpoint_every": 24,
    },
    rules=(
        measured(
            "R3 orders traces better",
            "the within-group accuracy of R3 on the base's traces minus that of the aggregate likelihood",
            lambda r: r3_over_aggregate(),
            above=0,
            end="low",
            over="draws",
        ),
        leads("above the aggregate", "r3", "aggregate", COMPUTED, note="aggregate: the whole likelihood"),
        not_below(
            "near the ceiling",
            "r3",
            "computed-tokens",
            COMPUTED,
            within=0.05,
            note="computed-tokens: they are the reward",
        ),
        falls("the aggregate shortens reasoning", "aggregate", THOUGHT),
        keeps("R3 keeps it", "r3", THOUGHT),
        leads(
            "the weights matter",
            "r3",
            "permuted-weights",
            COMPUTED,
            note="permuted-weights: the same weights on other tokens",
        ),
        not_below(
            "the filter costs no accuracy", "few-filtered", "few", COMPUTED, within=0.03, note="on the same few prompts"
        ),
        measured(
            "the filter saves prompts",
            "what few-filtered generates, as a share of the tokens that few generates,",
            lambda r: r.values("few-filtered", "generated", "tokens") / r.values("few", "generated", "tokens"),
            at_most=0.9,
            unit=PERCENT,
        ),
    ),
    reason="R3 itself does what it claims: 0.48 to 0.75 of the computed tokens, the aggregate falls to 0.25 and drops "
    "its reasoning. The two rules of the prompt filter fail. Accuracy: with the filter the same prompts end 3.3 "
    "points lower where 3 are allowed, by seed 7, 2 and 0 lower. Worked thoughts are as frequent with it as "
    "without (0.82); what is lost is form (0.56, 0.74 and 0.92 of the reports keep to it, without the filter "
    "0.82, 0.90 and 0.91), which no part of the reward watches but the length. Saving: the rule counts all "
    "tokens that a run generates, and seven in ten are the monitor's probes and the evaluation, alike in both "
    "arms; of the tokens of the rollouts themselves the filter takes 0.85. Only the filter by spread acts: no "
    "rank can reach 100 among 91 tokens, so that no prompt counts as too hard.",
)
