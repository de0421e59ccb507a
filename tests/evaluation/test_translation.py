"""Translation metrics, by example. sacreBLEU itself is the reference for BLEU and chrF."""

import builtins
import gzip
import random

import numpy as np
import pytest

from selfreward.errors import ConfigError, DataError
from selfreward.evaluation import translation
from selfreward.lab.tasks import multi30k, multi30k_base
from selfreward.signals import text_metrics as tr

SOURCES = ["Ein Hund läuft.", "Zwei Kinder spielen Ball.", "Eine Frau liest ein Buch."]
HYPOTHESES = ["A dog runs.", "Two children Ball.", '"A woman reads a book."']
REFERENCES = ["A dog is running.", "Two children play ball.", "A woman reads a book."]


def test_corpus_scores_are_those_of_sacrebleu():
    import sacrebleu

    for kind, metric in (
        ("bleu", sacrebleu.BLEU()),
        ("chrf", sacrebleu.CHRF()),
        ("chrf++", sacrebleu.CHRF(word_order=2)),
    ):
        found = tr.corpus_score(kind, HYPOTHESES, REFERENCES, draws=200)
        assert found.value == pytest.approx(metric.corpus_score(HYPOTHESES, [REFERENCES]).score)
        assert found.low <= found.value <= found.high


def test_sentence_scores_lie_between_0_and_1():
    scores = tr.chrf(["A dog.", None, "", "B"], ["A dog.", "A dog.", "A dog.", "A dog."])
    assert scores == [pytest.approx(1.0), 0.0, 0.0, 0.0]
    assert tr.sentence_bleu(["A dog is running."], ["A dog is running."]) == [pytest.approx(1.0)]
    plain, with_words = tr.chrf(["dog A"], ["A dog"])[0], tr.chrf(["dog A"], ["A dog"], words=2)[0]
    assert plain != with_words


def test_a_corpus_score_is_narrower_with_more_sentences():
    few = tr.corpus_score("bleu", HYPOTHESES, REFERENCES)
    many = tr.corpus_score("bleu", HYPOTHESES * 20, REFERENCES * 20)
    assert many.value == pytest.approx(few.value)
    assert many.half_width < few.half_width


def test_columns_of_different_length_are_refused():
    with pytest.raises(DataError, match="2 hypotheses, 1 references"):
        tr.chrf(["a", "b"], ["a"])


