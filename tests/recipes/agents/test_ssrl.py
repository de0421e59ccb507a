"""SSRL: the grammar, rewards and mask by hand, a retriever in the model's place, and the recipe."""

from __future__ import annotations

import builtins
import math

import pytest
import torch

from selfreward.errors import DataError, UserError
from selfreward.lab.embedded import load_task
from selfreward.lab.pretraining.tokenizers import word_tokenizer
from selfreward.lab.tasks.knowledge import facts
from selfreward.policy.loading import load_policy
from selfreward.policy.sampling.params import Completion, SamplingParams
from selfreward.rollouts.envs.retrieval import BM25, Shuffled
from selfreward.rollouts.self_search import formed, information_mask, parse, rising_entropy, sample_with
from selfreward.signals.search import released_format, reward_of, scaling, stepped_reward
from selfreward.types import Prompt
from tests.support.runs import run_recipe, same_weights, whole_and_resumed

GOOD = (
    "<think> next </think> <search> p1 boss </search> <information> p1 boss p2 </information> "
    "<think> done </think> <answer> p2 </answer>"
)


def test_a_well_formed_text_is_read_block_by_block():
    found = parse(GOOD)
    assert found.error == "" and [b.tag for b in found.blocks] == [
        "think",
        "search",
        "information",
        "think",
        "answer",
    ]
    assert found.texts("information") == ["p1 boss p2"] and GOOD[found.blocks[1].start :].startswith("<search>")
    assert formed(GOOD) and not formed(GOOD, searches=2)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "no answer at the end"),
        ("<answer> x </answer>", "must not stand at the beginning"),
        ("<think> a </think>", "no answer at the end"),
        ("<think> a </think> x <answer> b </answer>", "'x' stands outside"),
        ("<think> a </think> <answer> b </answer> x", "'x' stands outside"),
        ("<think> a </think> <answer> </answer>", "<answer> is empty"),
        ("<think> a </think> <search> q </search> <answer> b </answer>", "must not stand after <search>"),
        ("<think> a </think> <information> i </information> <answer> b </answer>", "must not stand after <think>"),
        ("<think> a <search> q </search> </think> <answer> b </answer>", "<search> stands inside of <think>"),
        ("<think> a </think> <answer> b", "<answer> is never closed"),
        ("</think> a", "</think> closes nothing"),
        ("<think> a </think> <answer> b </answer> <think> c </think>", "must not stand after <answer>"),
    ],
)
def test_what_is_wrong_is_said(text, error):
    assert error in parse(text).error and not formed(text)


def test_a_think_and_an_answer_are_a_sentence_without_a_search():
    assert parse("<think> a </think> <answer> b </answer>").error == ""
    assert not formed("<think> a </think> <answer> b </answer>")


def test_rewards_by_hand():
    assert [stepped_reward(c, f, 0.2) for c in (True, False) for f in (True, False)] == [1.0, 0.8, 0.2, 0.0]
    assert reward_of(GOOD, True) == 1.0 and reward_of(GOOD, False) == pytest.approx(0.1)
    assert reward_of("x", True) == pytest.approx(0.9) and reward_of("x", True, "format") == 0.0
    assert reward_of("x", True, "outcome") == 1.0 and reward_of(GOOD, False, "outcome") == 0.0


def test_the_released_form_by_hand():
    assert released_format("<think> a </think> <answer> b </answer>") == 0.5
    assert released_format(GOOD) == 1.0  # two thoughts, one search
    search = "<search> q </search> <information> i </information> "
    assert released_format(f"<think> a </think> {search * 2}<answer> b </answer>") == pytest.approx(0.5 / 3)
    assert released_format(GOOD.replace("p1 boss p2", "")) == 0.0
    assert released_format(f"<think> a </think> {search}<think> b </think> c") == 0.0
    assert released_format("<think> a </think> " * 9 + "<answer> b </answer>") == 0.0
    assert reward_of(GOOD, True, "released") == 1.0


class Words:
    """Stands in for a policy: decodes words."""

    tokenizer = word_tokenizer(facts.vocabulary())

    def decode(self, tokens):
        return self.tokenizer.decode(tokens.tolist() if hasattr(tokens, "tolist") else tokens, skip_special_tokens=True)


def test_the_mask_covers_information_and_its_tags():
    tokens = torch.tensor(Words.tokenizer(GOOD)["input_ids"])
    mask = information_mask(Words(), tokens)
    hidden = Words().decode(tokens[mask == 0])
    assert hidden == "<information> p1 boss p2 </information>"
    assert information_mask(Words(), tokens[:9]).min() == 1  # opened, not closed: nobody has found anything yet
    assert len(information_mask(Words(), tokens[:0])) == 0


def test_the_retriever_finds_by_title():
    engine = BM25(["p1 boss p2", "p2 boss p1", "p1 city c3"], words=lambda text: text.split()[:2])
    assert engine.search(["p1 boss", "p2 boss", "p9 x"]) == [["p1 boss p2"], ["p2 boss p1"], []]
    assert engine.search(["p1 city"], k=2)[0][0] == "p1 city c3"
    assert Shuffled(engine).search(["p1 boss", "p2 boss"]) == [["p2 boss p1"], ["p1 boss p2"]]
    assert Shuffled(engine).search(["p1 boss"]) == [[]]
    with pytest.raises(DataError, match="no documents"):
        BM25([])
    assert all(facts.retriever().search([" ".join(f.split()[:2])]) == [[f]] for f in facts.corpus()[:40])


def test_a_missing_retriever_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "bm25s":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r"selfreward\[search\]"):
        BM25(["a"])


