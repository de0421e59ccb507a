"""B-STaR: choose, before every cycle of self-training, how to sample and how strictly to filter.

Zeng et al. 2024, arXiv 2412.17256 (ICLR 2025); released code hkust-nlp/B-STaR. Believes that self-training stalls
because exploration fades and because the filter that was right at first is wrong later, and that one number says
how to trade them: the balance score (:func:`selfreward.controllers.balance`) of a temperature and a reward
threshold, measured on a few questions of the training set. Needs questions with answers and a process reward
model. 1. R(x, y) = [answer right] + min over steps of the process reward / 5. 2. Before each cycle: sample the
development questions at every temperature, and take the temperature and threshold with the best mean balance
score. 3. Sample the training questions with them, keep distinct solutions with R above the threshold, best
first, and train by likelihood from the current policy (online rejection fine-tuning). The search costs samples,
which are counted (role ``dev``). The process reward model is a function that the task brings (template
``process_reward``, written ``module:function``), or else a head that the warm-up teaches from which states of
the start's own samples a right answer was reached; it stays as it is. Known to break where the reward cannot
tell right from wrong. The released code appends the reference solution to every pool; here there is none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, cast

import torch

from selfreward.controllers import Scored, choose_configuration, steps_between
from selfreward.copies import weights_of
from selfreward.policy import Policy
from selfreward.proposing import load_check
from selfreward.recipes.base import RunContext
from selfreward.recipes.cycles import CycleRecipe
from selfreward.rejection import likelihood_experience, rejection_set
from selfreward.sampling import SamplingParams
from selfreward.step_tree import StateLabels, ValueReader
from selfreward.tree_search import reach_targets
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
        empty: how a question of which nothing is kept counts, see :func:`selfreward.controllers.balance_score`.
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
    _dev: list[dict[str, Any]] = field(default_factory=list, repr=False, init=False)
    _chosen: tuple[float, float] | None = field(default=None, repr=False, init=False)

    def collect(self, policy: Policy, prompts: Sequence[Prompt], run: RunContext) -> Experience:
        self.wake(policy)
        names = ("id", "text", "messages", "reference", "locked_by")
        self._dev += [{n: getattr(p, n) for n in names} for p in prompts[: max(0, self.dev - len(self._dev))]]
        if run.step <= self.warmup:
            return self.warm_up(policy, prompts, run)
        stats: dict[str, float] = {}
        if self.turn(policy, run):
            stats = self.begin(policy, run)
        assert self._actor is not None
        temperature, threshold = self._chosen or (self.temperature, self.threshold)
        groups = self.rewarded(self._actor, prompts, self.group_size, temperature, run)
        enough = {"answer": lambda t: t.meta["answered"], "reward": lambda t: t.reward > threshold}
        found = rejection_set(groups, enough, cap=self.keep, target=self.target)
        experience = likelihood_experience(found, groups)
        kept = [t.meta["right"] for row in found.kept for t in row]
        purity = {"rejection/right": sum(kept) / len(kept)} if kept else {}
        experience.stats |= {"temperature": temperature, "threshold": threshold, **purity, **stats}
        return experience

    def warm_up(self, policy: Policy, prompts: Sequence[Prompt], run: RunContext) -> Experience:
        """Label the states of the start's samples by what was reached from them."""
        groups, trees = self.sample(policy, prompts, self.group_size, run)
        for group, tree in zip(groups, trees, strict=True):
            group.reward_with(self.verdicts(group, run))
            right = {t.completion for t in group if t.reward > 0}
            labelled = reach_targets(tree, lambda leaf, right=right: leaf.state.text in right)  # type: ignore[misc]
            self._seen.add(labelled, self.ask(policy, run))
        return Experience([], groups=groups)

    def begin(self, policy: Policy, run: RunContext) -> dict[str, float]:
        """Before a cycle: teach the head once, and choose the configuration."""
        stats: dict[str, float] = {}
        if self._head is None and not self._judged(run):
            seen, self._seen = self._seen, StateLabels()
            stats = self.teach(policy, seen, updates=self.updates, lr=self.head_lr, seed=run.seed)
        if self.restart:
            policy.load_state_dict(weights_of(run.reference))
        return stats | (self.configure(run) if self.choose != "fixed" else {})

    def configure(self, run: RunContext) -> dict[str, float]:
        """The temperature and threshold with the best balance score on the development questions."""
        actor = self._actor
        assert actor is not None
        questions = [Prompt(**{**d, "messages": d["messages"] and tuple(d["messages"])}) for d in self._dev]

        def draw(temperature: float) -> list[list[Scored]]:
            groups = self.rewarded(actor, questions, self.trials, temperature, run, role="dev")
            return [[Scored(t.completion, t.reward, t.meta["right"]) for t in g if t.meta["answered"]] for g in groups]

        temperatures = steps_between(self.coolest, self.hottest, self.by)
        thresholds = steps_between(self.lowest, self.highest, self.fine)
        found = choose_configuration(
            draw, temperatures, thresholds, wanted=self.wanted, cap=self.keep, empty=self.empty
        )
        best = found.best
        if self.choose == "random":
            pick = torch.randint(len(found.cells), (1,), generator=run.generator("configuration"))
            best = found.cells[int(pick)]
        self._chosen = (best.temperature, best.threshold)
        run.count(self.mechanism, len(found.cells))
        return {
            "balance/samples": float(found.samples),
            "balance/score": best.score,
            "balance/kept": best.kept,
            "balance/right": best.right,
        }

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
        params: SamplingParams = replace(run.sampling, temperature=temperature, stats=())
        groups = actor.sample(prompts, n, params, role=role)
        for group, steps in zip(groups, self.step_scores(actor, groups, run), strict=True):
            right = self.verdicts(group, run)
            lowest = [max(-1.0, min(1.0, min(s, default=-5.0) / 5)) for s in steps]
            group.reward_with([r + low for r, low in zip(right, lowest, strict=True)])
            for trajectory, verdict in zip(group, right, strict=True):
                answered = run.answers.extract(trajectory.completion) is not None
                trajectory.meta = {"right": verdict > 0, "answered": answered}
        return groups

    def step_scores(self, actor: Policy, groups: Sequence[Group], run: RunContext) -> list[list[list[float]]]:
        """The process reward of every step of every sample, about -5 to 5."""
        if judge := self._judged(run):
            return [[judge(g.prompt.question, c) for c in g.completions] for g in groups]
        assert self._head is not None
        writer, reader = self.writer(actor, run), ValueReader(self._head, "raw", actor, self.ask(actor, run))
        roots = writer.roots([g.prompt for g in groups])
        return [reader.along([writer.states(r.state, t) for t in g]) for g, r in zip(groups, roots, strict=True)]

    def _judged(self, run: RunContext) -> StepJudge | None:
        spec = run.templates.get("process_reward", "") if self.process == "task" else ""
        return cast("StepJudge | None", load_check(spec))

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "dev": self._dev, "chosen": list(self._chosen or ())}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._dev, self._chosen = list(state["dev"]), tuple(state["chosen"]) or None
