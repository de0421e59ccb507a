"""What a training run needs to know of a task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from selfreward.data.answers import AnswerSpace
from selfreward.errors import ConfigError
from selfreward.types import Prompt


class NoAnswers(AnswerSpace):
    """Nothing is an answer: for tasks that are judged by what happens, not by what a text says."""

    def extract(self, text: str) -> str | None:
        return None


def any_form(text: str) -> bool:
    """Every text has the form that is asked for."""
    return True


@dataclass(frozen=True)
class Task:
    """What a training run needs to know of a task.

    Attributes:
        train, test: prompts with reference answers; disjoint from each other and from the text that
            the base was pre-trained on.
        answers: how answers are found and compared; by default there are none.
        well_formed: whether a completion has the task's format; by default every one has.
        settings: recommended training settings, by the names of the run configuration.
        templates: prompt templates (judges, verdict words) by name, for ``Policy.ask``.
        metric: the held-out metric that says how good a model is.
        evaluator: measures a policy where answers are not simply right or wrong; None is
            :func:`selfreward.evaluation.held_out.evaluate` on ``test``.
        similarity: how alike two answers are, in [0, 1], where hardly any two are equal; None is equality.
    """

    name: str
    train: list[Prompt]
    test: list[Prompt]
    answers: AnswerSpace = field(default_factory=NoAnswers)
    well_formed: Callable[[str], bool] = any_form
    settings: dict[str, Any] = field(default_factory=dict)
    templates: dict[str, str] = field(default_factory=dict)
    metric: str = "pass@1"
    evaluator: Callable[[Any], dict[str, Any]] | None = None
    similarity: Callable[[str, str], float] | None = None

    @classmethod
    def of(cls, name: str, answers: AnswerSpace, *, train: Sequence[Prompt] = (), test: Sequence[Prompt] = ()) -> Task:
        """A task made of prompts alone: a completion is well-formed where ``answers`` finds an answer in it."""
        return cls(name, list(train), list(test), answers, lambda text: answers.extract(text) is not None)


def task_from_file(spec: str) -> Task:
    """A user's task: ``FILE.py`` with a function ``load() -> Task``, or ``FILE.py:FUNCTION``.

    Raises:
        ConfigError: if there is no such file or function.
        UserCodeError: if it fails, or gives something else than a usable task.
    """
    from selfreward.runtime.user_code import UserCodeError, blaming, load_module

    path, _, name = spec.partition(":")
    function = getattr(load_module(Path(path), "Task"), name or "load", None)
    if not callable(function):
        raise ConfigError(f"{path} has no function {name or 'load'}() that gives a Task.")
    with blaming(f"{name or 'load'}() made the task"):
        task = function()
    if not isinstance(task, Task):
        raise UserCodeError(f"{spec}: {name or 'load'}() gave a {type(task).__name__}, not a Task.")
    for part in ("train", "test"):
        odd = next((p for p in getattr(task, part) if not isinstance(p, Prompt)), None)
        if odd is not None:
            raise UserCodeError(f"{spec}: {part} holds a {type(odd).__name__}, not a Prompt.")
    if not task.train:
        raise UserCodeError(f"{spec}: the task has no prompts to train on.")
    return task
