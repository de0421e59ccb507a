"""Rubric graders: a model says of each criterion whether a response meets it, or scores the whole rubric at once.

A judgement that cannot be read is an event and not a zero: it is counted in ``failures``, and what it then
means is the caller's choice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import torch

from selfreward.data.answers import strip_thinking
from selfreward.errors import ConfigError, UnavailableError
from selfreward.policy.policy import Policy
from selfreward.policy.sampling.params import SamplingParams
from selfreward.runtime.seeding import stream_seed
from selfreward.signals.judge import escape, expected_score, parse_score
from selfreward.signals.rubric import GRADING_TEMPLATE, HOLISTIC_TEMPLATE, parse_grade, rubric_of, rubric_score
from selfreward.types import Group, Prompt

if TYPE_CHECKING:
    from selfreward.rollouts.run import RunContext
    from selfreward.signals.registry import Scores

Item = Mapping[str, str]
Parse = Literal["unmet", "retry", "drop"]
GUARD = ("think", "<|im_start|>", "<|im_end|>")
TOP = 10


@dataclass
class RubricGrader:
    """A local model as grader.

    Args:
        policy: whose weights grade.
        templates: ``grade`` (fields ``question``, ``response``, ``criterion``), ``grade-all`` (``question``,
            ``response``, ``rubric``), the verdict words ``yes`` and ``no``, and ``scores``, the words that mean 0 to
            10, lowest first. What is missing is asked in plain words, with JSON and numbers as replies.
        readout: ``sample`` writes one judgement and parses it; ``probability`` reads the probability of the verdict
            words without sampling.
        parse: an unreadable grade is 0 (``unmet``), asked for once more and then 0 (``retry``), or NaN (``drop``).
        seed: of what is sampled.
    """

    policy: Policy
    templates: Mapping[str, str] = field(default_factory=dict)
    readout: Literal["sample", "probability"] = "sample"
    temperature: float = 1.0
    max_new_tokens: int = 256
    parse: Parse = "unmet"
    seed: int = 0
    failures: int = field(default=0, init=False)

    def met(self, items: Sequence[Item]) -> list[float]:
        """Whether each item's ``response`` meets its ``criterion``: 1, 0, a probability, or NaN.

        Items that read the same are graded once.
        """
        yes, no = self.templates.get("yes", ""), self.templates.get("no", "")
        texts = [self._fill(self.templates.get("grade", GRADING_TEMPLATE), item) for item in items]
        distinct = list(dict.fromkeys(texts))
        if self.readout == "probability":
            chances = self.policy.choose(distinct, (yes or "true", no or "false"), role="grader").probs[:, 0].tolist()
            return [dict(zip(distinct, chances, strict=True))[t] for t in texts]
        grades: dict[str, bool | None] = dict.fromkeys(distinct)
        for attempt in range(2 if self.parse == "retry" else 1):
            left = [t for t, grade in grades.items() if grade is None]
            grades |= {t: parse_grade(r, yes, no) for t, r in zip(left, self._replies(left, attempt), strict=True)}
        self.failures += sum(grade is None for grade in grades.values())
        unread = float("nan") if self.parse == "drop" else 0.0
        return [unread if grades[t] is None else float(grades[t]) for t in texts]  # type: ignore[arg-type]

    def scores(self, items: Sequence[Item]) -> list[float]:
        """One score in [0, 1] for the whole ``rubric`` per item; an unreadable one is 0."""
        scale = self.templates["scores"].split() if "scores" in self.templates else [str(k) for k in range(TOP + 1)]
        texts = [self._fill(self.templates.get("grade-all", HOLISTIC_TEMPLATE), item) for item in items]
        distinct = list(dict.fromkeys(texts))
        if self.readout == "probability":
            probs = self.policy.choose(distinct, scale, role="grader").probs
            values = expected_score(probs, [k / TOP for k in range(TOP + 1)]).tolist()
            return [dict(zip(distinct, values, strict=True))[t] for t in texts]
        read = {t: _score(reply, scale) for t, reply in zip(distinct, self._replies(distinct), strict=True)}
        self.failures += sum(value is None for value in read.values())
        return [read[t] or 0.0 for t in texts]

    def _fill(self, template: str, item: Item) -> str:
        return template.format(**{**item, "response": escape(strip_thinking(item["response"]), GUARD)})

    def _replies(self, texts: Sequence[str], attempt: int = 0) -> list[str]:
        params = SamplingParams(self.max_new_tokens, temperature=self.temperature, stats=())
        prompts = [Prompt(f"grade-{i}", text=t) for i, t in enumerate(texts)]
        seed = stream_seed(self.seed, "grades", attempt)
        groups = self.policy.sample(prompts, 1, params, role="grader", seed=seed)
        return [strip_thinking(g.completions[0]) for g in groups]


def _score(reply: str, scale: Sequence[str]) -> float | None:
    if reply.strip() in scale:
        return scale.index(reply.strip()) / TOP
    number = parse_score(reply, 0, TOP)
    return None if number is None else number / TOP


def rubric(run: RunContext, groups: Sequence[Group], readout: str = "probability") -> Scores:
    """Rubric scores by the run's own model, for prompts with a field ``rubric``.

    Raises:
        UnavailableError: where there is no model or a prompt has no rubric.
    """
    if any("rubric" not in g.prompt.fields for g in groups):
        raise UnavailableError("needs prompts with a field 'rubric' (criteria with points)")
    if readout not in ("probability", "sample"):
        raise ConfigError(f"readout is {readout!r}; it must be 'probability' or 'sample'.")
    grader = RubricGrader(run.policy, run.templates, readout, seed=run.seed)  # type: ignore[arg-type]
    rubrics = [rubric_of(g.prompt.fields["rubric"], f"Prompt {g.prompt.id!r}") for g in groups]
    grades = iter(
        grader.met(
            [
                {"question": g.prompt.question, "response": c, "criterion": k}
                for g, own in zip(groups, rubrics, strict=True)
                for c in g.completions
                for k, _ in own
            ]
        )
    )
    result: Scores = []
    for group, own in zip(groups, rubrics, strict=True):
        met_G_K = torch.tensor([[next(grades) for _ in own] for _ in group])
        result.append(list(rubric_score(met_G_K, [p for _, p in own]).tolist()))
    return result
