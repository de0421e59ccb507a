"""Evidence stays true: every committed proof replays its first steps, and its rules are the proof's own."""

from __future__ import annotations

import pytest

from selfreward.errors import ConfigError
from selfreward.lab.evidence.record import Evidence
from selfreward.lab.proofs.proof import Proof, fingerprint, reproduce
from selfreward.lab.proofs.registry import PROOFS, load_proof, replays
from selfreward.lab.proofs.results import Results
from selfreward.lab.proofs.rules import Bound, Rule
from selfreward.statistics import Estimate
from selfreward.training.comparison import Arm, Study, compare
from selfreward.training.config import read_config
from tests.support import ROOT

EVIDENCE = ROOT / "evidence"
RECORDED = sorted(p.stem for p in EVIDENCE.glob("*.json") if p.stem in PROOFS)


@pytest.mark.parametrize("slug", RECORDED)
def test_recorded_evidence_replays(slug):
    evidence, proof = Evidence.load(EVIDENCE / f"{slug}.json"), load_proof(slug)
    assert replays(evidence), "behaviour changed: run `" + evidence.command + "` again"
    assert evidence.alive
    assert len(evidence.seeds) >= 3
    assert set(evidence.arms) == {a.label for a in proof.arms}
    assert [c.name for c in evidence.checks] == [r.name for r in proof.rules]


def test_the_demo_evidence_is_there():
    assert "vote" in RECORDED


RESULTS = Results(
    {
        "ours": {s: {"before": {"pass@1": 0.3}, "after": {"pass@1": 0.6 + s / 10}} for s in range(3)},
        "other": {s: {"before": {"pass@1": 0.3}, "after": {"pass@1": 0.5 + s / 10}} for s in range(3)},
    }
)


def test_results_pair_by_seed():
    assert RESULTS.gain("ours", "pass@1").value == pytest.approx(0.4)
    lead = RESULTS.lead("ours", "other", "pass@1")
    assert (lead.value, lead.low, lead.high) == pytest.approx((0.1, 0.1, 0.1))
    assert RESULTS.mean("other", "pass@1").low < 0.6 < RESULTS.mean("other", "pass@1").high


def tiny(least: float = 0.0) -> Proof:
    return Proof(
        slug="vote",
        id="vote",
        claim="A claim.",
        task="embedded:chain",
        main="vote",
        arms=(Arm("vote", "vote"),),
        settings={
            "model": "embedded:chain",
            "steps": 1,
            "prompts_per_step": 2,
            "eval_prompts": 4,
            "eval_samples": 2,
            "options": {"group_size": 4},
        },
        rules=(Rule("r", "A rule.", lambda r: Estimate(0.5, 0.4, 0.6), Bound("mean", ">=", least)),),
        reason="It was made to fail.",
    )


@pytest.mark.parametrize("passes", [True, False])
def test_reproduce_records_what_came_out(tmp_path, passes):
    found = reproduce(tiny(0.5 if passes else 0.51), seeds=[0], out=tmp_path / "runs", evidence=tmp_path / "evidence")
    again = Evidence.load(tmp_path / "evidence" / "vote.json")
    assert again.holds is passes
    assert again.reason == ("" if passes else "It was made to fail.")
    assert again.mechanism["count"] == 2
    assert found.fingerprint == again.fingerprint
    assert "pass@1" in again.arms["vote"]["0"] and "before/pass@1" in again.arms["vote"]["0"]


def test_a_fingerprint_notices_another_hyperparameter():
    proof = tiny()
    changed = Proof(**{**vars(proof), "settings": {**proof.settings, "options": {"group_size": 5}}})
    assert fingerprint(proof) == fingerprint(proof)
    assert fingerprint(proof) != fingerprint(changed)


def test_an_unknown_proof_is_named():
    with pytest.raises(ConfigError, match="Did you mean 'vote'"):
        load_proof("vot")
    with pytest.raises(ConfigError, match="at least one seed"):
        reproduce(load_proof("vote"), seeds=[])


def measure(seed, folder):
    (folder / "note.txt").write_text("measured")
    return {"after": {"score": 0.5 + seed}, "mechanism": {"name": "cases", "count": 7}}


def test_a_proof_can_measure_without_training(tmp_path):
    proof = Proof(
        slug="vote",
        id="vote",
        claim="A claim.",
        task="none",
        main="study",
        arms=(Study("study", measure), Study("control", measure, control=True)),
        settings={},
        rules=(Rule("r", "A rule.", lambda r: r.lead("study", "control", "score"), Bound("mean", "=", 0)),),
        trace=lambda: {"score": [0.5]},
    )
    found = reproduce(proof, seeds=[0, 1], out=tmp_path / "runs", evidence=tmp_path / "evidence")
    assert found.holds
    assert found.mechanism == {"name": "cases", "count": 14}
    assert found.fingerprint == {"score": [0.5]}
    assert found.arms["control"]["1"]["score"] == 1.5
    note = tmp_path / "runs" / "vote" / "study" / "seed-0" / "note.txt"
    note.unlink()
    reproduce(proof, seeds=[0, 1], out=tmp_path / "runs", evidence=tmp_path / "evidence")
    assert not note.exists(), "a finished study is read, not measured again"


def test_a_study_as_main_arm_needs_a_trace(tmp_path):
    proof = Proof("vote", "vote", "A claim.", "none", "study", (Study("study", measure),), {}, ())
    with pytest.raises(ConfigError, match="trace"):
        fingerprint(proof)


def test_an_arm_can_bring_its_own_settings(tmp_path):
    proof = tiny()
    arms = (Arm("vote", "vote"), Arm("short", "vote", settings={"prompts_per_step": 1}))
    compare(arms, proof.settings, seeds=[0], out=tmp_path)
    assert read_config(tmp_path / "vote" / "seed-0" / "config.yaml")["prompts_per_step"] == 2
    assert read_config(tmp_path / "short" / "seed-0" / "config.yaml")["prompts_per_step"] == 1


def test_a_run_from_before_a_setting_existed_is_read_and_not_run_again(tmp_path):
    settings = {"model": "embedded:chain", "steps": 1, "prompts_per_step": 2, "eval_prompts": 0}
    once = compare([Arm("vote", "vote", {"group_size": 4})], settings, seeds=(0,), out=tmp_path)
    config = tmp_path / "vote" / "seed-0" / "config.yaml"
    lines = config.read_text().splitlines(keepends=True)
    config.write_text("".join(line for line in lines if not line.startswith("probe_prompts")))
    again = compare([Arm("vote", "vote", {"group_size": 4})], settings, seeds=(0,), out=tmp_path)
    assert again["arms"]["vote"]["seeds"] == once["arms"]["vote"]["seeds"]
    with pytest.raises(ConfigError, match="probe_prompts"):
        compare([Arm("vote", "vote", {"group_size": 4})], {**settings, "probe_prompts": 9}, seeds=(0,), out=tmp_path)
