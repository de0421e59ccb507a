"""Use a model without training it: one answer out of many samples, and steering vectors from its own answers.

The rules of selection are pure and stand in :mod:`selfreward.signals.selection`, the reading of a vector in
:mod:`selfreward.policy.steering`; here they meet a model and data that are named by the user.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfreward.errors import ConfigError, DataError
from selfreward.runtime.at_hand import is_here
from selfreward.training.config import TrainConfig, make_config

if TYPE_CHECKING:
    from selfreward.data.answers import AnswerSpace
    from selfreward.data.task import Task
    from selfreward.policy.policy import Policy
    from selfreward.policy.sampling.params import SamplingParams
    from selfreward.policy.steering import SteeringVector
    from selfreward.signals.selection import Selection
    from selfreward.types import Group, Prompt

# The score that a rule goes by unless told, as its source does.
USUAL = {"best": "self-certainty", "borda": "self-certainty", "weighted": "judge", "accept-vote": "judge"}


@dataclass
class Selected:
    """What :func:`select` found: one selection per prompt, and what it was made from.

    Attributes:
        groups: the samples of every prompt.
        classes: their answer classes, as in :func:`selfreward.data.answers.cluster`.
        scores: their scores; None where the rule needs none.
        selections: per prompt, which sample was chosen, and why.
        answers: finds and compares answers, so that choices can be graded.
        rule: how it was chosen.
        score: by which signal; None for none, or for scores that came with the completions.
    """

    groups: list[Group]
    classes: list[list[int | None]]
    scores: list[list[float | None]] | None
    selections: list[Selection]
    answers: AnswerSpace
    rule: str
    score: str | None

    def records(self) -> Iterator[dict[str, Any]]:
        """One JSON-able object per prompt: the chosen answer, the reason, the votes, and all samples."""
        for i, (group, classes, selection) in enumerate(zip(self.groups, self.classes, self.selections, strict=True)):
            answers = [group.completions[classes.index(c)] for c in selection.votes]
            yield {
                "id": group.prompt.id,
                "prompt": group.prompt.question,
                "answer": None if selection.index is None else group.completions[selection.index],
                "sample": selection.index,
                "rule": self.rule,
                "score": self.score,
                "why": selection.why,
                "fallback": selection.fallback,
                "votes": [{"like": a, "weight": w} for a, w in zip(answers, selection.votes.values(), strict=True)],
                "scores": self.scores[i] if self.scores is not None else None,
                "completions": group.completions,
            }


def select(
    model: str = "embedded:chain",
    data: str | None = None,
    *,
    completions: str | Path | None = None,
    rule: str = "majority",
    score: str | None = None,
    n: int = 16,
    limit: int = 200,
    power: float = 0.5,
    threshold: float = 0.5,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
) -> Selected:
    """Sample many answers to every prompt, or read them from a file, and choose one each.

    Args:
        model: folder, hub id, or ``embedded:NAME``.
        data: prompts to sample for; by default those of the embedded model's task. Answers, where there are any,
            are looked at by the score ``gold`` alone.
        completions: a JSONL file of prompts with ``completions`` (and ``scores``) that were made elsewhere, in place
            of ``data``; the model is then needed for ``score`` alone.
        rule: ``majority``, ``best``, ``borda``, ``weighted`` or ``accept-vote``
            (:func:`selfreward.signals.selection.select`).
        score: a signal with options, as in ``borda:by=gap``; by default what the rule usually goes by.
        n: samples per prompt.
        limit: prompts at most.
        power: of the Borda weights; 0 is the plain vote.
        threshold: least score that ``accept-vote`` accepts.
        settings: further settings of a run, such as ``{"temperature": 0.7, "answers": "number"}``.

    Raises:
        ConfigError: for an unknown rule, score or setting, or when both ``data`` and ``completions`` are given.
        DataError: for completions or scores that do not fit.
        UnavailableError: when the score needs what model or task do not have.
    """
    from selfreward.rollouts.run import RunContext
    from selfreward.signals.named import score_groups
    from selfreward.signals.selection import NEEDS_SCORES
    from selfreward.signals.selection import select as pick

    pick([], [], rule, power=power)  # an unknown rule or power is told before anything is sampled
    if data and completions:
        raise ConfigError("--data asks for new samples and --completions brings them; give one of the two.")
    given = completions is not None
    score = USUAL[rule] if rule in NEEDS_SCORES and score is None and not given else score
    source = str(completions) if given else data
    config = make_config({"model": model, "seed": seed, "data": source, **(settings or {})})
    task = _task(config, given)
    groups, policy, params = _groups(config, task, given, n, limit, score)
    context = RunContext.of(task, policy=policy, sampling=params, seed=config.seed)
    scores = None
    if score is not None:
        scores = score_groups(score, context, groups)
    elif given and all("scores" in g.prompt.fields for g in groups):
        scores = [_stored_scores(g) for g in groups]
    classes = [context.classes(g) for g in groups]
    rows: Sequence[Any] = scores if scores is not None else [None] * len(groups)
    selections = [pick(c, s, rule, power=power, threshold=threshold) for c, s in zip(classes, rows, strict=True)]
    return Selected(groups, classes, scores, selections, task.answers, rule, score)


def steering_vector(
    model: str = "embedded:chain",
    data: str | None = None,
    *,
    layer: int = -1,
    position: str = "mean",
    prompts: int = 64,
    samples: int = 16,
    vote: bool = False,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
) -> SteeringVector:
    """The direction from verbose to concise right answers, read out of a model's own samples.

    Args:
        model: folder, hub id, or ``embedded:NAME``.
        data: prompts with answers; by default the training prompts of the embedded model's task.
        layer: decoder layer, from 0; -1 is the last.
        position: which tokens of an answer are read: ``mean``, ``first`` or ``last``.
        prompts: prompts at most.
        samples: samples per prompt.
        vote: take the majority answer for right; needs no labels.
        settings: further settings of a run.

    Raises:
        ConfigError: for an unknown position, layer or setting.
        DataError: without prompts that have an answer, or without a pair of right answers of different lengths.
    """
    from selfreward.policy.steering import POSITIONS, contrast_pairs, direction
    from selfreward.training.launch import load_for_sampling, resolve_defaults, task_of

    if position not in POSITIONS:
        raise ConfigError(f"--position is {position!r}; it must be {', '.join(POSITIONS[:-1])} or {POSITIONS[-1]}.")
    config = make_config({"model": model, "seed": seed, "data": data, **(settings or {})})
    task = task_of(config)
    policy, params = load_for_sampling(resolve_defaults(config, task))
    chosen = [p for p in task.train if vote or p.answer is not None][:prompts]
    if not chosen:
        raise DataError(f"{task.name} has no prompt with an answer. Give data with answers, or use --vote.")
    groups = policy.sample(chosen, samples, params, seed=config.seed)
    correct = [_correct(group, task.answers, vote) for group in groups]
    found = direction(policy, contrast_pairs(groups, correct), layer, position)  # type: ignore[arg-type]
    found.meta |= {"model": model, "data": task.name, "seed": config.seed}
    return found


def _correct(group: Group, answers: AnswerSpace, vote: bool) -> list[float]:
    """1 for every right completion of a group, by the group's own vote or by the prompt's answer."""
    from selfreward.data.answers import cluster
    from selfreward.signals import rules
    from selfreward.signals.vote import vote as elect
    from selfreward.signals.vote import vote_rewards

    if not vote:
        return rules.gold(group.completions, str(group.prompt.answer), answers)
    classes = cluster([answers.extract(c) for c in group.completions], answers)
    return vote_rewards(classes, elect(classes))


def _groups(
    config: TrainConfig, task: Task, given: bool, n: int, limit: int, score: str | None
) -> tuple[list[Group], Policy | None, SamplingParams]:
    """Groups of completions, read or sampled, with the policy (None where nobody asks a model) and its parameters."""
    from selfreward.training.launch import load_for_sampling, resolve_defaults, set_threads

    set_threads(config)
    prompts = task.test[:limit]
    policy: Policy | None = None
    params = _params(config, score)
    if not given or score is not None:
        policy, _ = load_for_sampling(config)
        params = replace(params, max_new_tokens=resolve_defaults(config, task, policy).max_new_tokens or 64)
    if given or policy is None:
        return [_group(p, policy) for p in prompts], policy, params
    return policy.sample(prompts, n, params, seed=config.seed), policy, params


def _params(config: TrainConfig, score: str | None) -> SamplingParams:
    """Sampling that records the statistic which the score reads, so that nothing is computed twice."""
    from selfreward.signals.certainty import SEQUENCE_SCORES, needed_statistic
    from selfreward.signals.named import parse_signal

    name = parse_signal(score)[0] if score else ""
    return config.sampling_params(stats=(needed_statistic(name),) if name in SEQUENCE_SCORES else ())


def _task(config: TrainConfig, given: bool) -> Task:
    """Prompts to choose for (as the task's test split), and how their answers are read."""
    from selfreward.data import load_prompts
    from selfreward.data.answers import answer_space
    from selfreward.data.task import Task
    from selfreward.training.launch import embedded_name, task_of

    if not given and (config.data is None or embedded_name(config.data) or is_here(config.data)):
        return task_of(config)
    assert config.data is not None
    prompts = load_prompts(config.data, prompt_field=config.prompt_field, answer_field=config.answer_field)
    name = embedded_name(config.model)
    if given and name and config.answers == "auto":
        # Completions of an embedded model are read as its task reads them.
        return replace(task_of(replace(config, data=None)), test=prompts)
    return Task.of(config.data, answer_space(config.answers), test=prompts)


def _group(prompt: Prompt, policy: Policy | None) -> Group:
    """The completions of one row as a group; a model's tokens where it will read them."""
    from selfreward.data.rollout_files import text_group
    from selfreward.rollouts.given import tokenize

    texts = prompt.fields.get("completions")
    if not isinstance(texts, list) or not texts or not all(isinstance(t, str) for t in texts):
        raise DataError(f"Prompt {prompt.id!r}: field 'completions' must be a list of texts, at least one.")
    group = text_group(prompt, texts, prompt.id)
    if policy is not None:
        tokenize([group], policy)
    return group


def _stored_scores(group: Group) -> list[float | None]:
    values = group.prompt.fields["scores"]
    fits = isinstance(values, list) and len(values) == len(group)
    if not fits or not all(v is None or isinstance(v, int | float) for v in values):
        raise DataError(f"Prompt {group.prompt.id!r}: field 'scores' must hold one number (or null) per completion.")
    return [None if v is None else float(v) for v in values]
