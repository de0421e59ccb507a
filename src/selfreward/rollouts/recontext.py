"""The same model in another context: what it would say, or what it makes of what was said, if it knew more.

A privileged context holds what the question alone does not: a sibling's success, the error text of a failed
attempt, the gold answer. From it one either *samples* (``policy.sample`` on the new prompt: a self-made
demonstration) or *scores*: the tokens of a response stay what they were and only what stands before them
changes, so that the difference of log-probabilities is the credit that the model itself gives to each token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from selfreward.data.answers import AnswerSpace, strip_thinking
from selfreward.errors import RecipeError
from selfreward.policy.policy import Policy
from selfreward.types import Group, Prompt, Trajectory


def recontext(prompt: Prompt, template: str, fields: Mapping[str, str], kind: str = "hint") -> Prompt:
    """The prompt with ``template`` in the place of its question; ``{question}`` and each field are filled in.

    Chat prompts keep their other messages. The id is a new one, so that draws and baselines are its own.

    Raises:
        RecipeError: when the template names a field that is not given.
    """
    try:
        text = template.format(**{"question": prompt.question, **fields})
    except (KeyError, IndexError) as error:
        raise RecipeError(f"The template {template!r} names a field {error} that is not given.") from None
    name = f"{prompt.id}/{kind}"
    if prompt.messages is None:
        return replace(prompt, id=name, text=text)
    last = max(i for i, m in enumerate(prompt.messages) if m["role"] == "user")
    messages = [{**m, "content": text} if i == last else m for i, m in enumerate(prompt.messages)]
    return replace(prompt, id=name, messages=tuple(messages))


def sibling_success(group: Group, threshold: float = 0.5) -> list[Trajectory | None]:
    """For each member the next *other* member (cyclically) with at least ``threshold`` reward; None without one.

    Example: rewards ``[1, 0, 1]`` give members 2, 2 and 0; ``[1, 0]`` give None and 0: a success is never shown
    to itself.
    """
    good = [r >= threshold for r in group.rewards]
    n = len(good)
    found: list[Trajectory | None] = []
    for i in range(n):
        after = next((j % n for j in range(i + 1, i + n) if good[j % n]), None)
        found.append(None if after is None else group.trajectories[after])
    return found


def success_or_error(
    group: Group, answers: AnswerSpace, success: str, error: str = "", source: Group | None = None
) -> list[Prompt | None]:
    """For each member the prompt with what would have helped: another member's success, else its own error, else None.

    Args:
        answers: finds the wrong answer, or says itself what failed (see :func:`what_failed`).
        success: template with ``{question}`` and ``{solution}``; thinking is cut out of the success that is shown.
        error: template with ``{question}``, ``{feedback}`` and ``{answer}`` (the wrong one); empty for none. The failed
            text itself stays out: shown, it costs entropy and accuracy (SDPO, 2601.20802).
        source: take successes and errors from this group of the same size instead (hints that belong to another prompt:
            a control).
    """
    found: list[Prompt | None] = []
    told = source or group
    for _, shown, failed in zip(group, sibling_success(told), told, strict=True):
        if shown is not None:
            found.append(recontext(group.prompt, success, {"solution": strip_thinking(shown.completion)}))
        elif error and not failed.reward and (fields := what_failed(failed, answers)):
            found.append(recontext(group.prompt, error, fields))
        else:
            found.append(None)
    return found


def what_failed(attempt: Trajectory, answers: AnswerSpace) -> dict[str, str]:
    """What can be told of a failed attempt: the fields ``feedback``, a text, and ``answer``.

    An answer space that knows why an attempt failed says so in a method ``feedback(completion, reference)`` (failed
    tests, what could not be read). Otherwise the text says that the answer is wrong, and without an answer there is
    nothing to tell.
    """
    answer = answers.extract(attempt.completion)
    explain = getattr(answers, "feedback", None)
    if explain is not None:
        return {"feedback": explain(attempt.completion, str(attempt.prompt.answer)), "answer": answer or ""}
    return {} if answer is None else {"feedback": f"The answer {answer} is wrong.", "answer": answer}


def rescored(
    policy: Policy,
    trajectories: Sequence[Trajectory],
    prompts: Sequence[Prompt],
    *,
    temperature: float = 1.0,
    role: str = "teacher",
    **asked: Any,
) -> list[dict[str, Tensor]]:
    """What ``policy`` makes of the last segment of each trajectory after another prompt; ``[T]`` of that segment.

    Args:
        prompts: one per trajectory: the context that takes the place of everything before the segment.
        asked: ``stats``, ``top_k`` or ``candidates``, as for :meth:`Policy.score`.
    """
    heads = [policy.encode(p) for p in prompts]
    sequences = [
        torch.cat([torch.tensor(h, dtype=torch.long), t.last.tokens]) for h, t in zip(heads, trajectories, strict=True)
    ]
    return policy.score(sequences, [len(h) for h in heads], temperature=temperature, role=role, **asked)
