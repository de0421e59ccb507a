"""Scorers of the signals that a model gives about finished solutions: a reserved token, and a step review."""

from __future__ import annotations

from collections.abc import Sequence

from selfreward.auditing.context import Context, Scores, UnavailableError
from selfreward.types import Group, Prompt

DEFAULT_REVIEW = (
    "Question:\n{question}\n\nSolution:\n{completion}\n\n"
    "Check the solution step by step. For every step write one line, 'Step K: OK' or 'Step K: WRONG', "
    "and stop after the first wrong step."
)


def last_token(
    context: Context,
    groups: Sequence[Group],
    token: str = "",
    c_ref: float | None = None,
    beta: float | None = None,
    reference: str = "",
) -> Scores:
    """LaSeR's r_s, clipped to 0 .. 1; no value where the response was cut off.

    Args:
        token: the reserved token by name; "" takes the first special token without a use.
        c_ref: its mean log-probability under the model before training (``laser/c_ref`` of the run's metrics).
        beta: scale of the score; by default 2 / |c_ref|.
        reference: the model before training, on which c_ref is measured when it is not given.
    """
    from selfreward.last_token import last_token_logprobs, measure_c_ref, reserved_token
    from selfreward.models import load_policy
    from selfreward.signals.last_token import default_beta

    policy = context.model()
    found = reserved_token(policy, token)
    temperature = context.sampling.temperature if context.sampling and context.sampling.temperature > 0 else 1.0
    if c_ref is None:
        before = load_policy(reference, device=str(policy.device)) if reference else context.reference
        if before is None or before is policy:
            raise UnavailableError(
                "needs what the token's log-probability was before training: c_ref=NUMBER (laser/c_ref in the run's "
                "metrics.jsonl), or reference=MODEL to measure it on"
            )
        c_ref, _ = measure_c_ref(before, groups, found, temperature)
    scale = beta or default_beta(c_ref)
    logprobs = last_token_logprobs(policy, groups, found, temperature)
    return [[None if v is None else min(1.0, max(0.0, scale * (v - c_ref))) for v in row] for row in logprobs]


def step_review(
    context: Context,
    groups: Sequence[Group],
    template: str = "review",
    right: str = "OK",
    wrong: str = "WRONG",
    max_new_tokens: int = 512,
) -> Scores:
    """Self-PRM: 1 where the model reviews its own solution and finds no wrong step, else 0.

    Identical solutions of one question are reviewed once. A review that cannot be read accepts nothing.
    """
    from selfreward.sampling import SamplingParams
    from selfreward.signals.steps import parse_review

    policy = context.model()
    own = template == "review" and "review" in context.templates
    text = context.template(template) if own or template != "review" else DEFAULT_REVIEW
    marks = (context.templates["right"], context.templates["wrong"]) if own else (right, wrong)
    steps = int(context.templates["steps"]) if own and "steps" in context.templates else None
    budget = context.sampling.max_new_tokens if own and context.sampling else max_new_tokens
    items = list(dict.fromkeys((g.prompt.question, c) for g in groups for c in g.completions))
    asked = [Prompt(str(i), text=text.format(question=q, completion=c)) for i, (q, c) in enumerate(items)]
    params = SamplingParams(budget, temperature=0.0, stats=())
    reviews = [g.completions[0] for g in policy.sample(asked, 1, params, role="judge", seed=context.seed)]
    accepted = {
        item: float(parse_review(review, *marks, steps=steps).accepted)
        for item, review in zip(items, reviews, strict=True)
    }
    return [[accepted[g.prompt.question, c] for c in g.completions] for g in groups]
