"""The table of systems and the evidence that decides each status."""

import io
import json
import re
from pathlib import Path
from typing import Any, get_args

import pytest
from rich.console import Console

from selfreward.errors import ConfigError, DataError
from selfreward.lab.catalogue import systems as registry
from selfreward.lab.catalogue.systems import assess, find_system, load_systems, status
from selfreward.lab.evidence.record import Evidence, evidence_directories, find_evidence
from selfreward.recipes.registry import RECIPES, load_recipe
from selfreward.types import Labels


def proof(**changes: Any) -> dict[str, Any]:
    """Evidence that system 003 works: two arms, three seeds, one check."""
    metrics = {"0": {"pass@1": 0.9}, "1": {"pass@1": 0.92}, "2": {"pass@1": 0.91}}
    return {
        "id": "003",
        "slug": "co-reward",
        "claim": "swapped votes survive a shortcut that plain votes amplify",
        "task": "chain",
        "arms": {"swapped": metrics, "plain": {seed: {"pass@1": 0.1} for seed in metrics}},
        "checks": [
            {"name": "gap", "statement": "gap >= 0.2", "observed": 0.81, "interval": [0.7, 0.9], "holds": True},
            {"name": "alive", "statement": "labels swapped > 0", "observed": 960, "interval": None, "holds": True},
        ],
        "mechanism": {"name": "swapped labels", "count": 960},
        "seeds": [0, 1, 2],
        "command": "selfreward reproduce co-reward --seeds 3",
        "wall_s": 61.5,
        "machine": "2 cores",
        "fingerprint": {"reward_mean": [0.4, 0.5], "loss": [0.1, 0.2]},
    } | changes


def write(folder: Path, raw: Any) -> Path:
    path = folder / "co-reward.json"
    path.write_text(raw if isinstance(raw, str) else json.dumps(raw))
    return path


def shown(renderable: Any, width: int = 160) -> str:
    console = Console(width=width, file=io.StringIO())
    console.print(renderable)
    return console.file.getvalue()  # type: ignore[attr-defined]


SYSTEM = find_system("co-reward")


def test_every_system_is_known_once() -> None:
    systems = load_systems()
    assert [s.id for s in systems] == [f"{i:03d}" for i in range(183)]
    assert len({s.slug for s in systems}) == 183
    assert all(s.title and s.family for s in systems)


@pytest.mark.parametrize("name", ["ssr-zero", "009", "9", " SSR_Zero "])
def test_a_system_is_found_by_slug_or_id(name: str) -> None:
    assert find_system(name).slug == "ssr-zero"


def test_a_wrong_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'self-certainty'"):
        find_system("self-certanty")
    with pytest.raises(ConfigError, match="ids go from 000 to 182"):
        find_system("183")
    with pytest.raises(ConfigError, match="`selfreward systems` lists"):
        find_system("qqqqqq")


def test_cards_say_what_they_must() -> None:
    cards = json.loads((registry.SYSTEMS / "cards.json").read_text())
    slugs = {s.slug for s in load_systems()}
    assert set(cards) <= slugs
    assert len(cards) >= 100
    for slug, card in cards.items():
        assert set(card) <= {
            "recipe",
            "labels",
            "recipe_labels",
            "needs",
            "idea",
            "formulas",
            "parameters",
            "claim",
            "source",
        }, slug
        assert card["idea"].endswith(".") and len(card["idea"]) < 400, slug
        assert card["needs"], slug
        assert card.get("labels", "none") in get_args(Labels), slug
        assert re.fullmatch(r"(\d{4}\.\d{4,5})?", card.get("source", "")), slug
        assert card.get("recipe", "vote") in RECIPES, slug


def test_a_system_shares_its_slug_with_its_own_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RECIPES, "co-reward", "co_reward:CoReward")
    load_systems.cache_clear()
    try:
        assert find_system("co-reward").recipe == "co-reward"
    finally:
        load_systems.cache_clear()


# Status: what the evidence file says decides


def test_without_evidence_a_system_is_planned(tmp_path: Path) -> None:
    assert status(SYSTEM, [tmp_path]) == "planned"


