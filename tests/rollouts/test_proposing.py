"""The task factory: novelty and validity by example, lists there and back, and an exact state."""

from __future__ import annotations

import pytest
import torch

from selfreward.errors import ConfigError
from selfreward.policy.policy import Policy
from selfreward.policy.sampling.params import Completion, Sampler, SamplingParams
from selfreward.rollouts.proposing import (
    Introspection,
    ListFormat,
    TaskFactory,
    flaw,
    is_novel,
    load_check,
    longest_common_subsequence,
    rouge_l,
    units,
)
from selfreward.types import Group, Segment, Trajectory
from tests.support.models import make_model, tokenizer

PARAMS = SamplingParams(max_new_tokens=40)
LETTERS = ListFormat("", "{question},", "", ",", "=", r"[a-z]{4}=")


def test_novelty_by_hand():
    assert longest_common_subsequence("abcd", "acbd") == 3  # a c d or a b d
    # "the cat sat" and "the cat": common 2, so recall 2/3, precision 1, F = 4/5.
    assert rouge_l(["the", "cat", "sat"], ["the", "cat"]) == pytest.approx(0.8)
    assert rouge_l([], ["a"]) == 0.0
    assert units("The cat, sat.") == ["the", "cat", "sat"]
    assert units("6*8=") == list("6*8=")
    assert not is_novel("Tom has two red apples", ["tom has two green apples"])  # 4 of 5 words: F 0.8
    assert is_novel("Tom has two red apples", ["Ann sold nine green apples today"])
    assert is_novel("apples red two has tom", ["tom has two red apples"])  # same words, other order: F 0.2


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("How many apples has Tom?", None),
        ("How many apples?", "length"),
        ("word " * 151, "length"),
        ("What does the graph of sales show?", "keyword"),
        ("Write a program that adds numbers", "program"),
        ("(a) How many are left now?", "start"),
        ("Éric has how many red apples?", "start"),
    ],
)
def test_validity_filters(text, reason):
    assert flaw(text.strip()) == reason


def test_numbered_lists_there_and_back():
    form = ListFormat(header="New ones:\n")
    assert form.write(["A b c?", "D e f?"]) == "New ones:\n1. A b c?\n2. D e f?\n3."
    text = " How many pens?\n4. How many\ndogs?\n5. How ma"
    assert form.read(text, finished=False) == ["How many pens?", "How many\ndogs?"]
    assert len(form.read(text)) == 3


def test_a_tasks_own_format():
    templates = {"list_header": "L", "list_item": "{question},", "list_lead": "", "list_separator": ","}
    form = ListFormat.of(templates | {"list_suffix": "=", "list_problem": r"\d\+\d=", "judge": "?"})
    assert form.write(["1+2=", "3+4="]) == "L1+2,3+4,"
    assert form.read("5+6,7+", finished=False) == ["5+6="]


class Author(Sampler):
    """A sampler that writes the same continuation, whatever the list."""

    def __init__(self, text):
        ids = tokenizer()(text, add_special_tokens=False)["input_ids"]
        self.ids = torch.tensor([*ids, tokenizer().eos_token_id])

    def __call__(self, model, prompts, n, params, **rest):
        return [[Completion(self.ids, torch.zeros(len(self.ids)), True)] for _ in prompts]


def write(factory, text, n=4, step=1):
    policy = Policy(make_model(), tokenizer(), sampler=Author(text.replace(",", "#")))
    form = ListFormat("", "{question}#", "", "#", "=", r"[a-z]{4}=")
    return factory.propose(policy, n, step, form, PARAMS, torch.Generator().manual_seed(0), rounds=1)


def test_only_valid_and_new_problems_are_handed_out():
    factory = TaskFactory()
    factory.add_seeds(["abcd="])
    prompts, counts = write(factory, "abce,wxyz,12,wxyz,pqrs")
    # abce= shares 4 of 5 characters with the seed, wxyz comes twice, and 12 is no problem.
    assert [p.text for p in prompts] == ["wxyz=", "pqrs="]
    assert counts == {"written": 5, "accepted": 2, "known": 2, "form": 1}
    assert [p.id for p in prompts] == ["own-0", "own-1"] and prompts[0].reference is None


def test_surplus_waits_and_expires():
    factory = TaskFactory(lifetime=1)
    factory.add_seeds(["abcd="])
    first, _ = write(factory, "efgh,ijkl,mnop", n=1, step=1)
    assert [p.text for p in first] == ["efgh="] and len(factory.waiting) == 2
    later, _ = write(factory, "qrst", n=1, step=2)
    assert [p.text for p in later] == ["ijkl="]
    assert write(factory, "uvwx", n=4, step=4)[0][0].text == "uvwx="  # mnop is older than a step


def test_examples_mix_seeds_with_the_pool():
    factory = TaskFactory(shots=4, from_pool=2)
    factory.add_seeds(["a", "b", "c", "d"])
    generator = torch.Generator().manual_seed(0)
    assert sorted(factory.examples(generator)) == ["a", "b", "c", "d"]
    factory.keep(["x", "y", "z"])
    drawn = factory.examples(generator)
    assert len(set(drawn)) == 4 and len(set(drawn) & {"x", "y", "z"}) == 2


def test_a_restored_factory_goes_on_alike():
    factory = TaskFactory()
    factory.add_seeds(["abcd="])
    write(factory, "efgh,ijkl,mnop", n=1, step=1)
    factory.keep(["efgh="])
    other = TaskFactory()
    other.load_state_dict(factory.state_dict())
    assert write(other, "qrst", n=2, step=2) == write(factory, "qrst", n=2, step=2)
    assert other.state_dict() == factory.state_dict()


def test_a_check_of_ones_own():
    factory = TaskFactory(check=load_check("tests.rollouts.test_proposing:starts_with_w"))
    factory.add_seeds(["abcd="])
    prompts, counts = write(factory, "wxyz,pqrs")
    assert [p.text for p in prompts] == ["wxyz="] and counts["check"] == 1
    with pytest.raises(ConfigError, match="names no function"):
        load_check("nowhere:nothing")


def starts_with_w(question):
    return question.startswith("w")


def test_examples_are_ones_own_as_soon_as_they_proved_right():
    class Writer:
        def __init__(self, *texts):
            self.texts, self.asked = iter(texts), []

        def sample(self, prompts, n, params, role):
            self.asked += [p.text for p in prompts]
            made = [Segment("writer", torch.zeros(1), next(self.texts), trainable=True) for _ in prompts]
            return [Group(p.id, p, [Trajectory(p, [s])]) for p, s in zip(prompts, made, strict=True)]

    def generator(*key):
        return torch.Generator().manual_seed(len(str(key)))

    pool = Introspection(shots=2, size=1)
    writer = Writer("fly\nand more", "walk", "", "fly", "swim", "held")
    seeds, words = {"can": ["walk"], "cannot": ["dive"]}, {"can": "+ {seeds} >", "cannot": "- {seeds} >"}
    found = pool.write(writer, seeds, words, 3, SamplingParams(), generator, ["held"])
    # One line each; "walk" was an example, "" is nothing, "fly" came twice, "held" is held out.
    assert found == [("can-0", "fly"), ("cannot-1", "swim")]
    assert pool.keep("can", "fly") and not pool.keep("can", "fly") and pool.keep("can", "run")
    again = Writer("a", "b")
    pool.write(again, seeds, words, 1, SamplingParams(), generator)
    assert set(again.asked[0].split()[1:-1]) == {"walk", "run"}  # of its own the newest alone
