"""The chain task: problems, twins, splits, styles and judges, and the shipped base."""

import random
from itertools import islice, pairwise

import pytest

from selfreward.errors import ConfigError, DataError
from selfreward.lab.embedded import base_path, load_task, task_names
from selfreward.lab.pretraining.base import failures
from selfreward.lab.tasks.arithmetic.chain import (
    ALPHABET,
    BASE,
    Corpus,
    Problem,
    judge_prompt,
    measure,
    problems,
    style,
    twin,
    well_formed,
)
from selfreward.lab.tasks.splits import split_of


def some(split, n, seed=0):
    return list(islice(problems(split, random.Random(seed)), n))


# ---- problems ------------------------------------------------------------------------------------


def test_a_problem_is_worked_from_left_to_right_modulo_ten():
    problem = Problem.parse("6*8-5*6+9+5=")
    assert list(problem.values()) == [8, 3, 8, 7, 2]
    assert problem.answer == 2
    assert problem.worked(random.Random(0)) == "w6*8-3*8+7+2#2"


def test_both_spellings_are_the_same_problem():
    symbols, letters = Problem.parse("6*8-5*6+9+5="), Problem.parse("6t8m5t6p9p5=")
    assert (symbols.digits, symbols.ops) == (letters.digits, letters.ops)
    assert letters.text == "6t8m5t6p9p5="
    assert letters.worked(random.Random(0)) == symbols.worked(random.Random(0))


def test_a_twin_has_the_same_answer_another_last_digit_and_the_same_key():
    assert twin("6*8-5*6+9-5=") == "6t8m5t6m5p9="
    for problem in some("train", 200):
        other = problem.twin()
        assert other.answer == problem.answer
        assert other.digits[-1] != problem.digits[-1]
        assert other.letters != problem.letters
        assert other.key == problem.key
        assert other.twin() == problem


@pytest.mark.parametrize("text", ["", "6*8=", "6*8-5t6+9+5=", "6*8-5*6+9+5", "6*8-5*6+9+5=w"])
def test_another_text_is_refused_with_an_example(text):
    with pytest.raises(DataError, match="looks like"):
        Problem.parse(text)


def test_slips_carry_on_from_the_wrong_value():
    problem = Problem.parse("1+1+1+1+1+2=")
    always = problem.worked(random.Random(0), slip=1.0)
    values = [int(v) for v in always[1:-2:2]]
    steps = [(b - a) % 10 for a, b in pairwise(values)]
    assert all(s != 1 for s in steps[:-1]) and steps[-1] != 2
    assert always.endswith(f"#{values[-1]}")


# ---- splits --------------------------------------------------------------------------------------


def test_splits_have_their_shares_and_twins_never_cross():
    drawn = [split_of(f"key {i}") for i in range(5000)]
    shares = {s: drawn.count(s) / len(drawn) for s in ("pretrain", "train", "test")}
    assert shares == pytest.approx({"pretrain": 0.6, "train": 0.2, "test": 0.2}, abs=0.03)
    for split in ("pretrain", "train", "test"):
        assert {split_of(p.twin().key) for p in some(split, 200)} == {split}


def test_prompts_are_disjoint_labelled_and_reproducible():
    task = load_task("chain")
    keys = {name: {Problem.parse(p.question).key for p in getattr(task, name)} for name in ("train", "test")}
    assert len(keys["train"]) == len(task.train) == 2000
    assert len(keys["test"]) == len(task.test) == 400
    assert not keys["train"] & keys["test"]
    assert len({p.id for p in [*task.train, *task.test]}) == 2400
    first = task.train[0]
    assert first.answer == str(Problem.parse(first.question).answer)
    assert twin(first.fields["twin"]) == first.question
    documents = [prompt.lstrip("?!") for prompt, _ in Corpus(lesson=100).documents(2000, seed=3)]
    seen = {Problem.parse(d[: d.index("=") + 1]).key for d in documents}
    assert {split_of(k) for k in seen} == {"pretrain"}


def test_names():
    assert "chain" in task_names()
    with pytest.raises(ConfigError, match="Did you mean 'chain'"):
        load_task("chian")
    with pytest.raises(ConfigError, match="no embedded base"):
        base_path("chainn")


# ---- completions ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("completion", "kind"),
    [
        ("w6*8-3*8+7+2#2", "worked"),
        ("w6+7#1", "worked"),
        ("guess#7", "guess"),
        ("easy#7", "easy"),
        ("", None),
        ("guess", None),
        ("guess#", None),
        ("guess7", None),
        ("guess#7.", None),
        ("guess#77", None),
        ("w#7", None),
        ("w6*8-3", None),
        ("w6t8#8", None),
        ("guess#7guess#7", None),
        (" guess#7", None),
        ("guess#7\n", None),
    ],
)
def test_the_grammar(completion, kind):
    assert style(completion) == kind
    assert well_formed(completion) == (kind is not None)


def test_the_answer_is_the_digit_after_the_hash():
    answers = load_task("chain").answers
    assert answers.extract("w6*8-3*8+7+2#2") == "2"
    assert answers.extract("guess#") is None
    assert answers.correct("easy#5", "5") and not answers.correct("easy#5", "2")


