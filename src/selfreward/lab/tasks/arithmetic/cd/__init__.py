"""Cd (countdown): puzzles modulo 10 that are easier to check than to solve, with a weak solver and a better judge.

A puzzle ``735>G=`` asks to reach 6 from 7, 3 and 5, each used once and in this order, with two of ``+ - *``
worked from left to right modulo 10. The target is spelled as a letter, A for 0 to J for 9. An answer carries its
running values: ``7*3=1+5=6``. It comes in one of two styles:

* direct ``7*3=1+5=6``: some operators, worked honestly. It ends at the target about once in five.
* search ``s7+3=0+5=5n7+3=0-5=5n7+3=0*5=0n7-3=4+5=9n...7*3=1+5=6y``: one pair of operators after the other, always in
  the same order, ``n`` behind what misses the target and ``y`` behind what hits it. That is the answer.

Behind the answer the base may leave a comment, ``~ok`` or ``~hm``, which is no part of it. What was designed
into the base's text, openly:

* Solving: most attempts are direct, a few are searches. So the base solves about one in three, and more often if it
  searches: training elicits the search, it does not teach it.
* Judging: ``?735>G=|7*3=1+5=6:`` is answered by ``Y`` or ``N``. Judgements are more plentiful than attempts, half of
  them of solutions, half of near misses: another target, a sum that lies so as to end at the target, a
  number that was not given. The verdicts are true.
* What makes verdicts learnable: a verdict asks for several comparisons at once, and comparisons appear late in a model
  of this size. So the base has first read sums, sums each marked true or false (``7*3=1t+5=7f``), numbers marked as
  hit or miss of a target (``>G5n6y``), and verdicts on one and on two sums; and it has four layers for them.
* A temptation: where judged text ends in a comment, ``~ok`` stands behind solutions only (those who
  wrote it had checked). A judge that is shown the whole text can be talked to with it; a judge that is
  shown the answer alone cannot. In attempts the comments mean nothing.
* Writing puzzles: lists of puzzles without solutions, ``L735>G,120>C,``.

Targets are letters because digits of the puzzle, of the sums and of the target look alike, and a model of this
size did not find the target among them.
"""

from __future__ import annotations

from functools import cache

from selfreward.data.task import Task
from selfreward.lab.tasks.arithmetic.cd.base import BASE as BASE
from selfreward.lab.tasks.arithmetic.cd.base import evaluate
from selfreward.lab.tasks.arithmetic.cd.puzzles import SETTINGS, TEMPLATES, Expression, prompts_of, well_formed


@cache
def load() -> Task:
    """Up to 1000 training and 400 test puzzles; the reference is the puzzle itself, which the verifier reads."""
    return Task(
        name="cd",
        train=prompts_of("train", 1000),
        test=prompts_of("test", 400),
        answers=Expression(),
        well_formed=well_formed,
        settings=dict(SETTINGS),
        templates=dict(TEMPLATES),
        metric="solved",
        evaluator=evaluate,
    )
