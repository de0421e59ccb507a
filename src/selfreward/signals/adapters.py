"""A named signal as a reward function, for trainers that are not ours.

The convention is trl's: ``reward(prompts, completions, **columns)`` with one entry per completion. A signal that
compares the completions of a prompt with one another needs all of them in one call, so a broken group is refused and
never scored in part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from selfreward.data.answers import answer_space
from selfreward.data.rollout_files import text_group
from selfreward.errors import RecipeError
from selfreward.rollouts.given import tokenize
from selfreward.rollouts.run import RunContext
from selfreward.signals.named import parse_signal, score_groups
from selfreward.signals.registry import signal as entry_of
from selfreward.types import Group, Prompt

if TYPE_CHECKING:
    from selfreward.policy.policy import Policy

    Text = str | Sequence[Mapping[str, Any]]


class Reward:
    """A signal that can be called as a reward function; made by :func:`reward`.

    Attributes:
        policy: the model, for signals that ask one; it can be set later, to the one that a trainer has loaded
            (``Policy(trainer.model, trainer.processing_class)``).
    """

    def __init__(
        self, signal: str, answers: str, policy: Policy | None, group_size: int | None, templates: Mapping[str, str]
    ) -> None:
        name, _ = parse_signal(signal)
        self.signal, self.policy, self.group_size = signal, policy, group_size
        self.answers, self.templates = answer_space(answers), dict(templates)
        self.compares = entry_of(name).needs in ("classes", "views")
        self.__name__ = name  # trl logs a reward under the name of its function

    def __call__(self, prompts: Sequence[Text], completions: Sequence[Text], **columns: Any) -> list[float]:
        """One number per completion; those to which the signal gives none earn the least of their group.

        Args:
            prompts: texts or lists of chat messages, the same one for all completions of a group, side by side.
            completions: texts, or lists of messages, of which the last one counts.
            columns: what else a trainer hands over; nothing of it is read.

        Raises:
            RecipeError: for lists of different lengths or a broken group.
            UnavailableError: when the signal needs a model or a template that is not there.
        """
        groups = self._groups(prompts, completions)
        if self.policy is not None:
            tokenize(groups, self.policy)
        space = self.answers
        run = RunContext(
            space, lambda text: space.extract(text) is not None, templates=self.templates, policy=self.policy
        )
        values: list[float] = []
        for row in score_groups(self.signal, run, groups):
            least = min((v for v in row if v is not None), default=0.0)
            values += [least if v is None else v for v in row]
        return values

    def _groups(self, prompts: Sequence[Text], completions: Sequence[Text]) -> list[Group]:
        if len(prompts) != len(completions):
            raise RecipeError(
                f"{self.__name__}: {len(prompts)} prompts were given with {len(completions)} completions."
            )
        questions = [_content(p) for p in prompts]
        sizes = [len(list(same)) for _, same in groupby(questions)]
        if self.group_size:
            broken = next((n for n in sizes if n % self.group_size), None)
            sizes = [self.group_size] * (len(questions) // self.group_size)
        else:
            broken = next((n for n in sizes if n == 1), None) if self.compares else None
        if broken is not None:
            wanted = f"groups of {self.group_size}" if self.group_size else "several completions of every prompt"
            raise RecipeError(
                f"{self.__name__} needs {wanted} in one call, side by side; here a prompt comes {broken} times. Let "
                "the trainer hand over whole groups (trl: a batch per process that is a multiple of num_generations)."
            )
        groups, at = [], 0
        for i, n in enumerate(sizes):
            asked = prompts[at]
            text, messages = (asked, None) if isinstance(asked, str) else (None, tuple(asked))
            prompt = Prompt(str(i), text=text, messages=messages)  # type: ignore[arg-type]
            groups.append(text_group(prompt, [_last(c) for c in completions[at : at + n]], str(i)))
            at += n
        return groups


def reward(
    signal: str,
    *,
    answers: str = "auto",
    model: str | Policy | None = None,
    group_size: int | None = None,
    templates: Mapping[str, str] | None = None,
) -> Reward:
    """A signal by name as a reward function in trl's convention, for any trainer that takes one.

    Args:
        signal: a name of :data:`selfreward.SIGNALS`, with options: ``"vote"``, ``"borda:by=gap"``.
        answers: how final answers are found and compared (``auto``, ``number``, ``boxed``, ``math``, ...).
        model: who is asked by signals that need a model: a folder, a hub id, or a loaded :class:`Policy`.
        group_size: completions per prompt; with it, groups of another size are refused.
        templates: prompt templates by name, for signals that ask in words.

    Raises:
        ConfigError: for an unknown signal or option.

    Example:
        ``reward("vote", answers="number")(["6*7="] * 3, ["42", "It is 42", "41"])`` is ``[1.0, 1.0, 0.0]``.
    """
    if isinstance(model, str):
        from selfreward.policy.loading import load_policy

        model = load_policy(model)
    return Reward(signal, answers, model, group_size, templates or {})


def _content(text: Text) -> Any:
    """What makes two prompts the same one."""
    return text if isinstance(text, str) else tuple((m.get("role"), m.get("content")) for m in text)


def _last(text: Text | None) -> str:
    """The text of a completion; empty where there is none, as in a message that only calls a tool."""
    if text is None or isinstance(text, str):
        return text or ""
    return str((text[-1].get("content") if text else None) or "")
