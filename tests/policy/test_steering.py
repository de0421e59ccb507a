"""Steering: a direction by hand, hooks on every architecture, and a file that comes back."""

import pytest
import torch

from selfreward.errors import ConfigError, DataError, ModelError
from selfreward.policy.architecture import decoder_layers
from selfreward.policy.sampling.hf_sampler import HFSampler
from selfreward.policy.sampling.params import SamplingParams
from selfreward.policy.steering import SteeringVector, capture, contrast_pairs, direction, steered
from selfreward.types import Prompt
from tests.support.models import ARCHITECTURES, make_policy

PROMPTS = [Prompt("a", text="1+2="), Prompt("b", text="12+34=")]
PARAMS = SamplingParams(max_new_tokens=6)


def groups(policy):
    return policy.sample(PROMPTS, 4, PARAMS, seed=0)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_decoder_can_be_read_and_pushed(name):
    policy = make_policy(name)
    width = policy.model.config.hidden_size
    found = groups(policy)
    states = capture(policy, [t for g in found for t in g], layer=-1)
    assert states.shape == (8, width)
    push = SteeringVector(0, torch.linspace(-5, 5, width))  # not constant: a layer norm would take it away
    with steered(policy, push, 1.0):
        changed = groups(policy)
    again = groups(policy)
    texts = [[t.completion for t in g] for g in found]
    assert [[t.completion for t in g] for g in again] == texts  # the hook is gone
    assert [[t.completion for t in g] for g in changed] != texts
    with steered(policy, push, 0.0):
        assert [[t.completion for t in g] for g in groups(policy)] == texts


def test_captured_states_are_the_models_own():
    policy = make_policy("llama")
    trajectory = groups(policy)[1].trajectories[0]
    states = policy.model(input_ids=trajectory.tokens[None], output_hidden_states=True).hidden_states
    start = len(trajectory.segments[0])
    # hidden_states[1] is what layer 0 returns.
    # The final token decides nothing any more.
    assert torch.allclose(capture(policy, [trajectory], 0)[0], states[1][0, start:-1].mean(0), atol=1e-5)
    assert torch.allclose(capture(policy, [trajectory], 0, "first")[0], states[1][0, start], atol=1e-5)
    assert torch.allclose(capture(policy, [trajectory], 0, "last")[0], states[1][0, -2], atol=1e-5)


def test_only_deciding_positions_are_pushed():
    policy = make_policy("llama")
    push = SteeringVector(1, torch.randn(32, generator=torch.Generator().manual_seed(0)))
    seen = []

    def forward(where):
        with steered(policy, push, 2.0, where):
            ids = torch.tensor([[4, 5, 6]])
            seen.append(policy.model(input_ids=ids, output_hidden_states=True).hidden_states[-1][0])

    plain = policy.model(input_ids=torch.tensor([[4, 5, 6]]), output_hidden_states=True).hidden_states[-1][0]
    forward("generated")
    forward("all")
    assert torch.equal(seen[0][:2], plain[:2]) and not torch.allclose(seen[0][2], plain[2])
    assert not torch.allclose(seen[1][0], plain[0])


def test_pairs_are_the_shortest_and_the_longest_right_answer():
    policy = make_policy("llama")
    group = groups(policy)[0]
    for trajectory, n in zip(group, (3, 6, 2, 5), strict=True):
        trajectory.last.tokens = torch.arange(n)
    (pair,) = contrast_pairs([group], [[1, 1, 0, 1]])
    assert [len(t.last) for t in pair] == [3, 6]
    assert contrast_pairs([group], [[1, 1, 0, 1]], least=4) == []
    assert contrast_pairs([group], [[0, 1, 0, 0]]) == []


def test_direction_by_hand(monkeypatch):
    policy = make_policy("llama")
    a, b, c, d = groups(policy)[0].trajectories
    states = {id(a): [3.0, 0.0], id(b): [1.0, 1.0], id(c): [1.0, 2.0], id(d): [1.0, 1.0]}
    monkeypatch.setattr(
        "selfreward.policy.steering.capture", lambda policy, ts, *_: torch.tensor([states[id(t)] for t in ts])
    )
    found = direction(policy, [(a, b), (c, d)], layer=-1)
    assert found.vector.tolist() == [1.0, 0.0]
    assert (found.layer, found.pairs) == (1, 2)


