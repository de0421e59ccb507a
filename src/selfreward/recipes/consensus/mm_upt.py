"""MM-UPT: majority vote on given questions, or on questions that the model writes itself.

Wei et al. 2025, "Unsupervised Post-Training for Multi-Modal LLM Reasoning via GRPO", arXiv 2505.22453.
Believes that a model which is right more often than it agrees on any error can be trained on its own
majority, and that questions need no answers either, so it may write them. Needs prompts with an
extractable answer and no label: r_i = 1[answer_i = most frequent answer], GRPO with 0.01 KL to the start.
This is the text side: what stands in the prompt may describe an image, but no pixel is read. Known to
break where the model is mostly wrong (the vote then teaches the error), and it adds nothing that was
not among the samples.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from selfreward.policy.policy import Policy
from selfreward.policy.sampling.params import SamplingParams
from selfreward.recipes.consensus.vote import Vote
from selfreward.rollouts.proposing import ListFormat
from selfreward.rollouts.run import RunContext
from selfreward.types import Experience, Group, Prompt


@dataclass
class MMUPT(Vote):
    """The vote, with the question side of the paper.

    Attributes:
        missing: completions without an answer leave the vote. The released code lets its placeholder for
            a missing answer take part and win; ``own`` is the nearest to it that rewards nobody for it.
        questions: ``given`` prompts; ``in-context``: for each prompt the model writes one like it and is
            trained on that; ``direct``: it writes without an example. Where the text cannot be read as
            a question the given one is used, so that every step has as many prompts.
        proposal_tokens: length of a written question; its sampling is that of self-instruction.
        pseudo_label: ``random`` rewards one of the group's answers drawn blindly (the control).
    """

    name: ClassVar[str] = "mm-upt"
    system_id: ClassVar[str | None] = "085"
    base: ClassVar[str] = "embedded:chain-writer"

    group_size: int = 10
    kl: float = 0.01
    questions: Literal["given", "in-context", "direct"] = "given"
    proposal_tokens: int = 512
    pseudo_label: Literal["vote", "random"] = "vote"

    def collect(self, policy: Policy, prompts: Sequence[Prompt], run: RunContext) -> Experience:
        own: list[Prompt] = []
        if self.questions != "given":
            own = self.write(policy, prompts, run)
            prompts = own
        experience = super().collect(policy, prompts, run)
        if self.pseudo_label == "random":
            for group in experience.groups:
                self.relabel(group, run)
            experience = self.learn_from(experience.groups)
        if own:
            experience.stats["questions/own"] = sum(p.id.endswith("/own") for p in own) / len(own)
        return experience

    def write(self, policy: Policy, prompts: Sequence[Prompt], run: RunContext) -> list[Prompt]:
        """One new question per prompt; it has no reference answer, and none is made."""
        form = ListFormat.of(run.templates)
        asked = [form.write([p.question] if self.questions == "in-context" else []) for p in prompts]
        requests = [Prompt(p.id, text=text) for p, text in zip(prompts, asked, strict=True)]
        params = SamplingParams(self.proposal_tokens, temperature=0.8, top_p=0.95, stats=())
        found = []
        for prompt, group in zip(prompts, policy.sample(requests, 1, params, role="proposer"), strict=True):
            texts = form.read(group.completions[0], group.trajectories[0].finished)
            text = next((t for t in texts if re.fullmatch(form.problem or ".+", t, re.DOTALL)), None)
            fresh = text is not None and text != prompt.question
            found.append(Prompt(f"{prompt.id}/own", text=text, locked_by=prompt.locked_by) if fresh else prompt)
            run.count("questions written", fresh)
        return found

    def relabel(self, group: Group, run: RunContext) -> None:
        """Reward a class that is drawn uniformly from those of the group, whatever its size."""
        classes = run.classes(group)
        present = sorted({c for c in classes if c is not None})
        if not present:
            return
        draw = int(torch.randint(len(present), (1,), generator=run.generator("label", group.key)))
        chosen = present[draw]
        group.reward_with([float(c == chosen) for c in classes])
        group.meta["vote"] |= {"label": chosen}
