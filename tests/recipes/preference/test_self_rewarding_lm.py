"""Self-rewarding language models: grades, pairs, controls, and a resumed run."""

from __future__ import annotations

import pytest
import torch

from selfreward.credit.demonstrations import demonstration_rows, split_seed
from selfreward.credit.pairs import likeness, pair_statistics
from selfreward.errors import DataError, RecipeError
from selfreward.lab.embedded import load_task
from selfreward.policy.loading import load_policy
from selfreward.policy.sampling.params import SamplingParams
from selfreward.recipes.registry import load_recipe
from selfreward.rollouts.run import RunContext
from selfreward.signals.scorers.self_grades import order_accuracy, own_grades, shuffled_grades
from selfreward.types import Group, Prompt, Segment, Trajectory
from tests.support.rounds import one_step, same_after_resume


def group(question, texts):
    prompt = Prompt("p", question)
    head = Segment("prompt", torch.tensor([1]))
    return Group("p", prompt, [Trajectory(prompt, [head, Segment("solver", torch.tensor([2]), t)]) for t in texts])


def context(templates):
    task = load_task("con")
    return RunContext.of(task, sampling=SamplingParams(8), step=1, steps=1, templates=templates)


def test_the_model_grades_its_answers():
    """All met, one fault, most missed: the base's grades come in that order."""
    policy = load_policy("embedded:con", device="cpu")
    asked = [group("<d +c +e -a >b =", ["d c e f f b", "a a a a a a", "d c e f f b"])]
    (grades,) = own_grades(policy, asked, context(load_task("con").templates), votes=9)
    assert grades[0] > 3.5 > 1.5 > grades[1] and grades[0] == grades[2]  # equal answers are judged once
    with pytest.raises(RecipeError, match="no judge template"):
        own_grades(policy, asked, context({}))


def test_statistics_by_hand():
    """Prompts with grades 5 and 2, and 3 and unread: one pair of gap 3, mean 10/3, a quarter unread."""
    from selfreward.credit.pairs import IndexPair

    found = pair_statistics([[5.0, 2.0], [3.0, None]], [[IndexPair(0, 1)], []])
    assert found == pytest.approx({"pairs/kept": 0.5, "pairs/gap": 3, "grade/mean": 10 / 3, "grade/unread": 0.25})
    assert order_accuracy([[5.0, 2.0], [3.0, None]], [[1.0, 0.0], [1.0, 0.0]]) == 1
    assert order_accuracy([[1.0, 1.0]], [[1.0, 0.0]]) == 0.5


def test_the_control_keeps_a_groups_grades_together():
    """Grades 0 to 7 of each of two groups: the same grades in another order, and not the same order twice."""
    groups = [group("q", "abcdefgh"), group("r", "abcdefgh")]
    groups[1].key = "r"
    own = [float(i) for i in range(8)]
    first, second = shuffled_grades(groups, [own, own], context({}))
    assert sorted(first) == sorted(second) == own and first != own and first != second


def test_equal_answers_are_alike():
    """The same string chosen and rejected has cosine 1; another string less; without pairs there is none to tell."""
    from selfreward.credit.rows import pair_experience

    policy = load_policy("embedded:con", device="cpu")
    groups = policy.sample([Prompt("p", "<d +c +e -a >b =")], 2, SamplingParams(8), seed=0)
    assert len(set(groups[0].completions)) == 2
    apart = likeness(policy, pair_experience(groups, [[(0, 1, 1.0, 0.0)]]))
    groups[0].trajectories[1] = groups[0].trajectories[0]
    assert likeness(policy, pair_experience(groups, [[(0, 1, 1.0, 0.0)]])) == pytest.approx(1) and apart < 1
    assert likeness(policy, pair_experience(groups, [[]])) == 0


def test_demonstrations_become_rows():
    policy = load_policy("embedded:con", device="cpu")
    seed, rest = split_seed(
        [Prompt("a", "<d +c +e -a >b =", fields={"demonstration": "d c e f f b"}), Prompt("b", "x")]
    )
    assert [p.id for p in rest] == ["b"]
    rows = demonstration_rows(policy, seed, 3, torch.Generator().manual_seed(0))
    assert len(rows) == 3 and policy.decode(rows[0].tokens[rows[0].nll > 0]) == "d c e f f b"
    assert rows[0].nll.sum() == 7  # six letters and the end
    with pytest.raises(DataError, match="demonstration"):
        demonstration_rows(policy, [], 1, torch.Generator())


def test_two_iterations_and_a_resumed_run_are_the_same(tmp_path):
    summary, steps = same_after_resume(tmp_path, "self-rewarding-lm", {"iterations": 2})
    assert summary["labels"] == "none" and summary["mechanism"]["count"] > 8
    assert [r["round"] for r in steps] == [0, 0, 1, 1]
    assert all(r["prompts/fresh"] == 1 for r in steps)


@pytest.mark.parametrize(
    ("options", "labels"),
    [
        ({"scores": "shuffled"}, "none"),
        ({"scores": "gold"}, "outcome"),
        ({"learn": "seed"}, "seed"),
        ({"learn": "chosen"}, "none"),
    ],
)
def test_arms(tmp_path, options, labels):
    trainer, record = one_step(tmp_path / "x", "self-rewarding-lm", **options)
    assert trainer.recipe.needs() == labels
    assert record["mechanism"] > 0 and record["grad_norm"] > 0


def test_it_never_sees_an_answer():
    recipe = load_recipe("self-rewarding-lm", {})
    task = recipe.adapt(load_task("con"))
    assert (
        recipe.needs() == "none"
        and not any("demonstration" in p.fields for p in task.train)
        and len(recipe._seed) == 64
    )
