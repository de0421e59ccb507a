"""One set of rollouts, every signal scored on it, and what can be said about each before training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from selfreward.data.rollout_files import Rollouts
from selfreward.data.task import Task
from selfreward.errors import ConfigError, DataError, UnavailableError, UserError
from selfreward.evaluation.audit import blind, measures
from selfreward.evaluation.audit.bench import Arrays, Bench, Meter, make_bench
from selfreward.evaluation.audit.record import AuditReport, SignalAudit
from selfreward.evaluation.audit.verdicts import Verdict, judge_signal
from selfreward.rollouts.given import tokenize
from selfreward.rollouts.run import RunContext
from selfreward.signals.named import parse_signal, record_stats, score_groups
from selfreward.signals.registry import SIGNALS, Signal, signal
from selfreward.statistics import Estimate, share
from selfreward.types import Prompt

if TYPE_CHECKING:
    from selfreward.data.answers import AnswerSpace
    from selfreward.policy.policy import Policy
    from selfreward.policy.sampling.params import SamplingParams

AGREEMENT = ("classes", "views")
SMALLEST_HALVED = 4
JUDGING = ("judge", "policy")
GIVEN = Signal("completions", "a reward that came with the rollouts", "")


def audit(
    source: Policy | Rollouts,
    task: Task | None = None,
    *,
    prompts: int | Sequence[Prompt] = 64,
    signals: Sequence[str] | None = None,
    n: int = 16,
    seed: int = 0,
    labels: int | None = None,
    sampling: SamplingParams | None = None,
    answers: AnswerSpace | None = None,
    policy: Policy | None = None,
) -> AuditReport:
    """Say which signals can be believed here.

    Args:
        source: the model to be trained, or rollouts that were produced elsewhere.
        task: prompts, answers and templates; needed for a model.
        prompts: how many of the task's training prompts, or the prompts themselves.
        signals: names with options, as in ``"borda:by=gap"``; by default all that can be scored here.
        n: completions per prompt.
        labels: on how many of the prompts to look at the truth; None for all that have it, 0 for none.
        sampling: how to sample; by default at temperature 1 with the task's length limit.
        answers: how answers are found; by default as in ``task``, else ``auto``.
        policy: scores rollouts from elsewhere, so that signals beyond their texts can be asked for.

    Raises:
        ConfigError: for an unknown signal.
        DataError: without prompts.
    """
    from selfreward.data.answers import answer_space

    given = source.scores if isinstance(source, Rollouts) else {}
    wanted = list(dict.fromkeys(SIGNALS if signals is None else signals))
    for spec in wanted:
        if spec not in given:
            parse_signal(spec)
    audited = task or Task.of("rollouts", answers or answer_space("auto"))
    if isinstance(source, Rollouts):
        groups, truths, meter = source.groups, source.truths, Meter(policy)
        if policy is not None:
            tokenize(groups, policy)
    else:
        policy, truths, meter = source, None, Meter(source)
        sampling = record_stats(sampling or _sampling(task))
        asked = _prompts(task, prompts, n)
        with meter.of("sampling"):
            groups = policy.sample(asked, n, sampling, seed=seed)
    context = _context(audited, answers, policy, sampling or _sampling(task), seed)
    quality = getattr(getattr(task, "evaluator", None), "similarity", None)
    bench = make_bench(context, groups, truths, labels, quality, meter)
    bench.blindfolded = labels == 0
    if signals is None:
        # Similarity of texts costs a comparison per pair: it is for answers that are not just right or wrong.
        wanted = [*given, *(w for w in wanted if w not in given and (w != "mbr" or quality is not None))]
    found = [_score(name, bench, given.get(name), meter) for name in wanted]
    for one in found:
        if one.scores:
            _measure(one, bench, found, seed)
    return _report(bench, found, meter, audited.name, seed)


def _context(
    task: Task, answers: AnswerSpace | None, policy: Policy | None, sampling: SamplingParams, seed: int
) -> RunContext:
    """What signals may look at; before training the policy is its own reference."""
    return RunContext(
        answers or task.answers,
        task.well_formed,
        templates=dict(task.templates),
        policy=policy,
        sampling=sampling,
        seed=seed,
    )


def _sampling(task: Task | None) -> SamplingParams:
    from selfreward.policy.sampling.params import SamplingParams

    return SamplingParams(max_new_tokens=int((task.settings if task else {}).get("max_new_tokens", 256)))


def _prompts(task: Task | None, prompts: int | Sequence[Prompt], n: int) -> list[Prompt]:
    if n < 2:
        raise ConfigError(f"An audit needs at least 2 completions per prompt, not {n}.")
    if isinstance(prompts, int):
        if task is None:
            raise ConfigError("An audit of a model needs a task, or the prompts themselves.")
        prompts = task.train[:prompts]
    if not prompts:
        raise DataError("There is nothing to audit: the list of prompts is empty.")
    return list(prompts)


# ---- one signal ----------------------------------------------------------------------------------


def _score(name: str, bench: Bench, given: Sequence[Sequence[float | None]] | None, meter: Meter) -> SignalAudit:
    """The signal's values on all groups, and the labels that it elects."""
    entry = GIVEN if given is not None else signal(parse_signal(name)[0])
    result = SignalAudit(name, entry.description, entry.needs, entry.control, entry.probability)
    try:
        if entry.needs == "reference" and bench.blindfolded:
            raise UnavailableError("it reads the answers, and no labels are to be used")
        with meter.of(name):
            values = given if given is not None else score_groups(name, bench.context, bench.groups)
            result.scores = [np.array([np.nan if v is None else v for v in row], dtype=float) for row in values]
            result.half_labels = _half_labels(name, entry, bench, result.scores)
    except UserError as reason:  # one signal that cannot be had does not keep the others from being looked at
        result.verdict = Verdict("not scored", str(reason).rstrip("."))
        return result
    result.cost = meter.costs[name]
    result.labels = bench.labels(bench.groups, result.scores)
    return result


