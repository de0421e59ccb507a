"""SPO: what an answer is worth is how often it is preferred to the model's own other answers.

Swamy et al. 2024, "A Minimaximalist Approach to Reinforcement Learning from Human Feedback", arXiv 2401.04056. Believes
that a preference need not come from a score: majorities go in circles. It looks for the minimax winner, the mix of
answers that nothing beats, and finds it by self-play of one policy against itself:

1. draw G answers;
2. the reward of each is the mean chance to be preferred to its opponents: the rest of the group, or a queue of the
   last answers to the prompt; both orders are asked and averaged;
3. one policy-gradient step.

Rewards are centred in their group; common PPO practice, to divide them by the spread of the batch as well, is left out.
Needs a preference: the policy's own judgement, or a user's function (preference labels). Known to break: the mean
reward is one half however good the answers are, and the last policy may go in circles where the average of all is the
solution. ``reward="bradley-terry"`` is the baseline that cannot represent a circle.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

from selfreward.errors import ConfigError, RecipeError
from selfreward.policy.policy import Policy
from selfreward.recipes.grpo import GRPO, Advantage
from selfreward.rollouts.run import RunContext
from selfreward.runtime.seeding import stream_seed
from selfreward.runtime.user_code import named_function
from selfreward.signals.win_rates import Comparisons, OpponentQueue, win_rates
from selfreward.types import Experience, Group, Labels, Prompt


@dataclass
class SPO(GRPO):
    """Win rates against one's own answers as rewards.

    Attributes:
        group_size: G, answers per prompt.
        preference: ``judge`` asks the policy itself by the task's template ``pair`` (``{question}``, ``{first}``,
            ``{second}``, answered A or B); ``module:function`` calls ``function(question, pairs, rng)``, which gives
            for each pair the chance that the first is preferred, or None.
        opponents, queue: ``group`` (the batch form) or ``queue``, of so many answers per prompt, the group included.
        reward: ``wins`` (the paper); ``bradley-terry`` scores every answer by a model of all comparisons so far, and
            ``bradley-terry:module:function`` by one linear in ``function(text)``; the reward is the expected win rate.
    """

    name: ClassVar[str] = "spo"
    system_id: ClassVar[str | None] = "061"
    mechanism: ClassVar[str] = "answers ranked by win rate"
    base: ClassVar[str] = "embedded:prefs"

    group_size: int = 8
    advantage: Advantage = "centred"
    preference: str = "judge"
    opponents: Literal["group", "queue"] = "group"
    queue: int = 32
    reward: str = "wins"
    _queue: OpponentQueue = field(default_factory=lambda: OpponentQueue(1), repr=False, init=False)
    _seen: Comparisons = field(default_factory=Comparisons, repr=False, init=False)

    def __post_init__(self) -> None:
        self._queue = OpponentQueue(self.queue)
        if not (self.reward == "wins" or self.reward.startswith("bradley-terry")):
            raise ConfigError(f"spo: reward is {self.reward!r}; it must be 'wins' or 'bradley-terry'.")

    def needs(self) -> Labels:
        return "none" if self.preference == "judge" else "preference"

    def collect(self, policy: Policy, prompts: Sequence[Prompt], run: RunContext) -> Experience:
        groups = policy.sample(prompts, self.group_size, run.sampling)
        queries = sum(self.rank(policy, group, run) for group in groups)
        return replace(self.learn_from(groups), stats={"preference/queries": float(queries)})

    def rank(self, policy: Policy, group: Group, run: RunContext) -> int:
        """Reward the answers of a group; returns how many comparisons were asked for."""
        rng = random.Random(stream_seed(run.seed, run.step, "preference", group.key))
        answered: dict[tuple[str, str], float | None] = {}

        def ask(question: str, pairs: Sequence[tuple[str, str]]) -> list[float | None]:
            found = self.ask(policy, question, pairs, run, rng)
            answered.update(zip(pairs, found, strict=True))
            return found

        question, own = group.prompt.question, group.completions
        self._queue.push(group.key, own)
        against = self._queue.opponents(group.key) if self.opponents == "queue" else []
        rewards = win_rates(ask, question, own, against)
        group.reward_with(rewards if self.reward == "wins" else self.modelled(question, own, answered))
        run.count(self.mechanism, len(own))
        return len(answered)

    def ask(
        self, policy: Policy, question: str, pairs: Sequence[tuple[str, str]], run: RunContext, rng: random.Random
    ) -> list[float | None]:
        """The chance that the first of each pair is preferred."""
        if self.preference != "judge":
            return list(named_function(self.preference, "preference")(question, pairs, rng))
        if "pair" not in run.templates:
            raise RecipeError(
                "spo: preference='judge' needs a task template 'pair' with {question}, {first} and {second}, answered "
                "A or B; this task brings none. Give preference=MODULE:FUNCTION to compare answers otherwise."
            )
        fields = [{"question": question, "first": a, "second": b} for a, b in pairs]
        return policy.ask(run.templates["pair"], fields, ("A", "B")).probs[:, 0].tolist()

    def modelled(self, question: str, own: Sequence[str], answered: dict[tuple[str, str], float | None]) -> list[float]:
        """The win rates in the group that a reward model of all comparisons expects."""
        for (first, second), outcome in answered.items():
            if outcome is not None:
                self._seen.record(question, first, second, outcome)
        features = self.reward.partition(":")[2]
        return self._seen.win_rates(question, own, named_function(features, "reward") if features else None)

    def state_dict(self) -> dict[str, Any]:
        return {"queue": self._queue.state_dict(), "comparisons": self._seen.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._queue.load_state_dict(state["queue"])
        self._seen.load_state_dict(state["comparisons"])
