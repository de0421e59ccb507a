"""Turns: protocols played on batches, credit per turn, and what turns do to answers."""

from __future__ import annotations

import pytest
import torch

from selfreward.credit.advantages import group_normalised
from selfreward.credit.turns import turn_advantages, turn_experience
from selfreward.errors import RecipeError
from selfreward.evaluation.turn_report import turn_report
from selfreward.policy.sampling.params import SamplingParams
from selfreward.rollouts.turns import Turn, interlude, play, prompt_only, segment_of, take
from selfreward.signals.shaping import progress_bonus
from selfreward.types import Group, Prompt, Segment, Trajectory
from tests.support.models import make_policy

PARAMS = SamplingParams(max_new_tokens=5, stats=())
PROMPTS = [Prompt("a", "1+1="), Prompt("b", "23+4=")]


def two_turns(**second):
    return [Turn("attempt"), Turn("fix", lead="#{question}", kl_weight=0.5, **second)]


def test_a_protocol_is_segments_in_order():
    policy = make_policy()
    policy.seed(0)
    groups = play(policy, PROMPTS, two_turns(), PARAMS, 3)
    assert [g.key for g in groups] == ["a/attempt", "b/attempt"] and [len(g) for g in groups] == [3, 3]
    for trajectory in groups[0]:
        roles = [s.role for s in trajectory.segments]
        assert roles == ["prompt", "attempt", "instruction", "fix"]
        assert [s.trainable for s in trajectory.segments] == [False, True, False, True]
        instruction = trajectory.segments[2]
        ids = policy.tokenizer("#1+1=", add_special_tokens=False)["input_ids"]
        # An attempt that was cut off is closed before anything follows.
        closed = [] if trajectory.segments[1].finished else policy.end_tokens[:1]
        assert instruction.tokens.tolist() == closed + ids
        assert trajectory.segments[3].kl_weight == 0.5


def test_recorded_logprobs_are_those_of_the_whole_trajectory():
    policy = make_policy()
    policy.seed(0)
    (group,) = play(policy, PROMPTS[:1], two_turns(), PARAMS, 2)
    for t in group:
        (scored,) = policy.score([t.tokens], [0])
        start = 0
        for s in t.segments:
            if s.trainable:
                assert torch.allclose(scored["logprob"][start : start + len(s)], s.logprobs, atol=1e-4)
            start += len(s)


def test_a_draw_depends_on_the_sibling_not_on_the_batch():
    alone, together = make_policy(), make_policy()
    alone.seed(0), together.seed(0)
    (a,) = play(alone, PROMPTS[1:], two_turns(), PARAMS, 2)
    _, b = play(together, PROMPTS, two_turns(), PARAMS, 2)
    assert [t.tokens.tolist() for t in a] == [t.tokens.tolist() for t in b]
    assert a.trajectories[0].tokens.tolist() != a.trajectories[1].tokens.tolist()


def test_branches_scores_and_told_turns():
    policy = make_policy()
    policy.seed(0)
    # Every other attempt fails; only those reflect (in words that are given) and retry.
    marks = iter([0, 1, 0, 1])
    turns = [
        Turn("attempt", score=lambda t: next(marks)),
        Turn("reflection", when=lambda t: t.segments[-1].reward == 0, say=lambda t: f"bad {t.prompt.id}"),
        Turn("retry", lead="#", when=lambda t: t.segments[-1].role == "reflection", score=lambda t: 2.0),
    ]
    (group, _) = play(policy, PROMPTS, turns, PARAMS, 2)
    failed, passed = group.trajectories
    roles = [s.role for s in failed.segments if s.role != "instruction" or s.text]  # without closings of cut-off turns
    assert roles == ["prompt", "attempt", "reflection", "instruction", "retry"]
    assert [s.role for s in passed.segments] == ["prompt", "attempt"]
    told = segment_of(failed, "reflection")
    assert told.text == "bad a" and not told.trainable and told.logprobs is None
    assert told.tokens[-1] == policy.end_tokens[0]
    assert group.rewards == [2.0, 1.0]


def test_one_can_start_from_a_stored_trajectory_and_fan_out():
    policy = make_policy()
    policy.seed(0)
    (stored,), _ = take(policy, [prompt_only(policy, p) for p in PROMPTS], Turn("attempt"), PARAMS)
    first, again = play(policy, [stored, stored], [Turn("fix", lead="#")], PARAMS, 3)
    assert (first.key, again.key) == ("a/fix", "a/fix#2") and len(first) == 3
    for t in first:
        assert t.segments[1] is stored.segments[1]  # what was there is not sampled again
    assert len(stored.segments) == 2  # nor changed


