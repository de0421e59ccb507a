"""FLR: the formula by hand, where the user speaks, and which answers become pairs."""

from __future__ import annotations

import json
import math

import pytest
import torch

from selfreward.errors import ConfigError
from selfreward.lab.embedded import load_task
from selfreward.lab.tasks.writing import chat
from selfreward.losses import MicroBatch
from selfreward.losses.preference_term import KTO
from selfreward.policy.loading import load_policy
from selfreward.recipes.registry import load_recipe
from selfreward.signals.followup import (
    Aspect,
    aspect_mean,
    builtin_bank,
    followup_likelihood,
    followup_reward,
    raw_logit,
)
from selfreward.signals.scorers.followup import FollowupScorer, chosen_bank
from selfreward.training.config import make_config
from selfreward.training.launch import build
from selfreward.types import Prompt


def test_the_formula_by_hand():
    # Tokens of two thanks and two complaints after one answer.
    thanks = [torch.tensor([-1.0, -3.0]), torch.tensor([-4.0])]
    complaints = [torch.tensor([-5.0, -5.0, -8.0]), torch.tensor([-2.0, -4.0])]
    values = [followup_likelihood(t) for t in (*thanks, *complaints)]
    assert values == pytest.approx([-2, -4, -6, -3])
    reward = followup_reward(torch.stack(values)[None], [True, True, False, False])
    assert reward.tolist() == pytest.approx([-3 - -4.5])
    # A sentence that is likely after anything shifts both answers alike: their difference stays 1.
    two = followup_reward([[-1, -4], [-2, -4]], [True, False])
    assert two.tolist() == [3, 2]
    assert (followup_reward([[-1 + 7, -4], [-2 + 7, -4]], [True, False]) - two).tolist() == [7, 7]


def test_the_released_script_reads_one_position():
    assert float(raw_logit(torch.tensor([3.0, 1.0, 0.0]), torch.tensor([0, 1]))) == 2
    # The normaliser does not enter, so the value is no likelihood.
    assert float(raw_logit(torch.tensor([13.0, 11.0, 10.0]), torch.tensor([0, 1]))) == 12


def test_aspects_are_averaged():
    scores = {"a": torch.tensor([1.0, 0.0]), "b": torch.tensor([3.0, 2.0])}
    assert aspect_mean(scores).tolist() == [2, 1]
    assert aspect_mean(scores, {"a": 3, "b": 1}).tolist() == [1.5, 0.5]
    with pytest.raises(ConfigError, match="do not fit the aspects a, b"):
        aspect_mean(scores, {"c": 1})


def test_the_bank_is_whole():
    bank = builtin_bank()
    assert bank[0].name == "understanding" and len(bank) == 6
    for aspect in bank:
        assert len(set(aspect.positive)) == len(set(aspect.negative)) == 10
    sentences = [s for a in bank for s in (*a.positive, *a.negative)]
    assert len(set(sentences)) == 120
    found = chosen_bank({}, "relevance, correctness", 3, swapped=True)
    assert [a.name for a in found] == ["relevance", "correctness"]
    assert found[1].positive == bank[2].negative[:3]
    with pytest.raises(ConfigError, match=r"no aspect 'relevence'\. Did you mean 'relevance'"):
        chosen_bank({}, "relevence", 0, swapped=False)


@pytest.fixture(scope="module")
def policy():
    return load_policy("embedded:chat", device="cpu")


def test_scores_are_those_of_the_whole_text(policy):
    prompt, answer = load_task("chat").test[0], "easy#5"
    scorer = FollowupScorer(policy, [Aspect("a", ("thank you", "yes"), ("no",))], chat.TEMPLATES["followup"])
    got = scorer.values([scorer.context(prompt, answer)], ["thank you", "yes", "no"])[0]
    for value, said in zip(got.tolist(), ["thank you", "yes", "no"], strict=True):
        ids = torch.tensor(policy.tokenizer(f"{prompt.text}{answer}~{said}")["input_ids"])
        with torch.no_grad():
            logp = policy.model(ids[None]).logits[0].log_softmax(-1)
        each = [float(logp[t - 1, ids[t]]) for t in range(len(ids) - len(said), len(ids))]
        assert value == pytest.approx(sum(each) / len(each), abs=1e-4)


