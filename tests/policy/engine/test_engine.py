"""A server samples for the trainer, and is believed only as far as its log-probabilities agree with the trainer's."""

from __future__ import annotations

import json
import shlex

import pytest
import torch

from selfreward.errors import ConfigError, TrainingError, UserError
from selfreward.policy.engine.export import export, server_command, server_state
from selfreward.policy.engine.sampler import EngineSampler, make_engine
from selfreward.policy.engine.weights import fingerprint, probe_of
from selfreward.policy.loading import load_policy
from selfreward.policy.sampling.params import SamplingParams
from selfreward.policy.sampling.torch_sampler import TorchSampler
from selfreward.types import Prompt
from tests.support.fake_engine import FakeEngine, serving
from tests.support.models import make_policy, save_model, tokenizer
from tests.training.test_trainer import trainer

PROMPTS = [Prompt(str(i), text=f"{i}+{i}=") for i in range(5)]
PARAMS = SamplingParams(8)


@pytest.fixture
def start(tmp_path):
    """``start(engine, kind, **options) -> policy`` whose completions come from the fake server."""
    running = []

    def begin(engine: FakeEngine, kind: str = "llama", *, spec: str = "vllm", policy=None, **options):
        server = serving(engine)
        running.append(server)
        policy = policy or make_policy(kind)
        url = f"{spec}:http://127.0.0.1:{server.server_port}/v1"
        policy.sampler = make_engine(url, policy, tmp_path / "engine", **options)
        policy.sampler.server.pause_s = 0.0
        return policy

    yield begin
    for server in running:
        server.shutdown()


def change(policy) -> None:
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.mul_(1.05)


