"""Games: rules by hand, transcripts that teach only one's own words, and exploitability without sampling."""

from __future__ import annotations

import builtins
import math

import pytest
import torch

from selfreward.credit.advantages import EmaBaseline
from selfreward.errors import ConfigError, UserError
from selfreward.lab.pretraining.tokenizers import EOS, word_tokenizer
from selfreward.policy.policy import Policy
from selfreward.policy.sampling.params import SamplingParams
from selfreward.rollouts.envs.games.base import illegal_returns
from selfreward.rollouts.envs.games.exact import behaviour
from selfreward.rollouts.envs.games.measure import cross_play, match_statistics, versus
from selfreward.rollouts.envs.games.openspiel import SpielGame, equilibrium, exploitability, game, nash_conv
from selfreward.rollouts.envs.games.play import PolicyPlayer, ScriptedPlayer, optimal, play, table, uniform
from selfreward.rollouts.envs.games.scripts import script, threats, words
from selfreward.types import Prompt, Segment


class Speaker:
    """Stands in for a policy whose replies have given probabilities: ``says(context words) -> {reply: p}``."""

    def __init__(self, says):
        self.says, self.tokenizer = says, word_tokenizer(words())
        self.end_tokens = [self.tokenizer.eos_token_id]

    def encode_text(self, text):
        return self.tokenizer(text)["input_ids"]

    def score_targets(self, contexts, targets, **_):
        found = []
        for context, replies in zip(contexts, targets, strict=True):
            chances = self.says(self.tokenizer.decode(context))
            texts = [self.tokenizer.decode(r, skip_special_tokens=True) for r in replies]
            found.append([{"logprob": torch.tensor([math.log(max(chances.get(t, 0.0), 1e-30))])} for t in texts])
        return found


class Says:
    """A player with one fixed reply per turn, written in whole words."""

    def __init__(self, *replies):
        self.replies, self.tokenizer = list(replies), word_tokenizer(words())

    def tokens(self, text, first):
        return self.tokenizer(text)["input_ids"]

    def reply(self, matches, roles):
        text = [self.replies.pop(0) for _ in matches]
        return [Segment("player", torch.tensor(self.tokens(f"{t} {EOS}", False)), t, trainable=True) for t in text]


def sit(name: str, *players, seed: int = 0, key: str = "m"):
    return table(Prompt("p", "x"), script(name), players, key, seed)


def test_pay_offs_of_an_illegal_reply():
    assert illegal_returns(1, 2.0) == (2.0, -2.0)
    assert illegal_returns(0, 2.0, "released") == (-1.5, 0.5)


def test_role_conditioned_advantages_by_hand():
    means = EmaBaseline(0.5, corrected=False)
    assert means.one_by_one(["a", "a", "a"], [1.0, 1.0, -1.0]).tolist() == [1.0, 0.5, -1.75]
    assert means.value("a") == -0.125
    # A role of its own: the other's past does not count.
    assert means.one_by_one(["b", "a"], [1.0, 0.0]).tolist() == [1.0, 0.125]
    again = EmaBaseline(0.5, corrected=False)
    again.load_state_dict(means.state_dict())
    assert again.value("a") == means.value("a") == -0.0625


def test_kuhn_poker_can_be_exploited_by_what_theory_says():
    kuhn = game("kuhn_poker")
    table_of = equilibrium("kuhn_poker")
    assert len(table_of) == 12 and nash_conv(kuhn, table_of) < 0.002
    even = {view: {"0": 0.5, "1": 0.5} for view in table_of}
    assert exploitability(kuhn, even) == pytest.approx(11 / 24)
    # Against a bet on every card each role folds J, is even with Q and wins 2 with K: (-1 + 0 + 2) / 3.
    bets = {view: {"0": 0.0, "1": 1.0} for view in table_of}
    assert nash_conv(kuhn, bets) == pytest.approx(2 / 3)


def test_tables_with_holes_are_refused():
    kuhn = game("kuhn_poker")
    with pytest.raises(UserError, match="no row for 12"):
        nash_conv(kuhn, {})
    half = {view: {"0": 0.5} for view in equilibrium("kuhn_poker")}
    with pytest.raises(UserError, match=r"sum to 0\.5"):
        nash_conv(kuhn, half)


def test_a_silent_model_has_the_table_of_its_words():
    found = behaviour(Speaker(lambda context: {"so bet": 0.5, "beats0 so bet": 0.4}), script("kuhn"))
    assert len(found.table) == 12
    assert all(row["1"] == pytest.approx(1.0) for row in found.table.values())
    assert found.illegal["0"] == pytest.approx(0.1) and found.thinking["0"] == pytest.approx(0.4 / 0.9)
    assert nash_conv(game("kuhn_poker"), found.table) == pytest.approx(2 / 3)


def test_a_later_decision_is_averaged_over_earlier_thoughts():
    def says(context: str) -> dict[str, float]:
        if "obet" not in context:  # the first turn of the first role: passes, one time in four with a thought
            return {"beats0 so pass": 0.25, "so pass": 0.75}
        return {"so bet": 1.0} if "beats0" in context else {"so pass": 1.0}

    found = behaviour(Speaker(says), script("kuhn"))
    assert found.table["0pb"] == pytest.approx({"0": 0.75, "1": 0.25})
    assert found.table["0"] == pytest.approx({"0": 1.0, "1": 0.0})


