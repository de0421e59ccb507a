"""SeRL on CHAIN: it writes problems, votes, learns inside the band only, and resumes."""

from __future__ import annotations

import json

import numpy as np
import pytest

from selfreward.errors import ConfigError
from selfreward.lab.proofs.consensus.covo import within_strata
from selfreward.lab.tasks.arithmetic import chain, chain_writer
from selfreward.recipes.registry import load_recipe
from tests.support.runs import run_recipe

BASE = {"model": "embedded:chain-writer"}


def test_it_writes_and_trains_on_own_problems(tmp_path):
    summary, records = run_recipe("serl", tmp_path, **BASE)
    assert summary["labels"] == "none" and summary["mechanism"]["count"] > 0
    assert records[0]["proposals/used"] > 0 and records[0]["tokens/generated/proposer"] > 0


def test_a_resumed_run_repeats_the_bits_of_one_that_never_stopped(tmp_path):
    from selfreward.training.launch import resume

    _, whole = run_recipe("serl", tmp_path / "a", steps=3, **BASE)
    run_recipe("serl", tmp_path / "b", steps=2, checkpoint_every=1, **BASE)
    trainer, _ = resume(tmp_path / "b" / "run", ["steps=3"])
    trainer.evaluator = lambda policy: {}
    trainer.fit()
    lines = (tmp_path / "b" / "run" / "metrics.jsonl").read_text().splitlines()
    last = json.loads(lines[-1])
    for key in ("reward/mean", "loss", "proposals/used", "serl/too_hard"):
        assert last[key] == whole[-1][key]


def test_only_groups_inside_the_band_are_learned_from(tmp_path):
    _, records = run_recipe("serl", tmp_path, options={"low": 0.95, "high": 1.0, "source": "given"}, **BASE)
    assert records[0]["mechanism"] == 0 and records[0]["advantage_norm"] == 0
    with pytest.raises(ConfigError, match="difficulty band"):
        load_recipe("serl", {"low": 0.8, "high": 0.2})


def test_listed_questions_are_valid_and_of_the_pretraining_split():
    corpus = chain_writer.Corpus(chain=chain.Corpus(lesson=0), lists=1.0)
    texts = [text for ((text, _),) in corpus.documents(5, 0)]
    questions = [q + "=" for t in texts for q in t[1:-1].split(",")]
    assert len(questions) >= 10
    assert {chain.split_of(chain.Problem.parse(q).key) for q in questions} == {"pretrain"}


def test_strata_by_hand():
    score, truth, stratum = np.array([2, 1, 1, 1]), np.array([True, False, True, False]), np.array([0, 0, 1, 1])
    assert within_strata(score, truth, stratum) == 0.75
