"""MASA: what a prediction is worth, two roles in one batch, and gates."""

from __future__ import annotations

import json

import pytest

from selfreward.signals.self_prediction import (
    MetaAnswer,
    Wording,
    concept_reward,
    meta_accuracy,
    pass_reward,
    predicted_length_reward,
    read_buckets,
    read_meta,
    singular,
)
from selfreward.training.config import make_config
from selfreward.training.launch import build

# ---- by hand -------------------------------------------------------------------------------------


def test_the_last_json_object_counts_and_ill_typed_fields_do_not():
    text = '{"pass_rate": 1} {"a": {"b": 2}} {"pass_rate": 6, "solution_length": "long", "concepts": ["sum"]}'
    assert read_meta(text) == MetaAnswer(6, None, ("sum",))
    assert read_meta('{"pass_rate": 3} then {"unrelated": 1}') == MetaAnswer(3)
    assert read_meta('{"pass_rate": true, "solution_length": 4.5}') == MetaAnswer()
    assert read_meta('{"pass_rate": 9, "solution_length": 120}') == MetaAnswer(None, 120)
    assert read_meta('{"math_notion": "[primes, sums]"}').concepts == ("primes", "sums")
    assert read_meta('{"concepts": ["a", 1]}') == MetaAnswer()
    for broken in ("", "{", '{"pass_rate": 3', "no json", "{" * 2000, '[{"pass_rate": 3'):
        assert read_meta(broken).pass_rate in (None, 3)


def test_two_characters():
    assert read_buckets("6c", "abcdefgh", 3) == MetaAnswer(6, 9)
    assert read_buckets("9c", "abcdefgh", 3) == MetaAnswer(None, 9)
    assert read_buckets("6", "abcdefgh", 3) == MetaAnswer(6, None)
    assert read_buckets("", "abcdefgh", 3) == MetaAnswer()


def test_rewards_of_the_parts():
    assert pass_reward(0.75, 0.5) == pytest.approx(0.31623, abs=1e-5)  # 10^-.5
    assert pass_reward(0.5, 1.0) == pytest.approx(0.1)
    assert pass_reward(None, 0.0) == 0
    assert [predicted_length_reward(n, [6, 12]) for n in (6, 9, 12, 13)] == [0, 1, 0, 0]
    assert [predicted_length_reward(n, [6, 12], strict=False) for n in (5, 6, 12)] == [0, 1, 1]
    # The paper's inequality cannot be met where all right solutions are equally long.
    assert predicted_length_reward(6, [6, 6]) == 0 and predicted_length_reward(6, [6], strict=False) == 1
    assert predicted_length_reward(6, []) == 0


def test_concepts_must_tell_right_from_wrong():
    assert concept_reward(["primes", "sum"], "find x", ["prime", "sum"], [True, False]) == 0.5
    assert concept_reward(["x"], "find x", ["x"], [True]) == 0  # the problem says it already
    assert concept_reward(None, "", [], []) == 0
    assert [singular(w) for w in ("identities", "boxes", "cosines", "class", "series")] == [
        "identity",
        "box",
        "cosine",
        "class",
        "series",
    ]


# ---- the recipe ----------------------------------------------------------------------------------

TOY = {"concepts": False, "strict": False, "group_size": 6, "meta_size": 4}


def run(folder, steps=2, **options):
    values = {
        "recipe": "masa",
        "model": "embedded:chain-wide",
        "options": {**TOY, **options},
        "limit": 30,
        "steps": steps,
        "prompts_per_step": 9,
        "eval_prompts": 0,
        "log_groups": -1,
        "out": str(folder),
    }
    trainer = build(make_config(values))
    trainer.evaluator = lambda policy: {}
    return trainer


def records(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()][1:]


def one_batch(trainer):
    """What the recipe hands to the learner in the first step."""
    found = {}
    learn = trainer.learner.learn

    def keep(experience, *rest):
        found["experience"] = experience
        return learn(experience, *rest)

    trainer.learner.learn = keep
    trainer.steps = 1
    trainer.fit()
    return found["experience"]


def test_both_roles_learn_against_their_own_mean(tmp_path):
    trainer = run(tmp_path / "run")
    trainer.fit()
    assert trainer.mechanism == 2 * 9 * 4
    counts = trainer.policy.counts.generated
    assert counts["meta"] > 0 and counts["solver"] > 0
    trainer = run(tmp_path / "again")
    experience = one_batch(trainer)
    assert len(experience.rows) == 9 * (6 + 4)
    metas = experience.rows[9 * 6 :]
    for i in range(9):
        group = [float(r.advantage.sum() / max(1, r.mask.sum())) for r in metas[4 * i : 4 * i + 4]]
        assert sum(group) == pytest.approx(0, abs=1e-4)
    assert any(float(r.advantage.abs().sum()) for r in metas)