def test_missing_extras_are_named(monkeypatch):
    real = builtins.__import__

    def absent(name, *args, **kwargs):
        if name.split(".")[0] in ("sacrebleu", "comet"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", absent)
    tr._metric.cache_clear()
    with pytest.raises(ConfigError, match=r"selfreward\[translation\]"):
        tr.chrf(["a"], ["a"])
    with pytest.raises(ConfigError, match=r"selfreward\[comet\]"):
        tr.comet(["a"], ["b"], ["c"])
    tr._metric.cache_clear()


@pytest.mark.parametrize(
    ("a", "b", "distance"),
    [("a b c", "a b c", 0), ("a b c", "a c", 1), ("a b c", "b c a", 2), ("", "a b", 2), ("a b", "c d e", 3)],
)
def test_edit_distance(a, b, distance):
    assert tr.edit_distance(a.split(), b.split()) == distance == tr.edit_distance(b.split(), a.split())


def test_edit_similarity():
    assert tr.edit_similarity("a b c d", "a b x d") == 0.75
    assert tr.edit_similarity("a b c d", "a b") == 0.5
    assert tr.edit_similarity(None, "a") == tr.edit_similarity("", "a") == 0


def test_length_ratio_counts_words_of_the_whole_corpus():
    assert tr.length_ratio(["a b", None], ["a b c", "d"]) == 0.5


@pytest.mark.parametrize(
    ("hypothesis", "source", "stray"),
    [
        ("A dog runs.", "Ein Hund läuft.", False),
        ('"A dog runs."', "Ein Hund läuft.", True),
        ('He says "hello".', "Er sagt „hallo“.", False),
        ("A dog </answer>", "Ein Hund", True),
        ("A dog (brown) doesn't run, or does it?", "Ein Hund", False),
        ("**A dog**", "Ein Hund", True),
        (None, "Ein Hund", False),
    ],
)
def test_stray_symbols(hypothesis, source, stray):
    assert tr.has_stray_symbols(hypothesis, source) is stray


def test_untranslated_words_are_copies_that_the_target_does_not_know():
    # "Ball" is copied, but English has that word; "spielen" it has not.
    assert tr.untranslated_share("Two children spielen Ball", "Zwei Kinder spielen Ball", {"ball"}) == 0.25
    assert tr.untranslated_share("Zwei Kinder", "Zwei Kinder", ()) == 1
    assert tr.untranslated_share(None, "Zwei Kinder", ()) == 0


def test_language_of_a_text():
    vocabularies = {"en": {"a", "dog", "runs", "in"}, "de": {"ein", "hund", "in"}}
    assert tr.language_of("Ein Hund in", vocabularies) == "de"
    assert tr.language_of("A dog Hund", vocabularies) == "en"
    assert tr.language_of("dog Hund", vocabularies) is None
    assert tr.language_of("in", vocabularies) is tr.language_of(None, vocabularies) is None


def test_the_gate_on_two_groups():
    gate = translation.judge_gate([[0.2, 0.9], [0.5, 0.5]], [[0, 1], [0, 1]])
    assert gate.pairwise.value == 0.75 and gate.ties == 0.5 and not gate.passed
    assert translation.judge_gate([[0.2, 0.9], [0.4, 0.5]], [[0, 1], [0, 1]]).passed
    assert not translation.judge_gate([[0.9, 0.2], [0.5, 0.4]], [[0, 1], [0, 1]]).passed


def test_a_random_judge_does_not_pass_the_gate():
    rng = np.random.default_rng(0)
    gate = translation.judge_gate(list(rng.random((200, 8))), list(rng.random((200, 8))))
    assert 0.45 < gate.pairwise.value < 0.55 and not gate.passed


def test_reward_gap_is_what_the_policy_thinks_too_much():
    assert translation.reward_gap([0.9, 0.7], [0.5, 0.5]).value == pytest.approx(0.3)


def test_all_metrics_at_once():
    vocabularies = {"de": set(tr.words_of(" ".join(SOURCES))), "en": set(tr.words_of(" ".join(REFERENCES)))}
    found = translation.TranslationMetrics(vocabularies, draws=50).evaluate(
        [*SOURCES, "Ein Hund."], [*HYPOTHESES, "Ein Hund."], [*REFERENCES, "A dog."]
    )
    assert found["sentences"] == 4
    assert found["wrong_language"] == 0.25
    assert found["stray_symbols"] == 0.25
    assert found["untranslated"] == 0.25  # the last one is copied whole; English has "ball"
    assert found["missing"] == found["exact"] == 0
    for name, (low, high) in found["intervals"].items():
        assert low <= found[name] <= high
    perfect = translation.TranslationMetrics(draws=50).evaluate(SOURCES, REFERENCES, REFERENCES)
    assert perfect["bleu"] == pytest.approx(100) and perfect["exact"] == perfect["length_ratio"] == 1


# ---- line-aligned text ---------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    for part, n in (("train", 40), ("val", 3), ("test_2016_flickr", 2)):
        for code in ("en", "de"):
            text = "".join(f"{part} {code} sentence {i}\n" for i in range(n))
            if part == "train":
                (tmp_path / f"{part}.{code}.gz").write_bytes(gzip.compress(text.encode()))
            else:
                (tmp_path / f"{part}.{code}").write_text(text)
    return tmp_path


def test_prompts_use_one_side_of_each_pair_that_the_base_has_not_seen(folder):
    task = multi30k.load(folder, pairs=30)
    assert len(task.train) == 10 and len(task.test) == 6
    first, second = task.train[:2]
    assert first.text == "train en sentence 30<2de>" and first.answer == "train de sentence 30"
    assert second.text == "train de sentence 31<2en>"
    assert (first.fields["source_language"], first.fields["target_language"]) == ("English", "German")
    seen = {side for pair in multi30k.read_corpus(folder).pairs["train"][:30] for side in pair}
    assert not seen & {p.fields["source"] for p in task.train}


def test_a_misaligned_or_missing_file_is_named(folder):
    (folder / "val.de").write_text("one\n")
    with pytest.raises(DataError, match=r"val\.en has 3 lines but val\.de has 1"):
        multi30k.read_corpus(folder)
    (folder / "val.de").unlink()
    with pytest.raises(DataError, match=r"neither val\.de nor val\.de\.gz"):
        multi30k.read_corpus(folder)
    with pytest.raises(DataError, match="does not exist"):
        multi30k.read_corpus(folder / "nowhere")


def test_too_little_text_says_how_much_is_needed(folder):
    with pytest.raises(DataError, match="more than 15000"):
        multi30k.load(folder)


def test_a_caption_base_can_be_built_and_judges(folder):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from selfreward.policy.policy import Policy

    out = folder / "base"
    multi30k_base.build(
        out, folder, pairs=30, vocabulary=300, width=16, layers=1, writer_updates=2, updates=2, warmup=1, batch=4
    )
    policy = Policy(AutoModelForCausalLM.from_pretrained(out), AutoTokenizer.from_pretrained(out))
    text = "A girl, 3 years: größer!"
    assert policy.decode(policy.encode_text(text)) == text
    asked = multi30k.TEMPLATES["judge"].format(source=text, target_code="de", hypothesis=text)
    choice = policy.choose([asked], multi30k.SCORES)
    assert choice.probs.shape == (1, 11)
    gate = multi30k_base.measure(policy, multi30k.load(folder, pairs=30).test[:3], samples=2)
    assert 0 <= gate.ties <= 1


def test_spoiled_references_are_scored_by_what_is_left_of_them():
    pairs = [(f"one two three {i}", f"eins zwei drei {i}") for i in range(50)]
    judged = list(multi30k_base.spoiled_references(pairs, ("en", "de"), random.Random(0), per_source=2))
    assert len(judged) == 200 and {j.target_code for j in judged} == {"en", "de"}
    whole = dict([*pairs, *((b, a) for a, b in pairs)])
    assert all(j.score == 10 for j in judged if j.hypothesis == whole[j.source])
    assert min(j.score for j in judged) <= 4
