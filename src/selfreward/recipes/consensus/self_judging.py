"""Self-judging: the model decides whether its own answers are correct, and its verdict is the reward.

Simonds et al. 2025, "Self Rewarding Self Improving" (RLSR), arXiv 2505.08827. Believes that an answer
is easier to check than to find. Needs problems, a judge prompt, and a policy (or its frozen copy) that
can use it; no solution and no verifier. Sample G answers, extract each one, let the judge say correct
or not, reward 1 or 0, GRPO. In the full loop the problems are written by the model as well.
Known to break where the judge can be addressed by what it judges: it must see the answer only
(``shows=text`` opens that door), and where verdicts drift to "yes" as the policy moves.
Which weights judged in which of the paper's experiments is not published: ``current`` is the default.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch

from selfreward.policy.policy import Policy
from selfreward.policy.sampling.params import SamplingParams
from selfreward.recipes.grpo import GRPO
from selfreward.rollouts.proposing import ListFormat, TaskFactory, load_check
from selfreward.rollouts.run import RunContext
from selfreward.types import Experience, Group, Prompt

TEMPLATE = (
    "Problem:\n{question}\n\nProposed answer:\n{completion}\n\n"
    "Check it step by step in your head. Is the proposed answer correct? Reply with one word, Yes or No."
)


@dataclass
class SelfJudging(GRPO):
    """1 for an answer that the judge accepts.

    Attributes:
        judge: judged by the policy as it is (``current``) or as it was at the start (``frozen``).
        shows: the judge sees the extracted ``answer`` only, or the whole ``text``, comments included. A task
            whose answers cannot be checked without their working shows the text.
        template: which of the task's judge templates asks.
        readout: ``verdict`` is 1 where yes is more likely than no, else 0; ``probability`` is that of yes.
        noise: share of verdicts that are turned round (a robustness arm).
        coin: toss one that says yes as often as the judge did in this step: a control that must teach nothing.
        problems: train on the data (``given``), or on problems like those that the model writes (``own``).
        check: ``module:function``, a further condition on self-made problems.
        proposal_tokens: length of a continued list of problems.
    """

    name: ClassVar[str] = "self-judging"
    system_id: ClassVar[str | None] = "130"
    base: ClassVar[str] = "embedded:chain-writer"
    mechanism: ClassVar[str] = "answers judged"

    judge: Literal["current", "frozen"] = "current"
    shows: Literal["answer", "text"] = "answer"
    template: str = "judge"
    readout: Literal["verdict", "probability"] = "verdict"
    noise: float = 0.0
    coin: bool = False
    problems: Literal["given", "own"] = "given"
    check: str = ""
    novelty: float = 0.7
    proposal_tokens: int = 512
    _factory: TaskFactory = field(default_factory=TaskFactory, repr=False, init=False)

    def collect(self, policy: Policy, prompts: Sequence[Prompt], run: RunContext) -> Experience:
        stats: dict[str, float] = {}
        if self.problems == "own":
            prompts, stats = self.write_problems(policy, prompts, run)
        groups = policy.sample(prompts, self.group_size, run.sampling)
        verdicts = self.verdicts(policy, groups, run)
        flat = [v for own in verdicts for v in own]
        yes = sum(flat) / max(1, len(flat))
        for group, own in zip(groups, verdicts, strict=True):
            draw = torch.rand(2, len(own), generator=run.generator("noise", group.key)).tolist()
            if self.coin:
                own = [float(u < yes) for u in draw[0]]
            # Without an answer there is nothing to accept, whatever the noise says.
            found = [run.answers.extract(c) is not None for c in group.completions]
            own = [(1 - v if u < self.noise else v) * f for v, u, f in zip(own, draw[1], found, strict=True)]
            group.reward_with(own)
        experience = self.learn_from(groups, roles=["solver"])
        experience.stats |= {**stats, "judge/yes": yes}
        return experience

    def verdicts(self, policy: Policy, groups: Sequence[Group], run: RunContext) -> list[list[float]]:
        """One verdict per completion; what has no answer is not judged and has 0."""
        judge = policy if self.judge == "current" else run.reference
        template = run.templates.get(self.template, TEMPLATE)
        words = [run.templates.get("yes", "Yes"), run.templates.get("no", "No")]
        found = [[run.answers.extract(c) for c in g.completions] for g in groups]
        items = [
            {"question": g.prompt.question, "completion": completion if self.shows == "text" else answer}
            for g, own in zip(groups, found, strict=True)
            for completion, answer in zip(g.completions, own, strict=True)
            if answer is not None
        ]
        scores = iter(judge.ask(template, items, words).probs[:, 0].tolist())
        run.count(self.mechanism, len(items))
        result = [[0.0 if answer is None else next(scores) for answer in own] for own in found]
        return result if self.readout == "probability" else [[float(p > 0.5) for p in own] for own in result]

    def write_problems(
        self, policy: Policy, prompts: Sequence[Prompt], run: RunContext
    ) -> tuple[list[Prompt], dict[str, float]]:
        """As many own problems as prompts were given, which are the seeds; missing ones are taken from those."""
        self._factory.check, self._factory.novelty = load_check(self.check), self.novelty
        self._factory.add_seeds(p.question for p in prompts)
        params = SamplingParams(self.proposal_tokens, temperature=0.8, top_p=0.95, stats=())
        form = ListFormat.of(run.templates)
        own, counts = self._factory.propose(policy, len(prompts), run.step, form, params, run.generator("lists"))
        self._factory.keep(p.question for p in own)
        run.count("problems written", len(own))
        return [*own, *prompts[len(own) :]], {f"proposals/{k}": float(v) for k, v in counts.items()}

    def state_dict(self) -> dict[str, Any]:
        return self._factory.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._factory.load_state_dict(state)