def _measure(result: SignalAudit, bench: Bench, all_signals: Sequence[SignalAudit], seed: int) -> None:
    known = bench.labelled
    result.blind = _without_truth(result, bench, seed)
    _estimate(result, bench, seed)
    # A label from another view pays nobody where nobody gives it: it is as good as the pairs that it orders.
    elects = result.needs == "classes"
    if not elects:
        _hold_against(result, bench, all_signals, seed)
    if known:
        result.labelled = _with_truth(result, bench, known, seed)
    if result.control:
        result.verdict = Verdict("yardstick", result.description)
        return
    result.verdict = judge_signal(
        elects=elects,
        labelled=result.labelled,
        blind=result.blind,
        labels=len(known),
        against=result.probability_from if elects else result.held_against,
        independence=result.independence,
        certainty=result.needs == "stats",
        reads_labels=result.needs == "reference",
    )


def _half_labels(name: str, entry: Signal, bench: Bench, scores: Arrays) -> tuple[list[str | None], list[str | None]]:
    """The labels that the signal elects in either half of each group."""
    found = []
    for which, half in enumerate(bench.halves):
        if entry.needs == "classes":  # what depends on the group is worked out for the half
            own = [np.array([np.nan if v is None else v for v in r]) for r in score_groups(name, bench.context, half)]
        else:
            own = [s[which::2] for s in scores]
        found.append(bench.labels(half, own))
    return found[0], found[1]


def _with_truth(result: SignalAudit, bench: Bench, known: list[int], seed: int) -> dict[str, Estimate]:
    chosen, truths = [result.scores[i] for i in known], [bench.truths[i] for i in known]
    right = [
        measures.label_truth(result.scores[i], bench.exact[i], bench.context.classes(bench.groups[i])) for i in known
    ]
    found = {
        "label_right": share(right, seed=seed),
        "pairs": measures.within_group_pairs(chosen, truths, seed),
        "auroc": measures.pooled_auroc(chosen, [bench.exact[i] for i in known], seed),
        "gain": measures.selection_gain(chosen, truths, seed),
        "overshoot": measures.overshoot(chosen, truths, _ks(truths), seed),
        "partial": measures.bias(chosen, [bench.lengths[i] for i in known], truths, seed)["partial"],
    }
    if result.probability:
        found |= measures.calibration(chosen, truths, seed)
    return {k: e for k, e in found.items() if not math.isnan(e.value)}


def _without_truth(result: SignalAudit, bench: Bench, seed: int) -> dict[str, Estimate]:
    length = measures.bias(result.scores, bench.lengths, seed=seed)
    form = measures.bias(result.scores, bench.formed, seed=seed)
    found = {
        "flat": measures.flat_share(result.scores),
        "missing": _number(measures.missing_share(result.scores)),
        "length": length["correlation"],
        "explained": length["explained"],
        "format": form["correlation"],
    }
    if result.needs not in AGREEMENT:
        found["saturated"] = _number(measures.saturation(result.scores))
    return {k: e for k, e in found.items() if not math.isnan(e.value)}


def _number(value: float) -> Estimate:
    return Estimate(value, math.nan, math.nan)


