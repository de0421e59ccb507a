"""Dsl: small string programs to be inferred from examples, judged by hidden tests, the first failed one told as text.

A question ``cabd>ddbA;aecb>beA=`` shows what a hidden program of two to four operations makes of two strings. The
language has five operations, worked from left to right:

* ``-x`` drops the letter x, ``+x`` writes it twice, ``^x`` makes it a capital;
* ``<`` reverses the string, ``/`` moves its first letter to the end.

The answer is the text of a program, behind ``#``. It is run on six further strings, the hidden tests: the share that
it gets right is its grade, and it is right if that is all of them. There is no gold text: ``#^a-c<`` and ``#<-c^a``
do the same, so both are right or both wrong, and in a vote they are one answer. What cannot be read passes no test.
:func:`run` interprets a program step by step, nothing is executed.

The base works its answer out, ``a^b.c-d+e.:Abdd>ddbA<#^a-c+d<``: for every letter of the alphabet what the examples
show of it (``.``: nothing), then what that makes of the first example's string beside what is shown, then the order
(``.``: as it was), and the program. What was designed into its text, openly:

* It *overlooks* operations: where the examples show one, it writes ``.`` instead, seldom for ``-`` and ``<``, often for
  ``+`` (:data:`OVERLOOKED`). So it is mediocre, a sample rarely repeats the fault of another, and training can elicit
  what it sees. One in twenty-five operations on letters is on a letter that no example holds: nobody could infer it.
* *Feedback* on a failed program is its first failed test, ``deca>Aedd,got:Acedd``, or ``?`` with the place that could
  not be read. It has read ``FEEDBACK!QUESTION``, alone and as the second turn after an attempt: what the failed test
  shows (its letters, its order) is then not overlooked, anything else as often as without. So it is what the test
  says that helps, not that there is one.
* ``!QUESTION`` after an attempt asks for a second one without a word on the first: a fresh one, as good as the first.
* *Hints*: behind ``SOLUTION.QUESTION`` it takes over what the solution does and overlooks the rest as always.
"""

from __future__ import annotations

from functools import cache

from selfreward.data.task import Task
from selfreward.lab.tasks.programs.dsl.base import BASE as BASE
from selfreward.lab.tasks.programs.dsl.base import Attempts
from selfreward.lab.tasks.programs.dsl.programs import SETTINGS, SPACE, TEMPLATES, prompts_of, well_formed


@cache
def load() -> Task:
    """2000 training and 400 test prompts, by different programs; measured by one attempt and by a second one."""
    test = prompts_of("test", 400)
    return Task(
        name="dsl",
        train=prompts_of("train", 2000),
        test=test,
        answers=SPACE,
        well_formed=well_formed,
        settings=dict(SETTINGS),
        templates=dict(TEMPLATES),
        evaluator=Attempts(test[:150]),
    )