@pytest.mark.parametrize("kind", ["llama", "llama-untied"])
def test_weights_are_sent_when_they_changed_and_completions_are_the_policys(start, kind):
    engine = FakeEngine()
    policy = start(engine, kind)
    groups = policy.sample(PROMPTS, 4, PARAMS, seed=0)
    assert engine.loaded == 2  # the trial, and the weights
    assert [len(g) for g in groups] == [4] * 5 and all("entropy" in t.last.stats for t in groups[0])
    policy.sample(PROMPTS, 4, PARAMS, seed=1)
    assert engine.loaded == 2
    change(policy)
    groups = policy.sample(PROMPTS, [3, 0, 1, 2, 3], PARAMS, seed=0)
    assert engine.loaded == 3 and [len(g) for g in groups] == [3, 0, 1, 2, 3]
    numbers = policy.sampler.numbers
    assert numbers["engine/gap"] < 1e-4 and numbers["engine/probe_gap"] < 1e-4 and numbers["engine/stale"] == 0
    rows = [t for g in groups for t in g]
    own = policy.score([t.tokens for t in rows], [len(t.segments[0].tokens) for t in rows])
    for t, scored in zip(rows, own, strict=True):
        torch.testing.assert_close(t.last.logprobs, scored["logprob"], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("fused", [False, True])
def test_every_update_of_an_optimiser_is_noticed(fused):
    policy = make_policy()
    before = fingerprint(policy.model)
    assert fingerprint(policy.model) == before
    optimizer = torch.optim.AdamW(policy.parameters(), lr=1e-6, fused=fused)
    policy.model.model.norm.weight.grad = torch.ones_like(policy.model.model.norm.weight)
    optimizer.step()
    assert fingerprint(policy.model) != before


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_exchanged_rows_and_columns_are_noticed(dtype):
    model = make_policy().model.to(dtype)
    weight, before = model.get_input_embeddings().weight, fingerprint(model)
    for order in ((lambda w: w.flip(0)), (lambda w: w.flip(1))):
        kept = weight.detach().clone()
        with torch.no_grad():
            weight.copy_(order(kept))
            assert fingerprint(model) != before
            weight.copy_(kept)
        assert fingerprint(model) == before


def test_the_trial_leaves_every_weight_as_it_was(start):
    policy = start(FakeEngine())
    before = {k: v.clone() for k, v in policy.state_dict().items()}
    policy.sample(PROMPTS[:1], 1, PARAMS, seed=0)
    assert all(torch.equal(v, before[k]) for k, v in policy.state_dict().items())


def test_one_request_per_group_seeded_by_step_and_prompt(start):
    engine = FakeEngine()
    policy = start(engine)
    first = policy.sample(PROMPTS, 4, PARAMS, seed=3)
    drawn = [b for b in engine.asked if "seed" in b]
    assert len(drawn) == 5 and {b["n"] for b in drawn} == {4} and len({b["seed"] for b in drawn}) == 5
    assert policy.sample(PROMPTS, 4, PARAMS, seed=3)[2].completions == first[2].completions
    greedy = policy.sample(PROMPTS[:1], 3, SamplingParams(4, temperature=0.0), seed=0)[0]
    assert engine.asked[-1]["n"] == 1 and len(set(greedy.completions)) == 1 and len(greedy) == 3


@pytest.mark.parametrize("forgets", ["lm_head", "layers.1.mlp", "norm"])
def test_a_server_that_keeps_an_old_part_is_caught_at_first_contact(start, forgets, tmp_path):
    """Its weights start as the trainer's: a small update would not show the difference for a long time."""
    engine = FakeEngine()
    policy = start(engine, "llama-untied")
    engine.model.load_state_dict(policy.model.state_dict())
    engine.forgets = forgets
    with pytest.raises(TrainingError, match=r"changed on purpose.*nats apart on average.*engine_tolerance"):
        policy.sample(PROMPTS, 2, PARAMS, seed=0)


def test_a_stale_head_of_a_tied_model_is_explained_with_its_cure(start):
    engine = FakeEngine(forgets="lm_head")
    policy = start(engine, "llama")
    with pytest.raises(TrainingError, match=r"embeddings are tied.*selfreward serve"):
        policy.sample(PROMPTS, 2, PARAMS, seed=0)


def test_a_server_that_goes_stale_later_is_caught_then(start):
    engine = FakeEngine()
    policy = start(engine)
    policy.sample(PROMPTS, 2, PARAMS, seed=0)
    engine.forgets = "mlp"
    for _ in range(3):
        change(policy)
    with pytest.raises(TrainingError, match="after the weights were sent"):
        policy.sample(PROMPTS, 2, PARAMS, seed=1)
    engine.forgets = ""
    policy.sample(PROMPTS, 2, PARAMS, seed=1)
    with torch.no_grad():
        engine.model.lm_head.weight.mul_(1.5)  # somebody else gives the server other weights
    with pytest.raises(TrainingError, match="while sampling"):
        policy.sample(PROMPTS, 2, PARAMS, seed=2)


def test_warn_goes_on_with_the_trainers_log_probabilities(start, capsys):
    policy = start(FakeEngine(forgets="lm_head"), on_stale="warn")
    group = policy.sample(PROMPTS[:1], 4, PARAMS, seed=0)[0]
    assert capsys.readouterr().err.count("warning: The server") == 1
    assert policy.sampler.numbers["engine/stale"] == 1
    own = policy.score([t.tokens for t in group], [len(t.segments[0].tokens) for t in group])
    for t, o in zip(group, own, strict=True):
        torch.testing.assert_close(t.last.logprobs, o["logprob"], atol=1e-5, rtol=1e-5)


def test_a_process_that_alone_sampled_from_a_stale_server_says_so(start, capsys, monkeypatch):
    monkeypatch.setattr("selfreward.runtime.distributed.is_main", lambda: False)
    policy = start(FakeEngine(forgets="lm_head"), on_stale="warn")
    policy.sample(PROMPTS[:1], 1, PARAMS, seed=0)
    sampler = policy.sampler
    assert (
        capsys.readouterr().err == "" and sampler.agreement.stale
    )  # what every process compared, the first one tells of
    sampler.agreement.stale = False
    rows = [([5, 6], [7, 8], [-0.1, -0.1])]
    sampler._completions(make_policy().model, rows, PARAMS, end_tokens=[1])
    assert capsys.readouterr().err.count("warning: The server") == 1


def test_errors_are_tried_again_and_half_answers_are_not_taken(start):
    engine = FakeEngine()
    policy = start(engine)
    policy.sampler.server.attempts = 3
    policy.sample(PROMPTS[:1], 2, PARAMS, seed=0)
    half = json.dumps({"choices": [{"index": 0, "token_ids": [5, 6], "logprobs": {"token_logprobs": [-1.0]}}]})
    gone = json.dumps({"choices": [{"index": 0, "token_ids": [5], "logprobs": {"token_logprobs": [None]}}]})
    engine.fail = [(500, ""), (200, half)]
    assert len(policy.sample(PROMPTS[:1], 1, PARAMS, seed=0)[0]) == 1
    engine.fail = [(503, ""), (200, gone), (200, '{"choi')]
    with pytest.raises(UserError, match=r"no completions for 1 of 1 prompts.*cannot be read.*--resume"):
        policy.sample(PROMPTS[:1], 1, PARAMS, seed=0)
    engine.keep = 1
    with pytest.raises(UserError, match="1 completions, 2 were asked for"):
        policy.sample(PROMPTS[:1], 2, PARAMS, seed=0)
    engine.fail = [(400, '{"error": {"message": "prompt is longer than max_model_len"}}')]
    with pytest.raises(UserError, match=r"refused.*400.*max_model_len"):
        policy.sample(PROMPTS[:1], 2, PARAMS, seed=0)


def test_a_slow_server_is_given_up(start):
    engine = FakeEngine()
    policy = start(engine)
    policy.sample(PROMPTS[:1], 1, PARAMS, seed=0)
    engine.pause_s, policy.sampler.server.timeout_s, policy.sampler.server.attempts = 0.5, 0.1, 2
    with pytest.raises(UserError, match=r"no completions.*timed out"):
        policy.sample(PROMPTS[:1], 1, PARAMS, seed=0)


def test_a_server_that_takes_no_weights_is_told_how_to_start(start):
    policy = start(FakeEngine(takes_weights=False))
    with pytest.raises(UserError, match=r"did not take the weights.*404.*VLLM_SERVER_DEV_MODE=1"):
        policy.sample(PROMPTS[:1], 1, PARAMS, seed=0)


def test_temperature_and_truncation(start):
    """Log-probabilities are those that the loss scores: tempered, of the whole vocabulary."""
    engine = FakeEngine()
    policy = start(engine)
    for params in (SamplingParams(8, temperature=0.7), SamplingParams(8, top_k=3), SamplingParams(8, stats=())):
        group = policy.sample(PROMPTS[:1], 4, params, seed=0)[0]
        own = policy.score(
            [t.tokens for t in group],
            [len(t.segments[0].tokens) for t in group],
            temperature=params.temperature,
        )
        for t, o in zip(group, own, strict=True):
            torch.testing.assert_close(t.last.logprobs, o["logprob"], atol=1e-4, rtol=1e-4)
    engine.raw = True
    with pytest.raises(UserError, match="processed_logprobs"):
        policy.sample(PROMPTS[:1], 4, SamplingParams(8, temperature=0.5), seed=0)


def test_a_frozen_copy_samples_here(start):
    policy = start(FakeEngine())
    frozen = policy.snapshot()
    assert isinstance(frozen.sampler, TorchSampler) and isinstance(policy.sampler, EngineSampler)


def test_lora_is_merged_into_what_the_server_gets(start, tmp_path):
    torch.manual_seed(0)
    policy = load_policy(str(save_model(tmp_path / "m")), lora_rank=2)
    with torch.no_grad():
        for name, parameter in policy.model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.3)
    plain = load_policy(str(tmp_path / "m"))
    start(FakeEngine(), policy=policy)
    policy.sample(PROMPTS, 2, PARAMS, seed=0)
    assert policy.sampler.numbers["engine/gap"] < 1e-4
    state, tied = server_state(policy.model)
    base, _ = server_state(plain.model)
    assert tied and state.keys() == base.keys()
    assert not torch.allclose(state["model.layers.0.mlp.up_proj.weight"], base["model.layers.0.mlp.up_proj.weight"])


