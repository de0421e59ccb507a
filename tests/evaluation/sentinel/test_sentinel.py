"""The sentinel: what it sees by hand, what it calls, and what it does."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace

import pytest

from selfreward.credit.rows import row_of
from selfreward.evaluation.sentinel.detector import Alarm, Detector, Thresholds, evidence_of_health, replay
from selfreward.evaluation.sentinel.probe import (
    Probe,
    agreement,
    confirmed_balance,
    entropy_of,
    plurality,
    view_statistics,
)
from selfreward.evaluation.sentinel.watch import Sentinel
from selfreward.lab.embedded import load_task
from selfreward.losses import NLL
from selfreward.recipes.base import Recipe
from selfreward.types import Experience
from tests.support import ROOT
from tests.training.test_trainer import same, trainer, weights


def test_agreement_counts_pairs_and_silence_agrees_with_nothing():
    assert agreement(["1", "1", "2"]) == pytest.approx(1 / 3)
    assert agreement([None, None]) == 0.0
    assert agreement(["1", None], ["1", "2"]) == 0.25
    assert agreement(["a b", "a c"], same=lambda a, b: 0.5) == 0.5
    assert plurality(["2", "1", "1", None]) == "1" and plurality([None]) is None
    assert entropy_of(["a", "b"]) == pytest.approx(math.log(2))


def test_views_by_hand():
    now, start = [["1", "1"], ["7", None]], [["1", "2"], ["3", "3"]]
    found = view_statistics(now, start, twin=[["1", "4"], ["7", "7"]])
    assert found["agreement"] == 0.5  # one pair of one, none of one
    assert found["cross_agreement"] == 0.5  # two of four, two of four
    assert found["cross_gap"] == 0.0
    assert found["cross_disagreement"] == 0.0
    assert found["start_support"] == 0.25  # "1" was said once of two, "7" never
    assert found["start_agreement"] == pytest.approx((2 / 4 + 0) / 2)
    assert found["missing"] == 0.25


def test_balance_wants_different_texts_that_another_view_confirms():
    # Paid: the first three (mean 0.6). Confirmed among them: "a" twice and "b", two texts of at most four.
    rewards, view = [[1.0, 1.0, 1.0, 0.0, 0.0]], [[0.9, 0.5, 0.6, 1.0, 0.0]]
    assert confirmed_balance(rewards, view, [["a", "a", "b", "c", "d"]], most=4) == pytest.approx((2 / 4) * (2 / 3))
    assert confirmed_balance(rewards, [[0.1, 0.2, None, 1.0, 1.0]], [["a", "a", "b", "c", "d"]], most=4) == 0.0


STEADY = {"reward/mean": 0.5, "reward/std": 0.2, "agreement": 0.5, "format": 1.0, "answer_entropy": 2.0, "length": 9.0}


def records(n=20, every=5, **changes):
    """A run that stays as it is, but for ``changes``: name -> function of the step."""
    for step in range(n):
        record = {"step": step, **STEADY}
        if step % every == 0:
            record |= {"probe/cross_gap": 0.01, "probe/cross_agreement": 0.5, "probe/missing": 0.0}
        yield record | {k: f(step) for k, f in changes.items() if k in record}


def names(**changes):
    return [a.name for a in replay(records(**changes))]


def test_a_steady_run_and_a_healthy_one_raise_nothing():
    assert names() == []
    # Reward and agreement rise, entropy of answers stays: what a good vote looks like.
    assert names(**{"reward/mean": lambda s: 0.5 + 0.02 * s, "agreement": lambda s: 0.5 + 0.02 * s}) == []


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"reward/mean": lambda s: 0.5 + 0.02 * s, "agreement": lambda s: 0.5 - 0.02 * s}, "reward-against-agreement"),
        ({"format": lambda s: 1.0 if s < 8 else 0.1}, "format-loss"),
        ({"answer_entropy": lambda s: 2.0 if s < 8 else 0.1}, "one-answer-for-all"),
        ({"length": lambda s: 9.0 * 1.15**s}, "length-shift"),
        ({"probe/cross_gap": lambda s: 0.0 if s < 5 else 0.3}, "views-part"),
        ({"probe/missing": lambda s: 0.0 if s < 5 else 0.5}, "silence"),
    ],
)
def test_what_goes_wrong_is_called_by_name(changes, name):
    found = replay(records(**changes))
    assert [a.name for a in found] == [name]
    assert found[0].statistic in ("agreement", "format", "answer_entropy", "length", "probe/cross_gap", "probe/missing")
    assert len(found[0].meaning) > 20


def test_a_probe_must_be_bad_as_often_in_a_row_as_patience_says():
    once = {"probe/missing": lambda s: 0.5 if s == 5 else 0.0}
    assert [a.name for a in replay(records(**once), Thresholds(patience=2))] == []
    assert replay(records(**once), Thresholds(patience=1))[0].step == 5


def test_a_proposer_that_gives_up_is_noted():
    def run(accepted):
        return [{"step": i, **STEADY, "proposals/written": 20.0, **a} for i, a in enumerate(accepted)]

    found = replay(run([{"proposals/accepted": 18.0}] * 4 + [{}] * 8))
    assert [(a.name, a.severe) for a in found] == [("proposer-gives-up", False)] and found[0].step > 4
    assert replay(run([{"proposals/accepted": 18.0}] * 12)) == []


def looks(confirmed, kl=(0.0,) * 99, view="twin", compared=100.0):
    """Probes at every third step that hold the reward against a view."""
    for i, (value, moved) in enumerate(zip(confirmed, kl, strict=False)):
        yield {"step": 3 * i, f"probe/reward_{view}": value, "probe/kl": moved, "probe/compared": compared}


def test_a_reward_that_another_view_contradicts_is_called_at_once():
    found = replay(looks([-0.5]))
    assert [(a.step, a.name, a.statistic, a.value) for a in found] == [
        (0, "reward-contradicted", "probe/reward_twin", -0.5)
    ]
    assert "another wording" in found[0].meaning
    # With 100 degrees of freedom the standard error is 0.1: one -0.22 may be chance, the same again
    # (150 with forgetting, 0.08) is not.
    assert [a.step for a in replay(looks([-0.22, -0.22])) if a.name == "reward-contradicted"] == [3]
    # Few completions to compare prove little.
    assert replay(looks([-0.4], compared=10.0)) == []
    assert replay(looks([0.5, 0.6, 0.5])) == []


def test_length_is_named_where_it_explains_the_reward():
    steps = [{"step": s, **STEADY, "reward/length": -0.97} for s in range(3)]
    found = replay([*steps, {"step": 3, **STEADY, "reward/length": -0.97, "probe/reward_twin": -0.6}])
    assert found[0].meaning.endswith("(length alone would earn it)")


def test_a_reward_that_nothing_confirms_is_called_once_that_is_sure():
    # 0 + 2 / sqrt(100 n) is below 0.2 from the second probe on.
    assert [(a.step, a.name) for a in replay(looks([0.0] * 5))] == [(3, "reward-unconfirmed")]
    assert replay(looks([0.3] * 20)) == []


def test_a_reward_that_was_confirmed_once_is_an_alarm_only_where_the_policy_moves():
    fading = [0.6, 0.6, 0.6, 0.6, 0.1, 0.0, 0.0, 0.0, 0.0]
    assert replay(looks(fading, [0.001] * 9)) == []
    found = replay(looks(fading, [0.01 * i for i in range(9)]))
    assert [a.name for a in found] == ["drift-unconfirmed"] and found[0].step == 21


def test_the_twin_is_asked_before_the_judge():
    both = {"step": 0, "probe/reward_twin": 0.5, "probe/reward_judge": -0.9, "probe/kl": 0.0}
    assert replay([both]) == []
    assert replay([{k: v for k, v in both.items() if "twin" not in k}])[0].statistic == "probe/reward_judge"


def test_long_strides_are_called():
    found = replay(looks([0.5] * 3, [0.0, 0.03, 0.2]))
    assert [(a.step, a.name, a.value) for a in found] == [(6, "stride", 0.2)]


def test_an_independent_view_that_falls_is_called_by_what_it_had_gained():
    def run(values):
        return [
            a.name
            for a in replay({"step": 5 * i, "probe/judge": v, "probe/missing": 0.0} for i, v in enumerate(values))
        ]

    assert run([0.5, 0.7, 0.9, 0.88, 0.87]) == []
    assert run([0.5, 0.7, 0.9, 0.78, 0.75]) == ["judge-falls"]
    assert run([0.5, 0.5, 0.47, 0.47]) == []
    assert run([0.5, 0.45, 0.44]) == ["judge-falls"]


def test_a_detector_goes_on_where_it_was():
    whole, part = Detector(), Detector()
    run = list(records(length=lambda s: 9.0 * 1.15**s))
    expected = [a for r in run for a in whole.observe(r)]
    first = [a for r in run[:7] for a in part.observe(r)]
    rest = Detector()
    rest.load_state_dict(json.loads(json.dumps(part.state_dict())))
    assert first + [a for r in run[7:] for a in rest.observe(r)] == expected != []


def test_health_prefers_the_twin_then_views_then_the_start():
    base = {"probe/start_agreement": 0.4, "probe/start_support": 0.6, "probe/missing": 0.5}
    assert evidence_of_health(base) == pytest.approx(0.3)
    assert evidence_of_health(base | {"probe/judge": 0.7}) == 0.7
    assert evidence_of_health(base | {"probe/judge": 0.7, "probe/cross_agreement": 0.2}) == 0.2


def test_a_probe_takes_the_twin_and_the_frozen_judge_and_sees_no_answer(chain_policy):
    task, policy = load_task("chain"), chain_policy
    run = trainer_sampling(20)
    probe = Probe(task, task.train[:6], policy.snapshot(), run, samples=4)
    assert all(p.reference is None and p.locked_by for p in [*probe.prompts, *probe.twins])
    first, again = probe(policy), probe(policy)
    assert first == again, "the same weights give the same numbers"
    assert {"probe/cross_gap", "probe/judge", "probe/start_support", "probe/kl"} <= set(first)
    assert first["probe/kl"] == pytest.approx(0.0, abs=1e-5)
    assert 0 < first["probe/judge"] < 1


def trainer_sampling(tokens):
    from selfreward.policy.sampling.params import SamplingParams

    return SamplingParams(max_new_tokens=tokens)


@pytest.fixture(scope="module")
def chain_policy():
    from selfreward.policy.loading import load_policy

    return load_policy("embedded:chain", device="cpu")


def alarmed(run, at, **changes):
    """Make the run's detector raise one severe alarm at step ``at``."""
    alarm = Alarm(at, "made-up", "agreement", 0.1, "for the test", severe=True, **changes)

    class Raises(Detector):
        def observe(self, record):
            if record["step"] != at or self.raised:
                return []
            self.raised.append(alarm.as_dict())
            return [alarm]

    run.sentinel.detector = Raises()
    return run


