"""Eff (efficiency): chains of one to six operations, answered with more or fewer words than they need.

A question is ``6*8-5........=``: digits joined by ``+ - *``, worked from left to right modulo 10, in a
field that always has room for six operations (here 48 -> 8, then 3). One operation is easy, six are hard.
One *effort sign* may stand before it, ``c6*8-5........=``; the signs ``abcde`` stand for 0.25, 0.5, 0.75,
1 and 1.5. The base answers in one of two styles, named by the first character of the completion:

* worked ``w6*8-3#3``: every operator with the running value after it. Right except for slips.
* guess ``g#3``: the answer at once. Right in the text, but the base cannot do it in its head: one in five.

Either may ramble on after the answer with up to twelve filler steps ``hm`` that depend on nothing: half
of the texts have none, and who has begun stops after each with probability .2 only. So a completion can
be shortened in two ways: by leaving out the filler, which costs nothing, and by not thinking, which
costs accuracy. What thinking takes grows with the question: 7 tokens for one operation, 17 for six, so
that one length for all punishes the hard ones. That is what length rewards are to be told apart by.

What was designed into the text of the base, openly: the shares of the styles and of the filler; some
completions without a question, so that the probability of an answer on its own has a meaning; documents
that compare two signs, so that the base knows their order as a language model knows that of numbers.
No document relates a sign to a style, a length or an answer. To the base ``eff-signs``, which is this one
after reading on, signs mean a little: there the answers of four in ten signed questions follow the sign.
"""

from __future__ import annotations

from functools import cache

from selfreward.data.task import Task
from selfreward.lab.tasks.arithmetic.eff.base import BASES as BASES
from selfreward.lab.tasks.arithmetic.eff.problems import SETTINGS, TEMPLATES, evaluate, prompts_of, well_formed


@cache
def load() -> Task:
    """2000 training and 400 test prompts; ``fields["operations"]`` says how hard each is."""
    from selfreward.data.answers import Regex

    return Task(
        name="eff",
        train=prompts_of("train", 2000),
        test=prompts_of("test", 400),
        answers=Regex(r"#(\d)"),
        well_formed=well_formed,
        settings=dict(SETTINGS),
        templates=dict(TEMPLATES),
        evaluator=evaluate,
    )
