"""Teacher forcing as a reward: a model trained on few pairs rewards itself, token by token, on new sources.

Hao et al. 2022, "Teacher Forcing Recovers Reward Functions for Text Generation", NeurIPS 2022, arXiv 2210.08708.
Believes that cross-entropy has put values into the logits, and that acting on those values corrects what
teacher forcing never saw: the model's own prefixes. Needs *parallel data once*, to train the teacher (here
the base itself, frozen at the start); then sources alone. r_t = f(s_t, a_t) - V(s_{t+1}) with centred
logits f; return-to-go minus sum_a softmax(f) f; divided by ``scale``, times an importance ratio, clipped;
REINFORCE on samples of a copy that is refreshed every ``refresh`` updates. Known limit: with the max value the
return telescopes to the teacher's own greedy choice, so it can teach nothing that the teacher does not know.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from selfreward.credit.advantages import induced_advantages
from selfreward.credit.rows import row_of
from selfreward.errors import RecipeError
from selfreward.losses import LossTerm, PolicyGradient, Uniformity
from selfreward.policy.policy import Policy
from selfreward.policy.reward_model import RewardModel
from selfreward.policy.snapshots.auxiliary import AuxiliaryModels
from selfreward.recipes.base import Recipe
from selfreward.recipes.grpo import Normalisation
from selfreward.rollouts.run import RunContext
from selfreward.runtime.seeding import stream_seed
from selfreward.signals.teacher_forcing import importance
from selfreward.types import Experience, Group, Labels, Prompt


@dataclass
class TeacherForcingReward(Recipe):
    """REINFORCE on the reward that a teacher-forced model's logits imply.

    Attributes:
        group_size, normalise: texts per source, and how tokens are weighed, see
            :func:`selfreward.losses.token_weights`.
        value: V of the next state, the ``max`` of the centred logits or their ``soft`` mean.
        top_k: samples are drawn among so many likeliest tokens; texts that do not end are left out.
        scale, clip: the advantage is divided by the one and limited to plus and minus the other.
        refresh: updates after which the copy that samples becomes the present policy again.
        ratio: ``token`` as in the paper; ``released`` as in its code, see
            :func:`selfreward.signals.teacher_forcing.importance`; ``none``.
        uniformity: weight of the pull of every distribution towards uniform (an "entropy" term in the code).
        reward: ``induced`` (the method); ``regression``, a model taught the similarity of its own samples
            to the references of ``pairs`` (baseline).
        pairs: embedded task whose labelled pairs the regression reads, ``regression_samples`` texts for each, in
            ``regression_updates`` updates.
        corrupt: ``permuted`` hands every token of the batch the advantage of another one (control).
    """

    name: ClassVar[str] = "teacher-forcing-reward"
    system_id: ClassVar[str | None] = "118"
    labels: ClassVar[Labels] = "seed"
    mechanism: ClassVar[str] = "rewarded tokens"
    base: ClassVar[str] = "embedded:trans-pairs"

    group_size: int = 8
    normalise: Normalisation = "dapo"
    value: Literal["max", "soft"] = "max"
    top_k: int = 2
    scale: float = 100.0
    clip: float = 1.0
    refresh: int = 5000
    ratio: Literal["token", "released", "none"] = "token"
    uniformity: float = 0.1
    reward: Literal["induced", "regression"] = "induced"
    pairs: str = "trans-pairs"
    regression_samples: int = 4
    regression_updates: int = 300
    corrupt: Literal["none", "permuted"] = "none"
    _beside: AuxiliaryModels = field(
        default_factory=AuxiliaryModels, repr=False, init=False
    )  # "behaviour" and "regression"

    def objective(self, run_limit: int) -> list[LossTerm]:
        terms: list[LossTerm] = [PolicyGradient(variant="reinforce", normalise=self.normalise, max_tokens=run_limit)]
        return [*terms, Uniformity(self.uniformity)] if self.uniformity else terms

    def collect(self, policy: Policy, prompts: Sequence[Prompt], run: RunContext) -> Experience:
        if (run.step - 1) % self.refresh == 0:
            self._beside.put("behaviour", policy.snapshot())
        behaviour = self._beside.get("behaviour", policy.snapshot)
        params = replace(run.sampling, top_k=self.top_k)
        seed = stream_seed(run.seed, run.step, "behaviour")
        groups = behaviour.sample(prompts, self.group_size, params, seed=seed)
        advantages, returns = self.regressed(groups, run) if self.reward == "regression" else self.induced(groups, run)
        kept = [(t, a) for g, own in zip(groups, advantages, strict=True) for t, a in zip(g, own) if t.finished]
        for group, own in zip(groups, returns, strict=True):
            group.reward_with(own)
        if not kept:
            return Experience([], groups=groups)
        tokens = [t.tokens for t, _ in kept]
        starts = [len(t.tokens) - len(t.last) for t, _ in kept]
        current = [s["logprob"] for s in policy.score(tokens, starts)]
        weighted = [
            (a * importance(now, self._sampled(t.last.logprobs, s), self.ratio)).clamp(-self.clip, self.clip)
            for (t, a), now, s in zip(kept, current, self._likeliest(behaviour, tokens, starts), strict=True)
        ]
        if self.corrupt == "permuted":
            flat = torch.cat(weighted)
            order = torch.randperm(len(flat), generator=run.generator("permute"))
            weighted = list(flat[order].split([len(w) for w in weighted]))
        rows = [row_of(t, w) for (t, _), w in zip(kept, weighted, strict=True)]
        run.count(self.mechanism, sum(map(len, weighted)))
        every = [v for own in returns for v in own]
        return Experience(
            rows, groups=groups, stats={"return": sum(every) / len(every), "finished": len(kept) / len(every)}
        )

    def induced(self, groups: Sequence[Group], run: RunContext) -> tuple[list[list[Tensor]], list[list[float]]]:
        """Per token advantages under the teacher's logits, and the return of each text."""
        trajectories = [t for g in groups for t in g]
        starts = [len(t.tokens) - len(t.last) for t in trajectories]
        names = ("centred_logit", "value_soft", f"value_{self.value}")
        scored = iter(run.reference.score([t.tokens for t in trajectories], starts, stats=names, role="teacher"))
        advantages: list[list[Tensor]] = []
        returns: list[list[float]] = []
        for group in groups:
            found = [next(scored) for _ in group]
            own = [
                induced_advantages(s["centred_logit"], s[f"value_{self.value}"], s["value_soft"], self.scale)
                for s in found
            ]
            advantages.append(own)
            returns.append([float(a[0] * self.scale + s["value_soft"][0]) for a, s in zip(own, found, strict=True)])
        return advantages, returns

    def regressed(self, groups: Sequence[Group], run: RunContext) -> tuple[list[list[Tensor]], list[list[float]]]:
        """The regression's score of the whole text above its group's mean, the same for every token."""
        how = self.pairs, run, self.regression_samples, self.regression_updates
        model = self._beside.get("regression", lambda: taught(*how), blank=lambda: RewardModel(run.reference))
        scores = iter(model.score([t.tokens for g in groups for t in g]).tolist())
        returns = [[next(scores) for _ in g] for g in groups]
        means = [sum(own) / len(own) for own in returns]
        advantages = [
            [torch.full((len(t.last),), (v - mean) * 100.0 / self.scale) for t, v in zip(g, own, strict=True)]
            for g, own, mean in zip(groups, returns, means, strict=True)
        ]
        return advantages, returns

    def _likeliest(
        self, behaviour: Policy, tokens: Sequence[Tensor], starts: Sequence[int]
    ) -> Sequence[dict[str, Tensor]]:
        """Where the released ratio is asked for, the two likeliest tokens: its probabilities are truncated ones."""
        asked = self.ratio == "released" and self.top_k
        return behaviour.score(tokens, starts, top_k=self.top_k) if asked else [{}] * len(tokens)

    def _sampled(self, logprobs: Tensor | None, scored: dict[str, Tensor]) -> Tensor:
        if logprobs is None:
            raise RecipeError("The ratio needs the log-probabilities of sampled tokens; a trajectory has none.")
        return logprobs - scored["top_logprobs"].logsumexp(-1) if scored else logprobs

    def state_dict(self) -> dict[str, Any]:
        return self._beside.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._beside.load_state_dict(state)


def taught(pairs: str, run: RunContext, samples: int, updates: int) -> RewardModel:
    """A regression of the similarity to the reference, on the start's own samples for labelled pairs."""
    from selfreward.data.schemes import provider
    from selfreward.signals.text_metrics import edit_similarity

    prompts: list[Prompt] = provider("embedded").task_module(pairs).pairs()
    groups = run.reference.sample(prompts, samples, run.sampling, seed=stream_seed(run.seed, "regression"))
    texts = [t.tokens for g in groups for t in g]
    scores = [edit_similarity(run.answers.extract(c), str(g.prompt.answer)) for g in groups for c in g.completions]
    model = RewardModel(run.reference)
    model.fit_labels(texts, scores, kind="regression", updates=updates, seed=run.seed)
    return model