def test_statistics_of_another_problem_pay_differently(tmp_path):
    own, other = (one_batch(run(tmp_path / truth, truth=truth)) for truth in ("own", "other"))
    assert [g.rewards for g in own.groups] == [g.rewards for g in other.groups]
    pairs = zip(own.rows[54:], other.rows[54:], strict=True)
    assert any((a.advantage - b.advantage).abs().max() > 1e-3 for a, b in pairs)


def test_without_the_meta_task_it_is_grpo(tmp_path):
    trainer = run(tmp_path / "run", truth="off")
    trainer.fit()
    assert "meta" not in trainer.policy.counts.generated


@pytest.mark.parametrize("gate", ["predicted", "random"])
def test_gates_save_tokens_and_the_audit_is_not_charged(tmp_path, gate):
    options = {"gate": gate, "gate_after": 0, "skip_below": 0.3, "skip_above": 0.7, "audit": True}
    trainer = run(tmp_path / "run", steps=2, **options)
    trainer.fit()
    found = records(tmp_path / "run")
    assert any(r["gate/skipped"] > 0 for r in found)
    counts = trainer.policy.counts.generated
    assert sum(r["spent"] for r in found) == counts["solver"] + counts["meta"]
    assert counts["audit"] > 0 and all(0 <= r["gate/precision"] <= 1 for r in found if "gate/precision" in r)


def test_the_random_gate_skips_as_many_as_the_predicted_one(tmp_path):
    options = {"gate_after": 0, "skip_below": 0.4, "skip_above": 0.6}
    shares = []
    for gate in ("predicted", "random"):
        run(tmp_path / gate, steps=1, gate=gate, **options).fit()
        shares.append(records(tmp_path / gate)[0]["gate/skipped"])
    assert shares[0] == shares[1] > 0


def test_the_oracle_leaves_no_group_without_variance(tmp_path):
    experience = one_batch(run(tmp_path / "run", gate="oracle"))
    assert experience.groups and all(len(set(g.rewards)) == 2 for g in experience.groups)
    assert experience.stats["zero_std"] == 0 < experience.stats["gate/skipped"]


def test_predicted_lengths_cut_solutions(tmp_path):
    run(tmp_path / "run", steps=1, cut=0.5, gate_after=0).fit()
    lines = (tmp_path / "run" / "rollouts.jsonl").read_text().splitlines()
    longest = max(c["tokens"] for line in lines for c in json.loads(line)["completions"])
    assert longest <= 12


def test_the_expert_says_the_truth(tmp_path):
    trainer = run(tmp_path / "run", clone=0.5)
    experience = one_batch(trainer)
    cloned = [r for r in experience.rows if float(r.nll.sum()) > 0]
    assert cloned
    solved = [g for g in experience.groups if any(g.rewards)]
    assert len(cloned) == len(solved)
    for row, group in zip(cloned, solved, strict=True):
        text = trainer.policy.decode(row.tokens[row.nll > 0])
        assert read_buckets(text, "abcdefgh", 3).pass_rate == round(8 * sum(group.rewards) / len(group))


def test_a_step_that_skips_everything_is_survived(tmp_path):
    trainer = run(tmp_path / "run", steps=2, gate="predicted", gate_after=0, skip_above=0.0)
    trainer.fit()
    assert [r["gate/skipped"] for r in records(tmp_path / "run")] == [1.0, 1.0]
    assert trainer.policy.counts.generated.get("solver", 0) == 0


def test_how_predictions_are_written_and_how_right_they_are():
    tiny, plain = Wording("abcd", 3), Wording()
    assert tiny.rounded(4) == 6 and tiny.rounded(40) == 12 and plain.rounded(40) == 40
    for words in (tiny, plain):
        assert words.read(words.write(MetaAnswer(6, 9))).length == 9 and words.read("?") == MetaAnswer()
    # Rates 6/8 and none against a truth of .5: errors .25 and 1; lengths 9 and none against right ones of 6 to 12.
    found = meta_accuracy([[MetaAnswer(6, 9), MetaAnswer()]], [0.5], [[6, 12]])
    assert found == {"meta/pass_error": 0.625, "meta/length_hits": 0.5}
    assert meta_accuracy([[MetaAnswer(4, 9)]], [0.5], [[]]) == {"meta/pass_error": 0.0}
