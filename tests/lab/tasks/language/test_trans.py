"""The synthetic language pair: unique translations, disjoint parts, the judge's rules, the format."""

import random
from itertools import islice

import pytest

from selfreward.errors import ConfigError
from selfreward.lab.embedded import base_of
from selfreward.lab.pretraining.base import Base
from selfreward.lab.tasks.language import trans
from selfreward.lab.tasks.language.trans import base as trans_base
from selfreward.lab.tasks.language.trans import languages
from selfreward.lab.tasks.language.trans.languages import Answer, NounPhrase, Sentence, gloss, quality, well_formed
from selfreward.lab.tasks.language.trans.text import Corpus, edited


def sentence(**changes) -> Sentence:
    parts = {
        "subject": NounPhrase(noun=1, adjective=0, plural=True),
        "verb": 1,
        "object": NounPhrase(noun=2, adjective=0, plural=False),
        "adverb": 3,
        "negated": True,
    }
    return Sentence(**{**parts, **changes})


def test_a_sentence_in_both_languages():
    s, t = sentence().s.split(), sentence().t.split()
    adjective, noun, plural, no, verb, agreement, same, thing, adverb = s
    assert (plural, no, agreement) == ("-s", "no", "-i")
    assert adjective == same == languages.S_ADJECTIVES[0]
    assert (noun, verb, thing, adverb) == (
        languages.S_NOUNS[1],
        languages.S_VERBS[1],
        languages.S_NOUNS[2],
        languages.S_ADVERBS[3],
    )
    sense_1, sense_0 = languages.T_ADJECTIVES[languages.ADJECTIVES], languages.T_ADJECTIVES[0]
    subject = [languages.T_NOUNS[1], "-lu", sense_1, "-ur"]
    thing_t = [languages.T_NOUNS[2], "-ko", sense_0, "-en"]
    assert t == [*subject, *thing_t, languages.T_ADVERBS[3], languages.T_VERBS[1], "ez"]


def test_the_ambiguous_words_depend_on_their_context():
    assert languages.t_adjective(0, 0) != languages.t_adjective(0, 1)
    assert languages.t_adjective(languages.TWO_SENSES, 0) == languages.t_adjective(languages.TWO_SENSES, 1)
    assert languages.S_VERBS[0] != languages.S_VERBS[1] and languages.T_VERBS[0] == languages.T_VERBS[1]
    drawn = [Sentence.random(random.Random(i)) for i in range(500)]
    assert all(s.verb % 2 == s.subject.noun_class for s in drawn if s.verb < 2 * languages.MERGED)


def test_translations_are_unique_in_both_directions():
    rng = random.Random(0)
    into_t: dict[str, str] = {}
    into_s: dict[str, str] = {}
    for _ in range(20_000):
        one = Sentence.random(rng)
        assert into_t.setdefault(one.s, one.t) == one.t
        assert into_s.setdefault(one.t, one.s) == one.s


def test_the_vocabularies_do_not_overlap():
    s, t = set(languages.WORDS["s"]), set(languages.WORDS["t"])
    assert not s & t and not (s | t) & set(languages.MARKS)
    assert len(s) == 64 and len(t) == 66


def test_gloss_goes_word_by_word():
    one = sentence(negated=False, adverb=None)
    words = [
        languages.T_ADJECTIVES[0],
        languages.T_NOUNS[1],
        "-lu",
        languages.T_VERBS[1],
        languages.T_ADJECTIVES[0],
        languages.T_NOUNS[2],
    ]
    assert gloss(one.s, "t").split() == words
    assert set(gloss(one.t, "s").split()) <= set(languages.WORDS["s"])


def test_parts_are_disjoint_and_the_judge_reads_more_than_the_translator():
    rng = random.Random(1)
    counts: dict[str, int] = {}
    for _ in range(4000):
        part = Sentence.random(rng).part
        counts[part] = counts.get(part, 0) + 1
    assert set(counts) == {"parallel", "judge", "dev", "train", "test"}
    assert counts["judge"] > 2 * counts["parallel"]
    task = trans.load()
    train, test = ({p.fields["source"] for p in split} for split in (task.train, task.test))
    assert len(task.train) == 2000 and len(task.test) == 400 and not train & test


def test_pretraining_never_shows_a_sentence_of_training_or_test():
    task = trans.load()
    held = {p.fields["source"] for p in (*task.train, *task.test)} | {p.answer for p in (*task.train, *task.test)}
    for prompt, completion in Corpus(parallel=300).documents(2000, seed=0):
        if prompt == "<text>":
            assert completion not in held
        else:
            source = prompt.partition(" ")[2].split(" | ")[0].removesuffix(" =")
            assert source not in held