def test_probes_leave_the_training_alone(tmp_path):
    trainer(tmp_path / "with", probe_every=1).fit()
    trainer(tmp_path / "without", sentinel="off").fit()
    assert same(weights(tmp_path / "with"), weights(tmp_path / "without"))
    last = json.loads((tmp_path / "with" / "metrics.jsonl").read_text().splitlines()[-1])
    assert "probe/agreement" in last and last["tokens/generated/probe"] > 0


def test_stop_ends_the_run_and_says_why(tmp_path):
    summary = alarmed(trainer(tmp_path, sentinel="stop", probe_every=1), 2).fit()
    assert summary["steps"] == 2
    assert summary["sentinel"]["action"] == "stop" and summary["sentinel"]["alarm"] == "made-up"


def test_roll_back_ends_with_the_healthiest_weights(tmp_path, monkeypatch):
    scores = iter([0.1, 0.9, 0.5, 0.4])
    monkeypatch.setattr("selfreward.evaluation.sentinel.watch.evidence_of_health", lambda found: next(scores))
    run = alarmed(trainer(tmp_path, sentinel="rollback", probe_every=1), 3)
    kept = {}
    run.on_step = lambda record: kept.setdefault(record["step"], run.policy.state_dict()["model.norm.weight"].clone())
    summary = run.fit()
    assert summary["steps"] == 3 and summary["sentinel"]["to_step"] == 1
    assert (weights(tmp_path)["model.norm.weight"] == kept[1]).all()
    assert not (kept[2] == kept[1]).all()


