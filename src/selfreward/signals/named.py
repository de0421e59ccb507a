"""Signals called by name: ``"borda:by=gap"`` on whole groups."""

from __future__ import annotations

import inspect
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from selfreward.errors import ConfigError, RecipeError, nearest
from selfreward.rollouts.run import RunContext
from selfreward.signals import certainty
from selfreward.signals.registry import ALIASES, Scores, Signal, signal
from selfreward.types import Group

if TYPE_CHECKING:
    from selfreward.policy.sampling.params import SamplingParams


# ---- calling a signal by name --------------------------------------------------------------------


def parse_signal(spec: str) -> tuple[str, dict[str, Any]]:
    """``"judge_expected:template=naive-judge"`` as a name and options (several are separated by ``,`` or ``;``).

    Raises:
        ConfigError: for an unknown signal, an option that it does not have, or a text without ``=``.
    """
    called, _, rest = spec.strip().partition(":")
    name = ALIASES.get(called, called)
    scorer = scorer_of(signal(name))
    known = [p.name for p in list(inspect.signature(scorer).parameters.values())[2:] if p.kind is not p.VAR_KEYWORD]
    options: dict[str, Any] = {}
    for part in filter(None, re.split("[,;]", rest)):
        key, equals, value = part.partition("=")
        if not equals:
            raise ConfigError(f"Signal {spec!r}: an option is written key=value, not {part!r}.")
        if key not in known:
            raise ConfigError(f"Signal {name!r} has no option {key!r}.{nearest(key, known)}")
        try:
            options[key] = json.loads(value)
        except ValueError:
            options[key] = value
    return name, options


def split_signals(text: str) -> list[str]:
    """A comma-separated list of signals, whose options may be separated by commas, too.

    Example: ``"vote,borda:by=gap,power=2,length"`` names three.
    """
    found: list[str] = []
    for part in filter(None, (p.strip() for p in text.split(","))):
        belongs = "=" in part and ":" not in part.partition("=")[0]
        if belongs and found:
            found[-1] += "," + part
        else:
            found.append(part)
    return found


def score_groups(spec: str, run: RunContext, groups: Sequence[Group]) -> Scores:
    """Every completion's value by the signal that ``spec`` names, ``[groups][completions]``.

    Raises:
        UnavailableError: when the signal needs what the run does not have.
        ConfigError: for an unknown signal or option.
        RecipeError: when the scorer returns another shape.
    """
    name, options = parse_signal(spec)
    values = scorer_of(signal(name))(run, groups, **options)
    if [len(v) for v in values] != [len(g) for g in groups]:
        raise RecipeError(f"Signal {name!r} did not return one value per completion of every group.")
    return [[None if v is None or not math.isfinite(v) else float(v) for v in row] for row in values]


def scorer_of(entry: Signal) -> Callable[..., Scores]:
    """The function that scores whole groups, see :class:`Signal`."""
    return entry.load_scorer() or plain(entry)


def plain(entry: Signal) -> Callable[..., Scores]:
    """The scorer of a signal whose function can be called on what it ``needs``, one group at a time."""
    from selfreward.signals.registry import SIGNALS

    name = next((k for k, v in SIGNALS.items() if v is entry), entry.function.partition(":")[2])
    function = entry.load()

    def by_classes(run: RunContext, groups: Sequence[Group]) -> Scores:
        return [list(function(run.classes(g))) for g in groups]

    def by_stats(run: RunContext, groups: Sequence[Group]) -> Scores:
        stats = run.stats(groups, [certainty.needed_statistic(name)])
        return [[float(function(name, t)) if _tokens(t) else None for t in g] for g in stats]

    def by_texts(run: RunContext, groups: Sequence[Group]) -> Scores:
        return [list(function(g.completions)) for g in groups]

    def by_size(run: RunContext, groups: Sequence[Group]) -> Scores:
        return [list(function(len(g))) for g in groups]

    kinds = {"classes": by_classes, "stats": by_stats, "completions": by_texts, "size": by_size}
    assert entry.needs in kinds, f"signal {name!r} needs {entry.needs!r} and must name its own scorer"
    return kinds[entry.needs]


def _tokens(stats: Mapping[str, torch.Tensor]) -> bool:
    return all(v.numel() > 0 for v in stats.values())


def record_stats(sampling: SamplingParams) -> SamplingParams:
    """The same sampling with every statistic taken along, so that no signal needs a second pass for one."""
    from selfreward.policy.scoring.distribution import STATS

    return replace(sampling, stats=tuple(dict.fromkeys((*sampling.stats, *(s for s in STATS if s != "logprob")))))
