"""A model reviews its own finished solutions step by step; see :mod:`selfreward.signals.step_review`."""

from __future__ import annotations

from collections.abc import Sequence

from selfreward.rollouts.run import RunContext
from selfreward.signals.registry import Scores
from selfreward.types import Group, Prompt

DEFAULT_REVIEW = (
    "Question:\n{question}\n\nSolution:\n{completion}\n\n"
    "Check the solution step by step. For every step write one line, 'Step K: OK' or 'Step K: WRONG', "
    "and stop after the first wrong step."
)


def step_review(
    run: RunContext,
    groups: Sequence[Group],
    template: str = "review",
    right: str = "OK",
    wrong: str = "WRONG",
    max_new_tokens: int = 512,
) -> Scores:
    """Self-PRM: 1 where the model reviews its own solution and finds no wrong step, else 0.

    Identical solutions of one question are reviewed once. A review that cannot be read accepts nothing.
    """
    from selfreward.policy.sampling.params import SamplingParams
    from selfreward.signals.step_review import parse_review

    policy = run.policy
    own = template == "review" and "review" in run.templates
    text = run.template(template) if own or template != "review" else DEFAULT_REVIEW
    marks = (run.templates["right"], run.templates["wrong"]) if own else (right, wrong)
    steps = int(run.templates["steps"]) if own and "steps" in run.templates else None
    budget = run.sampling.max_new_tokens if own else max_new_tokens
    items = list(dict.fromkeys((g.prompt.question, c) for g in groups for c in g.completions))
    asked = [Prompt(str(i), text=text.format(question=q, completion=c)) for i, (q, c) in enumerate(items)]
    params = SamplingParams(budget, temperature=0.0, stats=())
    reviews = [g.completions[0] for g in policy.sample(asked, 1, params, role="judge", seed=run.seed)]
    accepted = {
        item: float(parse_review(review, *marks, steps=steps).accepted)
        for item, review in zip(items, reviews, strict=True)
    }
    return [[accepted[g.prompt.question, c] for c in g.completions] for g in groups]
