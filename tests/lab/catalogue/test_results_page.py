"""The results page says what the evidence says."""

from __future__ import annotations

from selfreward.lab.catalogue.results_page import results_page
from selfreward.lab.catalogue.systems import systems_rows
from selfreward.lab.evidence.record import Evidence
from tests.support import ROOT

EVIDENCE = ROOT / "evidence"


def test_every_system_with_evidence_is_on_the_page_with_its_rules():
    page = results_page(systems_rows([EVIDENCE]))
    evidence = Evidence.load(EVIDENCE / "ssr-zero.json")
    assert "[ssr-zero](#009-ssr-zero)" in page and evidence.claim in page
    for check in evidence.checks:
        line = next(x for x in page.splitlines() if check.statement in x)
        assert ("**fails**" in line) is not check.holds
    arm = next(x for x in page.splitlines() if x.startswith("| ssr |"))
    mean = sum(m["quality"] for m in evidence.arms["ssr"].values()) / len(evidence.seeds)
    assert f"| ssr | {mean:.3g} [" in arm


def test_further_proofs_follow(monkeypatch):
    from selfreward.lab.catalogue.results_page import further_evidence

    monkeypatch.chdir(EVIDENCE.parent)
    rows = systems_rows([EVIDENCE])
    found = further_evidence(rows)
    assert {"vote", "ssr-zero-weak-judge", "ssr-zero-multi30k"} <= {e.slug for e in found}
    page = results_page(rows, found)
    assert page.index("## 009 ssr-zero\n") < page.index("## 009 ssr-zero-weak-judge")