def _estimate(result: SignalAudit, bench: Bench, seed: int) -> None:
    """The chance that the signal's label is right, without truth."""
    halves = bench.agreements(*result.half_labels)
    result.blind["halves"] = share(halves, seed=seed)
    if result.name != "vote":
        result.blind["with_vote"] = share(bench.agreements(result.labels, bench.vote_label), seed=seed)
    if bench.same > blind.SAME_EVERYWHERE:
        result.probability_from = "nothing, because most prompts get the same answer"
        return
    if bench.views is not None:
        # What elects by the other view must be held against this one.
        other = bench.vote_label if result.needs == "views" else bench.view_label
        own = bench.agreements(result.labels, other)
        reference = bench.agreements(bench.vote_label, bench.view_label)
        result.blind["with_view"] = share(own, seed=seed)
        estimate = blind.right_from_reference(own, reference, bench.chance, seed)
        result.probability_from, result.from_halves = "the prompt and its other wording", False
        result.independence = "view"
    elif min(map(len, bench.groups)) < SMALLEST_HALVED:
        result.probability_from = "nothing, because the groups are too small to be halved"
        return
    else:
        estimate = blind.right_from_twins(halves, bench.chance, seed)
        result.probability_from = "the two halves of each group"
    if not math.isnan(estimate.value):
        result.blind["probability"] = estimate


def _hold_against(result: SignalAudit, bench: Bench, all_signals: Sequence[SignalAudit], seed: int) -> None:
    """Pairwise accuracy against what is most independent of the signal: the other wording, else another ability
    of the model (judging against answering), else the vote of the same samples."""
    others = {s.name: s for s in all_signals if s.scores}
    judges = [n for n in ("judge_expected", "judge_score", "cycle") if n in others and n != result.name]
    judging = result.needs in JUDGING
    if judging:  # two judgements of one kind are not independent
        judges = [n for n in judges if others[n].needs != result.needs]
    if bench.same <= blind.SAME_EVERYWHERE and bench.views is not None and result.needs != "views":
        truths, words, independence = bench.members(bench.view_label), "a vote on the other wording", "view"
    elif judges:
        truths, words, independence = others[judges[0]].scores, judges[0], "ability"
    else:
        truths, words = bench.members(bench.vote_label), "the group's own vote"
        independence = "ability" if judging else "samples"
    value = measures.within_group_pairs(result.scores, truths, seed)
    if not math.isnan(value.value):
        result.blind["view_pairs"], result.held_against = value, words
        result.independence = independence  # type: ignore[assignment]


# ---- the report ----------------------------------------------------------------------------------


def _report(bench: Bench, found: list[SignalAudit], meter: Meter, task: str, seed: int) -> AuditReport:
    known, total = bench.labelled, sum(map(len, bench.groups))
    scored = [s for s in found if s.scores]
    matrix = measures.agreement_matrix([s.scores for s in scored]) if scored else np.zeros((0, 0))
    for signal_audit in scored:
        truths = [bench.truths[i] for i in known]
        own = [signal_audit.scores[i] for i in known]
        signal_audit.curve = measures.selection_curve(own, truths, _ks(truths))
        signal_audit.bins = measures.rank_bins(own, truths)
    answers = [bench.context.answers_of(g) for g in bench.groups]
    facts = {
        "answered": share([sum(a is not None for a in row) / len(row) for row in answers], seed=seed),
        "well_formed": share([float(f.mean()) for f in bench.formed], seed=seed),
        "different_answers": _number(
            float(np.mean([len(set(bench.context.classes(g)) - {None}) for g in bench.groups]))
        ),
        "vote_share": share([_top_share(bench.context.classes(g)) for g in bench.groups], seed=seed),
        "same_label_everywhere": _number(bench.same),
    }
    if bench.views is not None:
        facts["views_agree"] = share(bench.agreements(bench.vote_label, bench.view_label), seed=seed)
    if known:
        facts["truth"] = share([float(bench.truths[i].mean()) for i in known], seed=seed)
        facts["best_possible"] = share([float(bench.truths[i].max()) for i in known], seed=seed)
    return AuditReport(
        task=task,
        signals=found,
        prompts=len(bench.groups),
        completions=total,
        labelled=len(known),
        views=bench.views is not None,
        facts={k: e for k, e in facts.items() if not math.isnan(e.value)},
        ks=_ks([bench.truths[i] for i in known]),
        matrix=[[float(v) for v in row] for row in matrix],
        costs=dict(meter.costs),
        groups=bench.groups,
        truths=bench.truths,
        seed=seed,
    )


def _ks(truths: Arrays) -> list[int]:
    """Powers of two up to the size of the smallest group."""
    least = min((t.size for t in truths), default=0)
    return [k for k in (1, 2, 4, 8, 16, 32, 64, 128, 256) if k <= least]


def _top_share(classes: Sequence[int | None]) -> float:
    from selfreward.signals.vote import vote

    return vote(classes, missing="zero").share
