"""Scorers of the signals that several methods share. See :mod:`selfreward.auditing.context` for what a scorer is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from selfreward.auditing.context import Context, Scores, UnavailableError
from selfreward.auditing.rollouts import CHARACTERS
from selfreward.signals import Signal, certainty, rules
from selfreward.signals.similarity import mean_similarity
from selfreward.signals.vote import borda_vote, cross_vote_rewards, vote_rewards
from selfreward.signals.vote import vote as elect
from selfreward.types import Group, Segment

DEFAULT_JUDGE = (
    "Question:\n{question}\n\nProposed solution:\n{completion}\n\n"
    "Is the final answer of the proposed solution correct? Reply with one word, Yes or No."
)


def plain(entry: Signal) -> Callable[..., Scores]:
    """The scorer of a signal whose function can be called on what it ``needs``, one group at a time."""
    from selfreward.signals import SIGNALS

    name = next((k for k, v in SIGNALS.items() if v is entry), entry.function.partition(":")[2])
    function = entry.load()

    def by_classes(context: Context, groups: Sequence[Group]) -> Scores:
        return [list(function(context.classes(g))) for g in groups]

    def by_stats(context: Context, groups: Sequence[Group]) -> Scores:
        stats = context.stats(groups, [certainty.needed_statistic(name)])
        return [[float(function(name, t)) if _tokens(t) else None for t in g] for g in stats]

    def by_texts(context: Context, groups: Sequence[Group]) -> Scores:
        return [list(function(g.completions)) for g in groups]

    def by_size(context: Context, groups: Sequence[Group]) -> Scores:
        return [list(function(len(g))) for g in groups]

    kinds = {"classes": by_classes, "stats": by_stats, "completions": by_texts, "size": by_size}
    assert entry.needs in kinds, f"signal {name!r} needs {entry.needs!r} and must name its own scorer"
    return kinds[entry.needs]


def _tokens(stats: Mapping[str, torch.Tensor]) -> bool:
    return all(v.numel() > 0 for v in stats.values())


# ---- agreement -----------------------------------------------------------------------------------


def vote(context: Context, groups: Sequence[Group], missing: Any = "drop", quorum: float = 0.0) -> Scores:
    found = [context.classes(g) for g in groups]
    return [list(vote_rewards(c, elect(c, missing=missing, quorum=quorum))) for c in found]


def cross_vote(context: Context, groups: Sequence[Group]) -> Scores:
    context.views(groups)
    return [list(cross_vote_rewards(*context.shared_classes(g))[0]) for g in groups]


def borda(context: Context, groups: Sequence[Group], by: str = "self_certainty", power: float = 0.5) -> Scores:
    stats = context.stats(groups, [certainty.needed_statistic(by)])
    result: Scores = []
    for group, own in zip(groups, stats, strict=True):
        scores = [float(certainty.sequence_score(by, t)) if _tokens(t) else float("-inf") for t in own]
        classes = context.classes(group)
        result.append(list(vote_rewards(classes, borda_vote(classes, scores, power))))
    return result


def mbr(context: Context, groups: Sequence[Group]) -> Scores:
    from selfreward.translation import chrf

    return [list(mean_similarity(context.answers_of(g), chrf)) for g in groups]


# ---- judging -------------------------------------------------------------------------------------


def judge_expected(
    context: Context,
    groups: Sequence[Group],
    template: str = "judge",
    yes: str = "Yes",
    no: str = "No",
) -> Scores:
    """A scale where the task has one, else the probability of yes against no."""
    if "scores" in context.templates and template == "judge":
        return _scale(context, groups, "expected")
    policy = context.model()
    text = DEFAULT_JUDGE if template == "judge" and "judge" not in context.templates else context.template(template)
    verdicts = [context.templates.get("yes", yes), context.templates.get("no", no)]
    items = {(g.prompt.question, c): None for g in groups for c in g.completions}
    asked = [{"question": q, "completion": c} for q, c in items]
    chosen = dict(zip(items, policy.ask(text, asked, verdicts).probs[:, 0].tolist(), strict=True))
    return [[chosen[g.prompt.question, c] for c in g.completions] for g in groups]


def judge_score(context: Context, groups: Sequence[Group]) -> Scores:
    return _scale(context, groups, "number")


def judge_pairwise(context: Context, groups: Sequence[Group]) -> Scores:
    if "judge_pair" not in context.templates:
        raise UnavailableError("the task brings no template 'judge_pair'")
    return _scale(context, groups, "pairwise")


def _scale(context: Context, groups: Sequence[Group], readout: Any) -> Scores:
    from selfreward.judging import PolicyJudge
    from selfreward.recipes.ssr_zero import judge_template

    policy = context.model()
    if "judge" not in context.templates or "scores" not in context.templates:
        raise UnavailableError("the task brings no judge with a scale (templates 'judge' and 'scores')")
    found = [context.answers_of(g) for g in groups]
    items = [
        [{**{k: str(v) for k, v in g.prompt.fields.items()}, "hypothesis": h} for h in own if h]
        for g, own in zip(groups, found, strict=True)
    ]
    judged = PolicyJudge(policy, judge_template(context.templates), readout)(items)
    queues = [iter(row) for row in judged]
    return [[next(q) if h else 0.0 for h in own] for own, q in zip(found, queues, strict=True)]


def cycle(context: Context, groups: Sequence[Group], floor: float = -10.0) -> Scores:
    policy, back = context.model(), context.template("back")
    tails, heads = [], []
    for group in groups:
        fields = group.prompt.fields
        if "source" not in fields:
            raise UnavailableError("needs a column 'source'")
        text = context.templates.get("answer", "{answer}").format(answer=fields["source"])
        tail = list(policy.tokenizer(text, add_special_tokens=False)["input_ids"])
        for h in filter(None, context.answers_of(group)):
            heads.append(policy.encode_text(back.format(**fields, hypothesis=h)))
            tails.append(tail)
    sequences = [torch.tensor(h + t) for h, t in zip(heads, tails, strict=True)]
    scored = iter(policy.score(sequences, [len(h) for h in heads], role="back"))
    return [
        [max(floor, float(next(scored)["logprob"].mean())) if h else floor for h in context.answers_of(g)]
        for g in groups
    ]


# ---- rules and controls --------------------------------------------------------------------------


def gold(context: Context, groups: Sequence[Group]) -> Scores:
    if any(g.prompt.answer is None for g in groups):
        raise UnavailableError("needs a reference answer for every prompt")
    return [list(rules.gold(g.completions, str(g.prompt.answer), context.answers)) for g in groups]


def random(context: Context, groups: Sequence[Group]) -> Scores:
    return [list(rules.random_reward(len(g), context.generator("coin", g.key))) for g in groups]


def format_only(context: Context, groups: Sequence[Group]) -> Scores:
    return [list(rules.format_only(g.completions, context.well_formed)) for g in groups]


def length(context: Context, groups: Sequence[Group]) -> Scores:
    """In tokens where they are known, else in characters."""
    return [list(rules.length([t.last.tokens.tolist() for t in g])) for g in groups]


def repetition(context: Context, groups: Sequence[Group], n: int = 3) -> Scores:
    """Of tokens where they are known, else of words."""
    return [[rules.repetition_rate(_units(t.last), n) for t in g] for g in groups]


def _units(segment: Segment) -> Any:
    return segment.text if CHARACTERS in segment.meta else segment.tokens.tolist()
