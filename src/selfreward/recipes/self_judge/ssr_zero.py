"""SSR-Zero: a translator learns from its own judgement of its translations.

Yang et al. 2025, "SSR-Zero: Simple Self-Rewarding Reinforcement Learning for Machine Translation",
arXiv 2505.16637. Believes that a model grades translations better than it writes them. Needs
monolingual sentences and a target language; no reference, no reward model. The same current weights
act (sample G candidates) and judge (grade each 0-100 without a reference, GEMBA-DA with hard rules);
GRPO moves the actor's tokens only. Known to break when scores saturate, and late in training, when
the policy finds what its judge does not mind; watch the stray-symbol rate and the judge's spread.
How format and score combine is not published: ``gate`` (default) or ``sum``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch

from selfreward.data.task import Task
from selfreward.errors import RecipeError
from selfreward.policy.policy import Policy
from selfreward.recipes.common.translation import FIELDS
from selfreward.recipes.grpo import GRPO
from selfreward.rollouts.run import RunContext
from selfreward.signals.judge import ParsePolicy, apply_parse_policy
from selfreward.signals.rules import somebody_elses
from selfreward.signals.scorers.judge import Readout, judge_template, make_judge
from selfreward.signals.shaping import mix
from selfreward.types import Experience, Group, Prompt


@dataclass
class SSRZero(GRPO):
    """Reward = own score of the extracted translation, behind the format.

    Attributes:
        judge: ``current`` weights (the paper), ``frozen`` at step 0, a model folder, or an
            OpenAI-compatible URL.
        readout: how a score is read from a local judge, see :class:`selfreward.signals.scorers.judge.PolicyJudge`.
        combine: ``gate`` gives 0 to a malformed completion and the score to the others; ``sum`` adds
            ``format_weight`` for the format to the score.
        parse: what a judgement that cannot be parsed, or that a server did not give, is worth: ``zero`` (the
            paper), the ``mean`` of its group, ``penalty`` (0), or nothing: ``drop`` takes it out of its group.
        corrupt: ``permuted`` shuffles the scores inside each group, ``swapped`` shows the judge another
            sentence's source; both must fail, or the judgement was not what taught.
    """

    name: ClassVar[str] = "ssr-zero"
    system_id: ClassVar[str | None] = "009"
    fields: ClassVar[tuple[str, ...]] = FIELDS
    mechanism: ClassVar[str] = "own judgements"
    base: ClassVar[str] = "embedded:trans"

    judge: str = "current"
    readout: Readout = "expected"
    judge_samples: int = 4
    judge_temperature: float = 1.0
    judge_tokens: int = 256
    combine: Literal["gate", "sum"] = "gate"
    format_weight: float = 0.5
    parse: ParsePolicy = "zero"
    corrupt: Literal["none", "permuted", "swapped"] = "none"
    _models: dict[str, Any] = field(default_factory=dict, repr=False, init=False)

    def adapt(self, task: Task) -> Task:
        """Plain sentences get the actor's template; a translation task keeps its own."""
        from selfreward.evaluation.translation_task import translation_task

        return task if "actor" in task.templates else translation_task(task)

    def collect(self, policy: Policy, prompts: Sequence[Prompt], run: RunContext) -> Experience:
        groups = policy.sample(prompts, self.group_size, run.sampling)  # actor
        scores, failures = self.self_scores(policy, groups, run)  # judge
        judged = [
            (g.only([s is not None for s in own]), [s for s in own if s is not None]) for g, own in zip(groups, scores)
        ]
        judged = [(group, own) for group, own in judged if own]
        if not judged:
            raise RecipeError(
                f"No judgement of step {run.step} could be read ({failures} failures); nothing to learn from."
            )
        for group, own in judged:
            group.reward_with(self.combined(group, self.terms(group, own, run), run))
        experience = self.learn_from([group for group, _ in judged], roles=["solver"])
        flat = [s for _, own in judged for s in own]
        spreads = [max(own) - min(own) for _, own in judged]
        experience.stats |= {
            "judge/mean": sum(flat) / len(flat),
            "judge/saturated": sum(s > 0.95 for s in flat) / len(flat),
            "judge/zero_spread": sum(s < 1e-6 for s in spreads) / len(spreads),
            "judge/parse_failures": float(failures),
        }
        return experience

    def self_scores(
        self, policy: Policy, groups: Sequence[Group], run: RunContext
    ) -> tuple[list[list[float | None]], int]:
        """Scores in [0, 1] per group; a completion without a translation is not judged and has 0.

        With ``parse="drop"`` a judgement that could not be read is None, and its completion leaves the group.
        """
        judge = make_judge(
            self.judge,
            policy,
            run.reference,
            judge_template(run.templates),
            self._models,
            **self._options(),
        )
        sources = [g.prompt.fields for g in groups]
        if self.corrupt == "swapped":
            others = somebody_elses([g.prompt.id for g in groups], "ssr-zero: corrupt='swapped'")
            sources = [sources[i] for i in others]
        found = [[run.answers.extract(c) for c in g.completions] for g in groups]
        items = [
            [{**{k: str(v) for k, v in shown.items()}, "hypothesis": h} for h in own if h]
            for shown, own in zip(sources, found, strict=True)
        ]
        judged = judge(items)
        run.count(self.mechanism, sum(map(len, items)))
        result, failures = [], 0
        for group, own, raw in zip(groups, found, judged, strict=True):
            parsed, failed = apply_parse_policy(raw, self.parse, penalty=0.0)
            failures += failed
            queue = iter(parsed)
            scores = [next(queue) if h else 0.0 for h in own]
            if self.corrupt == "permuted":
                order = torch.randperm(len(scores), generator=run.generator("permute", group.key)).tolist()
                scores = [scores[i] for i in order]
            result.append(scores)
        return result, failures

    def _options(self) -> dict[str, Any]:
        if self.judge.startswith("http"):
            return {}
        return {
            "readout": self.readout,
            "samples": self.judge_samples,
            "temperature": self.judge_temperature,
            "max_new_tokens": self.judge_tokens,
        }

    def terms(self, group: Group, own: list[float], run: RunContext) -> dict[str, tuple[float, list[float]]]:
        """Reward terms by name: (weight, values)."""
        return {"self": (1.0, own)}

    def combined(self, group: Group, terms: dict[str, tuple[float, list[float]]], run: RunContext) -> list[float]:
        form = [float(run.well_formed(c)) for c in group.completions]
        if self.combine == "sum":
            terms = {**terms, "format": (self.format_weight, form)}
        weights, values = {k: w for k, (w, _) in terms.items()}, {k: v for k, (_, v) in terms.items()}
        return mix(weights, values, gates=[form] if self.combine == "gate" else []).tolist()