def test_a_file_comes_back(tmp_path):
    vector = SteeringVector(1, torch.tensor([1.0, -2.0, 2.0]), "last", 7, {"model": "m"})
    again = SteeringVector.load(vector.save(tmp_path / "deep" / "v.safetensors"))
    assert torch.equal(again.vector, vector.vector)
    assert (again.layer, again.position, again.pairs, again.meta) == (1, "last", 7, {"model": "m"})
    control = vector.random_like(1)
    assert control.vector.norm().item() == pytest.approx(3.0)
    assert not torch.allclose(control.vector, vector.vector)


def test_errors_speak(tmp_path):
    policy = make_policy("llama")
    with pytest.raises(ConfigError, match="layers 0 to 1"):
        capture(policy, groups(policy)[0].trajectories, 2)
    with pytest.raises(ConfigError, match="one of mean, first, last"):
        capture(policy, [], 0, "middle")
    with pytest.raises(DataError, match="nothing to contrast"):
        direction(policy, [], 0)
    with pytest.raises(ModelError, match="has 3 numbers"), steered(policy, SteeringVector(0, torch.ones(3)), 1.0):
        pass
    policy.sampler = HFSampler()
    with pytest.raises(ConfigError, match="where='all'"), steered(policy, SteeringVector(0, torch.ones(32)), 1.0):
        pass
    with pytest.raises(DataError, match="There is no steering vector"):
        SteeringVector.load(tmp_path / "none")
    (tmp_path / "bad").write_text("nothing")
    with pytest.raises(DataError, match="is not a steering vector"):
        SteeringVector.load(tmp_path / "bad")
    assert len(decoder_layers(policy.model)) == 2


def test_from_the_command_line(tmp_path):
    from typer.testing import CliRunner

    from selfreward.cli.app import app

    vector = tmp_path / "v.safetensors"
    runner = CliRunner()
    made = runner.invoke(app, ["steer", "--prompts", "6", "--samples", "6", "--layer", "0", "--out", str(vector)])
    assert made.exit_code == 0, made.output
    assert "pairs of right answers" in made.output
    kept = SteeringVector.load(vector)
    assert kept.pairs > 0 and kept.meta["concise length"] < kept.meta["verbose length"]
    asked = ["sample", "6*8-5*6+9+5=", "-n", "2"]
    plain, pushed, effort = (
        runner.invoke(app, [*asked, *more])
        for more in ([], ["--steer", str(vector), "--strength", "5"], ["--effort", "0.5"])
    )
    assert plain.exit_code == pushed.exit_code == effort.exit_code == 0
    assert plain.output.splitlines()[0] == effort.output.splitlines()[0] == "6*8-5*6+9+5="
    assert plain.output != pushed.output and plain.output != effort.output
    missing = runner.invoke(app, [*asked, "--steer", str(tmp_path / "none")])
    assert isinstance(missing.exception, DataError)
    folder = runner.invoke(app, ["steer", "--out", str(tmp_path)])
    assert isinstance(folder.exception, ConfigError) and "is a folder" in str(folder.exception)


def test_the_direction_of_the_efficiency_task_shortens():
    """On the base that the proof uses: less filler with it, more against it."""
    from selfreward.lab.tasks.arithmetic import eff
    from selfreward.lab.tasks.arithmetic.eff import problems
    from selfreward.policy.loading import load_policy

    policy, task = load_policy("embedded:eff", device="cpu"), eff.load()
    found = policy.sample(task.train[:24], 12, SamplingParams(max_new_tokens=44), seed=0)
    right = [[task.answers.correct(c, str(g.prompt.answer)) for c in g.completions] for g in found]
    own = direction(policy, contrast_pairs(found, right), layer=1)
    measured = {}
    for strength in (-0.4, 0.0, 0.4):
        with steered(policy, own, strength):
            measured[strength] = problems.evaluate(policy, problems.dev(24))["filler share"]
    assert measured[-0.4] > measured[0.0] > measured[0.4]
