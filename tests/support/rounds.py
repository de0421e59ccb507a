"""Shared by the tests of recipes that train in rounds: small runs on Con, and a run that is stopped and resumed."""

from __future__ import annotations

import json

import pytest
import torch

from selfreward.training.config import make_config
from selfreward.training.launch import build, resume

SETTINGS = {"model": "embedded:con", "steps": 4, "prompts_per_step": 4, "eval_prompts": 0, "probe_every": 0}


def config(out, recipe, options=None, **changes):
    return make_config({**SETTINGS, **changes, "recipe": recipe, "options": options or {}, "out": str(out)})


def trained(trainer):
    trainer.evaluator = lambda policy: {}
    return trainer.fit()


def records(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()][1:]


def one_step(out, recipe, **options):
    """A trainer and the record of its first step."""
    trainer = build(config(out, recipe, options))
    trainer.out.mkdir(parents=True)
    return trainer, trainer._one_step()


class StoppedError(Exception):
    pass


def same_after_resume(folder, recipe, options, stop=3, **changes):
    """Train once whole, and once stopped after the checkpoint at ``stop``; the weights must be the same bits.

    Returns the whole run's summary and the records of its steps.
    """
    changes |= {"checkpoint_every": stop}
    whole = build(config(folder / "whole", recipe, options, **changes))
    summary = trained(whole)
    part = build(config(folder / "part", recipe, options, **changes))
    part.evaluator = lambda policy: {}

    def stop_after(record):
        if record["step"] == stop + 1:
            raise StoppedError

    part.on_step = stop_after
    with pytest.raises(StoppedError):
        part.fit()
    again, _ = resume(folder / "part", [])
    assert again.step == stop
    trained(again)
    for key, value in whole.policy.state_dict().items():
        assert torch.equal(value, again.policy.state_dict()[key])
    return summary, records(folder / "whole")