@pytest.mark.parametrize("action", ["rollback", "adapt", "stop"])
@pytest.mark.parametrize("cut", [1, 2, 3])
def test_a_run_that_the_sentinel_changed_resumes_to_the_same_bits(tmp_path, action, cut):
    """Cut before the alarm, and in the step of the alarm: what was kept to go back to survives."""

    def make(folder):
        return alarmed(trainer(tmp_path / folder, "vote", sentinel=action, probe_every=1, steps=5), 3, remedy="kl")

    whole = make("whole")
    expected = whole.fit()
    first = make("parts")
    first.on_step = lambda record: setattr(first, "_stop", record["step"] == cut)
    if cut == 3 and action != "adapt":
        first.fit()  # the alarm ended it
    else:
        with pytest.raises(KeyboardInterrupt):
            first.fit()
    rest = make("parts")
    rest.resume()
    summary = rest.fit()
    assert summary["sentinel"] == expected["sentinel"] and summary["steps"] == expected["steps"]
    assert summary["steps"] == (5 if action == "adapt" else 3)
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))


def test_adapt_changes_the_run_and_is_remembered(tmp_path):
    run = alarmed(trainer(tmp_path / "a", sentinel="adapt", checkpoint_every=1), 2, remedy="kl")
    run.on_step = lambda record: setattr(run, "_stop", record["step"] == 3)
    with pytest.raises(KeyboardInterrupt):
        run.fit()
    assert run.recipe.kl == 0.05 and any(t.name == "kl" for t in run.objective)
    again = trainer(tmp_path / "a", sentinel="adapt", checkpoint_every=1)
    again.resume()
    assert again.recipe.kl == 0.05 and any(t.name == "kl" for t in again.objective)


