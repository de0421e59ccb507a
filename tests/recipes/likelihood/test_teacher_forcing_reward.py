"""The reward in the logits: worked examples, the recipe's arithmetic against them, and what it is compared with."""

from __future__ import annotations

import json

import pytest
import torch

from selfreward.credit.advantages import induced_advantages
from selfreward.errors import ModelError, RecipeError
from selfreward.lab.embedded import base_path, load_task
from selfreward.lab.tasks.language import trans_pairs
from selfreward.lab.tasks.language.trans import languages as trans
from selfreward.lab.tasks.language.trans.base import measure
from selfreward.losses import Uniformity
from selfreward.policy.loading import load_policy
from selfreward.policy.sampling.params import SamplingParams
from selfreward.policy.snapshots.frozen import snapshot_with, weights_of
from selfreward.rollouts.beam import beam_search
from selfreward.signals.teacher_forcing import importance, step_rewards
from selfreward.training.config import make_config
from selfreward.training.launch import build, resume
from selfreward.training.learner import Learner, make_optimizer
from selfreward.types import Experience, Prompt, Row
from tests.support.models import make_policy


def same(found, expected):
    torch.testing.assert_close(found, torch.tensor(expected), atol=1e-5, rtol=1e-5)


def test_two_tokens_by_hand():
    centred, value, baseline = torch.tensor([2.0, 1.0]), torch.tensor([2.0, 3.0]), torch.tensor([1.5, 2.0])
    same(step_rewards(centred, value), [2.0 - 3.0, 1.0 - 0.0])
    # Returns to go 0 and 1, minus the baselines.
    same(induced_advantages(centred, value, baseline, scale=1.0), [-1.5, -1.0])
    same(induced_advantages(centred, value, baseline), [-0.015, -0.01])


def test_with_the_max_value_the_return_is_the_first_choice_minus_later_regret():
    torch.manual_seed(0)
    f = torch.randn(5, 7)
    f = f - f.mean(-1, keepdim=True)
    chosen = torch.randint(7, (5,))
    centred, value = f[torch.arange(5), chosen], f.amax(-1)
    total = step_rewards(centred, value).sum()
    torch.testing.assert_close(total, centred[0] + (centred[1:] - value[1:]).sum())
    greedy = step_rewards(value, value).sum()  # the teacher's own choice everywhere
    assert float(greedy) == pytest.approx(float(value[0]), abs=1e-5) and greedy >= total


def test_the_papers_ratio_and_that_of_its_code():
    current, behaviour = torch.tensor([0.5, 0.5, 0.25]).log(), torch.tensor([0.25, 0.5, 0.5]).log()
    same(importance(current, behaviour), [2.0, 1.0, 0.5])
    # Over the product of all behaviour probabilities so far: .25, .125, .0625.
    same(importance(current, behaviour, "released"), [2.0, 4.0, 4.0])
    same(importance(current, behaviour, "none"), [1.0, 1.0, 1.0])


def test_uniformity_pulls_towards_uniform():
    policy = make_policy()
    tokens = torch.tensor(policy.encode_text("1+2=3"))
    mask = torch.ones(len(tokens))
    mask[0] = 0
    row = Row(tokens, mask, 0 * mask, 0 * mask, 0 * mask, 0 * mask)
    term = Uniformity(1.0)
    learner = Learner(policy, make_optimizer(policy, 1e-3, (0.9, 0.95), 1e-8, 0.0), lambda _: 3e-3)
    values = [
        learner.learn(Experience([row]), [term], torch.Generator().manual_seed(0))["uniformity"] for _ in range(8)
    ]
    logp = make_policy().model(tokens[None]).logits[0, :-1].log_softmax(-1)
    by_hand = (-logp.mean(-1) - torch.log(torch.tensor(float(logp.shape[-1])))).mean()
    assert values[0] == pytest.approx(float(by_hand), rel=1e-4)
    assert values[-1] < values[0]


