"""Judges: a model reads a candidate and a number comes out.

The judge can be the policy as it is, a frozen copy, another model folder, or a server behind an
OpenAI-compatible endpoint. Four read-outs turn a judgement into a score in [0, 1]; None means that
the judge could not be understood, and what then happens is the recipe's choice, never a silent zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from selfreward.errors import RecipeError, UnavailableError
from selfreward.policy.policy import Policy
from selfreward.policy.sampling.params import SamplingParams
from selfreward.rollouts.run import RunContext
from selfreward.runtime.endpoint import Endpoint
from selfreward.signals.judge import (
    escape,
    expected_score,
    mean_of,
    pairwise_scores,
    parse_score,
    wins_matrix,
)
from selfreward.signals.registry import Scores
from selfreward.types import Group, Prompt

DEFAULT_JUDGE = (
    "Question:\n{question}\n\nProposed solution:\n{completion}\n\n"
    "Is the final answer of the proposed solution correct? Reply with one word, Yes or No."
)


# ---- judging -------------------------------------------------------------------------------------


def judge_expected(
    run: RunContext,
    groups: Sequence[Group],
    template: str = "judge",
    yes: str = "Yes",
    no: str = "No",
) -> Scores:
    """A scale where the task has one, else the probability of yes against no."""
    if "scores" in run.templates and template == "judge":
        return _scale(run, groups, "expected")
    policy = run.policy
    text = DEFAULT_JUDGE if template == "judge" and "judge" not in run.templates else run.template(template)
    verdicts = [run.templates.get("yes", yes), run.templates.get("no", no)]
    items = {(g.prompt.question, c): None for g in groups for c in g.completions}
    asked = [{"question": q, "completion": c} for q, c in items]
    chosen = dict(zip(items, policy.ask(text, asked, verdicts).probs[:, 0].tolist(), strict=True))
    return [[chosen[g.prompt.question, c] for c in g.completions] for g in groups]


def judge_score(run: RunContext, groups: Sequence[Group]) -> Scores:
    """The score that a sampled judgement names, as a share of the scale; 0 without an answer."""
    return _scale(run, groups, "number")


def judge_pairwise(run: RunContext, groups: Sequence[Group]) -> Scores:
    """Share of its comparisons in the group that an answer wins, by template ``judge_pair``; 0 without an answer."""
    if "judge_pair" not in run.templates:
        raise UnavailableError("the task brings no template 'judge_pair'")
    return _scale(run, groups, "pairwise")


def _scale(run: RunContext, groups: Sequence[Group], readout: Any) -> Scores:
    from selfreward.signals.scorers.judge import PolicyJudge, judge_template

    policy = run.policy
    if "judge" not in run.templates or "scores" not in run.templates:
        raise UnavailableError("the task brings no judge with a scale (templates 'judge' and 'scores')")
    found = [run.answers_of(g) for g in groups]
    items = [
        [{**{k: str(v) for k, v in g.prompt.fields.items()}, "hypothesis": h} for h in own if h]
        for g, own in zip(groups, found, strict=True)
    ]
    judged = PolicyJudge(policy, judge_template(run.templates), readout)(items)
    queues = [iter(row) for row in judged]
    return [[next(q) if h else 0.0 for h in own] for own, q in zip(found, queues, strict=True)]


Readout = Literal["expected", "number", "mean", "pairwise"]
Item = Mapping[str, str]


class CandidateJudge(Protocol):
    """Scores whole groups of candidates: ``[groups][candidates]`` in, the same shape out."""

    def __call__(self, groups: Sequence[Sequence[Item]]) -> list[list[float | None]]: ...


@dataclass(frozen=True)
class JudgeTemplate:
    """How a judge is asked.

    Attributes:
        text: pointwise template with the items' fields in braces.
        scale: the answers that mean a score, lowest first ("0" ... "10").
        pair: template with ``{first}`` and ``{second}`` beside the items' fields, answered by A or B.
        candidate: the field that holds the candidate's text; it is escaped before it is inserted.
        guard: tags and markers that a candidate must not smuggle into the template.
    """

    text: str
    scale: tuple[str, ...] = tuple(str(k) for k in range(0, 101, 10))
    pair: str = ""
    candidate: str = "hypothesis"
    guard: tuple[str, ...] = ("answer", "think", "source", "translation", "<|im_start|>", "<|im_end|>")

    @property
    def top(self) -> float:
        return float(self.scale[-1].strip("<>"))

    def values(self) -> list[float]:
        """What each answer of the scale means, in [0, 1]."""
        return [float(s.strip("<>")) / self.top for s in self.scale]

    def fill(self, item: Item) -> str:
        safe = {**item, self.candidate: escape(item[self.candidate], self.guard)}
        return _format(self.text, safe)

    def fill_pair(self, first: Item, second: Item) -> str:
        a, b = (escape(i[self.candidate], self.guard) for i in (first, second))
        return _format(self.pair, {**first, "first": a, "second": b})


def _format(template: str, fields: Mapping[str, str]) -> str:
    try:
        return template.format(**fields)
    except KeyError as error:
        raise RecipeError(f"The judge template names the field {error}, which the data does not have.") from None


@dataclass
class PolicyJudge:
    """A local model as judge.

    Args:
        policy: whose weights judge.
        readout: ``expected`` takes the mean over the distribution of the scale's answers, without
            sampling; ``number`` samples one judgement and parses it; ``mean`` averages ``samples`` of
            them; ``pairwise`` lets every pair of a group compete in both orders.
    """

    policy: Policy
    template: JudgeTemplate
    readout: Readout = "expected"
    samples: int = 4
    temperature: float = 1.0
    max_new_tokens: int = 16

    def __call__(self, groups: Sequence[Sequence[Item]]) -> list[list[float | None]]:
        if self.readout == "pairwise":
            return [self._pairwise(group) for group in groups]
        flat = [item for group in groups for item in group]
        texts = [self.template.fill(item) for item in flat]
        # Identical candidates of one source get one judgement.
        distinct = list(dict.fromkeys(texts))
        scored = dict(
            zip(distinct, self._expected(distinct) if self.readout == "expected" else self._sampled(distinct))
        )
        values = iter([scored[t] for t in texts])
        return [[next(values) for _ in group] for group in groups]

    def _expected(self, texts: list[str]) -> list[float | None]:
        choice = self.policy.choose(texts, self.template.scale)
        return [float(v) for v in expected_score(choice.probs, self.template.values())]

    def _sampled(self, texts: list[str]) -> list[float | None]:
        n = 1 if self.readout == "number" else self.samples
        params = SamplingParams(self.max_new_tokens, temperature=self.temperature, stats=())
        prompts = [Prompt(str(i), text=t) for i, t in enumerate(texts)]
        found = []
        for group in self.policy.sample(prompts, n, params, role="judge"):
            scores = [parse_score(c, 0, self.template.top) for c in group.completions]
            mean = mean_of(scores)
            found.append(None if mean is None else mean / self.template.top)
        return found

    def _pairwise(self, group: Sequence[Item]) -> list[float | None]:
        if not self.template.pair:
            raise RecipeError("readout='pairwise' needs a judge template for pairs; this task brings none.")
        n = len(group)
        order = [(i, j) for i in range(n) for j in range(n) if i != j]
        choice = self.policy.choose([self.template.fill_pair(group[i], group[j]) for i, j in order], ["A", "B"])
        wins = [(i, j, float(p)) for (i, j), p in zip(order, choice.probs[:, 0], strict=True)]
        return [float(v) for v in pairwise_scores(wins_matrix(wins, n))]


@dataclass
class EndpointJudge:
    """A server with the OpenAI chat interface as judge. Reads one sampled number per candidate.

    What the server does not answer, or answers without a number, is None.
    """

    server: Endpoint
    template: JudgeTemplate

    def __call__(self, groups: Sequence[Sequence[Item]]) -> list[list[float | None]]:
        texts = self.server.ask_all([self.template.fill(item) for group in groups for item in group])
        values = iter([self._score(text) for text in texts])
        return [[next(values) for _ in group] for group in groups]

    def _score(self, text: str | None) -> float | None:
        score = None if text is None else parse_score(text, 0, self.template.top)
        return None if score is None else score / self.template.top


def make_judge(
    spec: str, current: Policy, reference: Policy, template: JudgeTemplate, cache: dict[str, Any], **options: Any
) -> CandidateJudge:
    """The judge that ``spec`` names: ``current``, ``frozen``, ``http(s)://.../v1`` (or ``.../v1#MODEL``), or a model
    folder, hub id or ``embedded:NAME``. External models are loaded once into ``cache``."""
    if spec in ("current", "frozen"):
        return PolicyJudge(current if spec == "current" else reference, template, **options)
    if spec.startswith(("http://", "https://")):
        if spec not in cache:
            url, _, model = spec.partition("#")
            cache[spec] = EndpointJudge(Endpoint(url, model), template)
        endpoint: EndpointJudge = cache[spec]
        return endpoint
    if spec not in cache:
        from selfreward.policy.loading import load_policy

        cache[spec] = load_policy(spec, device=str(current.device))
        cache[spec].counts = current.counts  # its work is this run's cost
    return PolicyJudge(cache[spec], template, **options)


def judge_template(templates: dict[str, str]) -> JudgeTemplate:
    """The task's judge, in the form that the judging block takes."""
    return JudgeTemplate(
        templates["judge"],
        tuple(templates["scores"].split()) if "scores" in templates else JudgeTemplate("").scale,
        templates.get("judge_pair", ""),
    )
