"""``selfreward reproduce``: the small-scale proof of a published claim."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from selfreward.cli.options import Jobs, Seeds
from selfreward.errors import ConfigError

if TYPE_CHECKING:
    from selfreward.lab.evidence.record import Evidence


def reproduce(
    slug: Annotated[str, typer.Argument(help="System slug or id.")],
    seeds: Seeds = 3,
    model: Annotated[str | None, typer.Option("--model", help="Only for proofs on a base of your own.")] = None,
    data: Annotated[str | None, typer.Option("--data", help="Only for proofs on data of your own.")] = None,
    out: Annotated[Path, typer.Option("--out", help="Run folders go here.")] = Path("runs/reproduce"),
    evidence: Annotated[Path, typer.Option("--evidence", help="Folder of the evidence file.")] = Path("evidence"),
    jobs: Jobs = 1,
) -> None:
    """Run the small-scale proof of a system's claim and write evidence/SLUG.json."""
    from rich.console import Console

    from selfreward.cli.progress import CompareProgress
    from selfreward.evaluation.report import comparison_table, write_comparison
    from selfreward.lab.proofs.proof import reproduce as run
    from selfreward.lab.proofs.registry import PROOFS, load_proof
    from selfreward.training.comparison import read_comparison

    if slug not in PROOFS:
        from selfreward.lab.catalogue.systems import find_system

        slug = find_system(slug).slug
    proof = load_proof(slug, model, data)
    if proof.options and not (model and data):
        raise ConfigError(f"This proof needs files of yours: selfreward reproduce {proof.slug} {proof.options}.")
    with CompareProgress() as progress:
        found = run(proof, seeds=range(seeds), out=out, evidence=evidence, jobs=jobs, progress=progress)
    result = read_comparison(out / proof.slug)
    Console().print(comparison_table(result, out / proof.slug))
    _print_evidence(found, evidence / f"{proof.slug}.json")
    print(write_comparison(result, out / proof.slug))


def _print_evidence(evidence: Evidence, path: Path) -> None:
    for check in evidence.checks:
        interval = f" [{check.interval[0]:+.3f}, {check.interval[1]:+.3f}]" if check.interval else ""
        holds = "holds" if check.holds else "FAILS"
        print(f"{holds}  {check.name}: {check.observed:+.3f}{interval}  ({check.statement})")
    print(path)
