"""What a policy promises: the numbers it samples with are the numbers it scores and trains with."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from selfreward.errors import DataError, RecipeError
from selfreward.policy.architecture import head_of
from selfreward.policy.batching import micro_batches, right_pad
from selfreward.policy.protocol import Wanted
from selfreward.policy.sampling.hf_sampler import HFSampler
from selfreward.policy.sampling.params import SamplingParams
from selfreward.policy.sampling.torch_sampler import draw, truncate, uniforms
from selfreward.policy.scoring.forward import forward_tokens
from selfreward.types import Prompt
from tests.support.models import ARCHITECTURES, make_policy

PROMPTS = [Prompt("a", text="1+2="), Prompt("b", text="12*3+45="), Prompt("c", text="9=")]
PARAMS = SamplingParams(max_new_tokens=12)


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_sampled_statistics_are_those_of_a_full_forward(kind):
    policy = make_policy(kind)
    # Several end tokens, so that rows finish at different times and leave the batch.
    policy.model.generation_config.eos_token_id = list(range(2, 12))
    groups = policy.sample(PROMPTS, 8, PARAMS)
    assert [len(g) for g in groups] == [8, 8, 8]
    trajectories = [t for g in groups for t in g]
    assert len({len(t.last) for t in trajectories}) > 2
    scored = policy.score(
        [t.tokens for t in trajectories],
        [len(t.segments[0]) for t in trajectories],
        stats=("entropy", "self_certainty"),
    )
    for trajectory, numbers in zip(trajectories, scored, strict=True):
        segment = trajectory.last
        torch.testing.assert_close(segment.logprobs, numbers["logprob"], atol=2e-5, rtol=1e-4)
        torch.testing.assert_close(segment.stats["entropy"], numbers["entropy"], atol=2e-5, rtol=1e-4)
        torch.testing.assert_close(segment.stats["self_certainty"], numbers["self_certainty"], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["llama", "gemma3_text"])
def test_a_prompt_draws_the_same_completions_alone_and_in_company(kind):
    policy = make_policy(kind)
    policy.seed(7)
    together = policy.sample(PROMPTS, 4, PARAMS)
    policy.seed(7)
    alone = policy.sample(PROMPTS[1:2], 4, PARAMS)
    assert [t.last.tokens.tolist() for t in together[1]] == [t.last.tokens.tolist() for t in alone[0]]
    policy.seed(7)
    small = policy.sample(PROMPTS, 4, SamplingParams(max_new_tokens=12, max_rows=4))
    assert [t.last.tokens.tolist() for g in together for t in g] == [t.last.tokens.tolist() for g in small for t in g]


@pytest.mark.parametrize("sampler", [None, HFSampler()])
def test_every_prompt_can_have_its_own_number_of_completions(sampler):
    policy = make_policy(sampler=sampler)
    policy.seed(7)
    ragged = policy.sample(PROMPTS, [3, 0, 1], PARAMS)
    assert [len(g) for g in ragged] == [3, 0, 1]
    policy.seed(7)
    even = policy.sample(PROMPTS, 3, PARAMS)
    if sampler is None:  # the first draws of a prompt do not depend on how many there are
        assert ragged[0].completions == even[0].completions
        assert ragged[2].completions == even[2].completions[:1]
    with pytest.raises(RecipeError, match="one number"):
        policy.sample(PROMPTS, [3, 1], PARAMS)


def test_draws_repeat_by_seed_and_differ_between_calls():
    policy = make_policy()
    policy.seed(1)
    first = policy.sample(PROMPTS, 2, PARAMS)[0].completions
    second = policy.sample(PROMPTS, 2, PARAMS)[0].completions
    policy.seed(1)
    assert policy.sample(PROMPTS, 2, PARAMS)[0].completions == first
    assert first != second
    before = policy._seed, policy._calls
    policy.sample(PROMPTS, 2, PARAMS, seed=99)
    assert (policy._seed, policy._calls) == before


def test_a_prompt_that_stands_in_a_call_again_has_draws_and_a_key_of_its_own():
    policy = make_policy()
    a, b = PROMPTS[:2]
    policy.seed(7)
    twice = policy.sample([a, b, a, replace(a, id="c")], 4, PARAMS, view="twin")
    assert [g.key for g in twice] == ["a/twin/solver", "b/twin/solver", "a/twin/solver#2", "c/twin/solver"]
    assert twice[0].completions != twice[2].completions
    policy.seed(7)
    once = policy.sample([a, b], 4, PARAMS)
    assert [g.completions for g in once] == [g.completions for g in twice[:2]]
    # Another question under the same name is no repeat: its draws stay what they were.
    policy.seed(7)
    assert policy.sample([b, replace(a, id="b")], 1, PARAMS)[1].key == "b/solver"


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_what_does_not_fit_into_the_model_is_said(kind):
    policy = make_policy(kind)
    assert policy.context == 128
    long = [5] * 120
    assert len(policy.sample_ids([long], 1, SamplingParams(8))[0]) == 1
    for verb in (
        lambda: policy.sample_ids([[5], long], 1, SamplingParams(9), keys=["a", "b"]),
        lambda: policy.sample([Prompt("b", text="1" * 120)], 1, SamplingParams(9)),
    ):
        with pytest.raises(DataError, match=r"prompt b has 120 tokens and 9 to be written, the model reads 128"):
            verb()
    assert policy.sample_ids([long], 0, SamplingParams(9)) == [[]]
    with pytest.raises(DataError, match="sequence 1 has 129 tokens, the model reads 128"):
        policy.score([torch.tensor([5, 6]), torch.tensor([5] * 129)], [1, 1])
    with pytest.raises(DataError, match="context 0 with its longest target has 131 tokens"):
        policy.score_targets([long], [[[5], [5] * 11]])
    with pytest.raises(DataError, match="context 1 has 130 tokens"):
        policy.choose(["1+1=", "1" * 130], ["2", "3"])


def test_nothing_is_not_read_as_padding():
    policy = make_policy()
    for verb in (
        lambda: policy.sample_ids([[], [5, 6, 7]], 1, PARAMS),
        lambda: policy.sample([Prompt("0", text="")], 1, PARAMS),
        lambda: policy.score([torch.tensor([], dtype=torch.long)], [0]),
        lambda: policy.choose(["", "1+1="], ["1", "2"]),
        lambda: policy.choose(["1+1=", ""], ["11", "23"]),
    ):
        with pytest.raises(DataError, match=r"nothing to read in (prompt|sequence|context) [01]: it has no tokens"):
            verb()


def test_draw_inverts_the_cumulative_distribution():
    logits = torch.tensor([[0.2, 0.0, 0.5, 0.3]]).log().repeat(4, 1)
    u = torch.tensor([0.0, 0.19, 0.21, 0.999999])
    assert draw(logits, u, SamplingParams()).tolist() == [0, 0, 2, 3]  # never token 1, whose probability is 0
    assert draw(logits, u, SamplingParams(temperature=0)).tolist() == [2, 2, 2, 2]
    many = draw(logits[:1].repeat(20000, 1), uniforms(0, "x", 20000, 1)[:, 0], SamplingParams())
    share = torch.bincount(many, minlength=4) / 20000
    torch.testing.assert_close(share, torch.tensor([0.2, 0.0, 0.5, 0.3]), atol=0.02, rtol=0)


def test_truncation_keeps_the_top():
    logits = torch.tensor([[0.2, 0.1, 0.4, 0.3]]).log()
    assert truncate(logits, 2, 1.0).isfinite().tolist() == [[False, False, True, True]]
    assert truncate(logits, 0, 0.65).isfinite().tolist() == [[False, False, True, True]]
    assert truncate(logits, 0, 0.3).isfinite().tolist() == [[False, False, True, False]]


def test_generate_fallback_agrees_with_greedy_decoding():
    greedy = SamplingParams(max_new_tokens=8, temperature=0)
    ours = make_policy().sample(PROMPTS, 1, greedy)
    theirs = make_policy(sampler=HFSampler()).sample(PROMPTS, 1, greedy)
    for a, b in zip(ours, theirs, strict=True):
        assert a.completions == b.completions
        torch.testing.assert_close(
            a.trajectories[0].last.logprobs, b.trajectories[0].last.logprobs, atol=2e-5, rtol=1e-4
        )


@pytest.mark.parametrize("kind", ["llama", "gemma2", "gpt2"])
def test_chunked_logits_have_the_gradients_of_the_whole(kind, monkeypatch):
    policy = make_policy(kind)
    assert head_of(policy.model) is not None
    tokens = right_pad([torch.randint(4, 30, (n,)) for n in (9, 5, 12)])
    wanted = tokens != 0
    results = []
    for chunk in (10**9, 200):
        monkeypatch.setattr("selfreward.policy.scoring.forward.CHUNK_ELEMENTS", chunk)
        policy.model.zero_grad()
        out = forward_tokens(
            policy.model,
            tokens,
            Wanted(wanted, ("entropy", "self_certainty")),
        )
        (out["logprob"].sum() + 0.1 * out["entropy"].sum() + 0.1 * out["self_certainty"].sum()).backward()
        results.append((out["logprob"].detach(), [p.grad.clone() for p in policy.parameters()]))
    torch.testing.assert_close(results[0][0], results[1][0])
    for a, b in zip(results[0][1], results[1][1], strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_choose_reads_probabilities_of_short_and_long_options():
    policy = make_policy()
    choice = policy.choose(["1+1=2?", "1+1=3 or not?"], ["y", "n"])
    assert choice.probs.shape == (2, 2)
    torch.testing.assert_close(choice.probs.sum(-1), torch.ones(2))
    ids = torch.tensor(policy.encode_text("1+1=2?"))
    logits = policy.model(ids[None]).logits[0, -1].log_softmax(-1)
    y, n = (policy.tokenizer(x, add_special_tokens=False)["input_ids"][0] for x in "yn")
    torch.testing.assert_close(choice.probs[0, 0], (logits[y] - torch.logaddexp(logits[y], logits[n])).exp())
    assert 0 < float(choice.mass[0]) < 1
    longer = policy.choose(["1+1=2?"], ["yes", "no"])
    torch.testing.assert_close(longer.probs.sum(-1), torch.ones(1))
    with pytest.raises(RecipeError, match="not distinct"):
        policy.choose(["x"], ["y", "y"])
    with pytest.raises(RecipeError, match="field 'b'"):
        policy.ask("{a}{b}", [{"a": 1}], ["y", "n"])


def test_snapshot_stays_when_the_policy_moves():
    policy = make_policy()
    sequence = [torch.tensor(policy.encode(PROMPTS[1]))]
    before = policy.score(sequence, [1])[0]["logprob"]  # scored before the copy is made: nothing of that is shared
    frozen = policy.snapshot()
    with torch.no_grad():
        for p in policy.parameters():
            p.add_(0.1)
    torch.testing.assert_close(frozen.score(sequence, [1])[0]["logprob"], before)
    assert not torch.allclose(policy.score(sequence, [1])[0]["logprob"], before)


def test_snapshot_of_a_lora_policy_swaps_the_adapter():
    peft = pytest.importorskip("peft")
    plain = make_policy()
    config = peft.LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")
    model = peft.get_peft_model(plain.model, config)
    from selfreward.policy.policy import Policy

    policy = Policy(model, plain.tokenizer)
    assert policy.is_lora
    sequence = [torch.tensor(policy.encode(PROMPTS[1]))]
    before = policy.score(sequence, [1])[0]["logprob"]  # scored before the copy is made: nothing of that is shared
    frozen = policy.snapshot()
    with torch.no_grad():
        for p in policy.parameters():
            p.add_(0.1)
    moved = policy.score(sequence, [1])[0]["logprob"]
    torch.testing.assert_close(frozen.score(sequence, [1])[0]["logprob"], before)
    torch.testing.assert_close(policy.score(sequence, [1])[0]["logprob"], moved)
    assert not torch.allclose(moved, before)


def test_hidden_states_are_those_of_the_last_layer():
    policy = make_policy()
    ids = torch.tensor(policy.encode_text("1+2=3"))
    found = policy.score([ids], [1], hidden_at=[-1])[0]["hidden"]
    whole = policy.model.model(ids[None]).last_hidden_state[0, -1]
    torch.testing.assert_close(found, whole.float())


def test_the_most_likely_tokens_come_with_their_probabilities():
    policy = make_policy()
    ids = [torch.tensor(policy.encode_text(t)) for t in ("1+2=3", "7-2=5+1")]
    for sequence, found in zip(ids, policy.score(ids, [2, 2], top_k=3), strict=True):
        whole = policy.model(sequence[None]).logits[0, 1:-1].log_softmax(-1).topk(3)
        assert found["top_tokens"].tolist() == whole.indices.tolist()
        torch.testing.assert_close(found["top_logprobs"], whole.values, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["llama", "gemma2", "gpt2"])
@pytest.mark.parametrize("chunk", [10**9, 100])
def test_statistics_in_the_forward_are_those_of_the_whole_logits(kind, chunk, monkeypatch):
    monkeypatch.setattr("selfreward.policy.scoring.forward.CHUNK_ELEMENTS", chunk)
    policy = make_policy(kind)
    ids = [torch.tensor(policy.encode_text(t)) for t in ("1+2=3", "7-2=5+1")]
    names = ("gap", "rank", "centred_logit", "value_max", "value_soft")
    for sequence, found in zip(ids, policy.score(ids, [1, 2], stats=names, temperature=0.7), strict=True):
        start = len(sequence) - len(found["gap"])
        logits = policy.model(sequence[None]).logits[0, start - 1 : -1].float() / 0.7
        at, tokens = torch.arange(len(logits)), sequence[start:]
        centred = logits - logits.mean(-1, keepdim=True)
        top = logits.softmax(-1).sort(-1, descending=True).values
        expected = {
            "gap": top[:, 0] - top[:, 1],
            "rank": 1.0 + (logits > logits[at, tokens][:, None]).sum(-1),
            "centred_logit": centred[at, tokens],
            "value_max": centred.amax(-1),
            "value_soft": (centred.softmax(-1) * centred).sum(-1),
        }
        for name in names:
            torch.testing.assert_close(found[name], expected[name], atol=2e-4, rtol=1e-3)


def test_micro_batches_respect_the_budget_and_lose_nobody():
    lengths = [3, 50, 7, 7, 20, 1]
    batches = micro_batches(lengths, 50)
    assert sorted(i for b in batches for i in b) == list(range(6))
    assert all(max(lengths[i] for i in b) * len(b) <= 50 for b in batches)


def test_chat_prompts_need_a_template():
    policy = make_policy()
    message = Prompt("m", messages=({"role": "user", "content": "1+1="},))
    with pytest.raises(DataError, match="no chat template"):
        policy.encode(message)
    policy.tokenizer = copy.deepcopy(policy.tokenizer)
    policy.tokenizer.chat_template = (
        "{% for m in messages %}{{ m['role'] }} {{ m['content'] }} {% endfor %}"
        "{% if add_generation_prompt %}answer {% endif %}"
    )
    assert policy.decode(policy.encode(message)) == "user 1+1= answer "
    assert policy.decode(policy.encode(Prompt("p", text="1+1="))) == "user 1+1= answer "
    policy.chat = "never"
    assert policy.decode(policy.encode(Prompt("p", text="1+1="))) == "1+1="
