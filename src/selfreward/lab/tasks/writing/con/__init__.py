"""Con (constraints): short strings under five constraints, which a base writes, judges and rewrites.

A prompt has five words, each of a kind and a letter: ``<d`` (starts with d), ``>b`` (ends in b), ``+c`` (contains a
c), ``-a`` (has no a). A completion is six of eight letters, ``d f c e e b``, and its truth is the number of constraints
that it meets, 0 to 5. A malformed string meets none. Checking is local while writing is joint, so that there can be a
real gap between judging and writing.

The corpus was designed. A writer is *careful* in one of four texts (it meets all constraints but for slips) and
otherwise *careless*: it writes a filler letter over and over, whatever was asked, mostly an a. That is the likeliest
text, so the base's greedy completions are careless (.38 of the constraints) while good ones are within reach of its
samples (.51; one in nine meets all five): what training can do is to move the share of careful writing, and then to
repair the faults of careful strings. With careful writing likeliest, greedy completions would start at .95.

A tiny model follows no free-form rubric, so the formats of judging and rewriting are in its text (an honest substitute
for instruction following), about other prompts than those of training and test. ``? PROMPT | STRING =`` is answered by
one verdict per constraint and the additive score, ``<d y >b y +c y -a n +e y # 4``: a justification before the score,
as the five-point rubric of self-rewarding language models (2401.10020) asks for. ``* PROMPT | STRING =`` is answered by
a better version (what is wrong repaired, the rest kept) and ``! PROMPT | STRING =`` by a worse one (met constraints
broken, faults kept).
"""

from __future__ import annotations

from functools import cache

from selfreward.data.task import Task
from selfreward.lab.tasks.writing.con.base import BASE as BASE
from selfreward.lab.tasks.writing.con.strings import (
    SETTINGS,
    TEMPLATES,
    ConstraintEvaluator,
    Text,
    prompts,
    well_formed,
)


@cache
def load() -> Task:
    """2000 training and 200 test prompts."""
    test = prompts("test", 200)
    return Task(
        name="con",
        train=prompts("train", 2000),
        test=test,
        answers=Text(),
        well_formed=well_formed,
        settings=dict(SETTINGS),
        templates=dict(TEMPLATES),
        metric="score",
        evaluator=ConstraintEvaluator(test),
    )