def test_any_server_can_write_and_the_trainer_scores_it(start):
    """Servers without ids and log-probabilities, which may also ignore ``n``."""
    engine = FakeEngine(plain=True, keep=2)
    policy = start(engine, spec="fixed")
    groups = policy.sample(PROMPTS[:2], 5, PARAMS, seed=0)
    assert engine.loaded == 0 and [len(g) for g in groups] == [5, 5] and len(engine.asked) == 6
    t = groups[0].trajectories[0]
    own = policy.score([t.tokens], [len(t.segments[0].tokens)])[0]
    torch.testing.assert_close(t.last.logprobs, own["logprob"])
    assert "entropy" in t.last.stats
    if t.last.finished:
        assert int(t.last.tokens[-1]) == tokenizer().eos_token_id


def test_any_server_is_told_the_truncation(start):
    engine = FakeEngine(plain=True)
    policy = start(engine, spec="fixed")
    policy.sample(PROMPTS[:1], 2, SamplingParams(8, top_k=1), seed=0)
    policy.sample(PROMPTS[:1], 2, PARAMS, seed=0)
    assert [body.get("top_k") for body in engine.asked] == [1, None]


def test_a_run_learns_through_the_server(start, tmp_path):
    """Every update reaches it; what it drew is on policy; resumed, it gets the weights of the checkpoint."""
    engine = FakeEngine()
    run = trainer(tmp_path / "r", steps=3, lr=1e-2, checkpoint_every=1)
    start(engine, policy=run.policy)
    run.fit()
    records = [json.loads(line) for line in (tmp_path / "r" / "metrics.jsonl").read_text().splitlines()]
    assert engine.loaded == 5  # the trial, the start, and three updates
    assert all(r["engine/gap"] < 1e-4 and r["sampler_gap"] < 1e-4 and not r["engine/stale"] for r in records[1:])
    again = trainer(tmp_path / "r", steps=4, lr=1e-2)
    start(engine, policy=again.policy)
    again.resume()
    again.fit()
    assert again.step == 4 and engine.loaded == 8


