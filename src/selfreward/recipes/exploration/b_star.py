"""B-STaR: choose, before every cycle of self-training, how to sample and how strictly to filter.

Zeng et al. 2024, arXiv 2412.17256 (ICLR 2025); released code hkust-nlp/B-STaR. Believes that self-training stalls
because exploration fades and because the filter that was right at first is wrong later, and that one number says
how to trade them: the balance score (:func:`selfreward.recipes.common.balance.balance`) of a temperature and a reward
threshold, measured on a few questions of the training set. Needs questions with answers and a process reward
model. 1. R(x, y) = [answer right] + min over steps of the process reward / 5. 2. Before each cycle: sample the
development questions at every temperature, and take the temperature and threshold with the best mean balance
score. 3. Sample the training questions with them, keep distinct solutions with R above the threshold, best
first, and train by likelihood from the current policy (online rejection fine-tuning). The search costs samples,
which are counted (role ``dev``). The process reward model is a function that the task brings (template
``process_reward``, written ``module:function``), or else a head that the warm-up teaches from which states of
the start's own samples a right answer was reached; it stays as it is. Known to break where the reward cannot
tell right from wrong. The released code appends the reference solution to every pool; here there is none. The
paper lets the number kept per question grow until a cycle has its 67.5K examples; a step here knows no such
size, so nothing grows unless ``target`` gives one, and ``keep`` alone bounds it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, cast

from selfreward.credit.rejection import likelihood_experience, rejection_set
from selfreward.credit.replay import Replay
from selfreward.policy.policy import Policy
from selfreward.policy.snapshots.frozen import weights_of
from selfreward.recipes.common.balance import Scored, choose_configuration
from selfreward.recipes.common.cycles import CycleRecipe
from selfreward.recipes.common.schedules import steps_between
from selfreward.rollouts.proposing import load_check
from selfreward.rollouts.run import RunContext
from selfreward.rollouts.step_tree import ValueReader
from selfreward.rollouts.tree_search import reach_targets
from selfreward.signals.shaping import with_weakest_step
from selfreward.types import Experience, Group, Prompt

StepJudge = Callable[[str, str], list[float]]  # question, completion -> a score per step


@dataclass
class BStar(CycleRecipe):
    """Online rejection fine-tuning whose temperature and threshold follow the balance score.

    Attributes:
        choose: ``balance`` is the method; ``random`` draws from the same grid without looking (control);
            ``fixed`` keeps ``temperature`` and ``threshold``.
        coolest, hottest, by: temperatures tried.
        lowest, highest, fine: thresholds tried.
        dev: questions, the first of the training set, that they are tried on.
        trials: samples per question and temperature.
        wanted: n* of the balance score, the right solutions per question that would do.
        empty: how a question of which nothing is kept counts, see
            :func:`selfreward.recipes.common.balance.balance_score`.
        keep: most solutions per question; ``target``, where given, is the size that a step's set grows to.
        restart: begin every cycle from the start's weights (iterative rejection fine-tuning).
        process: where step scores come from: ``task`` takes its function where it has one, ``head`` teaches one.
        warmup: steps whose samples teach the head; ``updates`` and ``head_lr`` are its own.
    """

    name: ClassVar[str] = "b-star"
    system_id: ClassVar[str | None] = "057"
    mechanism: ClassVar[str] = "configurations scored"
    base: ClassVar[str] = "embedded:chain-long"

    choose: Literal["balance", "random", "fixed"] = "balance"
    temperature: float = 1.0
    threshold: float = 0.0
    coolest: float = 0.5
    hottest: float = 1.2
    by: float = 0.05
    lowest: float = -1.0
    highest: float = 1.0
    fine: float = 0.1
    dev: int = 1000
    trials: int = 64
    wanted: int = 8
    empty: Literal["zero", "skip"] = "zero"
    group_size: int = 64
    keep: int | None = None
    target: int | None = None
    restart: bool = False
    process: Literal["task", "head"] = "task"
    cycles: int = 9
    updates: int = 400
    head_lr: float = 1e-3
    _dev: Replay[Prompt] = field(default_factory=lambda: Replay(10**9), repr=False, init=False)
    _chosen: tuple[float, float] | None = field(default=None, repr=False, init=False)

    def collect(self, policy: Policy, prompts: Sequence[Prompt], run: RunContext) -> Experience:
        self._dev.add(prompts[: max(0, self.dev - len(self._dev))], run.step)
        if run.step <= self.warmup:
            groups, trees = self.sample(policy, prompts, self.group_size, run)
            self.label(policy, groups, trees, run, reach_targets)
            return Experience([], groups=groups)
        actor, begins = self.turn(policy, run)
        stats = self.begin(policy, actor, run) if begins else {}
        temperature, threshold = self._chosen or (self.temperature, self.threshold)
        groups = self.rewarded(actor, prompts, self.group_size, temperature, run)
        enough = {"answer": lambda t: t.meta["answered"], "reward": lambda t: t.reward > threshold}
        found = rejection_set(groups, enough, cap=self.keep, target=self.target)
        experience = likelihood_experience(found, groups)
        kept = [t.meta["right"] for row in found.kept for t in row]
        purity = {"rejection/right": sum(kept) / len(kept)} if kept else {}
        experience.stats |= {"temperature": temperature, "threshold": threshold, **purity, **stats}
        return experience

    def begin(self, policy: Policy, actor: Policy, run: RunContext) -> dict[str, float]:
        """Before a cycle: teach the head once, and choose the configuration."""
        stats: dict[str, float] = {}
        if "head" not in self._beside and not self.judge(run):
            stats = self.teach(policy, run, updates=self.updates, lr=self.head_lr)
        if self.restart:
            policy.load_state_dict(weights_of(run.reference))
        return stats | (self.configure(actor, run) if self.choose != "fixed" else {})

    def configure(self, actor: Policy, run: RunContext) -> dict[str, float]:
        """The temperature and threshold with the best balance score on the development questions."""

        def draw(temperature: float) -> list[list[Scored]]:
            groups = self.rewarded(actor, list(self._dev), self.trials, temperature, run, role="dev")
            return [[Scored(t.completion, t.reward, t.meta["right"]) for t in g if t.meta["answered"]] for g in groups]

        grid = steps_between(self.coolest, self.hottest, self.by), steps_between(self.lowest, self.highest, self.fine)
        found = choose_configuration(draw, *grid, wanted=self.wanted, cap=self.keep, empty=self.empty)
        if self.choose == "random":
            found = found.blind(run.generator("configuration"))
        self._chosen = (found.best.temperature, found.best.threshold)
        run.count(self.mechanism, len(found.cells))
        return found.stats()

    def rewarded(
        self,
        actor: Policy,
        prompts: Sequence[Prompt],
        n: int,
        temperature: float,
        run: RunContext,
        role: str = "solver",
    ) -> list[Group]:
        """Samples with R as their reward."""
        groups = actor.sample(prompts, n, replace(run.sampling, temperature=temperature, stats=()), role=role)
        for group, steps in zip(groups, self.step_scores(actor, groups, run), strict=True):
            right = self.verdicts(group, run)
            group.reward_with(with_weakest_step(right, steps))
            for trajectory, verdict in zip(group, right, strict=True):
                answered = run.answers.extract(trajectory.completion) is not None
                trajectory.meta = {"right": verdict > 0, "answered": answered}
        return groups

    def step_scores(self, actor: Policy, groups: Sequence[Group], run: RunContext) -> list[list[list[float]]]:
        """The process reward of every step of every sample, about -5 to 5."""
        if judge := self.judge(run):
            return [[judge(g.prompt.question, c) for c in g.completions] for g in groups]
        reader = ValueReader(self.head(actor), "raw", actor, self.ask(actor, run))
        return [reader.along(rows) for rows in self.writer(actor, run).along(groups)]

    def judge(self, run: RunContext) -> StepJudge | None:
        """The task's process reward model, if it has one and is asked."""
        spec = run.templates.get("process_reward", "") if self.process == "task" else ""
        return cast("StepJudge | None", load_check(spec))

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "dev": self._dev.state_dict(), "chosen": list(self._chosen or ())}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._dev.load_state_dict(state["dev"])
        self._chosen = tuple(state["chosen"]) or None
