"""The table of signals by name: what each reads, and where its functions live.

``SIGNALS`` names what a group of rollouts can be scored with and where the function lives; nothing
is imported before it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

from selfreward.errors import ConfigError, nearest

Scores = list[list[float | None]]
"""``[groups][completions]``: what a scorer returns; None where a completion has no value."""
Needs = Literal["classes", "stats", "judge", "completions", "reference", "size", "policy", "views"]


@dataclass(frozen=True)
class Signal:
    """One entry of the table: ``needs`` says what the function reads.

    ``classes``: answer classes of the group; ``stats``: per-token statistics, and
    the function takes the signal's name first; ``judge``: judge
    output; ``completions``: the texts; ``reference``: the label; ``size``: only the group's size;
    ``policy``: further forwards of the model; ``views``: answers to another wording of the question.

    Attributes:
        score: how ``selfreward audit`` and the recipe ``signal`` get one value per completion:
            ``"module:function"`` under ``selfreward.signals``, called as ``function(context, groups, **options)``,
            which returns ``[groups][completions]`` floats or None (see :mod:`selfreward.signals.scorers`).
            Without it the function itself is called on what ``needs`` names, group by group.
        probability: the values are meant as the probability that the completion is right, so their
            calibration can be measured.
        control: its meaning is known beforehand; it is a yardstick, not a candidate.
    """

    needs: Needs
    description: str
    function: str
    score: str = ""
    probability: bool = False
    control: bool = False

    def load(self) -> Callable[..., Any]:
        """The pure function."""
        return _load(self.function)

    def load_scorer(self) -> Callable[..., Scores] | None:
        """The function that scores whole groups; None where the pure function is called on what it ``needs``."""
        return _load(self.score) if self.score else None


def _load(spec: str) -> Callable[..., Any]:
    module, _, name = spec.partition(":")
    return getattr(import_module(f"selfreward.signals.{module}"), name)


S = "scorers."
SIGNALS: dict[str, Signal] = {
    "vote": Signal("classes", "member of the majority class of its group", "vote:vote_rewards", S + "agreement:vote"),
    "cross_vote": Signal(
        "views", "member of the majority class of another view", "vote:cross_vote_rewards", S + "agreement:cross_vote"
    ),
    "cluster_share": Signal(
        "classes", "share of the group with the same answer", "vote:cluster_share_rewards", probability=True
    ),
    "borda": Signal("classes", "vote weighted by the rank of a score", "vote:borda_vote", S + "agreement:borda"),
    "negative_entropy": Signal("stats", "minus the mean token entropy", "certainty:sequence_score"),
    "self_certainty": Signal("stats", "mean KL from uniform to the policy", "certainty:sequence_score"),
    "mean_logprob": Signal("stats", "log-likelihood per token", "certainty:sequence_score"),
    "gap": Signal("stats", "mean probability of the first token choice minus the second", "certainty:sequence_score"),
    "gini": Signal("stats", "mean sum of squared token probabilities", "certainty:sequence_score"),
    "judge_score": Signal("judge", "score that a judge wrote", "judge:parse_score", S + "judge:judge_score"),
    "judge_expected": Signal(
        "judge",
        "mean of the scale under the judge's probabilities",
        "judge:expected_score",
        S + "judge:judge_expected",
        probability=True,
    ),
    "judge_pairwise": Signal("judge", "share of comparisons won", "judge:pairwise_scores", S + "judge:judge_pairwise"),
    "last_token": Signal(
        "policy",
        "reward that a reserved token after the end was trained to carry",
        "last_token:last_token_score",
        "scorers.last_token:last_token",
        probability=True,
    ),
    "step_review": Signal(
        "policy",
        "accepted by the model's own step review",
        "step_review:parse_review",
        "scorers.step_review:step_review",
    ),
    "followup": Signal(
        "policy",
        "likelihood of thanks minus complaints as the user's next words",
        "followup:followup_reward",
        "scorers.followup:followup",
    ),
    "verdict_agreement": Signal(
        "completions", "agrees with the majority of feasible/infeasible verdicts", "feasibility:verdict_agreement"
    ),
    "rubric": Signal(
        "judge",
        "points of the criteria met as a share of the positive points",
        "rubric:rubric_score",
        "scorers.rubric:rubric",
    ),
    "r3": Signal(
        "reference",
        "likelihood of the reference after the reasoning, where it depends on it",
        "reference:reasoning_reflection",
        "scorers.reference:r3",
    ),
    "mbr": Signal(
        "completions", "mean chrF to the rest of the group", "text_metrics:mean_similarity", S + "agreement:mbr"
    ),
    "cycle": Signal(
        "policy", "likelihood of the source given the translation", "certainty:mean_logprob", S + "cycle:cycle"
    ),
    "consistency": Signal(
        "policy",
        "share of states nearest to the own answer",
        "path_consistency:consistency",
        "scorers.path_consistency:consistency",
    ),
    "volatility": Signal(
        "policy",
        "minus how late a state is nearer to another answer",
        "path_consistency:volatility",
        "scorers.path_consistency:steadiness",
    ),
    "path_vector": Signal(
        "policy",
        "path consistency of the answer class (CoVo)",
        "path_consistency:vector_score",
        "scorers.path_consistency:vector",
    ),
    "self_aligned": Signal(
        "policy",
        "how much the question explains the answer (SAR)",
        "efficiency:self_aligned_reward",
        "scorers.efficiency:aligned",
    ),
    "relative_length": Signal(
        "completions",
        "shorter than the group's mean",
        "efficiency:relative_length_reward",
        "scorers.efficiency:brevity",
    ),
    "efficiency": Signal(
        "reference",
        "right, and short beside the group's own right answers",
        "efficiency:efficiency_reward",
        "scorers.efficiency:efficient",
    ),
    "answer_gap": Signal(
        "policy",
        "mean probability of the first choice minus the second over the answer's tokens (RLSF)",
        "answer_span:span_confidence",
        "scorers.answer_span:answer_gap",
    ),
    "induced_return": Signal(
        "policy",
        "return under the model's own centred logits (teacher forcing as a reward)",
        "teacher_forcing:step_rewards",
        "scorers.teacher_forcing:induced_return",
    ),
    "gold": Signal(
        "reference", "equals the reference answer (control, ceiling)", "rules:gold", S + "rules:gold", control=True
    ),
    "random": Signal("size", "coin flip (control, floor)", "rules:random_reward", S + "rules:random", control=True),
    "constant": Signal("size", "the same for all (control, no gradient)", "rules:constant", control=True),
    "format_only": Signal(
        "completions",
        "well-formed, right or wrong (control, floor)",
        "rules:format_only",
        S + "rules:format_only",
        control=True,
    ),
    "length": Signal("completions", "length", "rules:length", S + "rules:length", control=True),
    "repetition": Signal(
        "completions", "share of repeated n-grams", "rules:repetition_rate", S + "rules:repetition", control=True
    ),
}


# Everyday names of signals.
ALIASES = {
    "self-certainty": "self_certainty",
    "logprob": "mean_logprob",
    "entropy": "negative_entropy",
    "judge": "judge_expected",
    "last-token": "last_token",
    "self-prm": "step_review",
}


def signal(name: str) -> Signal:
    """The entry called ``name``, which may be an everyday name.

    Raises:
        ConfigError: when there is none.
    """
    found = SIGNALS.get(ALIASES.get(name, name))
    if found is None:
        raise ConfigError(f"Unknown signal {name!r}." + nearest(name, {*SIGNALS, *ALIASES}))
    return found
