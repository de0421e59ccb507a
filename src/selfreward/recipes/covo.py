"""CoVo: a response is worth what its intermediate states say about its answer.

Zhang et al. 2025, "Consistent Paths Lead to Truth: Self-Rewarding Reinforcement Learning for LLM
Reasoning", arXiv 2506.08745. Believes that on the way to a right answer the states of a response keep
pointing to it (high consistency), while the way to a wrong one wavers (high volatility). Needs prompts
with an extractable answer, responses that split into steps, and the policy's own likelihoods; no label.
1. Sample G responses, cluster their answers. 2. Cut each response into states and score every answer of
the group after every state. 3. Con and Vol per response, one score per answer class. 4. Every member
earns its class's score, plus curiosity; one-class groups earn nothing. 5. REINFORCE++.
Known to break where answers after a state say nothing (very short responses, a policy that cannot
answer early). R_V punishes only the spread of volatility, not its level; R_L does.

The released code (sastpg/CoVo) differs: every class with R_V >= 0.5 (R_L >= 0.05) earns 1 and the
others 0 (``reward=vector_threshold``), and its curiosity value reaches only one of two code paths, as
+0.4 above 2 (``curiosity=off`` is what it trains with by default).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import ClassVar, Literal

import torch
from torch import Tensor

from selfreward.experience import reinforce_experience
from selfreward.losses import LossTerm
from selfreward.policy import Policy
from selfreward.recipes.base import Recipe, RunContext
from selfreward.signals import paths
from selfreward.types import Experience, Group, Prompt, Trajectory

THRESHOLDS = {"vector": 0.5, "linear": 0.05}


@dataclass
class CoVo(Recipe):
    """Class scores from path consistency and volatility.

    Attributes:
        reward: R_V (the paper), R_L, mean Con, or the released code's thresholds on the first two.
        curiosity: add the surprise of the response's own steps (see :func:`paths.curiosity`).
        curiosity_weight: its weight.
        most_states: states per response; more steps are merged.
        final_state: count the state after the last step, too, which has stated the answer (released code).
        baseline: ``batch`` is REINFORCE++ (KL inside the reward, returns normalised over the batch), ``group``
            is GRPO.
        permuted: exchange the columns of the distances within each group, a control that must fail.
    """

    name: ClassVar[str] = "covo"
    system_id: ClassVar[str | None] = "088"
    mechanism: ClassVar[str] = "states probed"

    reward: Literal["vector", "linear", "consistency", "vector_threshold", "linear_threshold"] = "vector"
    curiosity: Literal["on", "off"] = "on"
    curiosity_weight: float = 1.0
    most_states: int = 15
    final_state: bool = False
    baseline: Literal["batch", "group"] = "batch"
    permuted: bool = False
    group_size: int = 16
    kl: float = 1e-4

    def collect(self, policy: Policy, prompts: Sequence[Prompt], run: RunContext) -> Experience:
        groups = policy.sample(prompts, self.group_size, run.sampling)
        measured = probe(policy, groups, run, self.most_states, self.final_state, self.permuted)
        kept = []
        for group, found in zip(groups, measured, strict=True):
            group.reward_with(self.rewards(found, run.classes(group)))
            run.count(self.mechanism, sum(len(f.distances) for f in found if f is not None))
            # A group without any reward is dropped; it would shift the batch's mean.
            if sum(group.rewards) / len(group) >= 1e-3:
                kept.append(group)
        if self.baseline == "group":
            experience = self.learn_from(kept)
        else:
            experience = reinforce_experience(kept, run.reference, self.kl, run.sampling.temperature or 1.0)
        experience.groups = groups
        seen = [f for found in measured for f in found if f is not None]
        for name in ("consistency", "volatility", "curiosity"):
            experience.stats[f"covo/{name}"] = sum(getattr(f, name) for f in seen) / max(1, len(seen))
        experience.stats["covo/dropped"] = float(len(groups) - len(kept))
        return experience

    def rewards(self, found: Sequence[Path | None], classes: Sequence[int | None]) -> list[float]:
        """Rewards of one group from its measured paths; 0 where nothing was measured."""
        kind, _, threshold = self.reward.partition("_")
        con = [f.consistency if f else 0.0 for f in found]
        vol = [f.volatility if f else 0.0 for f in found]
        scores = paths.class_scores(classes, con, vol, kind)
        if threshold:
            scores = {c: float(s >= THRESHOLDS[kind]) for c, s in scores.items()}
        bonus = self.curiosity_weight if self.curiosity == "on" else 0.0
        return [
            0.0 if f is None or c is None else scores[c] + bonus * f.curiosity
            for f, c in zip(found, classes, strict=True)
        ]

    def objective(self, run_limit: int) -> list[LossTerm]:
        terms = super().objective(run_limit)
        # REINFORCE++ has its KL in the reward.
        return terms if self.baseline == "group" else [t for t in terms if t.name != "kl"]


@dataclass
class Path:
    """What was measured of one response; ``distances`` is float ``[S, K]``."""

    distances: Tensor
    consistency: float
    volatility: float
    curiosity: float


def probe(
    policy: Policy,
    groups: Sequence[Group],
    run: RunContext,
    most_states: int = 15,
    final_state: bool = False,
    permuted: bool = False,
) -> list[list[Path | None]]:
    """Distances, Con, Vol and curiosity of every response; None where there is no answer or no other class.

    All states of all responses are scored in one call: the states of a response share its forward, and
    equal responses of a group are measured once.
    """
    template = run.templates.get("lead_in", "\nThe answer is: {answer}")
    contexts: list[list[int]] = []
    targets: list[list[list[int]]] = []
    result: list[list[Path | None]] = [[None] * len(g) for g in groups]
    jobs: list[tuple[int, list[int], int, int, list[int], list[int]]] = []
    for g, group in enumerate(groups):
        classes = run.classes(group)
        answers = representatives(group, classes, run)
        if len(answers) < 2:
            continue
        asked = [_target(policy, template, a) for a in answers]
        same: dict[tuple[int, ...], list[int]] = {}
        for t, trajectory in enumerate(group):
            same.setdefault(tuple(trajectory.last.tokens.tolist()), []).append(t)
        for body, members in same.items():
            own = classes[members[0]]
            if own is None:
                continue
            first = group.trajectories[members[0]]
            cuts = state_cuts(policy, first, run.templates.get("step"), most_states, final_state)
            head = first.tokens[: -len(body)].tolist()
            jobs.append((g, members, own, len(contexts), cuts, [lead for lead, _ in asked]))
            contexts += [[*head, *body[:cut]] for cut in cuts]
            targets += [[tokens for _, tokens in asked]] * len(cuts)
    scored = policy.score_targets(contexts, targets, role="probe")
    for g, members, own, at, cuts, leads in jobs:
        rows = [[s["logprob"][lead:] for s, lead in zip(scored[at + i], leads, strict=True)] for i in range(len(cuts))]
        distance = paths.distances(rows)
        if permuted:
            order = torch.randperm(distance.shape[1], generator=run.generator("columns", groups[g].key))
            distance = distance[:, order]
        logprobs = groups[g].trajectories[members[0]].last.logprobs
        assert logprobs is not None
        surprise = paths.curiosity(list(logprobs.tensor_split(cuts)))
        found = Path(distance, paths.consistency(distance, own), paths.volatility(distance, own), surprise)
        for t in members:
            result[g][t] = found
    return result


def representatives(group: Group, classes: Sequence[int | None], run: RunContext) -> list[str]:
    """The shortest answer text of every class, in the order of the classes (the first among equals)."""
    found: dict[int, str] = {}
    for text, own in zip(group.completions, classes, strict=True):
        answer = run.answers.extract(text)
        if own is not None and answer is not None and len(answer) < len(found.get(own, answer + " ")):
            found[own] = answer
    return [found[c] for c in sorted(found)]


def state_cuts(
    policy: Policy, trajectory: Trajectory, pattern: str | None, most: int, final_state: bool = False
) -> list[int]:
    """Numbers of response tokens at which its states end.

    The last state has stated the answer, so it is left out unless ``final_state`` asks for it or it is
    the only one.
    """
    segment = trajectory.last
    ends = paths.split_steps(segment.text, pattern, most)
    if len(ends) > 1 and not final_state:
        ends = ends[:-1]
    tokens = segment.tokens.tolist()
    pieces = [policy.decode([t]) for t in tokens]
    if "".join(pieces) == segment.text:
        reached = list(accumulate(map(len, pieces), initial=0))
        return sorted({bisect_left(reached, e) for e in ends})
    # Tokens that are parts of characters have no text of their own: look at whole beginnings instead.
    beginnings = range(len(tokens) + 1)
    return sorted({bisect_left(beginnings, e, key=lambda n: len(policy.decode(tokens[:n]))) for e in ends})


def _target(policy: Policy, template: str, answer: str) -> tuple[int, list[int]]:
    """How many leading tokens belong to the lead-in, and the tokens of lead-in and answer together."""

    def encode(text: str) -> list[int]:
        return list(policy.tokenizer(text, add_special_tokens=False)["input_ids"])

    whole, lead = encode(template.format(answer=answer)), encode(template.format(answer=""))
    same = next((i for i, (a, b) in enumerate(zip(whole, lead)) if a != b), min(len(whole), len(lead)))
    return min(same, len(whole) - 1), whole