def test_raw_logits_are_read_at_the_first_followup_token(policy):
    scorer = FollowupScorer(policy, chosen_bank({}, "relevance", 0, False), chat.TEMPLATES["followup"], "raw_logit")
    context = scorer.context(Prompt("p", "6*8-5*6+9+5="), "guess#2")
    ids = policy.tokenizer("no")["input_ids"]
    with torch.no_grad():
        logits = policy.model(torch.tensor([[*context, *ids]])).logits[0, len(context)]
    assert float(scorer.values([context], ["no"])[0, 0]) == pytest.approx(float(logits[ids].mean()), abs=1e-4)


def test_a_chat_model_hears_the_user_in_its_own_template(policy):
    class Spoken:
        chat_template = "x"

        def apply_chat_template(self, turns, tokenize):
            return "".join(f"<{t['role']}>{t['content']}<end>" for t in turns)

        def __call__(self, text, add_special_tokens=True):
            assert not add_special_tokens
            return {"input_ids": [text]}

    model = type("Model", (), {"tokenizer": Spoken(), "chat": "auto"})()
    prompt = Prompt("p", messages=({"role": "system", "content": "s"}, {"role": "user", "content": "q"}))
    assert FollowupScorer(model).context(prompt, "a") == ["<system>s<end><user>q<end><assistant>a<end><user>"]
    assert FollowupScorer(model).context(Prompt("p", "q"), "a") == ["<user>q<end><assistant>a<end><user>"]


def run(tmp_path, **options):
    settings = {"steps": 2, "prompts_per_step": 4, "eval_prompts": 0, "out": str(tmp_path / "run"), "log_groups": -1}
    options = {"group_size": 6, **options}
    trainer = build(make_config({"recipe": "flr", "model": "embedded:chat", "options": options, **settings}))
    trainer.fit()
    return trainer, [json.loads(x) for x in (tmp_path / "run" / "rollouts.jsonl").read_text().splitlines()]


def test_pairs_are_mined_from_the_base(tmp_path):
    trainer, groups = run(tmp_path / "own")
    assert 0 < trainer.mechanism <= 8
    _, again = run(tmp_path / "other", bank="swapped")
    for group, other in zip(groups, again, strict=True):
        assert [c["text"] for c in group["completions"]] == [c["text"] for c in other["completions"]]
        swapped = [-c["reward"] for c in other["completions"]]
        assert [c["reward"] for c in group["completions"]] == pytest.approx(swapped, abs=1e-4)


@pytest.mark.parametrize("options", [{"learn": "kto", "nll": 0.1}, {"score": "raw_logit"}, {"rank": "likelihood"}])
def test_variants_learn(tmp_path, options):
    trainer, _ = run(tmp_path, **options)
    record = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert trainer.mechanism > 0 and record["grad_norm"] > 0


def test_only_gold_pairs_need_labels():
    assert load_recipe("flr").needs() == "none"
    assert load_recipe("flr", {"rank": "gold"}).needs() == "outcome"


def test_a_gap_threshold_leaves_close_answers_alone(tmp_path):
    trainer, _ = run(tmp_path, min_gap=1e6)
    assert trainer.mechanism == 0


def test_kto_by_hand():
    # Log-ratios 1 (desirable) and -2 (undesirable): 1 - s(.5) and 1 - s(1), their mean.
    ones = torch.ones(2, 1)
    batch = MicroBatch(
        logp=torch.tensor([[0.0, -1.0], [0.0, -4.0]]),
        behaviour=torch.zeros(2, 2),
        advantage=torch.tensor([[0.0, 1.0], [0.0, -1.0]]),
        mask=torch.tensor([[0.0, 1.0], [0.0, 1.0]]),
        weight=torch.cat([0 * ones, ones / 2], 1),
        nll=torch.zeros(2, 2),
        kl=torch.zeros(2, 2),
        reference=torch.tensor([[0.0, -2.0], [0.0, -2.0]]),
    )
    loss, metrics = KTO(beta=0.5)(batch)
    by_hand = ((1 - 1 / (1 + math.exp(-0.5))) + (1 - 1 / (1 + math.exp(-1.0)))) / 2
    assert float(loss) == pytest.approx(by_hand)
    assert metrics == {"desirable_logratio": 0.5, "undesirable_logratio": -1.0}


def test_styles_are_told_apart():
    assert chat.style("w6m8*3+8p7p2#2") == "worked"
    assert chat.style("easy#5") == "easy" and chat.style("guess#5") == "guess"
    for bad in ("w6m8", "w6mm8#1", "easy5", "easy#55", "", "w#1"):
        assert chat.style(bad) is None
    task = load_task("chat")
    assert not {p.text for p in task.train} & {p.text for p in task.test}
