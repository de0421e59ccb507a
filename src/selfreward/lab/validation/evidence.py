"""The evidence file of the sentinel: summaries, every verdict, and the command that makes them again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from selfreward.evaluation.sentinel.detector import Thresholds
from selfreward.lab.evidence.machine import machine
from selfreward.lab.validation.records import WatchedRun, keep_records, read_records, records_of
from selfreward.lab.validation.run_verdicts import judge_all, summarise
from selfreward.runtime.files import write_text


def evidence(runs: Sequence[WatchedRun], species: Mapping[str, str]) -> dict[str, Any]:
    """``evidence/sentinel.json``: the summary of both parts, every verdict, and the command."""
    from selfreward.lab.validation.thresholds import without_views

    found = judge_all(runs)
    alone = judge_all(WatchedRun(r.name, r.seed, without_views(r.records)) for r in runs)
    return {
        "unseen": summarise(found["unseen"]),
        "choice": summarise(found["choice"]),
        "unseen_without_other_views": summarise(alone["unseen"]),
        "thresholds": asdict(Thresholds()),
        "species": dict(species),
        "verdicts": {part: [asdict(v) for v in verdicts] for part, verdicts in found.items()},
        "command": "selfreward zoo --part choice --seeds 1 && selfreward zoo --part unseen --seeds 3",
    }


def write_evidence(
    runs: Sequence[WatchedRun], species: Mapping[str, str], path: str | Path, note: str = ""
) -> dict[str, Any]:
    """Write the evidence, and beside it the records that it follows from.

    Args:
        note: what a reader must know of how these runs were taken.
    """
    target = Path(path)
    records = keep_records(runs, records_of(target))
    from selfreward.lab.validation.thresholds import leave_one_species_out

    # Verdicts follow from the stored digits, so that a replay gives the same ones.
    kept = read_records(records)
    result = evidence(kept, species)
    result |= {
        "leave_one_species_out": leave_one_species_out([r for r in kept if r.part == "choice"]),
        "note": note,
        "records": records.name,
        "machine": machine(),
    }
    write_text(target, json.dumps(result, indent=1) + "\n")
    return result
