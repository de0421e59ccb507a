"""``selfreward select``: many samples of every prompt, one chosen answer each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from selfreward.errors import ConfigError, DataError

if TYPE_CHECKING:
    from rich.table import Table

    from selfreward.data.answers import AnswerSpace
    from selfreward.data.task import Task
    from selfreward.policy.policy import Policy
    from selfreward.policy.sampling.params import SamplingParams
    from selfreward.signals.selection import Selection
    from selfreward.training.config import TrainConfig
    from selfreward.types import Group, Prompt


# Everyday names of signals, and what a rule other than the vote goes by unless told.
ALIASES = {
    "self-certainty": "self_certainty",
    "logprob": "mean_logprob",
    "entropy": "negative_entropy",
    "judge": "judge_expected",
    "last-token": "last_token",
    "self-prm": "step_review",
}


USUAL = {"best": "self-certainty", "borda": "self-certainty", "weighted": "judge", "accept-vote": "judge"}


@dataclass
class Chosen:
    """What :func:`choose` found: one selection per group, and the scores that it went by."""

    groups: list[Group]
    classes: list[list[int | None]]
    scores: list[list[float | None]] | None
    selections: list[Selection]
    answers: AnswerSpace


def select(
    model: Annotated[str, typer.Option("--model", help="Model folder, hub id, or embedded:NAME.")] = "embedded:chain",
    data: Annotated[str | None, typer.Option("--data", help="Prompts; answers, where there are any, grade.")] = None,
    completions: Annotated[
        str | None,
        typer.Option("--completions", help="JSONL of prompts with 'completions' (and 'scores') made elsewhere."),
    ] = None,
    n: Annotated[int, typer.Option("-n", help="Samples per prompt.", min=1)] = 16,
    rule: Annotated[str, typer.Option("--rule", help="majority, best, borda, weighted or accept-vote.")] = "majority",
    score: Annotated[
        str | None,
        typer.Option("--score", help="self-certainty, logprob, entropy, gini, gap, judge, last-token, self-prm, ..."),
    ] = None,
    power: Annotated[float, typer.Option("--power", help="Of the Borda weights; 0 is the plain vote.")] = 0.5,
    threshold: Annotated[float, typer.Option("--threshold", help="Least score that is accepted.")] = 0.5,
    limit: Annotated[int, typer.Option("--limit", help="Prompts at most.", min=1)] = 200,
    seed: Annotated[int, typer.Option("--seed")] = 0,
    out: Annotated[Path | None, typer.Option("--out", help="JSONL of the chosen answers.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE of the run; repeatable.")] = None,
) -> None:
    """Sample many answers per prompt and choose one: by vote, by score, or by both."""
    from rich.console import Console

    from selfreward.data import write_jsonl
    from selfreward.signals.selection import NEEDS_SCORES
    from selfreward.signals.selection import select as pick
    from selfreward.training.config import make_config

    pick([], [], rule, power=power)  # an unknown rule or power is told before anything is sampled
    if rule in NEEDS_SCORES and score is None and completions is None:
        score = USUAL[rule]
    if data and completions:
        raise ConfigError("--data asks for new samples and --completions brings them; give one of the two.")
    config = make_config({"model": model, "seed": seed} | ({"data": data or completions}), set_ or [])
    chosen = choose(config, completions is not None, n, limit, rule, score, power, threshold)
    rows = list(records(chosen, rule, score))
    if out:
        write_jsonl(out, rows)
    Console().print(accuracy_table(chosen, rule))
    print(out if out else "\n".join(f"{row['prompt']} -> {row['answer']}  ({row['why']})" for row in rows[:10]))


def choose(
    config: TrainConfig,
    given: bool,
    n: int,
    limit: int,
    rule: str,
    score: str | None,
    power: float = 0.5,
    threshold: float = 0.5,
) -> Chosen:
    """Sample or read completions, score them, and select.

    Raises:
        UserError: on whatever is wrong with model, data, score or rule.
    """
    from selfreward.rollouts.run import RunContext
    from selfreward.signals.named import score_groups
    from selfreward.signals.selection import select as pick
    from selfreward.training.launch import load_for_sampling, resolve_defaults, set_threads

    set_threads(config)
    task = _task(config, given)
    prompts = task.test[:limit]
    policy: Policy | None = None
    params = _params(config, score)
    if not given or score is not None:
        policy, _ = load_for_sampling(config)
        params = replace(params, max_new_tokens=resolve_defaults(config, task, policy).max_new_tokens or 64)
    if given or policy is None:
        groups = [_group(p, policy) for p in prompts]
    else:
        groups = policy.sample(prompts, n, params, seed=config.seed)
    context = RunContext.of(task, policy=policy, sampling=params, seed=config.seed)
    scores = None
    if score is not None:
        scores = score_groups(_named(score), context, groups)
    elif given and all("scores" in p.fields for p in prompts):
        scores = [_stored_scores(g) for g in groups]
    classes = [context.classes(g) for g in groups]
    rows: Sequence[Any] = scores if scores is not None else [None] * len(groups)
    selections = [pick(c, s, rule, power=power, threshold=threshold) for c, s in zip(classes, rows, strict=True)]
    return Chosen(groups, classes, scores, selections, task.answers)


def _named(score: str) -> str:
    name, colon, options = score.partition(":")
    return ALIASES.get(name, name) + colon + options


def _params(config: TrainConfig, score: str | None) -> SamplingParams:
    from selfreward.policy.sampling.params import SamplingParams
    from selfreward.signals.certainty import SEQUENCE_SCORES, needed_statistic

    name = _named(score or "")
    return SamplingParams(
        max_new_tokens=config.max_new_tokens or 64,
        temperature=config.temperature,
        top_p=config.top_p,
        top_k=config.top_k,
        stats=(needed_statistic(name),) if name in SEQUENCE_SCORES else (),
    )


def _task(config: TrainConfig, given: bool) -> Task:
    from selfreward.data import load_prompts
    from selfreward.data.answers import answer_space
    from selfreward.data.task import Task
    from selfreward.training.launch import embedded_name, task_of

    if not given and (config.data is None or embedded_name(config.data)):
        return task_of(config)
    assert config.data is not None
    prompts = load_prompts(config.data, prompt_field=config.prompt_field, answer_field=config.answer_field)
    name = embedded_name(config.model)
    if given and name and config.answers == "auto":
        # Completions of an embedded model are read as its task reads them.
        return replace(task_of(replace(config, data=None)), test=prompts)
    return Task.of(config.data, answer_space(config.answers), test=prompts)


def _group(prompt: Prompt, policy: Policy | None) -> Group:
    """The completions of one row as a group; tokens only where a model will read them."""
    import torch

    from selfreward.types import Group, Segment, Trajectory

    texts = prompt.fields.get("completions")
    if not isinstance(texts, list) or not texts or not all(isinstance(t, str) for t in texts):
        raise DataError(f"Prompt {prompt.id!r}: field 'completions' must be a list of texts, at least one.")
    head = torch.tensor(policy.encode(prompt) if policy else [], dtype=torch.long)
    trajectories = []
    for text in texts:
        ids = list(policy.tokenizer(text, add_special_tokens=False)["input_ids"]) if policy else []
        tokens = torch.tensor(ids + (policy.end_tokens[:1] if policy else []), dtype=torch.long)
        trajectories.append(
            Trajectory(prompt, [Segment("prompt", head), Segment("solver", tokens, text, trainable=True)])
        )
    return Group(prompt.id, prompt, trajectories)


def _stored_scores(group: Group) -> list[float | None]:
    values = group.prompt.fields["scores"]
    fits = isinstance(values, list) and len(values) == len(group)
    if not fits or not all(v is None or isinstance(v, int | float) for v in values):
        raise DataError(f"Prompt {group.prompt.id!r}: field 'scores' must hold one number (or null) per completion.")
    return [None if v is None else float(v) for v in values]


def records(chosen: Chosen, rule: str, score: str | None) -> Iterator[dict[str, Any]]:
    """The lines of the output file."""
    for i, (group, classes, selection) in enumerate(zip(chosen.groups, chosen.classes, chosen.selections, strict=True)):
        answers = [group.completions[classes.index(c)] for c in selection.votes]
        yield {
            "id": group.prompt.id,
            "prompt": group.prompt.question,
            "answer": None if selection.index is None else group.completions[selection.index],
            "sample": selection.index,
            "rule": rule,
            "score": score,
            "why": selection.why,
            "fallback": selection.fallback,
            "votes": [{"like": a, "weight": w} for a, w in zip(answers, selection.votes.values(), strict=True)],
            "scores": chosen.scores[i] if chosen.scores is not None else None,
            "completions": group.completions,
        }


def accuracy_table(chosen: Chosen, rule: str) -> Table:
    """The rule beside a random sample and the majority, on the prompts that have an answer."""
    from rich.table import Table

    from selfreward.signals.selection import select as pick
    from selfreward.statistics import paired_prompts, share

    right = {
        i: [chosen.answers.correct(c, g.prompt.answer) for c in g.completions]
        for i, g in enumerate(chosen.groups)
        if g.prompt.answer is not None
    }
    table = Table(title=f"{len(chosen.groups)} prompts, {len(right)} with an answer")
    for column in ("choice", "accuracy", "95% interval", "against the majority"):
        table.add_column(column)
    if not right:
        return table

    def graded(selections: Sequence[Selection]) -> list[float]:
        return [float(s.index is not None and right[i][s.index]) for i, s in enumerate(selections) if i in right]

    majority = graded([pick(c) for c in chosen.classes])
    sides = {
        "a random sample": [sum(r) / len(r) for r in right.values()],
        "majority": majority,
        rule: graded(chosen.selections),
        "any sample is right": [float(any(r)) for r in right.values()],
    }
    for name, values in sides.items():
        mean, lead = share(values), paired_prompts(majority, values)
        against = "" if name == "majority" else f"{lead.value:+.3f} [{lead.low:+.3f}, {lead.high:+.3f}]"
        table.add_row(name, f"{mean.value:.3f}", f"{mean.low:.3f} … {mean.high:.3f}", against)
    return table
