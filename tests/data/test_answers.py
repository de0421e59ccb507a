"""Answers: what is extracted, what counts as equal, and that equality is an equivalence."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfreward.data import math_answers as mathform
from selfreward.data.answers import (
    AnswerSpace,
    Auto,
    Boxed,
    Exact,
    Math,
    MultipleChoice,
    Number,
    Regex,
    Tagged,
    answer_space,
    cluster,
    last_boxed,
)
from selfreward.data.math_answers import canonical_math, number
from selfreward.errors import ConfigError


@pytest.mark.parametrize(
    "text", ["1,000", "1000", "1000.0", "2000/2", "$1,000.", "\\$1000", "1e3", "\\frac{2000}{2}", "1{,}000"]
)
def test_one_thousand_has_one_form(text):
    assert Number().canonical(text) == "1000"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3 1/2", "7/2"),
        ("3\\frac{1}{2}", "7/2"),
        ("-\\frac{1}{2}", "-1/2"),
        ("10%", "10"),
        ("\u22124", "-4"),
        (".5", "1/2"),
    ],
)
def test_numbers_are_exact(text, value):
    assert str(number(text)) == value


@pytest.mark.parametrize("text", ["", "x", "1/0", "1,00", "1 2", "9" * 5000, "1e999999999", "\u0661\u0662", "--1"])
def test_what_is_no_number_stays_text(text):
    assert number(text) is None


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        ("48/2 = 24\n#### 72", "72"),
        ("so \\boxed{1,234}. Is 5 a lie?", "1,234"),
        ("we get 10-3=7", "7"),
        ("we get -7.", "-7"),
        ("x = \\frac{3}{4}", "\\frac{3}{4}"),
        ("it costs $18.50 in all", "$18.50"),
        ("<answer> 12 dollars </answer>", "12"),
        ("no idea", None),
        ("", None),
        ("1 or 2, so ####", None),
        ("17 + 1 is \\boxed{1", None),
        ("\\boxed{none of 12}", "12"),
    ],
)
def test_number_extraction(completion, answer):
    found = Number().extract(completion)
    assert (found and Number().canonical(found)) == (answer and Number().canonical(answer))


def test_boxed_braces_nest_and_the_last_complete_box_counts():
    assert last_boxed("\\boxed{1} then \\boxed{\\frac{a}{b}} and \\boxed{cut") == "\\frac{a}{b}"
    assert last_boxed("\\boxed{\\{1,2\\}}") == "\\{1,2\\}"
    assert last_boxed("\\boxed{\\boxed{3}}") == "3"
    assert last_boxed("\\boxed{}") is None
    assert Boxed().extract("the answer is 5") is None


def test_regex_takes_the_last_match_and_its_group():
    space = answer_space(r"regex:#(\d)")
    assert space.extract("#1 w6t8#4") == "4"
    assert space.extract("w6t8") is None
    assert Regex(r"\d+").extract("12 34") == "34"
    assert not space.equivalent("07", "7")


def test_choice_prefers_a_stated_answer_and_ignores_the_article():
    space = MultipleChoice(("A", "B", "C"))
    assert space.extract("A is tempting, but a proof shows (C)") == "C"
    assert space.extract("The answer is (B), not A") == "B"
    assert space.extract("a cat") is None
    assert MultipleChoice(("yes", "no")).extract("YES") == "yes"
    assert MultipleChoice(("yes", "no")).extract("nothing") is None


def test_tagged_takes_the_last_complete_tag():
    space = Tagged("answer")
    assert space.extract("<answer>1</answer> <answer>2</answer> <answer>3") == "2"
    assert space.extract("<answer></answer>") is None
    assert space.equivalent("1,000", "1000.0") and space.equivalent("Paris", "paris ")


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        ("\\boxed{a} #### b <answer>c</answer> 1", "a"),
        ("<answer>c</answer> #### b", "b"),
        ("<answer>c</answer> 1", "c"),
        ("1 then 2 then end", "2"),
        ("First line\nParis\n\n", "Paris"),
        ("  ", None),
    ],
)
def test_auto_goes_through_its_markers_in_order(completion, answer):
    assert Auto().extract(completion) == answer


def test_correct_reads_whole_solutions_as_references():
    gsm8k = "She makes 9 * 2 = $<<9*2=18>>18 every day.\n#### 18"
    for space in (Number(), Auto(), Math()):
        assert space.correct("so \\boxed{18.0}", gsm8k)
        assert space.correct("I think it is 18", gsm8k)
        assert not space.correct("I think it is 9", gsm8k)
        assert not space.correct("", gsm8k)
    assert Number().correct("it is .75", "\\frac{3}{4}")
    assert Auto().correct("\\boxed{Paris 2024}", "Paris 2024")
    assert not Auto().correct("\\boxed{2024}", "Paris 2024")
    assert Exact().correct(" ok ", "ok") and not Exact().correct("", "")


@pytest.mark.parametrize(
    "forms",
    [
        [
            "\\dfrac{1}{2}",
            "0.5",
            "\\frac12",
            "$\\frac{1}{2}$",
            "\\left(\\frac{1}{2}\\right)",
            "x = 1/2",
            ".5\\text{ cm}",
        ],
        ["\\{1, 2\\}", "2,1", "x=1, x=2", "1, 2", "\\left\\{ 2.0, 1 \\right\\}"],
        ["(1,2)", "\\left( 1, 2 \\right)", "(1, \\frac{4}{2})"],
        ["[1,2)", "x \\in [1, 2)"],
        ["\\text{Evelyn}", "evelyn", "Evelyn."],
        ["90^\\circ", "90", "90^{\\circ}", "90\u00b0", "90 degrees"],
        ["2\\sqrt3", "2 \\sqrt{3}"],
        ["\\text{(C)}", "C"],
        ["1,234", "1234", "1,\\!234"],
    ],
)
def test_math_forms_that_are_the_same(forms):
    assert len({canonical_math(f) for f in forms}) == 1


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("(1,2)", "(2,1)"),
        ("(1,2)", "[1,2]"),
        ("10%", "0.1"),
        ("0.333333", "1/3"),
        ("a", "A"),
        ("A+B", "b+a"),
        ("x", "y"),
        ("cat", "act"),
    ],
)
def test_math_forms_that_differ(a, b):
    assert not Math().equivalent(a, b)
    assert not Math().equivalent(b, a)


def test_math_extraction_reads_formulas_but_not_prices():
    assert Math().extract("The answer is $x^2+1$.") == "x^2+1"
    assert Math().extract("Thus $a=1$ and so $\\frac{3}{4}$") == "\\frac{3}{4}"
    assert Math().canonical(Math().extract("He paid $18 and then $20 more") or "") == "20"


def test_symbolic_tie_breaker_is_symmetric_and_safe():
    pytest.importorskip("math_verify")
    space = Math()
    assert space.equivalent("\\frac{x+1}{2}", "(x+1)/2") and space.equivalent("(x+1)/2", "\\frac{x+1}{2}")
    assert space.equivalent("\\sqrt{8}", "2\\sqrt{2}")
    assert not space.equivalent("x+1", "x+2")
    assert not Math(symbolic=False).equivalent("\\sqrt{8}", "2\\sqrt{2}")
    assert not space.equivalent("9^{9^{9^{9}}}", "9^{9^{9^{8}}}")
    assert not space.equivalent("(10^9)!", "x+1")


def test_symbolic_tie_breaker_works_outside_the_main_thread():
    pytest.importorskip("math_verify")
    import threading

    mathform._parsed.cache_clear()
    mathform._verified.cache_clear()
    found = []
    thread = threading.Thread(target=lambda: found.append(Math().equivalent("y+y", "2y")))
    thread.start()
    thread.join()
    assert found == [True]


def test_cluster_numbers_classes_in_first_seen_order_and_keeps_none():
    assert cluster(["18", None, "18.0", "7", None, "$18"], Number()) == [0, None, 0, 1, None, 0]
    assert cluster([None, None], Number()) == [None, None]
    assert cluster(["$", "$"], Math()) == [None, None]
    assert cluster([], Number()) == []


class Near(AnswerSpace):
    """Asymmetric and not transitive on purpose: equal when b is a or a + 1."""

    def extract(self, text):
        return text or None

    def equivalent(self, a, b):
        return int(b) - int(a) in (0, 1)


def test_cluster_closes_a_bad_equality():
    for order in itertools.permutations(["1", "2", "3", "9"]):
        ids = dict(zip(order, cluster(list(order), Near()), strict=True))
        assert ids["1"] == ids["2"] == ids["3"] != ids["9"]


ANSWERS = st.lists(
    st.one_of(
        st.none(),
        st.integers(-20, 20).map(str),
        st.fractions(-3, 3, max_denominator=6).map(str),
        st.floats(-5, 5).map(lambda x: f"{x:.1f}"),
        st.text("0123456789.,/-$%\\{}()[]x fracboxed#", max_size=12),
    ),
    max_size=8,
)


@settings(max_examples=150, deadline=None)
@given(ANSWERS, st.randoms(use_true_random=False))
def test_classes_do_not_depend_on_the_order(answers, rng):
    for space in (Number(), Math(symbolic=False), Auto()):
        order = list(range(len(answers)))
        rng.shuffle(order)
        ids = cluster(answers, space)
        moved = cluster([answers[i] for i in order], space)
        for (p, i), (q, j) in itertools.combinations(enumerate(order), 2):
            assert (ids[i] is not None and ids[i] == ids[j]) == (moved[p] is not None and moved[p] == moved[q])


@pytest.mark.parametrize(("answer", "form"), [("< .", "<"), ("5.0 .", "5"), ("Yes. .", "yes"), (" 1,000. ", "1000")])
def test_the_form_of_a_form_is_itself(answer, form):
    for name in ("auto", "number", "tag:answer"):
        space = answer_space(name)
        assert space.canonical(answer) == space.canonical(form) == form


@settings(max_examples=200, deadline=None)
@given(st.text("0123456789.,/-$%\\{}()[]x fracboxed#<answer>\n", max_size=60))
def test_no_text_breaks_an_answer_space(text):
    for name in ("auto", "number", "boxed", "math", "exact", "tag:answer", "choice:a,b"):
        space = answer_space(name)
        answer = space.extract(text)
        assert answer is None or answer.strip()
        if answer is not None:
            assert space.canonical(space.canonical(answer)) == space.canonical(answer)


def test_hostile_completions_are_read_in_linear_time():
    for text in (
        "1" * 200_000,
        "\\boxed{" * 50_000,
        "<answer>" * 50_000,
        "#### " * 50_000,
        "$1 " * 50_000,
        "1,111" * 40_000,
    ):
        for name in ("auto", "number", "boxed", "math", "tag:answer"):
            space = answer_space(name)
            answer = space.extract(text)
            if answer is not None:
                space.canonical(answer)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nubmer", "Did you mean 'number'"),
        ("tag", "tag:answer"),
        ("regex:(", "not a regular expression"),
        ("choice:A", "at least two"),
        ("number:5", "Unknown answer space"),
    ],
)
def test_a_wrong_name_says_what_would_be_right(name, says):
    with pytest.raises(ConfigError, match=says):
        answer_space(name)
