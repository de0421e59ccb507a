"""Probes: the same prompts, every few steps, seen from more than one side.

All statistics are pure functions of sampled groups. :class:`Probe` samples the groups; its draws do not
touch those of training, so that a run is the same with it and without.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING, Any

import torch

from selfreward.sampling import SamplingParams, stream_seed
from selfreward.signals.rules import repetition_rate
from selfreward.types import Group, Prompt

if TYPE_CHECKING:
    from selfreward.answers import AnswerSpace
    from selfreward.policy import Policy
    from selfreward.tasks import Task

Answers = Sequence[str | None]
Same = Callable[[str, str], float]
TWIN = "twin"


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

    def __call__(self, policy: Policy) -> dict[str, float]:
        """Statistics by name, each with the prefix ``probe/``. Tokens are counted under the role ``probe``."""
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
        found |= self._judged(groups)
        return {f"probe/{name}": value for name, value in found.items()}

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

    def _judged(self, groups: Sequence[Group]) -> dict[str, float]:
        """What the start model as judge, and as back-translator, says of the samples; where the task can be judged."""
        templates = self.task.templates
        found = [[self.task.answers.extract(c) for c in g.completions] for g in groups]
        result = {}
        if "judge" in templates and "scores" in templates:
            from selfreward.judging import PolicyJudge
            from selfreward.recipes.ssr_zero import judge_template

            items = [
                [{**{k: str(v) for k, v in g.prompt.fields.items()}, "hypothesis": h} for h in own if h]
                for g, own in zip(groups, found, strict=True)
            ]
            judged = PolicyJudge(self.reference, judge_template(templates))(items)
            total = sum(len(own) for own in found)
            result["judge"] = sum(v or 0.0 for own in judged for v in own) / max(1, total)
        elif "judge" in templates and "yes" in templates and "no" in templates:
            fields = [{"question": g.prompt.question, "completion": c} for g in groups for c in g.completions]
            options = [templates["yes"], templates["no"]]
            result["judge"] = float(
                self.reference.ask(templates["judge"], fields, options, role="probe").probs[:, 0].mean()
            )
        if "back" in templates:
            rows = [(g.prompt.fields, h) for g, own in zip(groups, found, strict=True) for h in own if h]
            encode = self.reference.encode_text
            heads = [encode(templates["back"].format(**{**f, "hypothesis": h})) for f, h in rows]
            lead = templates.get("answer", "{answer}")
            tails = [
                list(self.reference.tokenizer(lead.format(answer=f["source"]), add_special_tokens=False)["input_ids"])
                for f, _ in rows
            ]
            sequences = [torch.tensor(h + t) for h, t in zip(heads, tails, strict=True)]
            scored = self.reference.score(sequences, [len(h) for h in heads], role="probe")
            if scored:
                result["back"] = fmean(float(s["logprob"].mean()) for s in scored)
        return result


def _canonical(extracted: Sequence[str | None], answers: AnswerSpace) -> Answers:
    """Equal answers as equal texts; None for a missing or an empty one."""
    return [(answers.canonical(text) or None) if text is not None else None for text in extracted]