def test_beam_search_finds_the_likeliest_text():
    policy = make_policy()
    prompts = [Prompt("a", "1+1="), Prompt("b", "3-2=1"), Prompt("c", "2+2=")]
    greedy = policy.sample(prompts, 1, SamplingParams(max_new_tokens=5, temperature=0.0))
    for a, b in zip(greedy, beam_search(policy, prompts, 1, 5), strict=True):
        assert a.completions == b.completions
    # Two tokens and a beam as wide as the vocabulary: nothing is left out.
    (group,) = beam_search(policy, prompts[:1], policy.model.config.vocab_size, 2, length_penalty=0.0)
    ids = torch.tensor(policy.encode(prompts[0]))
    first = policy.model(ids[None]).logits[0, -1].log_softmax(-1)
    every = torch.stack([torch.cat([ids, torch.tensor([t])]) for t in range(len(first))])
    both = first[:, None] + policy.model(every).logits[:, -1].log_softmax(-1)
    for end in policy.end_tokens:  # a text that has ended goes no further
        both[end] = torch.where(torch.arange(both.shape[1]) == 0, first[end], -torch.inf)
    best = int(both.argmax())
    found = group.trajectories[0].last.tokens.tolist()
    assert found == [best // both.shape[1], best % both.shape[1]][: len(found)]
    with pytest.raises(RecipeError, match="at least 1"):
        beam_search(policy, prompts, 0, 5)


def test_a_frozen_copy_comes_back():
    policy, other = make_policy(), make_policy(seed=1)
    frozen = policy.snapshot()
    sequence = [torch.tensor(policy.encode_text("1+1=2"))]
    before = frozen.score(sequence, [1])[0]["logprob"]
    again = snapshot_with(other, weights_of(frozen))
    torch.testing.assert_close(again.score(sequence, [1])[0]["logprob"], before)
    assert not any(p.requires_grad for p in again.model.parameters())
    with pytest.raises(ModelError, match="another model"):
        snapshot_with(other, {"nothing": torch.zeros(1)})


def trained(out, steps=2, recipe="teacher-forcing-reward", **options):
    values = {"recipe": recipe, "model": "embedded:trans-pairs", "data": "embedded:trans-pairs", "steps": steps}
    values |= {"prompts_per_step": 4, "eval_prompts": 0, "checkpoint_every": 1, "keep_checkpoints": 9, "out": str(out)}
    trainer = build(
        make_config({**values, "options": {"group_size": 4, **options} if "width" not in options else options})
    )
    trainer.evaluator = lambda policy: {}
    trainer.fit()
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return trainer, [r for r in records if r["step"]]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"value": "soft"},
        {"reward": "regression", "regression_samples": 1, "regression_updates": 4},
        {"corrupt": "permuted"},
    ],
)
def test_it_learns_from_sources_alone(tmp_path, options):
    trainer, records = trained(tmp_path / "run", refresh=1, **options)
    assert trainer.mechanism > 0 and records[-1]["grad_norm"] > 0
    assert trainer.recipe.needs() == "seed"  # the teacher's pairs


def test_a_lagged_copy_samples_and_resumes(tmp_path):
    trainer, _ = trained(tmp_path / "a", steps=4, refresh=3)
    trained(tmp_path / "b", steps=2, refresh=3)
    again, _ = resume(tmp_path / "b", ["steps=4"])
    again.evaluator = lambda policy: {}
    again.fit()
    for a, b in zip(trainer.policy.parameters(), again.policy.parameters(), strict=True):
        assert torch.equal(a, b)
    released, _ = trained(tmp_path / "c", steps=4, refresh=3, ratio="released")
    assert any(
        not torch.equal(a, b) for a, b in zip(trainer.policy.parameters(), released.policy.parameters(), strict=True)
    )


@pytest.mark.parametrize("width", [1, 3])
def test_self_training_copies_the_start(tmp_path, width):
    trainer, records = trained(tmp_path / "run", recipe="self-training", width=width)
    assert trainer.mechanism > 0 and records[-1]["nll"] < records[0]["nll"] + 0.5


def test_the_pairs_are_few_and_apart_from_the_test():
    pairs = trans_pairs.pairs()
    task = load_task("trans-pairs")
    assert len(pairs) == 2 * trans_pairs.PAIRS
    texts = {p.text for p in pairs}
    assert not texts & {p.text for p in task.test} and not texts & {p.text for p in task.train}


def test_the_shipped_base_has_something_to_gain_on_development_sentences():
    card = json.loads((base_path("trans-pairs") / "task.json").read_text(encoding="utf-8"))
    assert card["has_properties"] is True
    dev = trans.prompts_of("dev", 60)
    pairs = {p.fields["source"] for p in trans_pairs.pairs()}
    assert not pairs & {p.fields["source"] for p in dev}
    found = measure(load_policy("embedded:trans-pairs", device="cpu"), dev, samples=2)
    recorded = card["measured on development prompts"]["greedy_quality"]
    assert found.greedy_quality == pytest.approx(recorded, abs=0.1) and found.quality < 0.5
