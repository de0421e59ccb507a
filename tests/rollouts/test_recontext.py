"""Other contexts and derived tasks: what the model makes of its own words if it knew more."""

from __future__ import annotations

import pytest
import torch

from selfreward.credit.distillation import distillation_channels, rewritten
from selfreward.data.answers import Regex
from selfreward.errors import LabelAccessError, RecipeError
from selfreward.losses.distillation import SAMPLED, TEACHER, TOKENS, WEIGHT
from selfreward.policy.sampling.params import SamplingParams
from selfreward.rollouts.derived_tasks import derive, pick_evenly
from selfreward.rollouts.recontext import recontext, rescored, sibling_success, success_or_error
from selfreward.types import Group, Prompt, Segment, Trajectory
from tests.support.models import make_policy

PARAMS = SamplingParams(max_new_tokens=5, stats=())


def group_of(*rewards, key="p/solver"):
    prompt = Prompt("p", "1+1=").locked("r")
    made = [
        Trajectory(prompt, [Segment("solver", torch.tensor([4]), f"#{i}", trainable=True)], reward=r)
        for i, r in enumerate(rewards)
    ]
    return Group(key, prompt, made)


def test_a_success_is_never_shown_to_itself():
    group = group_of(1, 0, 1)
    assert [group.trajectories.index(t) for t in sibling_success(group)] == [2, 2, 0]
    first, second = sibling_success(group_of(1, 0))
    assert first is None and second.completion == "#0"
    assert sibling_success(group_of(0, 0)) == [None, None]


def test_a_question_in_another_context():
    plain = recontext(Prompt("p", "1+1="), "{hint} {question}", {"hint": "it is 2."})
    assert (plain.id, plain.text) == ("p/hint", "it is 2. 1+1=")
    chat = Prompt("c", messages=({"role": "system", "content": "s"}, {"role": "user", "content": "q"}))
    told = recontext(chat, "{question} ({hint})", {"hint": "h"})
    assert [m["content"] for m in told.messages] == ["s", "q (h)"] and chat.question == "q"
    with pytest.raises(RecipeError, match="'hint'"):
        recontext(chat, "{hint}", {})


def test_the_same_tokens_are_read_again():
    policy = make_policy()
    (group,) = policy.sample([Prompt("p", "1+1=")], 3, PARAMS, seed=0)
    same = rescored(policy, group.trajectories, [group.prompt] * 3)
    other = rescored(policy, group.trajectories, [recontext(group.prompt, "99{question}", {})] * 3)
    for t, a, b in zip(group, same, other, strict=True):
        assert torch.allclose(a["logprob"], t.last.logprobs, atol=1e-4)
        assert len(b["logprob"]) == len(t.last) and not torch.allclose(a["logprob"], b["logprob"], atol=1e-3)


def test_candidates_are_read_under_another_context():
    policy = make_policy()
    (group,) = policy.sample([Prompt("p", "1+1=")], 2, PARAMS, seed=0)
    prompts = [recontext(group.prompt, "7{question}", {})] * 2
    best = rescored(policy, group.trajectories, prompts, top_k=4)
    named = rescored(policy, group.trajectories, prompts, candidates=[b["top_tokens"] for b in best])
    for a, b in zip(best, named, strict=True):
        assert torch.allclose(a["top_logprobs"], b["candidates"], atol=1e-5)


def test_tasks_are_spread_evenly():
    generator = torch.Generator().manual_seed(0)
    picked = pick_evenly([4, 1, 4], 5, generator)
    assert sorted(g for g, _ in picked) == [0, 0, 1, 2, 2] and len(set(picked)) == 5
    assert len(pick_evenly([1, 1], 9, generator)) == 2 and pick_evenly([], 3, generator) == []
    with pytest.raises(RecipeError, match="Cannot pick -1"):
        pick_evenly([1], -1, generator)


def test_derived_tasks_have_their_own_gold_and_keys():
    groups = [group_of(1, 0, key="a"), group_of(0, 0, key="b")]
    make = lambda t: (f"{t.prompt.question}{t.completion}?", "Y" if t.reward else "N") if t.completion != "#1" else None  # noqa: E731
    tasks = derive(groups, make, 5, torch.Generator().manual_seed(0), "verify")
    assert {t.id: (t.text, t.answer) for t in tasks} == {
        "a/verify-0": ("1+1=#0?", "Y"),
        "b/verify-0": ("1+1=#0?", "N"),
    }
    assert tasks[0].fields["source"] == (tasks[0].id[0], 0)
    with pytest.raises(LabelAccessError):  # the user's own answer stays locked
        _ = groups[0].prompt.answer


def test_what_would_have_helped_is_a_success_or_the_own_error():
    hint, error = "{solution}.{question}", "no#{answer}.{question}"
    digits = Regex(r"(?<=#)\d")
    texts = [c and c.text for c in success_or_error(group_of(1, 0, 1), digits, hint, error)]
    assert texts == ["#2.1+1=", "#2.1+1=", "#0.1+1="]
    # One success has nobody to learn from; where nobody succeeded everyone is told the own answer.
    assert [c and c.text for c in success_or_error(group_of(1, 0), digits, hint, error)] == [None, "#0.1+1="]
    assert [c and c.text for c in success_or_error(group_of(0, 0), digits, hint, error)] == ["no#0.1+1=", "no#1.1+1="]
    assert success_or_error(group_of(0, 0), digits, hint) == [None, None]
    other = success_or_error(group_of(0, 0), digits, hint, source=group_of(0, 1))
    assert [c and c.text for c in other] == ["#1.1+1=", None]


def test_channels_of_a_distillation_begin_with_the_response():
    policy = make_policy()
    (group,) = policy.sample([Prompt("p", "1+1=")], 2, PARAMS, seed=0)
    prompts = [recontext(group.prompt, "7{question}", {})] * 2
    plain = distillation_channels(policy, policy, group.trajectories, prompts, top_k=3)
    trusted = distillation_channels(policy, policy, group.trajectories, prompts, top_k=3, trust=1.0)
    for t, row, same in zip(group, plain, trusted, strict=True):
        start = len(t.segments[0])
        assert row[WEIGHT].tolist() == [0] * start + [1] * len(t.last) and row[TOKENS].shape == (len(t.tokens), 3)
        # Trusting the policy wholly is reading with the policy, which is the teacher here.
        assert torch.allclose(row[TEACHER][start:], same[TEACHER][start:], atol=1e-4)
        assert float(row[SAMPLED][:start].abs().sum()) == 0


def test_what_a_teacher_writes_is_learned_after_the_question_alone():
    policy = make_policy()
    (group,) = policy.sample([Prompt("p", "1+1=")], 2, PARAMS, seed=0)
    prompts = [recontext(group.prompt, "7{question}", {}, f"hint{i}") for i in range(2)]
    for row in rewritten(policy, group.trajectories, prompts, PARAMS, seed=3):
        start = len(group.trajectories[0].segments[0])
        assert torch.equal(row.tokens[:start], group.trajectories[0].segments[0].tokens)
        assert row.nll[:start].sum() == 0 and (row.nll[start:] == 1).all()