@dataclass
class Imitates(Recipe):
    """Likelihood of its own samples; it has no ``kl``."""

    group_size: int = 6

    def collect(self, policy, prompts, run):
        groups = policy.sample(prompts, self.group_size, run.sampling)
        return Experience([row_of(t, nll=1.0) for g in groups for t in g], groups=groups)

    def objective(self, run_limit):
        return [NLL()]


@pytest.mark.parametrize(("remedy", "changes"), [("kl", {}), ("group_size", {"group_size": 12})])
def test_adapt_changes_what_the_recipe_has(tmp_path, remedy, changes):
    run = alarmed(trainer(tmp_path, Imitates(), sentinel="adapt"), 2, remedy=remedy)
    run.fit()
    assert run.sentinel.changes == changes and not hasattr(run.recipe, "kl")
    assert run.recipe.group_size == changes.get("group_size", 6)


def test_remedies_fit_their_alarms():
    sentinel = Sentinel("adapt")
    alarm = Alarm(1, "a", "b", 0.0, "c", severe=True)
    now = {"kl": 0.1, "temperature": 1.0, "group_size": 8}
    assert sentinel.adapt([alarm], now) == {"kl": 0.2}
    assert sentinel.adapt([alarm], {"temperature": 1.0}) == {}  # a recipe without kl
    assert sentinel.adapt([replace(alarm, severe=False)], now) == {}
    assert sentinel.adapt([replace(alarm, severe=False, remedy="temperature")], now) == {"temperature": 1.2}
    assert sentinel.adapt([replace(alarm, remedy="group_size")], now) == {"group_size": 16}
    assert Sentinel("warn").adapt([alarm], now) == {}


def zoo_records(truths, gap=None):
    for i, truth in enumerate(truths):
        record = {"step": 3 * i, "truth": truth, "probe/missing": 0.0, "probe/cross_agreement": truth}
        yield record | {"probe/cross_gap": gap(i) if gap else 0.0}


def test_the_zoo_judges_by_truth_and_calls_by_records():
    from selfreward.lab.validation.run_verdicts import by_species, judge, summarise

    falls = [0.4, 0.6, 0.62, 0.61, 0.61, 0.5, 0.3]
    early = judge("early/0", list(zoo_records(falls, lambda i: 0.0 if i < 2 else 0.3)))
    assert (early.kind, early.fell, early.called, early.alarm) == ("collapsing", 15, 6, "views-part")
    assert early.kept == 0.62  # step 6 looked healthiest of all up to the alarm
    late = judge("late", list(zoo_records(falls)))
    assert (late.kind, late.called, late.kept) == ("collapsing", None, None)
    fine = judge("fine", list(zoo_records([0.4, 0.6, 0.59, 0.7], lambda i: 0.3 * (i > 0))))
    assert (fine.kind, fine.fell, fine.called) == ("healthy", None, 3)
    unclear = judge("unclear", list(zoo_records([0.4, 0.6, 0.56])))
    assert unclear.kind == "unclear"
    assert by_species([early, late, replace(late, name="early/2")])[0] == ("early", "1 of 2", "", "", "views-part")
    found = summarise([early, late, fine, unclear])
    assert (found["collapsing_runs"], found["called_before_3_points"], found["called_at_all"]) == (2, 1, 1)
    assert (found["healthy_runs"], found["false_alarms"], found["unclear_runs"]) == (1, 1, 1)
    assert found["median_lead_steps"] == 9 and found["rollback_gap_points"] == pytest.approx(0.0)
    assert found["missed"] == ["late"] and found["wrongly_called"] == ["fine: views-part"]


