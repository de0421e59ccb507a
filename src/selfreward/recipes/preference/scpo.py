"""ScPO: self-consistency as a preference; the most voted answer over the least voted one.

Prasad et al. 2024, "Self-Consistency Preference Optimization", arXiv 2411.04109 (ICML 2025). Believes
that consistency ranks answers well enough to choose and to reject, and that its margin says how far to
trust a pair. Needs prompts with an extractable answer and no label. In iteration t: k samples of M_t per
prompt; V(y) = number of samples with y's answer; y+ has the most votes, y- the fewest, kept if V(y+) is
at least tau; w = (V(y+) - V(y-)) / k; minimise (eq. 3)

    -w log s(beta (log M(y+)/M_t(y+) - log M(y-)/M_t(y-))) - alpha w / |y+| log M(y+).

Then M_{t+1} is the reference and the sampler of the next iteration, tau rises, and further, hotter
samples keep rejected answers in sight. Known to break where no answer is consistent (no data), and
where the most consistent answer is wrong: it has no other view.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

from selfreward.credit.pairs import IndexPair, all_above, random_pairs, vote_pairs
from selfreward.credit.rows import pair_experience
from selfreward.errors import ConfigError
from selfreward.losses import KL, NLL, LossTerm, Preference
from selfreward.policy.policy import Policy
from selfreward.policy.snapshots.lineage import Lineage, anchored, round_of
from selfreward.recipes.base import Recipe
from selfreward.rollouts.run import RunContext
from selfreward.runtime.seeding import stream_seed
from selfreward.signals import rules
from selfreward.signals.vote import cluster_share_rewards, vote
from selfreward.types import Experience, Group, Labels, Prompt


@dataclass
class ScPO(Recipe):
    """Weighted DPO with likelihood on pairs that the model's own votes order.

    Attributes:
        group_size: k, samples per prompt.
        rounds: iterations; the steps of the run are divided among them.
        quorum: tau as a share of the samples, ``quorum_step`` more in each later round.
        extra_samples: further samples per prompt at ``extra_temperature``, from the second round on.
        beta, alpha: of the loss; ``kl`` is the weight of a further pull to the start model.
        weighted: False gives every pair weight 1.
        pairs: who orders a pair. ``vote`` (the paper); ``random`` (the control); ``gold`` (correct over
            incorrect with weight 1, which is IRPO, 2404.19733; needs labels).
        learn: ``both`` terms of the loss; ``nll`` alone with ``weighted=False`` imitates the majority
            (LMSI, 2210.11610); ``dpo`` alone.
        sampler: ``round`` draws from M_t, as published; ``current`` from the weights of the moment.
        missing: completions without an answer are in no pair, or may be rejected.
    """

    name: ClassVar[str] = "scpo"
    system_id: ClassVar[str | None] = "180"
    mechanism: ClassVar[str] = "pairs ordered by votes"

    group_size: int = 8
    rounds: int = 2
    quorum: float = 0.5
    quorum_step: float = 0.2
    extra_samples: int = 8
    extra_temperature: float = 1.2
    beta: float = 0.5
    alpha: float = 1.0
    kl: float = 0.0
    weighted: bool = True
    pairs: Literal["vote", "random", "gold"] = "vote"
    learn: Literal["both", "nll", "dpo"] = "both"
    sampler: Literal["round", "current"] = "round"
    missing: Literal["drop", "reject"] = "drop"
    _lineage: Lineage = field(default_factory=Lineage, repr=False, init=False)

    def __post_init__(self) -> None:
        if self.rounds < 1 or self.extra_samples < 0:
            raise ConfigError(f"scpo: rounds={self.rounds} must be at least 1, extra_samples not negative.")

    def needs(self) -> Labels:
        return "outcome" if self.pairs == "gold" else "none"

    def objective(self, run_limit: int) -> list[LossTerm]:
        terms: list[LossTerm] = []
        if self.learn != "nll":
            terms.append(Preference(beta=self.beta, anchor="reference"))
        if self.learn != "dpo":
            terms.append(NLL(coefficient=self.alpha, normalise="grpo"))
        if self.kl:
            terms.append(KL(coefficient=self.kl))
        return terms

    def collect(self, policy: Policy, prompts: Sequence[Prompt], run: RunContext) -> Experience:
        self._lineage.enter(round_of(run.step, run.steps, self.rounds), policy)
        previous = self._lineage.get("start", run.reference)
        groups = self.sample(policy if self.sampler == "current" else previous, prompts, run)
        found = [self.order(group, run) for group in groups]
        experience = anchored(pair_experience(groups, found, nll=1.0), previous)
        weights = [pair.weight for pairs in found for pair in pairs]
        experience.stats |= {
            "pairs/round": float(self._lineage.round),
            "pairs/kept": sum(map(bool, found)) / len(groups),
            "pairs/weight": sum(weights) / max(1, len(weights)),
            "pairs/vote_share": sum(g.meta["vote"]["share"] for g in groups) / len(groups),
        }
        return experience

    def sample(self, source: Policy, prompts: Sequence[Prompt], run: RunContext) -> list[Group]:
        """``group_size`` samples of each prompt, and the extra ones in the later rounds."""
        seed = stream_seed(run.seed, "scpo", run.step)
        groups = source.sample(prompts, self.group_size, run.sampling, seed=seed)
        if self._lineage.round and self.extra_samples:
            hot = replace(run.sampling, temperature=self.extra_temperature)
            seed = stream_seed(run.seed, "scpo extra", run.step)
            more = source.sample(prompts, self.extra_samples, hot, view="extra", seed=seed)
            for group, extra in zip(groups, more, strict=True):
                group.trajectories += extra.trajectories
        return groups

    def order(self, group: Group, run: RunContext) -> list[IndexPair]:
        """The group's pair, if it has one; rewards are vote shares (or correctness), for the record only."""
        classes = run.classes(group)
        election = vote(classes, missing="zero")
        group.meta["vote"] = {"share": election.share, "margin": election.margin}
        group.reward_with(cluster_share_rewards(classes))
        draw = run.generator("pair", group.key)
        found: list[IndexPair] = []
        if self.pairs == "vote":
            tau = self.quorum + self.quorum_step * self._lineage.round
            found = vote_pairs(group, classes, quorum=tau, weighted=self.weighted, missing=self.missing, generator=draw)
        elif self.pairs == "random":
            found = random_pairs(group, draw)
        elif (answer := group.prompt.answer) is not None:
            group.reward_with(rules.gold(group.completions, answer, run.answers))
            found = all_above(group, floor=1.0, most=1, generator=draw)
        if found:
            group.meta["pair"] = list(found[0])
        run.count(self.mechanism, len(found))
        return found

    def state_dict(self) -> dict[str, Any]:
        return self._lineage.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._lineage.load_state_dict(state)
