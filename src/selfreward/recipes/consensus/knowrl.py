"""KnowRL (2025, arXiv 2510.11407): learning what one can do from agreement with oneself.

    few-shot from seeds, write tasks believed feasible and tasks believed infeasible    (introspection)
    for each task, sample k verdicts: feasible or infeasible
    reward: agrees with the majority of the k; nothing readable: 0
    GRPO on the verdicts; written tasks with a firm consensus join the few-shot pool

Needs a handful of tasks whose feasibility is known, as the first examples; no other label is read. Believes
that a model's verdicts scatter around the truth. The constant verdict agrees with itself perfectly, so that
the batch is balanced between the two classes unless ``balance`` is off.
Only the abstract and summaries of the paper could be read: the exact reward, the writer's reward and the
estimator are options or our choice, and say so.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from selfreward.data.answers import Regex
from selfreward.errors import DataError
from selfreward.policy.policy import Policy
from selfreward.recipes.grpo import GRPO
from selfreward.rollouts.proposing import Introspection
from selfreward.rollouts.run import RunContext
from selfreward.signals.feasibility import (
    SelfVerdict,
    balanced,
    consensus,
    consensus_rewards,
    read_verdict,
    verdict_entropy,
    verdict_report,
)
from selfreward.types import Experience, Group, Labels, Prompt

if TYPE_CHECKING:
    from selfreward.data.task import Task

# For checkpoints that read; a task may bring its own by the same names.
TEMPLATES = {
    "verdict": "Here is a task:\n\n{question}\n\nWould you solve it correctly? Think about what it takes, then end "
    "with one word: feasible or infeasible.",
    "feasible": "feasible",
    "infeasible": "infeasible",
    "write-feasible": "Tasks that you can solve correctly:\n{seeds}\nWrite one more, on one line, and nothing else.\n",
    "write-infeasible": "Tasks that you cannot solve:\n{seeds}\nWrite one more, on one line, and nothing else.\n",
}
KINDS = {True: "feasible", False: "infeasible"}


@dataclass
class KnowRL(GRPO):
    """GRPO on the consensus of verdicts about one's own ability.

    Attributes:
        reward: ``majority`` pays agreement with the majority, ``share`` the share of equal verdicts.
        balance: learn from as many tasks of one consensus as of the other.
        entropy_floor: in bits; while all verdicts of a batch together have less entropy, tasks of the larger
            class teach nothing. 0 is off.
        seeds: known examples per class that start the few-shot pool.
        write: tasks of each class that the policy writes per step, beside the data's own.
        shots, join, pool: examples shown to the writer; consensus share from which a written task joins the
            pool; newest tasks kept there per class.
        truth: ``permuted`` takes the consensus of another task (control); ``gold`` the known feasibility (ceiling).
    """

    name: ClassVar[str] = "knowrl"
    system_id: ClassVar[str | None] = "015"
    base: ClassVar[str] = "embedded:fact"
    labels: ClassVar[Labels] = "seed"
    mechanism: ClassVar[str] = "tasks with a consensus"

    reward: Literal["majority", "share"] = "majority"
    balance: bool = True
    entropy_floor: float = 0.0
    seeds: int = 8
    write: int = 4
    shots: int = 4
    join: float = 0.9
    pool: int = 64
    truth: Literal["consensus", "permuted", "gold"] = "consensus"

    _written: Introspection = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._written = Introspection(self.shots, self.pool)

    def needs(self) -> Labels:
        return "outcome" if self.truth == "gold" else "seed"

    def adapt(self, task: Task) -> Task:
        """Questions become questions about oneself; only the seeds keep a label, and the seeds alone are shown."""
        words = {**TEMPLATES, **task.templates}

        def name(p: Prompt) -> str:
            return str(p.fields.get("key", p.question))

        def verdict(p: Prompt, labelled: bool) -> Prompt:
            label = p.fields.get("feasible") if labelled else None
            return Prompt(p.id, words["verdict"].format(question=name(p)), fields={"asks": name(p)}, reference=label)

        seeds = {}
        for kind, word in ((True, words["feasible"]), (False, words["infeasible"])):
            marked = [p for p in task.train if p.fields.get("feasible") == word][: self.seeds]
            if self.write and len(marked) < self.shots:
                raise DataError(
                    f"knowrl needs {self.shots} training prompts whose field 'feasible' is {word!r} as first examples; "
                    f"there are {len(marked)}. Mark some, or set write=0."
                )
            seeds[f"seeds-{KINDS[kind]}"] = "\n".join(map(name, marked))
        held_out = "\n".join(map(name, task.test))
        test = [verdict(p, True) for p in task.test]
        yes, no = words["feasible"], words["infeasible"]
        limit = int(task.settings.get("max_new_tokens", 512))
        labelled = [p for p in test if p.answer is not None]
        return dataclasses.replace(
            task,
            train=[verdict(p, self.truth == "gold") for p in task.train],
            test=test,
            answers=Regex(rf"(?<!\w)({no}|{yes})(?!\w)"),
            well_formed=lambda text: read_verdict(text, yes, no) is not None,
            templates={**words, **seeds, "held-out": held_out},
            metric="macro_f1" if labelled else task.metric,
            evaluator=(lambda policy: report(policy, labelled, yes, no, limit)) if labelled else None,
        )

    def collect(self, policy: Policy, prompts: Sequence[Prompt], run: RunContext) -> Experience:
        tasks = [*prompts, *self.introspect(policy, run)]
        groups = policy.sample(tasks, self.group_size, run.sampling, view="verdict")
        yes, no = run.templates["feasible"], run.templates["infeasible"]
        verdicts = [[read_verdict(c, yes, no) for c in g.completions] for g in groups]
        agreed = [consensus(row) for row in verdicts]
        run.count(self.mechanism, sum(c.verdict is not None for c in agreed))
        targets = self._targets(groups, [c.verdict for c in agreed], yes, run)
        for group, row, found, target in zip(groups, verdicts, agreed, targets, strict=True):
            group.meta["consensus"] = {"verdict": found.verdict, "share": found.share}
            if target is not None:
                form = self.reward if self.truth == "consensus" else "majority"
                group.reward_with(consensus_rewards(row, target, form))
            own = "writer" in group.prompt.fields and found.verdict is not None and found.share >= self.join
            if own and self._written.keep(KINDS[bool(found.verdict)], group.prompt.fields["asks"]):
                run.count("tasks that joined the pool")
        flat = [v for row in verdicts for v in row]
        kept = self._teaching(targets, verdict_entropy(flat), run)
        experience = self.learn_from([groups[i] for i in kept])
        experience.groups = groups
        experience.stats = {
            "verdict/entropy": verdict_entropy(flat),
            "verdict/yes": sum(v is True for v in flat) / max(1, len(flat)),
            "verdict/consistency": sum(c.share for c in agreed) / max(1, len(agreed)),
            "tasks/written": float(len(tasks) - len(prompts)),
            "tasks/learned": float(len(kept)),
        }
        return experience

    def _targets(
        self, groups: Sequence[Group], majority: list[SelfVerdict], yes: str, run: RunContext
    ) -> list[SelfVerdict]:
        """The verdict that each task's samples are paid for."""
        if self.truth == "gold":
            return [None if g.prompt.answer is None else g.prompt.answer == yes for g in groups]
        if self.truth == "permuted":
            import torch

            return [majority[i] for i in torch.randperm(len(majority), generator=run.generator("permute")).tolist()]
        return majority

    def _teaching(self, targets: Sequence[SelfVerdict], entropy: float, run: RunContext) -> list[int]:
        """Indices of the tasks that are learned from."""
        kept = [i for i, t in enumerate(targets) if t is not None]
        if self.balance:
            kept = balanced(targets, run.generator("balance"))
        if entropy < self.entropy_floor and kept:
            common = sum(targets[i] is True for i in kept) * 2 > len(kept)
            kept = [i for i in kept if targets[i] is not common]
            run.count("updates under the entropy floor")
        return kept

    def introspect(self, policy: Policy, run: RunContext) -> list[Prompt]:
        """New tasks in the policy's own words: not shown to the writer, not held out, each once."""
        if not self.write or self.truth == "gold":
            return []
        seeds = {kind: run.templates[f"seeds-{kind}"].split("\n") for kind in KINDS.values()}
        templates = {kind: run.templates[f"write-{kind}"] for kind in KINDS.values()}
        held_out = run.templates.get("held-out", "").split("\n")
        written = self._written.write(policy, seeds, templates, self.write, run.sampling, run.generator, held_out)
        run.count("tasks written", len(written))
        ask = run.templates["verdict"]
        return [
            Prompt(f"written-{run.step}-{name}", ask.format(question=key), fields={"asks": key, "writer": True})
            for name, key in written
        ]

    def state_dict(self) -> dict[str, Any]:
        return {"written": {kind: list(keys) for kind, keys in self._written.kept.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._written.kept = {kind: list(keys) for kind, keys in state["written"].items()}


def report(
    policy: Policy, prompts: Sequence[Prompt], yes: str, no: str, limit: int, samples: int = 16
) -> dict[str, Any]:
    """:func:`verdict_report` of held-out verdict prompts whose reference is the word that is true."""
    from selfreward.policy.sampling.params import SamplingParams
    from selfreward.runtime.seeding import stream_seed

    params = SamplingParams(limit, stats=())
    groups = policy.sample(prompts, samples, params, seed=stream_seed(0, "evaluation"))
    verdicts = [[read_verdict(c, yes, no) for c in g.completions] for g in groups]
    return verdict_report(verdicts, [p.answer == yes for p in prompts])
