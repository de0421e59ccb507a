"""Objects as specs: what a configuration holds is text, and a caller in Python may hand over the thing itself.

Rows in memory become a file in the run folder; a class, a function, a loaded policy or a task stands as ``here:NAME``
(:mod:`selfreward.runtime.at_hand`) for as long as the call takes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfreward.errors import ConfigError
from selfreward.recipes.base import Recipe
from selfreward.runtime.at_hand import forget, hand_over

if TYPE_CHECKING:
    from selfreward.data.task import Task
    from selfreward.policy.policy import Policy
    from selfreward.types import Prompt

    Model = str | Path | Policy
    Data = str | Path | Task | Iterable[str | Mapping[str, Any] | Prompt]
    Reward = str | Callable[..., Sequence[float | None]]


class Specs:
    """Turns objects into the texts that a configuration holds, and remembers what it handed over."""

    def __init__(self) -> None:
        self.given: list[str] = []

    def _keep(self, value: Any, name: str) -> str:
        return self._note(hand_over(value, name))

    def _note(self, spec: str) -> str:
        self.given.append(spec)
        return spec

    def recipe(self, recipe: str | type[Recipe] | Recipe | None, reward: Reward | None) -> tuple[str, dict[str, Any]]:
        """What a configuration calls the recipe, with the hyperparameters that an instance brings."""
        from selfreward.recipes.registry import recipe_spec, reward_spec

        if isinstance(reward, str):
            return "reward", {"function": reward}
        if reward is not None:
            return self._note(reward_spec(reward)), {}
        if recipe is not None and not isinstance(recipe, str | type | Recipe):
            raise ConfigError(
                f"A recipe is a name, FILE.py[:Class], a Recipe class or an instance, not {_kind(recipe)}."
            )
        if isinstance(recipe, Recipe):
            fields = [f.name for f in dataclasses.fields(recipe) if f.init]
            return self._note(recipe_spec(type(recipe))), {name: getattr(recipe, name) for name in fields}
        return self._note(recipe_spec("vote" if recipe is None else recipe)), {}

    def model(self, model: Model | None) -> str | None:
        from selfreward.policy.policy import Policy

        if model is None or isinstance(model, str | Path):
            return None if model is None else str(model)
        if not isinstance(model, Policy):
            cure = " Wrap it: selfreward.Policy(model, tokenizer)." if hasattr(model, "parameters") else ""
            raise ConfigError(f"A model is a folder, a hub id, embedded:NAME or a Policy, not {_kind(model)}.{cure}")
        return self._keep(model, type(model.model).__name__)

    def data(self, data: Data | None, file: Path | None, settings: Mapping[str, Any]) -> str | None:
        """A spec; rows in memory are written to ``file``, and without one become a task of their own."""
        from selfreward.data.answers import answer_space
        from selfreward.data.rows import as_row, prompts_of_rows, write_jsonl
        from selfreward.data.task import Task

        if data is None or isinstance(data, str | Path):
            return None if data is None else str(data)
        if isinstance(data, Task):
            return self._keep(data, data.name)
        if isinstance(data, Mapping | bytes) or not isinstance(data, Iterable):
            raise ConfigError(
                f"Data is a path, a spec, a Task or a list of texts, dicts or Prompts, not {_kind(data)}."
            )
        data = list(data)
        prompts = prompts_of_rows(data, settings.get("prompt_field"), settings.get("answer_field"))
        if file is None:
            space = answer_space(settings.get("answers", "auto"))
            return self._keep(Task.of("data", space, train=prompts, test=prompts), "data")
        file.parent.mkdir(parents=True, exist_ok=True)
        write_jsonl(file, map(as_row, data))
        return str(file)


@contextmanager
def specs() -> Iterator[Specs]:
    """What is handed over inside is at hand until the block ends."""
    made = Specs()
    try:
        yield made
    finally:
        for spec in made.given:
            forget(spec)


def _kind(value: Any) -> str:
    return f"{type(value).__name__} ({str(value)[:40]!r})"
