"""Trees of steps on an embedded base."""

from __future__ import annotations

import pytest
import torch

from selfreward.errors import ConfigError
from selfreward.lab.embedded import load_task
from selfreward.policy.loading import load_policy
from selfreward.policy.reward_model import RewardModel
from selfreward.policy.sampling.params import Completion, SamplingParams
from selfreward.rollouts.step_tree import (
    Partial,
    StateLabels,
    StepWriter,
    ValueReader,
    solution,
    value_guided,
    written_out,
)
from selfreward.rollouts.tree_search import leaves, path, walk

STEP = r"[wh]\d|[-+*]\d|#\d"


@pytest.fixture(scope="module")
def policy():
    return load_policy("embedded:steps", device="cpu")


@pytest.fixture
def writer(policy):
    policy.seed(0, "tree")
    return StepWriter(policy, STEP, 2, SamplingParams(16), load_task("steps").well_formed)


def completion(policy, text, ended=True):
    ids = list(policy.tokenizer(text, add_special_tokens=False)["input_ids"]) + policy.end_tokens[:1] * ended
    return Completion(torch.tensor(ids), torch.arange(len(ids)) * -0.1, ended)


def test_a_continuation_is_cut_into_steps(policy, writer):
    (root,) = writer.roots(load_task("steps").test[:1])
    states = writer.cut(root.state, completion(policy, "w6*8-3"))
    assert [s.text for s in states] == ["w6", "w6*8", "w6*8-3"] and [s.ended for s in states] == [False, False, True]
    assert states[1].logprobs == pytest.approx((0, -0.1, -0.2, -0.3)) and len(states[1].tokens) == 4
    assert [s.text for s in writer.cut(root.state, completion(policy, "w6*8-3"), 2)] == ["w6", "w6*8"]
    # From where it stands, it goes on; what is no step is cut off; a lone end token ends the text.
    onwards = writer.cut(states[0], completion(policy, "*8-=3", False))
    assert [s.text for s in onwards] == ["w6*8"] and onwards[0].logprobs[2:] == pytest.approx((0, -0.1))
    assert writer.cut(root.state, completion(policy, "=")) == []
    (ended,) = writer.cut(states[1], completion(policy, ""))
    assert ended == Partial(root.state.prompt, (), "w6*8", ended=True) and writer.finished(ended)


def test_samples_share_their_beginnings(policy, writer):
    (group,) = policy.sample(load_task("steps").test[:1], 12, SamplingParams(18), seed=0)
    root = writer.tree_of(group)
    ends = {n.state.text for n in leaves(root) if n.finished}
    assert ends == {c for c in group.completions if load_task("steps").well_formed(c)}
    assert len(root.children) <= 2  # careful and hasty, with the first digit of the question
    found = writer.harvest(root)
    assert set(found.completions) == ends and all(t.tokens[-1] == policy.end_tokens[0] for t in found)
    assert all(t.meta == {"value": 0.0} for t in found)


def test_one_sampling_call_serves_all_trees(policy, writer):
    reader = ValueReader(RewardModel(policy), account=policy)
    before, calls = dict(policy.counts.scored), policy._calls
    seen = []
    prompts = load_task("steps").test[:3]
    roots = value_guided(
        writer, reader, prompts, rounds=4, branch=3, roll=2, threshold=None, on_round=lambda n, trees: seen.append(n)
    )
    assert seen == [1, 2, 3, 4] and policy._calls == calls + 8  # a call to propose and one to play on, each round
    assert policy.counts.scored["value"] > before.get("value", 0)
    assert all(r.visits == 4 for r in roots)
    for root in roots:
        for node in walk(root):
            assert len({c.state.text for c in node.children}) == len(node.children) <= 3
            assert all(c.state.text.startswith(node.state.text) for c in node.children)


def test_a_search_does_not_depend_on_its_neighbours(policy):
    prompts = load_task("steps").test[:2]

    def texts(which):
        policy.seed(5, "tree")
        writer = StepWriter(policy, STEP, 2, SamplingParams(16), load_task("steps").well_formed)
        roots = value_guided(writer, ValueReader(RewardModel(policy)), which, rounds=3, threshold=None)
        return [sorted(n.state.text for n in walk(r)) for r in roots]

    assert texts(prompts)[0] == texts(prompts[:1])[0]


def test_values_are_read_at_the_end_of_each_step(policy, writer):
    model = RewardModel(policy)
    (root,) = writer.roots(load_task("steps").test[:1])
    states = writer.cut(root.state, completion(policy, "w6*8-3"))
    model.fit_labels([s.ids for s in states], [0.2, 0.5, 0.9], kind="regression", updates=150, batch=3)
    (values,) = ValueReader(model).along([states])
    assert values == pytest.approx([0.2, 0.5, 0.9], abs=0.06)
    ends = [writer.insert(root, [s]) for s in states]
    assert ValueReader(model).evaluate(ends) == pytest.approx(values, abs=1e-5)
    raw = ValueReader(model, "raw").evaluate(ends)
    assert ValueReader(model, "sigmoid").evaluate(ends) == pytest.approx(torch.tensor(raw).sigmoid().tolist())


def test_a_value_prompt_is_read_behind_every_state(policy, writer):
    model, ask = RewardModel(policy), list(policy.tokenizer(">", add_special_tokens=False)["input_ids"])
    (root,) = writer.roots(load_task("steps").test[:1])
    states = writer.cut(root.state, completion(policy, "w6*8"))
    labels = StateLabels()
    labels.add([(writer.insert(root, [s]), v) for s, v in zip(states, (0.2, 0.8), strict=True)], ask)
    assert [int(i[-1]) for i in labels.ids] == ask * 2
    model.fit_labels(labels.ids, labels.targets, kind="regression", updates=150, batch=2)
    reader = ValueReader(model, account=policy, ask=ask)
    assert reader.along([states, []])[0] == pytest.approx([0.2, 0.8], abs=0.06) and reader.along([[]]) == [[]]


def test_a_tree_without_a_finished_leaf_can_be_written_to_its_end(policy, writer):
    (root,) = writer.roots(load_task("steps").test[:1])
    assert solution(root) is None
    writer.finish([root])
    found = solution(root)
    assert found is not None and load_task("steps").well_formed(found.state.text)
    assert [n.state.text for n in path(found)][1] == found.state.text[:2]


def test_steps_that_cannot_be(policy):
    for step, tokens, message in (("(", 2, "not a regular expression"), ("x*", 2, "empty text"), ("x", 0, "at least")):
        with pytest.raises(ConfigError, match=message):
            StepWriter(policy, step, tokens, SamplingParams(8))


def test_a_search_answers_outside_of_its_tree(policy, writer):
    open_, done = writer.roots(load_task("steps").test[:2])
    writer.finish([done])
    (best,) = leaves(done)
    states = written_out(writer, [open_, done])
    assert load_task("steps").well_formed(states[0].text) and states[1] is best.state
    assert not open_.children  # it can be grown further


def test_the_states_of_samples(policy, writer):
    groups = policy.sample(load_task("steps").test[:2], 3, SamplingParams(16), seed=0)
    for group, rows in zip(groups, writer.along(groups), strict=True):
        assert [r[-1].text for r in rows if r] == [t.completion for t, r in zip(group, rows, strict=True) if r]
