"""STEPS: problems worked by hand, reviews and their score, and what the shipped base can do."""

import random

import pytest

from selfreward.errors import UnavailableError
from selfreward.lab.embedded import load_task
from selfreward.lab.tasks.arithmetic import steps
from selfreward.lab.tasks.arithmetic.chain import Problem
from selfreward.lab.tasks.splits import split_of
from selfreward.policy.loading import load_policy
from selfreward.policy.sampling.params import SamplingParams
from selfreward.rollouts.run import RunContext
from selfreward.signals.named import score_groups
from selfreward.signals.step_review import Review, detection_f1, parse_review
from selfreward.types import Group, Prompt, Segment, Trajectory

# 6*8 = 48 -> 8, 8-5 = 3, 3*6 = 18 -> 8, 8+9 = 17 -> 7, 7+5 = 12 -> 2.
PROBLEM = Problem.parse("6*8-5*6+9+5=")


@pytest.fixture(scope="module")
def policy():
    return load_policy("embedded:steps", device="cpu")


def test_solutions_and_their_first_error_by_hand():
    assert steps.write(PROBLEM, random.Random(0), "w") == "w6*8-3*8+7+2#2"
    # Minus read as plus: 8+5 = 13 -> 3 happens to be the same digit here, so nothing is wrong.
    assert steps.write(PROBLEM, random.Random(0), "h", misread=1.0) == "h6*8+3*8+7+2#2"
    assert steps.first_error(PROBLEM, "h6*8+3*8+7+2#2") is None
    # 8*6 is 48 and not 43; what follows is worked correctly from the slip.
    assert steps.first_error(PROBLEM, "w6*8-3*3+2+7#7") == 3
    assert steps.first_error(PROBLEM, "w5*0-5*0+9+4#4") == 1
    assert steps.review(PROBLEM, 3) == "*Y-Y*N"
    assert steps.review(PROBLEM, None) == "*Y-Y*Y+Y+Y"


def test_reviews_are_read():
    assert parse_review("*Y-Y*N", "Y", "N") == Review(3)
    assert parse_review("*Y-Y*Y+Y+Y", "Y", "N", steps=5).accepted
    assert not parse_review("*Y-Y", "Y", "N", steps=5).accepted  # it stopped before it was done
    assert parse_review("Step 1: OK\nStep 2: WRONG\nStep 3: OK") == Review(2)
    assert parse_review("Step 1: OK. BOOK") == Review(None)
    assert parse_review("I cannot say.") == Review(None, parsed=False)


def test_detection_f1_by_hand():
    none, unread = Review(None), Review(None, parsed=False)
    # Errors: one of two steps named. Clean: one of two accepted. F1 = 2 * .5 * .5 / 1.
    assert detection_f1([Review(2), Review(1), none, unread], [2, 3, None, None]) == (0.5, 0.5, 0.5)
    assert detection_f1([none, none], [2, None]) == (0.0, 0.0, 1.0)
    with pytest.raises(ValueError, match="with an error and solutions without"):
        detection_f1([none], [None])


def test_splits_and_bank():
    task = load_task("steps")
    assert {split_of(Problem.parse(p.question).key) for p in task.test} == {"test"}
    found = steps.bank(40)
    assert sum(error is None for *_, error in found) == 20
    for question, text, error in found:
        assert steps.well_formed(text)
        assert steps.first_error(Problem.parse(question), text) == error
    # As many errors in one style as in the other.
    assert sum(error is not None for _, text, error in found if text[0] == "h") == 10


def test_the_shipped_base_is_mediocre_at_both(policy):
    found = steps.measure(policy, steps.prompts_of("train", 40, "-dev"), "train")
    assert 0.45 <= found["pass@1"] <= 0.75
    assert found["careful accuracy"] >= 0.75
    assert 0.1 <= found["review f1"] <= 0.85


def test_self_prm_accepts_by_its_own_review(policy):
    task = load_task("steps")
    params = SamplingParams(max_new_tokens=18, stats=())
    context = RunContext.of(task, policy=policy, sampling=params)
    groups = policy.sample(task.test[:12], 8, params, seed=0)
    scores = score_groups("step_review", context, groups)
    flat = [s for row in scores for s in row]
    assert set(flat) == {0.0, 1.0}
    style = [c[0] for g in groups for c in g.completions]
    accepted = {k: sum(s for s, t in zip(flat, style) if t == k) / style.count(k) for k in "wh"}
    assert accepted["w"] > accepted["h"] + 0.3


def test_last_token_needs_a_reference(policy):
    prompt = Prompt("a", "6*8-5*6+9+5=")
    task = load_task("steps")
    group = Group("a", prompt, [Trajectory(prompt, [Segment("solver", steps_tokens(policy), "w", trainable=True)])])
    context = RunContext.of(task, policy=policy)
    with pytest.raises(UnavailableError, match="reference=MODEL"):
        score_groups("last_token:token=h", context, [group])
    # 1000 nats above c_ref, less a few for log p, times 1e-4.
    assert score_groups("last_token:token=h,c_ref=-1000.0,beta=0.0001", context, [group])[0][0] == pytest.approx(
        0.1, abs=0.01
    )


def steps_tokens(policy):
    import torch

    return torch.tensor([*policy.encode_text("6*8-5*6+9+5=w6*8-3*8+7+2#2"), policy.end_tokens[0]])