def test_three_seeds_and_checks_that_hold_make_it_work(tmp_path: Path) -> None:
    write(tmp_path, proof())
    assert status(SYSTEM, [tmp_path]) == "works"


def test_one_failing_check_falsifies_and_the_reason_is_shown(tmp_path: Path) -> None:
    checks = proof()["checks"]
    checks[0]["holds"] = False
    write(tmp_path, proof(checks=checks))
    assert (assess(SYSTEM, [tmp_path]).status, assess(SYSTEM, [tmp_path]).note) == ("falsified", "fails: gap")
    write(tmp_path, proof(checks=checks, reason="at 0.1 M parameters both views share the shortcut"))
    found = assess(SYSTEM, [tmp_path])
    assert found.note == "at 0.1 M parameters both views share the shortcut"
    assert found.note in shown(registry.show_text(SYSTEM, found))


@pytest.mark.parametrize("holds", [True, False])
def test_two_seeds_are_no_verdict_in_either_direction(tmp_path: Path, holds: bool) -> None:
    arms = {arm: {s: m for s, m in runs.items() if s != "2"} for arm, runs in proof()["arms"].items()}
    checks = [check | {"holds": holds} for check in proof()["checks"]]
    write(tmp_path, proof(seeds=[0, 1], arms=arms, checks=checks))
    found = assess(SYSTEM, [tmp_path])
    assert found.status == "planned" and "2 of the 3 seeds" in found.note


def test_a_mechanism_that_touched_nothing_was_not_tested(tmp_path: Path) -> None:
    write(tmp_path, proof(mechanism={"name": "swapped labels", "count": 0}))
    found = assess(SYSTEM, [tmp_path])
    assert found.status == "planned" and "swapped labels" in found.note


def test_a_fingerprint_that_does_not_replay_makes_it_stale(tmp_path: Path) -> None:
    write(tmp_path, proof())
    asked: list[str] = []

    def replay(evidence: Evidence) -> bool:
        asked.append(evidence.slug)
        return False

    found = assess(SYSTEM, [tmp_path], replay)
    assert found.status == "stale" and "selfreward reproduce co-reward" in found.note
    assert asked == ["co-reward"]
    assert status(SYSTEM, [tmp_path], lambda evidence: True) == "works"


def test_a_replay_that_cannot_run_makes_it_stale(tmp_path: Path) -> None:
    write(tmp_path, proof())

    def replay(evidence: Evidence) -> bool:
        raise ConfigError("There is no recipe 'co-reward'.")

    found = assess(SYSTEM, [tmp_path], replay)
    assert found.status == "stale" and "There is no recipe" in found.note


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ('{"id": "003",\n oops}', "line 2: not valid JSON"),
        ("[]", "one JSON object, not a list"),
        (proof(check=[]), "unknown field 'check'. Did you mean 'checks'?"),
        ({k: v for k, v in proof().items() if k != "seeds"}, "missing field seeds"),
        (proof(checks=[]), "checks is empty"),
        (proof(checks=[proof()["checks"][0] | {"holds": "yes"}]), r"checks\[0\]: holds must be true or false"),
        (proof(checks=[proof()["checks"][0] | {"interval": [1, 0]}]), "low end above its high end"),
        (proof(seeds=[0, 1, 1]), "names a seed twice"),
        (proof(seeds=[0, 1, 2, 3]), "Every arm needs every seed"),
        (proof(mechanism={"name": "votes"}), "mechanism.count must be a number"),
        (proof(fingerprint={}), "fingerprint must be an object"),
        (json.dumps(proof(fingerprint={"loss": [float("nan")]})), r"fingerprint.loss\[0\] is nan"),
        (proof(claim=" "), "claim must be a text"),
    ],
)
def test_a_malformed_file_says_what_is_wrong_and_counts_as_planned(tmp_path: Path, raw: Any, message: str) -> None:
    path = write(tmp_path, raw)
    with pytest.raises(DataError, match=message):
        Evidence.load(path)
    found = assess(SYSTEM, [tmp_path])
    assert found.status == "planned" and re.search(message, found.note) and str(path) in found.note