def test_what_goes_wrong_is_said():
    policy = make_policy()
    with pytest.raises(RecipeError, match="at least one turn"):
        play(policy, PROMPTS, [], PARAMS)
    with pytest.raises(RecipeError, match="model reads 128"):
        play(policy, PROMPTS, two_turns(), SamplingParams(max_new_tokens=125, stats=()))


def test_in_a_chat_the_lead_is_a_user_message():
    policy = make_policy()
    policy.tokenizer = __import__("copy").deepcopy(policy.tokenizer)
    policy.tokenizer.chat_template = (
        "{% for m in messages %}{% if m['role'] == 'user' %}A{{ m['content'] }}{% else %}B{{ m['content'] }}<eos>"
        "{% endif %}{% endfor %}{% if add_generation_prompt %}B{% endif %}"
    )
    ids = lambda text: policy.tokenizer(text, add_special_tokens=False)["input_ids"]  # noqa: E731
    end = policy.end_tokens[:1]
    assert interlude(policy, "no", finished=True) == ids("AnoB")
    assert interlude(policy, "no", finished=False) == end + ids("AnoB")
    policy.tokenizer.chat_template = "{{ messages[-1]['content'] }}"
    with pytest.raises(RecipeError, match="does not show earlier answers"):
        interlude(policy, "no")


def family(*rewards):
    """A group of two-turn trajectories with these rewards (attempt, fix); None leaves the fix out."""
    prompt = Prompt("p", "?")
    made = []
    for attempt, fix in rewards:
        segments = [
            Segment("prompt", torch.tensor([1, 2])),
            Segment("attempt", torch.tensor([3, 4]), trainable=True, reward=attempt, kl_weight=10.0),
        ]
        if fix is not None:
            segments += [
                Segment("instruction", torch.tensor([5])),
                Segment("fix", torch.tensor([6]), trainable=True, reward=fix),
            ]
        made.append(Trajectory(prompt, segments))
    return Group("p", prompt, made)


def centred(r):
    return group_normalised(r, scale="none")


def test_turns_are_credited_apart_by_hand():
    group = family((1.0, 1.0), (0.0, 1.0))
    assert turn_advantages(group, centred) == [[0.5, 0.0], [-0.5, 0.0]]
    assert turn_advantages(family((1.0, 11.0), (0.0, 1.0)), centred, scale={"attempt": 0.0}) == [[0, 5], [0, -5]]
    # A fix that one member alone took has nothing to be compared with.
    assert turn_advantages(family((1.0, None), (0.0, 3.0)), centred) == [[0.5], [-0.5, 0.0]]


def test_rows_carry_turn_credit_and_kl_weights():
    row, _ = turn_experience([family((1.0, 11.0), (0.0, 1.0))], centred).rows
    assert row.mask.tolist() == [0, 0, 1, 1, 0, 1]
    assert row.advantage.tolist() == [0, 0, 0.5, 0.5, 0, 5]
    assert row.kl.tolist() == [0, 0, 10, 10, 0, 1]
    only, _ = turn_experience([family((1.0, 11.0), (0.0, 1.0))], centred, roles=["fix"]).rows
    assert only.mask.tolist() == [0, 0, 0, 0, 0, 1] and only.advantage.tolist() == [0, 0, 0, 0, 0, 5]


def test_progress_bonus_by_hand():
    assert progress_bonus([0, 1, 1, 0], [1, 1, 0, 0], 10).tolist() == [11, 1, -10, 0]


def test_turn_report_by_hand():
    found = turn_report([[0, 1], [1, 1], [1, 0], [0, 0], [0, 1]], [[1, 2], [2, 2], [2, 3], [None, None], [4, 2]])
    assert found["acc@t1"] == 0.4 and found["acc@t2"] == 0.6
    assert found["i->c"] == 0.4 and found["c->i"] == 0.2 and found["delta"] == pytest.approx(0.2)
    assert found["edit"] == 0.6
    assert turn_report([[0, 0, 1]])["acc@t3"] == 1
    with pytest.raises(ValueError, match="same number"):
        turn_report([[1], [1, 0]])