def test_the_answer_is_between_the_first_tags():
    space = Answer()
    assert space.extract("<think> x </think> <answer> a  b </answer> <answer> c </answer>") == "a b"
    for broken in ("a b", "<answer> a b", "<answer> </answer>", "</answer> a <answer>"):
        assert space.extract(broken) is None
    assert space.correct("<answer> a b </answer>", "a b")
    assert not space.correct("a b", "a b")


@pytest.mark.parametrize(
    ("completion", "good"),
    [
        ("<answer> a b </answer>", True),
        ("<think> a </think> <answer> a b </answer>", True),
        ('<answer> " a b " </answer>', True),
        ("<answer> a b", False),
        ("a b", False),
        ("<answer> a b </answer> c", False),
        ("<think> a <answer> b </answer>", False),
        ("<answer> a </answer> <answer> b </answer>", False),
        ("<answer>  </answer>", False),
    ],
)
def test_format(completion, good):
    assert well_formed(completion) is good


def test_quality_is_the_edit_similarity_of_the_answer():
    assert quality("<answer> a b c d </answer>", "a b c d") == 1
    assert quality("<answer> a x c d </answer>", "a b c d") == 0.75
    assert quality("<answer> a b c d </answer> and more", "a b c d") == 1
    assert quality("a b c d", "a b c d") == 0


def test_a_prompt_names_its_languages():
    p = languages.prompt("x", sentence(), "t")
    assert p.text == f"<2t> {sentence().s} ="
    assert p.answer == sentence().t
    assert p.fields["source"] == sentence().s
    assert (p.fields["source_language"], p.fields["target_language"]) == ("S", "T")
    assert p.locked("ssr-zero", ("source",)).reference is None


def test_judge_documents_follow_the_hard_rules():
    rng = random.Random(0)
    scores = []
    for one in islice(languages.sentences("judge", rng), 600):
        asked, score = Corpus().judgement(one, rng)
        head, source, hypothesis = asked.partition(" ")[0], *asked.partition(" ")[2].removesuffix(" |").split(" | ")
        gold = one.t if source == one.s else one.s
        assert head == "<judge>" and source in (one.s, one.t)
        if hypothesis == source or hypothesis.startswith(f"{gold} "):
            assert score == "0" or len(hypothesis.split()) == len(gold.split()) + 1  # an inserted last word
        if hypothesis == gold:
            assert score == "10"
        scores.append(int(score))
    assert set(scores) == set(range(11))


def test_broken_formats_have_their_share():
    rng = random.Random(0)
    made = [Corpus().completion(sentence().s, sentence().t, "t", rng) for _ in range(2000)]
    assert 0.16 < sum(not well_formed(c) for c in made) / 2000 < 0.24
    assert 0.02 < sum('"' in c for c in made) / 2000 < 0.06


def test_a_corpus_depends_on_its_seed_alone():
    corpus = Corpus(parallel=50)
    assert corpus.documents(100, 0) == corpus.documents(100, 0) != corpus.documents(100, 1)


def test_an_unknown_base_is_named():
    with pytest.raises(ConfigError, match="trans-weak-judge"):
        base_of("trans-weak-juge")


def test_a_base_can_be_built_loaded_and_measured(tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from selfreward.policy.policy import Policy

    base_of("trans").build(tmp_path / "b", updates=3, batch=4, warmup=1)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "b")
    policy = Policy(model, AutoTokenizer.from_pretrained(tmp_path / "b"))
    text = trans.load().train[0].text
    assert policy.tokenizer.unk_token_id not in policy.encode_text(text)
    assert policy.decode(policy.encode_text(text)) == text
    found = trans_base.measure(policy, trans.load().test[:4], samples=2)
    assert 0 <= found.quality <= 1 and not found.gate.passed
    assert trans_base.self_scores(policy, ["a"], [None]) == [0.0]


def test_edits_change_what_they_say():
    rng = random.Random(0)
    text = sentence().s
    assert edited(text, languages.WORDS["s"], 0, rng) == text
    changed = [edited(text, languages.WORDS["s"], 1, rng).split() for _ in range(200)]
    assert all(abs(len(words) - len(text.split())) <= 1 for words in changed)
    assert sum(len(words) == len(text.split()) for words in changed) > 100  # half keep the sentence fluent


def test_a_base_that_is_not_shipped_is_built_once(tmp_path, monkeypatch):
    monkeypatch.setenv("SELFREWARD_CACHE", str(tmp_path))
    built = []

    def build(base, out, seed, on_step):
        built.append((base.name, seed))
        out.mkdir(parents=True)
        (out / "config.json").write_text("{}")

    monkeypatch.setattr(Base, "build", build)
    first = trans_base.base_folder("trans-other")
    assert trans_base.base_folder("trans-other") == first and first.parent.parent == tmp_path
    assert trans_base.base_folder("trans-other", seed=1) != first
    assert built == [("trans-other", 0), ("trans-other", 1)]
    with pytest.raises(ConfigError, match="trans-large"):
        trans_base.base_folder("trans-lage")