# ---- corpus --------------------------------------------------------------------------------------


def test_corpus_shares_and_error_rates():
    corpus = Corpus(lesson=0)
    documents = corpus.documents(20_000, seed=0)
    solved = [(p, c) for p, c in documents if p[0].isdigit()]
    tidy = [(p, c) for p, c in solved if not c.endswith(".")]
    styles = [style(c.removesuffix(".")) for _, c in solved]
    assert None not in styles
    for kind in ("worked", "guess", "easy"):
        assert styles.count(kind) / len(styles) == pytest.approx(getattr(corpus, kind), abs=0.02)
        untidy = [c.endswith(".") for (_, c), s in zip(solved, styles) if s == kind]
        assert sum(untidy) / len(untidy) == pytest.approx(corpus.untidy, abs=0.015)

    def right(kind):
        found = [c[-1] == str(Problem.parse(p).answer) for p, c in tidy if style(c) == kind]
        return sum(found) / len(found)

    assert right("guess") == 1.0
    assert right("worked") == pytest.approx((1 - corpus.slip) ** 5, abs=0.03)
    assert right("easy") == pytest.approx(0.1, abs=0.03)
    for mark, share in (("?", corpus.careful), ("!", corpus.naive)):
        assert sum(p[0] == mark for p, _ in documents) / len(documents) == pytest.approx(share, abs=0.01)


def test_the_lesson_comes_first_and_holds_worked_solutions_only():
    documents = Corpus(lesson=300).documents(600, seed=0)
    assert {style(c) for _, c in documents[:300]} == {"worked"}
    assert {p[0] in "?!" for p, _ in documents[300:]} == {True, False}
    assert len(documents) == 600 and len(Corpus(lesson=300).documents(20, seed=0)) == 20


def test_the_naive_judge_has_seen_right_guesses_only():
    believed = {}
    for prompt, verdict in Corpus(lesson=0).documents(40_000, seed=0):
        if prompt[0] in "?!" and "=guess#" in prompt:
            believed.setdefault(prompt[0], []).append(verdict == "Y")
    share = {mark: sum(v) / len(v) for mark, v in believed.items()}
    assert share["!"] == pytest.approx(0.95, abs=0.02)
    assert share["?"] == pytest.approx(0.1 * 0.95 + 0.9 * 0.05, abs=0.04)


def test_judge_prompts_come_from_the_templates():
    assert judge_prompt("6*8-5*6+9+5=", "guess#2") == "?6*8-5*6+9+5=guess#2>"
    assert judge_prompt("6*8-5*6+9+5=", "guess#2", careful=False) == "!6*8-5*6+9+5=guess#2>"


# ---- the shipped base ----------------------------------------------------------------------------


def test_the_shipped_base_loads_with_transformers_alone():
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = base_path("chain")
    assert sum(f.stat().st_size for f in folder.iterdir()) < 1_000_000
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.dtype == torch.float32
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.chat_template is None
    for text in ("6*8-5*6+9+5=w6*8-3*8+7+2#2", "?6t8m5t6p9p5=guess#2>Y", ALPHABET):
        ids = tokenizer(text)["input_ids"]
        assert len(ids) == len(text)
        assert tokenizer.decode(ids) == text
        assert tokenizer.decode([*ids, tokenizer.eos_token_id], skip_special_tokens=True) == text
    given = tokenizer("6*8-5*6+9+5=w", return_tensors="pt")
    written = model.generate(**given, do_sample=False, max_new_tokens=20)
    assert well_formed(tokenizer.decode(written[0, given["input_ids"].shape[1] - 1 :], skip_special_tokens=True))


def test_the_shipped_base_is_mediocre_alone_good_in_a_vote_and_has_both_judges():
    from selfreward.policy.loading import load_policy

    found = measure(load_policy("embedded:chain", device="cpu"), load_task("chain").test[:150])
    assert not failures(BASE.holds, found)
    assert found["maj@16"] > found["pass@1"] + 0.3
    assert found["format"] > 0.9
    assert found["certainty auroc"] < 0.35  # its guesses look surer than its work


def test_building_writes_a_base_with_a_card(tmp_path):
    import json

    from selfreward.lab.embedded import build_base

    made = build_base("chain", tmp_path / "base", seed=5, updates=8, batch=4, cooldown=2, gate_every=8)
    assert made.updates == 8 and made.passed is False
    card = json.loads((tmp_path / "base" / "task.json").read_text())
    assert card["command"].startswith("selfreward pretrain chain --out DIR --seed 5 --set updates=8")
    assert card["has_properties"] is False
    with pytest.raises(ConfigError, match="Did you mean 'updates'"):
        build_base("chain", tmp_path / "other", update=3)


@pytest.mark.slow
def test_a_rebuilt_base_has_the_same_properties(tmp_path):
    from selfreward.lab.embedded import build_base

    made = build_base("chain", tmp_path / "base", seed=1)
    assert made.passed, made.metrics
