"""T-REG: token credits of the base, the control, and a resumed run."""

from __future__ import annotations

import pytest
import torch

from selfreward.errors import RecipeError
from selfreward.lab.embedded import load_task
from selfreward.policy.loading import load_policy
from selfreward.signals.scorers.contrast import contrast_credits, filled
from selfreward.types import Prompt, Segment, Trajectory
from tests.support.rounds import one_step, same_after_resume


def written(policy, question, text):
    prompt = Prompt("p", question)
    tokens = torch.tensor([*policy.tokenizer(text)["input_ids"], *policy.end_tokens])
    head = Segment("prompt", torch.tensor(policy.encode(prompt)))
    return Trajectory(prompt, [head, Segment("solver", tokens, text, trainable=True)])


def test_the_planted_fault_gets_the_blame():
    """The third letter is forbidden, in the other string the first letter is not the one asked for."""
    policy = load_policy("embedded:con", device="cpu")
    templates = load_task("con").templates
    both = [written(policy, "<d +c +e -a >b =", "d c a e f b"), written(policy, "<d +c +e -a >b =", "h c e f f b")]
    middle, first = contrast_credits(policy, both, templates["better"], templates["worse"], ending=False)
    assert int(middle[:6].argmin()) == 2 and middle[2] < 0 and int(first[:6].argmin()) == 0 and first[0] < 0
    assert middle[6] == 0 and middle.abs().max() < 0.5
    assert filled("* {question} | {response} =", both[0]) == "* <d +c +e -a >b | d c a e f b ="
    with pytest.raises(RecipeError, match="asks for"):
        filled("{wrong}", both[0])


def test_it_runs_and_resumes(tmp_path):
    summary, steps = same_after_resume(tmp_path, "t-reg", {"iterations": 2})
    assert summary["labels"] == "none" and summary["mechanism"]["count"] > 8 * 7
    assert all(r["credit/size"] > 0.01 and "regulariser" in r for r in steps)


def test_all_arms_see_the_same_pairs_and_differ_in_their_credit(tmp_path):
    seen = {}
    for name, options in {
        "t-reg": {},
        "shuffled": {"token_rewards": "shuffled"},
        "none": {"token_rewards": "none"},
        "static": {"weighting": "static"},
        "sft": {"token_rewards": "none", "sft": 0.1},
    }.items():
        _, record = one_step(tmp_path / name, "t-reg", **options)
        assert record["mechanism"] > 0 and record["grad_norm"] > 0
        seen[name] = (record["pairs/gap"], record["loss"])
    assert len({gap for gap, _ in seen.values()}) == 1 and len({loss for _, loss in seen.values()}) == 5


def test_planted_letters_and_how_far_they_are_preferred():
    from selfreward.lab.proofs.preference.t_reg import planted, planted_error
    from selfreward.lab.tasks.writing.con.strings import true_score

    items = planted("test", 20)
    for question, whole, text, at in items:
        assert (true_score(question, whole), true_score(question, text)) == (5, 4)
        assert [k for k, (a, b) in enumerate(zip(whole.split(), text.split(), strict=True)) if a != b] == [at]
    base = load_policy("embedded:con", device="cpu")

    class Even:
        """Gives the planted letter a third of what the right one gets, and all others alike."""

        tokenizer, end_tokens, encode = base.tokenizer, base.end_tokens, staticmethod(base.encode)

        def score(self, tokens, starts):
            wanted = [letters for _, *both, _ in planted("test", len(tokens) // 2) for letters in both]
            assert [base.decode(t[s:-1].tolist()) for t, s in zip(tokens, starts, strict=True)] == wanted
            return [{"logprob": torch.full((7,), -1.0 - (i % 2) * 1.0986)} for i in range(len(tokens))]

    assert planted_error(Even(), 20) == pytest.approx(0.25, abs=1e-4)
    assert 0.05 < planted_error(base, 100) < 0.3