def test_kept_records_give_the_same_verdicts(tmp_path):
    from selfreward.errors import DataError
    from selfreward.lab.validation.records import WatchedRun, compact, keep_records, read_records
    from selfreward.lab.validation.run_verdicts import judge_all

    falls = [0.4, 0.6, 0.62, 0.61, 0.61, 0.5, 0.3]
    records = compact(zoo_records(falls, lambda i: 0.0 if i < 2 else 0.123456))
    assert records[2]["probe/cross_gap"] == 0.1235
    runs = [WatchedRun("gap", 0, records), WatchedRun("none", 1, compact(zoo_records(falls)))]
    path = keep_records(runs, tmp_path / "kept.jsonl.gz")
    assert read_records(path) == runs
    assert {part: len(v) for part, v in judge_all(read_records(path)).items()} == {"choice": 1, "unseen": 1}
    same_bytes = path.read_bytes()
    assert keep_records(runs, path).read_bytes() == same_bytes
    with pytest.raises(DataError, match="Cannot read the records"):
        read_records(tmp_path / "absent.gz")


def test_thresholds_are_chosen_by_missed_runs_and_false_alarms():
    from selfreward.lab.validation.records import WatchedRun
    from selfreward.lab.validation.run_verdicts import judge
    from selfreward.lab.validation.thresholds import choose, cost, leave_one_species_out, species_of, without_views

    # The gap of the collapsing run stays under the shipped threshold; a healthy one has none.
    falls = [0.6, 0.6, 0.58, 0.5, 0.4]
    bad = WatchedRun("a-0.0006", 0, list(zoo_records(falls, lambda i: 0.0 if i < 1 else 0.1)))
    good = WatchedRun("b", 0, list(zoo_records([0.4, 0.5, 0.6, 0.6, 0.6])))
    assert species_of(bad) == "a" and species_of(good) == "b"
    assert cost([judge("a", bad.records), judge("b", good.records)]) == 1.0
    assert choose([bad, good]).cross_gap == 0.08
    # Chosen on the healthy species alone, nothing speaks for the lower threshold.
    found = leave_one_species_out([bad, good])
    assert (found["collapsing_runs"], found["called_before_3_points"], found["false_alarms"]) == (1, 0, 0)
    assert without_views([{"step": 0, "probe/cross_gap": 0.1, "probe/kl": 0.2}]) == [{"step": 0, "probe/kl": 0.2}]


def test_every_animal_of_the_zoo_is_a_valid_run():
    from selfreward.lab.validation.zoo import COMMON, arms
    from selfreward.training.config import make_config

    for arm in arms():
        config = make_config({**COMMON, **arm.settings, "recipe": arm.recipe, "options": dict(arm.options)})
        assert config.probe_every and config.eval_every == config.probe_every


@pytest.mark.parametrize("action", ["stop", "rollback", "adapt"])
def test_a_reward_for_short_answers_is_called_in_the_first_steps(tmp_path, action):
    """No stub: the probe sees that what the twin confirms earns less, and the run is ended or changed."""
    from tests.support.runs import run_recipe

    options = {"signal": "relative_length", "kl": 0.1}
    settings = {"prompts_per_step": 16, "sentinel": action, "model": "embedded:chain"}
    summary, steps = run_recipe("signal", tmp_path, steps=3, options=options, **settings)
    assert summary["alarms"][0]["name"] == "reward-contradicted" and summary["alarms"][0]["step"] <= 2
    assert summary["alarms"][0]["statistic"] == "probe/reward_twin" and summary["alarms"][0]["value"] < -0.1
    if action == "adapt":
        assert summary["steps"] == 3 and steps[-1]["kl"] > 0
    else:
        assert summary["steps"] == summary["alarms"][0]["step"] == summary["sentinel"]["step"]
    if action == "rollback":
        kept = summary["sentinel"]["to_step"]
        health = {r["step"]: r["probe/health"] for r in all_records(tmp_path) if "probe/health" in r}
        assert health[kept] == max(health.values())


def all_records(folder):
    return [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]


def test_the_committed_verdicts_follow_from_the_kept_records():

    from selfreward.lab.validation.evidence import evidence
    from selfreward.lab.validation.records import read_records, records_of

    path = ROOT / "evidence" / "sentinel.json"
    kept = json.loads(path.read_text(encoding="utf-8"))
    again = json.loads(json.dumps(evidence(read_records(records_of(path)), kept["species"])))
    assert {k: kept[k] for k in again} == again
    unseen = kept["unseen"]
    assert unseen["called_before_3_points"] <= unseen["collapsing_runs"] and unseen["healthy_runs"] > 0
    assert all(v["name"].rpartition("/")[2] in "135" for v in kept["verdicts"]["unseen"])