def test_a_bad_chance_in_words():
    with pytest.raises(ConfigError, match="cannot be listed"):
        behaviour(Speaker(lambda _: {}), script("tictactoe"))
    with pytest.raises(ConfigError, match=r"no game 'kun'.*kuhn"):
        script("kun")


def test_threats_by_hand():
    # x on 1 and 2, o on 4 and 5: who moves wins on 3, the other threatens 6.
    match = sit("tictactoe", Says("so m1", "so m2"), Says("so m4", "so m5"))
    for role in (0, 1, 0, 1):
        match.take(role, match.players[role].reply([match], [role])[0])
    assert threats(match.state) == "win3 block6 "
    assert script("tictactoe").write("2", match.state) == "win3 block6 so m3"
    assert match.transcripts[0][0].text == "ttt first"
    assert [s.text for s in match.transcripts[1]] == ["ttt second", "y1", "so m4", "y2", "so m5"]


def test_one_learns_only_what_one_wrote():
    match = sit("tictactoe", Says("so m1", "so m2", "win3 block- so m3"), Says("so m4", "so m5"))
    play([match])
    first, second = match.trajectory(0), match.trajectory(1)
    assert match.returns == (1.0, -1.0) == (first.reward, second.reward)
    assert [s.trainable for s in first.segments] == [False, True, False, True, False, True, False][
        : len(first.segments)
    ]
    assert {s.role for s in first.segments if not s.trainable} == {"prompt", "opponent"}
    assert first.completion == "win3 block- so m3" and first.meta["thinking"] == pytest.approx(2 / 3)
    assert match_statistics([match])["tic_tac_toe/turns"] == 5


@pytest.mark.parametrize("reply", ["so m1", "so pass", "m2", "win3 so m2", ""])
def test_a_reply_that_names_no_legal_action_ends_the_game(reply):
    match = sit("tictactoe", Says("so m1"), Says(reply))
    play([match])
    assert match.illegal == 1 and match.returns == (1.0, -1.0)
    assert match.trajectory(1).meta["illegal"] and not match.trajectory(0).meta["illegal"]


def test_an_unfinished_reply_is_no_action():
    match = sit("kuhn", Says("so bet"), Says())
    reply = match.players[0].reply([match], [0])[0]
    reply.finished = False
    match.take(0, reply)
    assert match.illegal == 0 and match.mover is None


def test_a_role_reads_its_own_card_alone():
    matches = [sit("kuhn", Says(), Says(), seed=s) for s in range(30)]
    seen = {(m.transcripts[0][0].text[-1], m.transcripts[1][0].text[-1]) for m in matches}
    assert all(a != b for a, b in seen) and len(seen) == 6
    assert matches[3].state.history == sit("kuhn", Says(), Says(), seed=3).state.history


def test_perfect_players_never_lose():
    tells = script("tictactoe")
    perfect, random_ = ScriptedPlayer(optimal("tic_tac_toe"), 1), ScriptedPlayer(uniform, 2)
    found = versus(perfect, random_, tells, 60)
    assert found.loss == 0 and found.win > 0.7 and found.illegal == 0
    matrix = cross_play({"perfect": perfect, "random": random_}, tells, 60)
    assert matrix["perfect"]["random"] == -matrix["random"]["perfect"] == found.mean
    assert matrix["perfect"]["perfect"] == 0


def test_demonstrations_are_written_in_the_voice_of_a_policy():
    voice = Speaker(lambda _: {})
    expert = ScriptedPlayer(optimal("kuhn_poker"), 0, voice=voice)
    match = sit("kuhn", expert, expert)
    play([match])
    own = [s for s in match.transcripts[0] if s.trainable]
    assert own and voice.tokenizer.decode(own[0].tokens).endswith(EOS) and own[0].text.startswith("beats")


def test_a_game_does_not_depend_on_its_neighbours():
    from selfreward.policy.loading import load_policy

    policy: Policy = load_policy("embedded:games", device="cpu")

    def transcripts(keys: list[str]) -> dict[str, list[str]]:
        policy.seed(3, "x")
        player = PolicyPlayer(policy, SamplingParams(6, stats=()))
        matches = [table(Prompt(k, k), script("tictactoe"), (player, player), k, 0) for k in keys]
        return {m.key: [s.text for s in m.transcripts[0]] for m in play(matches)}

    assert transcripts(["a", "b", "c"])["b"] == transcripts(["b"])["b"]


def test_unknown_games_and_a_missing_library(monkeypatch):
    with pytest.raises(UserError, match="no game 'kuhn_pocker'"):
        SpielGame("kuhn_pocker")
    with pytest.raises(UserError, match="simultaneous"):
        SpielGame("matrix_rps")
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "pyspiel":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r"selfreward\[games\]"):
        SpielGame("tic_tac_toe")