class Told(Words):
    """A policy that says prepared texts; it reads nothing but writes down its contexts."""

    def __init__(self, *texts):
        self.texts, self.read = list(texts), []
        self.end_tokens = [self.tokenizer.eos_token_id]

    def encode(self, prompt):
        return self.tokenizer(prompt.text)["input_ids"]

    def sample_ids(self, contexts, n, params, keys=None, role="solver"):
        self.read += [self.decode(c) for c in contexts]
        found = []
        for _ in contexts:
            ids = torch.tensor([*self.tokenizer(self.texts.pop(0))["input_ids"], *self.end_tokens])
            found.append([Completion(ids, torch.zeros(len(ids)), True, {"entropy": torch.arange(len(ids)).float()})])
        return found


def test_what_is_found_takes_the_place_of_what_was_written():
    policy = Told(GOOD, "<think> done </think> <answer> p7 </answer>")
    engine = BM25(["p1 boss p7"])
    [group] = sample_with(policy, [Prompt("q", "ask p1 boss ?")], engine)
    [trajectory] = group
    assert policy.read[1].endswith("<search> p1 boss </search> <information> p1 boss p7 </information>")
    assert trajectory.meta["retrieved"] == ["<information> p1 boss p7 </information>"]
    assert trajectory.meta["completion"].endswith("<answer> p7 </answer>") and formed(trajectory.meta["completion"])
    assert [(s.role, s.trainable) for s in trajectory.segments] == [
        ("prompt", False),
        ("solver", True),
        ("information", False),
        ("solver", True),
    ]


def test_queries_that_find_nothing_and_those_not_asked_are_the_models_own():
    for engine, when in ((BM25(["z y x"]), lambda e: True), (BM25(["p1 boss p7"]), lambda e: False)):
        texts = [GOOD, GOOD.partition("</search> ")[2]]
        [group] = sample_with(Told(*texts), [Prompt("q", "ask p1 boss ?")], engine, when=when)
        assert group.trajectories[0].meta["retrieved"] == []
        assert group.trajectories[0].meta["completion"] == GOOD
    assert rising_entropy([2.0]) and rising_entropy([2.0, 2.5]) and not rising_entropy([2.5, 2.0])


def test_how_far_repeating_reaches():
    found = scaling([[True, True, False, False], [False] * 4], (1, 2))
    assert found[1] == pytest.approx(0.25) and found[2] == pytest.approx((1 - 1 / 6) / 2)


def test_the_world_and_its_questions():
    task, direct = load_task("facts"), load_task("facts-direct")
    question = next(q for q in facts.questions() if len(q.relations) == 2)
    (a, r), (b, s) = question.facts
    assert facts.world()[a, r] == b and facts.world()[b, s] == question.answer
    sets = [{p.text for p in x} for x in (task.train, task.test, facts.development())]
    assert not sets[0] & sets[1] and not sets[0] & sets[2] and not sets[1] & sets[2]
    written = {q.text for hops in (1, 2) for q in facts.asked("pretrain", hops)}
    assert not written & (sets[0] | sets[1] | sets[2])
    documents = facts.Corpus(questions=2000).documents(0, 0)
    assert not {d[0].replace("say", "ask") for d in documents} & (sets[0] | sets[1] | sets[2])
    assert all(p.text.startswith("say") and p.answer for p in direct.test)


def test_ways_of_answering():
    two = GOOD.replace("<think> done", GOOD[: GOOD.index("<think> done")] + "<think> done")
    assert facts.style(two) == "proper" and facts.style(GOOD) == "hasty"
    assert facts.style("<answer> c1 </answer>") == "direct"
    assert facts.style(GOOD.replace("<search> p1 boss </search> ", "")) == "loose"
    assert facts.style(GOOD.replace("p1 boss </search>", "</search>")) == "blank"
    assert facts.style("nonsense") == "other"


def test_the_base_half_knows():
    policy = load_policy("embedded:facts", device="cpu")
    known = facts.knowledge(policy)
    assert 0.3 < known["knows links"] < 0.95


def test_information_is_not_learned_and_the_rest_is(tmp_path):
    summary, records = run_recipe(
        "ssrl", tmp_path, model="embedded:facts", data="embedded:facts", max_new_tokens=40, options={"group_size": 8}
    )
    assert summary["mechanism"]["count"] > 0 and summary["labels"] == "outcome"
    assert all(math.isfinite(r["loss"]) and 0 <= r["formed"] <= 1 for r in records)


def test_masked_tokens_have_no_weight():
    from selfreward.recipes.registry import load_recipe
    from selfreward.rollouts.run import RunContext

    policy, task = load_policy("embedded:facts", device="cpu"), load_task("facts")
    run = RunContext.of(task, sampling=SamplingParams(40), step=1, steps=1)
    policy.seed(0, "t")
    masked = load_recipe("ssrl", {"group_size": 8}).collect(policy, task.train[:4], run)
    policy.seed(0, "t")
    whole = load_recipe("ssrl", {"group_size": 8, "mask": False}).collect(policy, task.train[:4], run)
    hidden = 0
    for a, b, trajectory in zip(masked.rows, whole.rows, (t for g in masked.groups for t in g), strict=True):
        out = (b.mask - a.mask) > 0
        hidden += int(out.sum())
        assert policy.decode(a.tokens[out]).count("<information>") == trajectory.completion.count("</information>")
        assert float(a.advantage[out].abs().sum() + a.kl[out].sum()) == 0
    assert hidden > 0 and run.counts["information tokens written by the model"] == 2 * hidden


def test_a_resumed_run_repeats_the_bits(tmp_path):
    place = {"model": "embedded:facts", "data": "embedded:facts"}
    trainers = whole_and_resumed("ssrl", tmp_path, prompts_per_step=4, options={"group_size": 4}, **place)
    assert same_weights(*trainers)
