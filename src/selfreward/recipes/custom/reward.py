"""Your own reward function under the plain GRPO learner. No method: the way in for rewards that nobody has thought of.

    # my_reward.py
    def short(prompts, completions, **columns):
        return [-len(c) for c in completions]

    selfreward train reward --set function=my_reward.py:short

The convention is trl's, so a trl reward function works as it is; here it is always handed a whole group, the
completions of one prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from selfreward.errors import ConfigError, RecipeError, nearest
from selfreward.policy.policy import Policy
from selfreward.recipes.grpo import GRPO
from selfreward.rollouts.run import RunContext
from selfreward.runtime import distributed
from selfreward.runtime.reward_process import RewardInPlace, RewardProcess
from selfreward.runtime.user_code import UserCodeError
from selfreward.types import Experience, Group, Labels, Prompt

if TYPE_CHECKING:
    from selfreward.data.task import Task


# What every reward function is handed.
CONVENTION = ("prompts", "completions")


@dataclass
class OwnReward(GRPO):
    """Reward = what the user's function returns; None means "no value".

    The function runs in a process of its own with a time limit.

    Attributes:
        function: ``FILE.py:FUNCTION``.
        columns: columns of the data that are handed over, by name, comma-separated; by default those that the function
            names beside ``prompts`` and ``completions``. ``answer`` is the label, and asking for it makes the recipe
            one that needs labels.
        on_error: when the function raises, hangs, dies or returns nonsense: ``stop`` the run with the reason,
            ``drop`` the group, or ``retry`` the call twice and then drop. A step in which every group was
            dropped stops the run.
        missing: a completion without a value earns the ``least`` of its group, or is left out (``drop``).
        timeout_s: seconds for one group.
    """

    name: ClassVar[str] = "reward"
    mechanism: ClassVar[str] = "completions with a value"

    function: str = ""
    columns: str = ""
    on_error: Literal["stop", "drop", "retry"] = "stop"
    missing: Literal["least", "drop"] = "least"
    timeout_s: float = 60.0
    _process: RewardProcess | RewardInPlace | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        self._read([c.strip() for c in self.columns.split(",") if c.strip()])

    def _read(self, names: list[str]) -> None:
        self.names = names
        # The data's columns are declared by the user here; the class cannot know them.
        self.fields = tuple(n for n in names if n != "answer")  # type: ignore[misc]

    def adapt(self, task: Task) -> Task:
        """The task as it is; a reward that cannot be found or imported is told before a model is loaded."""
        if not self.function:
            raise ConfigError("Which reward? --set function=my_reward.py:my_function")
        self._process = self.caller()
        self._process.start()
        who, takes = self._process.describe(), self._process.takes
        lacking = [n for n in CONVENTION if n not in (*takes.required, *takes.optional) and not takes.others]
        if lacking:
            raise ConfigError(
                f"{who} does not take {' and '.join(lacking)}; a reward is def reward(prompts, completions, **columns)."
            )
        there = {"answer"} if any(p.answer is not None for p in task.train) else set()
        there = there.union(*(p.fields for p in task.train))
        if not self.columns:
            asked = [n for n in takes.required if n not in CONVENTION]
            self._read(asked + [n for n in takes.optional if n in there])
        for name in self.names:
            if task.train and name not in there:
                raise ConfigError(
                    f"{who} reads the column {name!r}, which no prompt of {task.name} has.{nearest(name, there)}"
                )
        return task

    def caller(self) -> RewardProcess | RewardInPlace:
        """Who calls the function."""
        return RewardProcess(self.function, self.timeout_s)

    def needs(self) -> Labels:
        return "outcome" if "answer" in self.names else "none"

    def collect(self, policy: Policy, prompts: Sequence[Prompt], run: RunContext) -> Experience:
        kept, problems, calls = [], [], 0
        groups = policy.sample(prompts, self.group_size, run.sampling)
        for group in groups:
            values: list[float | None] | None = None
            for _ in range(3 if self.on_error == "retry" else 1):
                calls += 1
                try:
                    values = self._values(group)
                    break
                except UserCodeError as problem:
                    if self.on_error == "stop":
                        raise
                    problems.append(str(problem))
            scored = None if values is None else self._rewarded(group, values)
            if scored is not None:
                run.count(self.mechanism, sum(v is not None for v in values or ()))
                kept.append(scored)
        if not kept:
            reason = problems[-1] if problems else f"{self.function} gave no completion a value."
            raise RecipeError(f"No group of step {run.step} has a reward. {reason}")
        experience = self.learn_from(kept)
        experience.stats |= {
            "reward/calls": float(calls),
            "reward/failed_calls": float(len(problems)),
            "reward/dropped_groups": float(len(groups) - len(kept)),
        }
        return experience

    def _values(self, group: Group) -> list[float | None]:
        if self._process is None:
            self._process = self.caller()
        prompt, n = group.prompt, len(group)
        asked: Any = [dict(m) for m in prompt.messages] if prompt.messages is not None else prompt.text
        given = {name: prompt.answer if name == "answer" else prompt.fields.get(name) for name in self.names}
        process, columns = self._process, {k: [v] * n for k, v in given.items()}
        return distributed.once(lambda: process([asked] * n, group.completions, columns))

    def _rewarded(self, group: Group, values: Sequence[float | None]) -> Group | None:
        """The group with rewards; None where no completion has a value."""
        known = [v for v in values if v is not None]
        if not known:
            return None
        if self.missing == "drop" and len(known) < len(values):
            group, values = group.only([v is not None for v in values]), known
        group.reward_with([min(known) if v is None else v for v in values])
        return group


def reward_recipe(given: Callable[..., Any]) -> type[OwnReward]:
    """This recipe for a function at hand, which runs in the process of the trainer.

    Raises:
        ConfigError: for something that cannot be called.
    """
    if not callable(given):
        raise ConfigError(f"A reward is FILE.py:FUNCTION or a function, not {type(given).__name__}.")
    title = getattr(given, "__name__", type(given).__name__)

    @dataclass
    class FunctionReward(OwnReward):
        name: ClassVar[str] = "reward"

        function: str = title

        def caller(self) -> RewardInPlace:
            return RewardInPlace(given, title)

    return FunctionReward