def test_evidence_about_another_system_does_not_count(tmp_path: Path) -> None:
    write(tmp_path, proof(id="009", slug="ssr-zero"))
    found = assess(SYSTEM, [tmp_path])
    assert found.status == "planned" and "009 ssr-zero" in found.note


# The file


def test_what_is_saved_is_what_is_loaded(tmp_path: Path) -> None:
    evidence = Evidence.parse(proof())
    path = evidence.save(tmp_path / "new" / "co-reward.json")
    assert Evidence.load(path) == evidence
    assert json.loads(path.read_text()) == proof()
    assert evidence.holds and evidence.alive and evidence.failed == []
    assert [p.name for p in path.parent.iterdir()] == ["co-reward.json"]


def test_whole_numbers_serve_as_seeds_of_arms(tmp_path: Path) -> None:
    evidence = Evidence.parse(proof())
    evidence.arms = {arm: {int(s): m for s, m in runs.items()} for arm, runs in evidence.arms.items()}  # type: ignore[misc]
    assert json.loads(evidence.save(tmp_path / "co-reward.json").read_text()) == proof()


def test_a_bad_save_leaves_the_old_file(tmp_path: Path) -> None:
    path = write(tmp_path, proof())
    evidence = Evidence.load(path)
    evidence.arms["swapped"]["0"] = {"pass@1": float("inf")}
    with pytest.raises(DataError, match=r"arms\.swapped\.0\.pass@1 is inf"):
        evidence.save(path)
    assert json.loads(path.read_text()) == proof()


def test_the_current_folder_is_asked_before_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, packaged = tmp_path / "evidence", tmp_path / "packaged"
    own.mkdir()
    packaged.mkdir()
    write(packaged, proof()).rename(packaged / "made-up.json")
    monkeypatch.setattr("selfreward.lab.evidence.record.PACKAGED_EVIDENCE", packaged)
    monkeypatch.chdir(tmp_path)
    assert evidence_directories()[0] == own and evidence_directories()[-1] == packaged
    assert find_evidence("made-up") == packaged / "made-up.json"
    write(own, proof()).rename(own / "made-up.json")
    assert find_evidence("made-up") == own / "made-up.json"


# What the command line prints


def test_the_table_lists_all_systems_with_their_status(tmp_path: Path) -> None:
    write(tmp_path, proof())
    rows = registry.systems_rows([tmp_path])
    text = shown(registry.systems_table(rows), width=80)
    assert all(s.slug in text for s in load_systems())
    assert "183 systems: 1 works, 182 planned" in text
    assert text.count("planned") == 183, "a narrow terminal cuts titles, never a status"


def test_the_table_says_why_evidence_does_not_count(tmp_path: Path) -> None:
    write(tmp_path, proof(mechanism={"name": "swapped labels", "count": 0}))
    text = shown(registry.systems_table(registry.systems_rows([tmp_path])))
    assert "co-reward is planned: the mechanism (swapped labels) touched nothing" in text


def test_json_rows_are_plain(tmp_path: Path) -> None:
    write(tmp_path, proof())
    rows = json.loads(registry.systems_json(registry.systems_rows([tmp_path])))
    assert len(rows) == 183
    assert rows[3]["status"] == "works" and rows[3]["evidence"]["seeds"] == [0, 1, 2]
    assert rows[4]["status"] == "planned" and "evidence" not in rows[4]


def test_every_system_can_be_shown(tmp_path: Path) -> None:
    write(tmp_path, proof())
    for system in load_systems():
        text = shown(registry.show_text(system, assess(system, [tmp_path])))
        assert system.slug in text and system.family in text
        assert system.has_card or registry.NO_CARD in text
    text = shown(registry.show_text(SYSTEM, assess(SYSTEM, [tmp_path])))
    assert "swapped labels: 960" in text and "[0.7, 0.9]" in text and "gap >= 0.2" in text


def test_labels_of_the_paper_and_of_the_recipe_are_both_told():
    for system in load_systems():
        if system.recipe:
            ours = load_recipe(system.recipe).needs()
            assert system.recipe_labels == ("" if ours == system.labels else ours), system.slug
    assert find_system("sdpo").both_labels == "environment; here outcome"
    assert find_system("scpo").both_labels == "none"