@pytest.mark.parametrize("spec", ["vlm:http://x/v1", "vllm:localhost:8000", "http://x/v1"])
def test_a_wrong_engine_is_named(spec, tmp_path):
    with pytest.raises(ConfigError, match=r"vllm:http://HOST:PORT/v1"):
        make_engine(spec, make_policy(), tmp_path)


def test_a_folder_with_something_else_in_it_is_not_replaced(tmp_path):
    (tmp_path / "thesis.txt").write_text("x")
    with pytest.raises(ConfigError, match=r"holds thesis.txt"):
        make_engine("vllm:http://127.0.0.1:1/v1", make_policy(), tmp_path)


def test_what_a_server_is_started_with(tmp_path):
    from transformers import AutoModelForCausalLM

    policy = make_policy("llama")
    export(policy, tmp_path / "served")
    config = json.loads((tmp_path / "served" / "config.json").read_text())
    assert config["tie_word_embeddings"] is False and policy.model.config.tie_word_embeddings
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "served")
    ids = torch.tensor([[5, 6, 7]])
    assert torch.equal(loaded(ids).logits, policy.model(ids).logits)
    command, environment = server_command(policy, "py", tmp_path / "served", 8123, ["--max-model-len", "64"])
    told = shlex.join(command)
    assert "--host 127.0.0.1 --port 8123" in told and told.endswith("--max-model-len 64")
    assert "--logprobs-mode processed_logprobs" in told and environment["VLLM_SERVER_DEV_MODE"] == "1"


def test_the_probe_is_long_and_never_empty():
    assert [p.tolist() for p in probe_of([[1], [2, 3], [4, 5, 6], [2, 3]])] == [[4, 5, 6], [2, 3]]
    assert [p.tolist() for p in probe_of([[9]])] == [[9, 9]]
