"""CoVo: its numbers on a path worked by hand, where responses are cut, and the recipe on the embedded base."""

from __future__ import annotations

import math

import pytest
import torch

from selfreward.policy.sampling.params import SamplingParams
from selfreward.recipes.registry import load_recipe
from selfreward.signals import path_consistency as paths
from selfreward.signals.scorers.path_consistency import Path, probe, state_cuts
from selfreward.types import Prompt, Segment, Trajectory
from tests.support.models import make_policy
from tests.support.runs import context

# Two states, two answers: ln 2 and ln 4 are the negative log-likelihoods of probabilities 1/2 and 1/4.
HALF, QUARTER = math.log(2), math.log(4)


def test_distance_is_the_mean_over_the_answers_tokens():
    logprobs = [[torch.tensor([-1.0, -3.0]), torch.tensor([-0.5])], [torch.tensor([0.0, -1.0]), torch.tensor([-2.0])]]
    torch.testing.assert_close(paths.distances(logprobs), torch.tensor([[2.0, 0.5], [0.5, 2.0]]))


def test_normalised_rows_are_those_of_perplexities():
    # exp(ln 2) = 2 and exp(ln 4) = 4, so shares of 1/3 and 2/3.
    torch.testing.assert_close(paths.row_normalised(torch.tensor([[HALF, QUARTER]])), torch.tensor([[1 / 3, 2 / 3]]))


def test_a_path_that_strays_at_its_second_of_four_states():
    distance = torch.tensor([[1.0, 2.0], [2.0, 1.0], [1.0, 3.0], [0.5, 3.0]])
    assert paths.consistency(distance, 0) == 3 / 4
    assert paths.volatility(distance, 0) == 2 / 4  # the last stray state is the second
    assert paths.consistency(distance, 1) == 1 / 4
    assert paths.volatility(distance, 1) == 1.0  # it strays to the end


def test_scores_of_a_class_by_hand():
    # Two members: (Con 1, Vol 0) is the vector (1, 0); (Con 1/2, Vol 1) is (cos(1)/2, sin(1)/2).
    # Their mean is ((1 + .270151) / 2, .420735 / 2) = (.635076, .210368), of length .669010.
    assert paths.vector_score([1, 0.5], [0, 1]) == pytest.approx(0.669010, abs=1e-5)
    assert paths.linear_score([1, 0.5], [0, 1]) == pytest.approx(0.75 - 0.5)
    # Equal volatility costs nothing, however high; opposite ends of it cost the factor cos(1/2).
    assert paths.vector_score([0.8, 0.6], [1, 1]) == pytest.approx(0.7)
    assert paths.vector_score([1, 1], [0, 1]) == pytest.approx(math.cos(0.5))


def test_every_member_shares_its_class_score_and_one_class_alone_has_none():
    scores = paths.class_scores([0, 1, None, 0], [1, 0.25, 0, 0.5], [0, 1, 0, 1])
    assert scores[0] == pytest.approx(0.669010, abs=1e-5)
    assert scores[1] == pytest.approx(0.25)
    assert paths.class_scores([0, 0, None], [1, 1, 0], [0, 0, 0]) == {0: 0.0}
    assert paths.class_scores([0, 1], [1, 0.5], [0.5, 0], "linear") == {0: 0.5, 1: 0.5}
    assert paths.class_scores([0, 1], [1, 0.5], [0.5, 0], "consistency") == {0: 1, 1: 0.5}


def test_curiosity_by_hand():
    # NLL (1, 3): mean 2; P = (1/4, 3/4); KL to uniform = ln 2 - .562335 = .130812; ln 1.130812 = .122936.
    assert paths.curiosity([torch.tensor([-1.0, -3.0])]) == pytest.approx(2 - 0.122936, abs=1e-5)
    # Even surprise has no penalty; empty steps are passed over; the mean is over steps.
    even = torch.tensor([-1.0, -1.0])
    assert paths.curiosity([even, torch.zeros(0), torch.tensor([-3.0])]) == pytest.approx(2.0)
    assert paths.curiosity([torch.tensor([-1.0, -3.0])], root=3) == pytest.approx(
        2 - math.log(0.130812 ** (1 / 3) + 1), abs=1e-4
    )


def test_where_steps_end():
    text = "a = 1\nso:\n\nb = 2"
    assert [text[:e] for e in paths.split_steps(text)] == ["a = 1", "a = 1\nso:", text]
    formula = "we have\n\\[\nx = 1\n\\]\ndone"
    assert [formula[:e] for e in paths.split_steps(formula)] == ["we have", "we have\n\\[\nx = 1\n\\]", formula]
    assert paths.split_steps("w6*8-3#3", r"w\d|[-+*]\d|#\d") == [2, 4, 6, 8]
    many = "\n".join("x" for _ in range(20))
    ends = paths.split_steps(many)
    assert len(ends) == 15 and ends[-1] == len(many)
    # 20 = 10 runs of one line and 5 of two; the longer runs come last.
    assert [many[:e].count("x") for e in ends] == [*range(1, 11), 12, 14, 16, 18, 20]


