"""Probes: the same prompts, every few steps, seen from more than one side.

All statistics are pure functions of sampled groups. :class:`Probe` samples the groups; its draws do not
touch those of training, so that a run is the same with it and without.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING, Any

import torch

from selfreward.policy.sampling.params import SamplingParams
from selfreward.rollouts.rewording import TWIN
from selfreward.runtime.seeding import stream_seed
from selfreward.signals.rules import repetition_rate
from selfreward.statistics import within_group_correlation
from selfreward.types import Group, Prompt

if TYPE_CHECKING:
    from selfreward.data.answers import AnswerSpace
    from selfreward.data.task import Task
    from selfreward.policy.policy import Policy

Answers = Sequence[str | None]
Same = Callable[[str, str], float]
Values = Sequence[float | None]
COMPARED = 16  # training groups whose rewards a probe holds against the other views


# ---- pure statistics --------------------------------------------------------------------------------


def agreement(ours: Answers, theirs: Answers | None = None, same: Same | None = None) -> float:
    """Mean sameness over pairs of answers: within ``ours``, or between ``ours`` and ``theirs``. In [0, 1].

    A missing answer is the same as nothing, not even as another missing one: a model that has fallen
    silent does not agree with itself.

    Args:
        same: 1 for the same answer and 0 for another, or anything between; None is equality.
    """
    alike = same or (lambda a, b: float(a == b))
    if theirs is None:
        pairs = [(a, b) for i, a in enumerate(ours) for b in ours[i + 1 :]]
    else:
        pairs = [(a, b) for a in ours for b in theirs]
    return fmean(alike(a, b) if a is not None and b is not None else 0.0 for a, b in pairs) if pairs else 0.0


def plurality(answers: Answers) -> str | None:
    """The most frequent answer, the first seen among equals; None where nothing was answered."""
    counts = Counter(a for a in answers if a is not None)
    return counts.most_common(1)[0][0] if counts else None


def entropy_of(labels: Sequence[str]) -> float:
    """Nats of the empirical distribution of ``labels``."""
    counts = Counter(labels)
    return -sum(n / len(labels) * math.log(n / len(labels)) for n in counts.values()) if labels else 0.0


def view_statistics(
    now: Sequence[Answers],
    start: Sequence[Answers],
    twin: Sequence[Answers] | None = None,
    same: Same | None = None,
) -> dict[str, float]:
    """What the answers to ``P`` prompts say, seen from themselves, from the start, and from a twin.

    Args:
        now: answers of every prompt at this step.
        start: answers of the start model to the same prompts.
        twin: answers at this step to another wording of every prompt.
        same: see :func:`agreement`; where it is given, plurality statistics are left out.

    Returns:
        ``agreement`` within a prompt; ``start_agreement`` with the start model's answers;
        ``answer_entropy`` over the pluralities of different prompts; ``start_support``, the share of the
        start's answers that equal today's plurality; ``missing``; with a twin ``cross_agreement``,
        ``cross_gap`` (``agreement`` minus it; 0 where the wording does not matter), and
        ``cross_disagreement``, the share of prompts whose pluralities differ.
    """
    found = {
        "agreement": fmean(agreement(a, same=same) for a in now),
        "start_agreement": fmean(agreement(a, b, same) for a, b in zip(now, start, strict=True)),
        "missing": fmean(float(x is None) for a in now for x in a),
    }
    if same is None:
        tops = [plurality(a) for a in now]
        found["answer_entropy"] = entropy_of([t for t in tops if t is not None])
        found["start_support"] = fmean(
            sum(x == top for x in b) / max(1, len(b)) if top is not None else 0.0
            for top, b in zip(tops, start, strict=True)
        )
    if twin is not None:
        found["cross_agreement"] = fmean(agreement(a, b, same) for a, b in zip(now, twin, strict=True))
        found["cross_gap"] = found["agreement"] - found["cross_agreement"]
        if same is None:
            found["cross_disagreement"] = fmean(
                float(plurality(a) != plurality(b) or plurality(a) is None) for a, b in zip(now, twin, strict=True)
            )
    return found


def confirmed_balance(
    rewards: Sequence[Values], view: Sequence[Values], texts: Sequence[Sequence[str]], most: int
) -> float:
    """B-STaR's balance score (arXiv 2412.17256, eq. 5) with an independent view in the place of the truth. In [0, 1].

    Of a group, ``n`` completions earn the group's mean or more, and ``m`` different texts among them have one
    half or more of the view's support: min(m / most, 1) * m / n, mean over groups. It falls when the reward
    keeps what the view does not confirm, and when all that it keeps is the same text.
    """
    scores = []
    for own, other, said in zip(rewards, view, texts, strict=True):
        known = [r for r in own if r is not None]
        if not known:
            continue
        middle = fmean(known) - 1e-9
        chosen = [(b, t) for r, b, t in zip(own, other, said, strict=True) if r is not None and r >= middle]
        confirmed = len({t for b, t in chosen if b is not None and b >= 0.5})
        scores.append(min(confirmed / most, 1.0) * confirmed / max(1, len(chosen)))
    return fmean(scores) if scores else 0.0


# ---- taking them ------------------------------------------------------------------------------------


@dataclass
class Probe:
    """Samples a fixed set of prompts and looks at them from every side that the task offers.

    Args:
        task: whose answers, templates and similarity are used.
        prompts: label-free copies are made; a ``twin`` field gives the second view.
        reference: the start model, frozen: it answers once, and judges every time.
        samples: completions per prompt and view.
    """

    task: Task
    prompts: Sequence[Prompt]
    reference: Policy
    sampling: SamplingParams
    samples: int = 8
    seed: int = 0
    start: list[Answers] = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        fields = sorted({name for p in self.prompts for name in p.fields})
        self.prompts = [p.locked("sentinel", fields) for p in self.prompts]
        twins = [p.fields.get(TWIN) for p in self.prompts]
        self.twins = [
            Prompt(f"{p.id}/twin", text=str(t), fields=p.fields, locked_by="sentinel")
            for p, t in zip(self.prompts, twins, strict=True)
            if t and p.text is not None
        ]
        if len(self.twins) < len(self.prompts):
            self.twins = []
        self.columns = {p.id: dict(p.fields) for p in self.task.train}
        self.other = {
            p.id: Prompt(f"{p.id}/twin", text=str(p.fields[TWIN]), fields=p.fields, locked_by="sentinel")
            for p in self.task.train
            if p.fields.get(TWIN) and p.text is not None
        }

    def __call__(self, policy: Policy, trained: Sequence[Group] = ()) -> dict[str, float]:
        """Statistics by name, each with the prefix ``probe/``. Tokens are counted under the role ``probe``.

        Args:
            trained: the groups that the policy has just learned from, with their rewards. Their differences
                in reward are held against what the other views think of the same completions.
        """
        if not self.start:
            self.start = self._answers(self.reference.sample(self.prompts, self.samples, self._params(), **self._as(0)))
        groups = policy.sample(self.prompts, self.samples, self._params(("entropy",)), **self._as(1))
        twin = None
        if self.twins:
            twin = self._answers(policy.sample(self.twins, self.samples, self._params(), **self._as(2)))
        found = view_statistics(self._answers(groups), self.start, twin, self.task.similarity)
        trajectories = [t for g in groups for t in g]
        found["length"] = fmean(float(len(t.last)) for t in trajectories)
        found["entropy"] = fmean(float(t.last.stats["entropy"].mean()) for t in trajectories)
        found["repetition"] = fmean(repetition_rate(t.last.tokens.tolist(), 4) for t in trajectories)
        found["kl"] = self._kl(groups)
        if (judged := self._judged(groups)) is not None:
            found["judge"] = fmean(v or 0.0 for own in judged for v in own)
        if (recovered := self._recovered(groups)) is not None:
            known = [v for own in recovered for v in own if v is not None]
            if known:
                found["back"] = fmean(known)
        return {f"probe/{name}": value for name, value in found.items()} | self.compare(policy, trained)

    def compare(self, policy: Policy, trained: Sequence[Group]) -> dict[str, float]:
        """``reward_VIEW``: how far each view confirms the differences in reward; ``balance`` by the best view.

        ``compared`` is the number of degrees of freedom behind these correlations: completions less groups.
        """
        groups = _told_apart(trained)[:COMPARED]
        if not groups:
            return {}
        answers = self._answers(groups)
        rewards: list[Values] = [g.rewards for g in groups]
        views: dict[str, list[Values] | None] = {}
        views["twin"] = self._support(policy, [self.other.get(g.prompt.id) for g in groups], answers, 3)
        views["start"] = self._support(self.reference, [g.prompt for g in groups], answers, 4)
        views["judge"], views["back"] = self._judged(groups), self._recovered(groups)
        found: dict[str, float] = {}
        for name, values in views.items():
            value = within_group_correlation(rewards, values) if values is not None else None
            if value is not None:
                found[f"probe/reward_{name}"] = value
        found["probe/compared"] = float(sum(len(g) - 1 for g in groups))
        support = views["twin"] or views["start"] or []
        found["probe/balance"] = confirmed_balance(rewards, support, [g.completions for g in groups], self.samples)
        return found

    def _support(
        self, policy: Policy, prompts: Sequence[Prompt | None], answers: Sequence[Answers], call: int
    ) -> list[Values] | None:
        """How alike each of ``answers`` is to ``policy``'s answers to the prompt, in [0, 1]; None without one."""
        asked = [p for p in prompts if p is not None]
        if not asked:
            return None
        theirs = iter(self._answers(policy.sample(asked, self.samples, self._params(), **self._as(call))))
        found: list[Values] = []
        for own, prompt in zip(answers, prompts, strict=True):
            other = next(theirs) if prompt is not None else None
            found.append([agreement([a], other, self.task.similarity) if other is not None else None for a in own])
        return found

    def _params(self, stats: tuple[str, ...] = ()) -> SamplingParams:
        s = self.sampling
        return SamplingParams(s.max_new_tokens, s.temperature, s.top_p, s.top_k, stats=stats)

    def _as(self, call: int) -> dict[str, Any]:
        # The same random numbers every time: two probes differ by the weights alone.
        return {"seed": stream_seed(self.seed, "sentinel", call), "role": "probe"}

    def _answers(self, groups: Sequence[Group]) -> list[Answers]:
        return [_canonical([self.task.answers.extract(c) for c in g.completions], self.task.answers) for g in groups]

    def _kl(self, groups: Sequence[Group]) -> float:
        """Mean over tokens of log pi - log pi_start on the policy's own samples, in nats."""
        trajectories = [t for g in groups for t in g]
        scored = self.reference.score(
            [t.tokens for t in trajectories],
            [len(t.tokens) - len(t.last) for t in trajectories],
            temperature=self.sampling.temperature or 1.0,
            role="probe",
        )
        ours = torch.cat([t.last.logprobs for t in trajectories if t.last.logprobs is not None])
        return float((ours - torch.cat([s["logprob"] for s in scored])).mean())

    def _judged(self, groups: Sequence[Group]) -> list[Values] | None:
        """What the start model as judge says of every completion, in [0, 1]; None where the task has no judge.

        Without an answer there is nothing to judge, and the value is 0.
        """
        templates = self.task.templates
        if "judge" in templates and "scores" in templates:
            from selfreward.signals.scorers.judge import PolicyJudge, judge_template

            found = [[self.task.answers.extract(c) for c in g.completions] for g in groups]
            items = [
                [{**{k: str(v) for k, v in self._fields(g).items()}, "hypothesis": h} for h in own if h]
                for g, own in zip(groups, found, strict=True)
            ]
            judged = PolicyJudge(self.reference, judge_template(templates))(items)
            return [_spread(own, [v or 0.0 for v in values], 0.0) for own, values in zip(found, judged, strict=True)]
        if "judge" in templates and "yes" in templates and "no" in templates:
            fields = [{"question": g.prompt.question, "completion": c} for g in groups for c in g.completions]
            options = [templates["yes"], templates["no"]]
            probs = iter(self.reference.ask(templates["judge"], fields, options, role="probe").probs[:, 0].tolist())
            return [[next(probs) for _ in g.completions] for g in groups]
        return None

    def _recovered(self, groups: Sequence[Group]) -> list[Values] | None:
        """Nats per token of the source given the output, by the start model; None where the task has no way back."""
        templates = self.task.templates
        if "back" not in templates:
            return None
        found = [[self.task.answers.extract(c) for c in g.completions] for g in groups]
        rows = [(self._fields(g), h) for g, own in zip(groups, found, strict=True) for h in own if h]
        encode = self.reference.encode_text
        heads = [encode(templates["back"].format(**{**f, "hypothesis": h})) for f, h in rows]
        lead = templates.get("answer", "{answer}")
        tails = [
            list(self.reference.tokenizer(lead.format(answer=f["source"]), add_special_tokens=False)["input_ids"])
            for f, _ in rows
        ]
        sequences = [torch.tensor(h + t) for h, t in zip(heads, tails, strict=True)]
        scored = self.reference.score(sequences, [len(h) for h in heads], role="probe") if rows else []
        values = iter(float(s["logprob"].mean()) for s in scored)
        return [[next(values) if h else None for h in own] for own in found]

    def _fields(self, group: Group) -> Mapping[str, Any]:
        """The data columns of a group's prompt; a training prompt shows its recipe those only that it declares."""
        known = self.columns.get(group.prompt.id)
        return known if known is not None else group.prompt.fields


def _told_apart(groups: Sequence[Group]) -> list[Group]:
    """Groups of prompts whose completions were not all rewarded alike."""
    return [g for g in groups if max(g.rewards) - min(g.rewards) > 1e-9]


def _spread(present: Sequence[str | None], values: Sequence[float], otherwise: float) -> list[float]:
    """``values`` at the places where something is present, in order."""
    rest = iter(values)
    return [next(rest) if p else otherwise for p in present]


def _canonical(extracted: Sequence[str | None], answers: AnswerSpace) -> Answers:
    """Equal answers as equal texts; None for a missing or an empty one."""
    return [(answers.canonical(text) or None) if text is not None else None for text in extracted]
