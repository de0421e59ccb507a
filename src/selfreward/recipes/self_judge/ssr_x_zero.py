"""SSR-X-Zero: the self-score mixed with an external metric on the same scale.

Yang et al. 2025, arXiv 2505.16637: COMET beside the model's own score; the weights are not published
(equal here). The metric can also be chrF against references (which makes the run need labels), any
other judge model, or a Python function of the user.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from selfreward.errors import ConfigError, RecipeError
from selfreward.policy.policy import Policy
from selfreward.recipes.self_judge.ssr_zero import SSRZero
from selfreward.rollouts.run import RunContext
from selfreward.runtime.user_code import load_module
from selfreward.signals.scorers.judge import PolicyJudge, judge_template, make_judge
from selfreward.types import Experience, Group, Labels, Prompt

Metric = Callable[[list[str], list[str]], Sequence[float]]


@dataclass
class SSRXZero(SSRZero):
    """Reward = self_weight * own score + metric_weight * external score, behind the format.

    Attributes:
        metric: ``comet`` (optional extra), ``chrf`` (needs references), ``judge:MODEL`` (a model's expected
            score), or ``file.py:function`` with ``function(sources, hypotheses) -> scores in [0, 1]``.
        self_weight: 0 leaves the external metric alone.
    """

    name: ClassVar[str] = "ssr-x-zero"
    system_id: ClassVar[str | None] = None
    mechanism: ClassVar[str] = "externally scored translations"

    metric: str = "comet"
    self_weight: float = 1.0
    metric_weight: float = 1.0

    def needs(self) -> Labels:
        return "outcome" if self.metric == "chrf" else "none"

    def collect(self, policy: Policy, prompts: Sequence[Prompt], run: RunContext) -> Experience:
        self._policy = policy
        return super().collect(policy, prompts, run)

    def terms(self, group: Group, own: list[float], run: RunContext) -> dict[str, tuple[float, list[float]]]:
        hypotheses = [run.answers.extract(c) for c in group.completions]
        asked = [h for h in hypotheses if h]
        found = list(self._external(group, asked, run)) if asked else []
        if len(found) != len(asked):
            raise RecipeError(f"Metric {self.metric!r} gave {len(found)} scores for {len(asked)} translations.")
        run.count(self.mechanism, len(asked))
        queue = iter(found)
        external = [float(next(queue)) if h else 0.0 for h in hypotheses]
        return {"self": (self.self_weight, own), "external": (self.metric_weight, external)}

    def _external(self, group: Group, hypotheses: list[str], run: RunContext) -> Sequence[float]:
        fields = {k: str(v) for k, v in group.prompt.fields.items()}
        sources = [fields["source"]] * len(hypotheses)
        if self.metric == "chrf":
            from selfreward.signals.text_metrics import chrf

            return chrf(hypotheses, [group.prompt.answer or ""] * len(hypotheses))
        if self.metric == "comet":
            from selfreward.signals.text_metrics import comet

            return comet(sources, hypotheses)
        if self.metric.startswith("judge:"):
            spec = self.metric.removeprefix("judge:")
            judge = make_judge(spec, self._policy, run.reference, judge_template(run.templates), self._models)
            assert isinstance(judge, PolicyJudge)
            scores = judge([[{**fields, "hypothesis": h} for h in hypotheses]])[0]
            return [float("nan") if s is None else s for s in scores]
        return _function(self.metric)(sources, hypotheses)


def _function(spec: str) -> Metric:
    path, _, name = spec.rpartition(":")
    if not path.endswith(".py"):
        raise ConfigError(f"metric is {spec!r}; use comet, chrf, judge:MODEL, or file.py:function.")
    module = load_module(Path(path), "Metric")
    found: Metric | None = getattr(module, name, None)
    if not callable(found):
        raise ConfigError(f"metric is {spec!r}, but {path} has no function {name!r}.")
    return found