def test_states_end_where_their_text_does():
    policy = make_policy()
    tokens = torch.tensor(policy.tokenizer("12+3#5", add_special_tokens=False)["input_ids"] + [policy.end_tokens[0]])
    head = Segment("prompt", torch.tensor([1]))
    trajectory = Trajectory(Prompt("a", text="x"), [head, Segment("solver", tokens, "12+3#5", trainable=True)])
    assert state_cuts(policy, trajectory, r"\d+|\+\d|#\d", 15) == [2, 4]
    assert state_cuts(policy, trajectory, r"\d+|\+\d|#\d", 15, final_state=True) == [2, 4, 6]
    assert state_cuts(policy, trajectory, None, 15) == [6]  # one line: its only state is the whole text


def test_distances_are_those_of_scoring_every_state_with_every_answer():
    policy = make_policy()
    run = context("0123456789")
    run.templates |= {"step": r"[a-z]\d?", "lead_in": "#{answer}"}
    policy.seed(0)
    groups = policy.sample([Prompt("a", text="1+2=")], 12, SamplingParams(max_new_tokens=10))
    found = probe(policy, groups, run)[0]
    seen = [(t, f) for t, f in zip(groups[0], found, strict=True) if f is not None]
    assert len(seen) >= 2
    classes = [c for c in run.classes(groups[0]) if c is not None]
    answers = dict(zip(classes, [a for c in groups[0].completions if (a := run.answers.extract(c))], strict=True))
    trajectory, path = seen[-1]
    cuts = state_cuts(policy, trajectory, r"[a-z]\d?", 15)
    head = trajectory.segments[0].tokens.tolist() + trajectory.last.tokens[: cuts[0]].tolist()
    for k, answer in answers.items():
        tail = policy.tokenizer(f"#{answer}", add_special_tokens=False)["input_ids"]
        plain = policy.score([torch.tensor(head + tail)], [len(head) + 1])[0]["logprob"]
        torch.testing.assert_close(path.distances[0, k], -plain.mean(), atol=1e-5, rtol=1e-5)


def test_the_recipe_probes_and_rewards_classes(tmp_path):
    from tests.support.runs import run_recipe

    summary, records = run_recipe("covo", tmp_path, model="embedded:chain", data="embedded:chain-paths")
    assert summary["labels"] == "none" and summary["mechanism"]["count"] > 0
    assert records[-1]["tokens/scored/probe"] > 0
    assert 0 <= records[-1]["covo/consistency"] <= 1


def test_rewards_follow_the_options():
    found = [Path(torch.zeros(1, 2), c, v, 2.0) for c, v in ((1.0, 0.0), (0.5, 1.0), (0.25, 1.0))] + [None]
    classes = [0, 0, 1, None]

    def rewards(**options):
        return load_recipe("covo", options).rewards(found, classes)

    assert rewards() == pytest.approx([0.669010, 0.669010, 0.25, 0], abs=1e-5)
    assert rewards(curiosity="on") == pytest.approx([2.669010, 2.669010, 2.25, 0], abs=1e-5)
    assert rewards(reward="vector_threshold") == [1, 1, 0, 0]
    assert rewards(reward="linear_threshold") == [1, 1, 0, 0]
    assert rewards(reward="linear") == pytest.approx([0.25, 0.25, -0.75, 0])


def test_reinforce_returns_are_whitened_over_the_batch():
    from selfreward.credit.rows import reinforce_experience
    from selfreward.types import Group

    def trajectory(reward, n):
        segments = [
            Segment("prompt", torch.tensor([1])),
            Segment("solver", torch.zeros(n, dtype=torch.long), logprobs=torch.zeros(n), trainable=True),
        ]
        return Trajectory(Prompt("a", text="x"), segments, reward=reward)

    groups = [Group("a", Prompt("a", text="x"), [trajectory(1.0, 1), trajectory(0.0, 3)])]
    rows = reinforce_experience(groups).rows
    # Token returns 1, 0, 0, 0: mean 1/4, sample standard deviation 1/2, so 1.5 and three times -0.5.
    assert rows[0].advantage.tolist() == pytest.approx([0, 1.5])
    assert rows[1].advantage.tolist() == pytest.approx([0, -0.5, -0.5, -0.5])
