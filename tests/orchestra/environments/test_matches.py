"""Matches: who sits where, what is counted, and what a resumed one asks for again."""

import json
import re
from dataclasses import replace
from math import inf, nan

import pyspiel
import pytest

from graphs import Sampling
from graphs.motifs import MOTIFS
from graphs.serialisation import write
from orchestra.environments import environment, match, opponent, player
from orchestra.environments.matches import CALL_SECONDS, usual_sampling
from orchestra.environments.seating import seated
from orchestra.environments.written import read_options
from orchestra.errors import InputError
from orchestra.execution.settings import Settings
from orchestra.testing import Answer, FaultyServer
from orchestra.traces.store import Store

FIRST_LEGAL = "rules:\n- match: '(?s).*LEGAL ACTIONS:\\n(<[^>]*>)'\n  reply: '<answer>\\1</answer>'\n"
LAST_LEGAL = "rules:\n- match: '(?s).*LEGAL ACTIONS:\\n.*(<[^>]*>)'\n  reply: '<answer>\\1</answer>'\n"


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A folder with models that always pass, always bet, or talk; and a store."""
    (tmp_path / "passes.yaml").write_text(FIRST_LEGAL)
    (tmp_path / "bets.yaml").write_text(LAST_LEGAL)
    (tmp_path / "talks.yaml").write_text("rules:\n- match: ''\n  reply: I would pass.\n")
    (tmp_path / "fails.yaml").write_text("rules:\n- match: ''\n  error: out of order\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


async def kuhn(*teams, games=24, **chosen):
    return await match("kuhn-poker", teams, games=games, **{"store": "store.sqlite", **chosen})


def returns(played):
    return [[seat.came_to for seat in game.seats] for game in played.games]


async def test_a_model_plays_with_the_plain_player_and_all_is_counted_by_seat(desk):
    played = await kuhn("scripted/bets.yaml", "scripted/passes.yaml")
    bets, passes = played.results
    assert (bets.team, bets.seat, passes.team, passes.seat) == ("scripted/bets.yaml", 0, "scripted/passes.yaml", 1)
    assert bets.mean_return.mean == 1.0, "whoever bets takes the ante of whoever passes"
    assert (bets.wins, passes.losses, bets.valid.mean, bets.output_tokens) == (24, 24, 1.0, 24)
    assert (played.finished, played.exit_code, played.ran_out) == (24, 0, None)


async def test_a_reply_that_is_no_move_loses_the_most_and_counts_against_valid_moves(desk):
    talks, passes = (await kuhn("scripted/talks.yaml", "scripted/passes.yaml")).results
    assert (talks.mean_return.mean, talks.normalised.mean, talks.valid.mean) == (-2.0, 0.0, 0.0)
    assert (passes.mean_return.mean, passes.wins, passes.valid, passes.output_tokens) == (0.0, 24, None, 0)


async def test_both_seats_play_the_same_cards_and_every_team_has_a_result_over_them(desk):
    played = await kuhn("scripted/bets.yaml", "scripted/passes.yaml", both_seats=True)
    assert [seating.teams for seating in played.seatings] == [
        ("scripted/bets.yaml", "scripted/passes.yaml"),
        ("scripted/passes.yaml", "scripted/bets.yaml"),
    ]
    assert [(one.team[9:-5], one.seat) for one in played.results] == [
        *(("bets", 0), ("passes", 1), ("passes", 0), ("bets", 1)),
        *(("bets", None), ("passes", None)),
    ]
    assert played.results[4].mean_return.mean == 1.0
    assert (played.results[4].games, played.results[4].mean_return.count) == (48, 24)


async def test_over_three_seats_everybody_sits_everywhere_once(desk):
    played = await match(
        "openspiel:kuhn_poker(players=3)", ["random", "random", "random"], games=2, both_seats=True, store="s.sqlite"
    )
    held = [seating.teams for seating in played.seatings]
    assert held[1] == ("3: random", "1: random", "2: random")
    assert [sorted(teams) for teams in zip(*held, strict=True)] == [["1: random", "2: random", "3: random"]] * 3


async def test_one_team_holds_every_seat(desk):
    played = await match("mini-hanabi", ["random"], games=3, store="store.sqlite")
    first, second = played.results
    assert first.mean_return == second.mean_return, "they play together"
    assert (first.team, second.team, first.wins) == ("random", "random", None)


async def test_graphs_and_programs_may_be_given_as_they_are(desk):
    place = environment("kuhn-poker")
    graph = player(place, model="scripted/bets.yaml", name="mine")
    played = await kuhn(graph, opponent("random", place), games=3)
    assert played.seatings[0].teams == ("mine", "random")


async def test_a_team_s_file_plays_with_its_own_nodes(desk):
    write(MOTIFS["chain"](["You read the table.", "You decide."], model="scripted/passes.yaml"), "pair.yaml")
    played = await kuhn("pair.yaml", "random", games=4)
    assert played.results[0].team == "pair"
    with Store.open("store.sqlite", read_only=True) as store:
        chats = [span for span in store.spans(played.run_id) if span.name.startswith("chat")]
    assert len(chats) >= 8


async def test_the_equilibrium_does_not_lose_more_than_theory_says(desk):
    place = environment("kuhn-poker")
    first, _ = (await match("kuhn-poker", ["cfr"], games=1000, store="store.sqlite")).results
    assert first.mean_return.low <= -1 / 18 <= first.mean_return.high
    cfr, _ = (await match("kuhn-poker", ["cfr", "random"], games=1000, store="store.sqlite")).results
    expected = value_against_random(place)
    assert cfr.mean_return.low <= expected <= cfr.mean_return.high
    assert expected > -1 / 18


def value_against_random(place):
    """What the first seat expects when it plays the average policy and the second any move alike, by enumeration."""
    policy = opponent("cfr", place).policy

    def value(state):
        if state.is_terminal():
            return state.returns()[0]
        if state.is_chance_node():
            moves = state.chance_outcomes()
        elif state.current_player() == 0:
            moves = policy.action_probabilities(state).items()
        else:
            moves = [(move, 1 / len(state.legal_actions())) for move in state.legal_actions()]
        return sum(weight * value(state.child(move)) for move, weight in moves)

    return value(pyspiel.load_game("kuhn_poker").new_initial_state())


async def test_the_same_seed_is_the_same_match_and_another_is_not(desk):
    one, same, other = [await kuhn("random", "cfr", seed=seed, games=40) for seed in (1, 1, 2)]
    assert returns(one) == returns(same) != returns(other)


async def test_failed_games_are_told_and_a_match_of_nothing_else_exits_1(desk):
    played = await kuhn("scripted/fails.yaml", "random", games=3)
    assert (played.exit_code, len(played.failed), played.results[0].failures) == (1, 3, 3)
    assert "out of order" in played.failed[0].error
    assert played.results[0].mean_return is None


async def test_a_cap_that_runs_out_leaves_what_was_played_and_a_higher_one_goes_on(desk):
    teams, whole = ("scripted/bets.yaml", "scripted/passes.yaml"), {"both_seats": True, "games": 8}
    one_at_a_time = Settings(concurrency=1)
    short = await kuhn(*teams, **whole, settings=one_at_a_time, max_cost_usd="0.0005")
    assert short.exit_code == 3
    assert 0 < short.finished < 16
    assert short.results[0].failures == 0
    more = await kuhn(*teams, **whole, settings=one_at_a_time, max_cost_usd="1", resume=short.run_id)
    assert (more.exit_code, more.finished) == (0, 16)


async def test_a_team_that_holds_both_seats_is_exploited_once(desk):
    played = await kuhn("scripted/bets.yaml", games=1, exploit=2)
    assert list(played.exploited) == ["scripted/bets.yaml"]
    with Store.open("store.sqlite", read_only=True) as store:
        names = [span.name for span in store.spans(played.run_id)]
    assert names.count("exploitability scripted/bets.yaml") == 1


async def test_money_that_runs_out_on_exploitability_is_told(desk):
    played = await kuhn("scripted/bets.yaml", "random", games=1, exploit=40, max_cost_usd="0.0005")
    assert (played.exploited, played.exit_code) == ({}, 3)
    assert "the exploitability of scripted/bets.yaml" in played.ran_out


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"games": 25}, "games"),
        ({"seed": 1}, "seed"),
        ({"options": {"history": "actions"}}, "options"),
        ({"both_seats": True}, "both_seats"),
        ({"sampling": Sampling(temperature=0.5)}, "teams"),
        ({"settings": Settings(model="scripted/echo")}, "model"),
    ],
)
async def test_a_match_cannot_go_on_as_another(desk, change, what):
    teams = ("scripted/bets.yaml", "random")
    done = await kuhn(*teams)
    with pytest.raises(InputError, match=f"started with other {what}"):
        await kuhn(*teams, resume=done.run_id, **change)
    assert returns(await kuhn(*teams, resume=done.run_id)) == returns(done)


async def test_a_finished_match_that_is_resumed_asks_for_nothing(desk):
    async with FaultyServer(bets_or_passes) as server:
        teams = (f"vllm/loopback@{server.url.removesuffix('/v1')}?token_ids=false", "cfr")
        done = await kuhn(*teams)
        asked = len(server.served)
        again = await kuhn(*teams, resume=done.run_id)
        assert len(server.served) == asked
    assert (returns(again), again.paid_nano) == (returns(done), done.paid_nano)
    assert [one.document() for one in again.results] == [one.document() for one in done.results]


def bets_or_passes(record):
    """A move that depends on the card alone."""
    card = re.search(r"[Yy]our (?:own )?card is (\w)", record.body["messages"][-1]["content"])
    return Answer(text="<answer><BET></answer>" if card and card[1] == "K" else "<answer><PASS></answer>")


async def test_a_transcript_that_a_server_refuses_for_its_length_is_a_violation_and_no_failure(desk):
    async with FaultyServer(hears_one_message) as server:
        played = await kuhn(f"vllm/loopback@{server.url.removesuffix('/v1')}?token_ids=false", games=3)
    first, second = played.results
    assert (first.mean_return.mean, second.mean_return.mean) == (-2.0, 0.0)
    assert (first.valid.mean, second.valid.mean, played.failed) == (0.5, 1.0, ())


def hears_one_message(record):
    """The first seat passes, the second bets, and what the first is told then is too long."""
    if len(record.body["messages"]) > 2:
        said = (
            "This model's maximum context length is 64 tokens. However, your prompt contains at least 65 input tokens"
        )
        return Answer(status=400, body=json.dumps({"error": {"message": said, "type": "BadRequestError"}}))
    second = "Player 0 chose PASS" in record.body["messages"][1]["content"]
    return Answer(text=f"<answer><{'BET' if second else 'PASS'}></answer>")


@pytest.mark.parametrize(
    ("teams", "chosen", "complaint"),
    [
        (["random"] * 3, {}, "2 seats, and 3 teams"),
        (["mcts:10", "random"], {}, "others' secrets"),
        (["mtcs:10", "random"], {}, "did you mean 'mcts:10'"),
        (["smollm2", "random"], {}, "a model such as local/smollm2-135m-instruct"),
        (["random"], {"both_seats": True}, "leave --both-seats out"),
        (["random"], {"games": 0}, "at least one game"),
        (["random"], {"sampling": Sampling()}, "teams that are a model"),
        (["random"], {"options": {"thinkin": True}}, "did you mean 'thinking'"),
        (["openai/gpt-4.1-mini", "random"], {}, "--max-cost"),
    ],
)
async def test_what_is_wrong_is_said_before_anything_is_spent(desk, teams, chosen, complaint):
    with pytest.raises(InputError, match=re.escape(complaint)):
        await kuhn(*teams, **chosen)
    if (desk / "store.sqlite").exists():
        with Store.open("store.sqlite", read_only=True) as store:
            assert not any(store.journal(run.run_id) for run in store.runs())


@pytest.mark.parametrize(
    ("name", "options", "complaint"),
    [
        ("kuhn-pokr", {}, "did you mean 'kuhn-poker'"),
        ("kuhn-poker:x", {}, "'kuhn-poker' takes nothing after ':'; write kuhn-poker"),
        ("kuhn-poker:", {}, "takes nothing after ':'"),
        ("openspiel", {}, "write openspiel:GAME"),
        ("openspiel:", {}, "write openspiel:GAME"),
        ("reasoning-gym", {}, "write reasoning-gym:KIND"),
        ("reasoning-gym:chain_sum", {}, "random would copy the right answer"),
        ("kuhn-poker", {"draw": 0.5}, "no game of 'kuhn-poker' counts as a draw"),
        ("openspiel:tic_tac_toe", {"draw": 0.5}, "counts as a draw"),
    ],
)
async def test_an_environment_that_is_named_or_set_wrong_is_refused(desk, name, options, complaint):
    with pytest.raises(InputError, match=re.escape(complaint)):
        await match(name, ["random"], options=options, store="store.sqlite")


@pytest.mark.parametrize(("low", "high"), [(-inf, inf), (0.0, inf), (nan, nan), (1.0, -1.0)])
async def test_an_environment_whose_returns_have_no_range_is_refused_before_it_is_played(desk, monkeypatch, low, high):
    place = environment("kuhn-poker")
    place.nature = replace(place.nature, low=low, high=high)
    monkeypatch.setattr("orchestra.environments.matches.opened", lambda name, options: place)
    with pytest.raises(InputError, match=r"declares returns of .*the least and the most"):
        await kuhn("random", "cfr")
    assert not (desk / "store.sqlite").exists()


def test_a_program_may_not_sit_where_it_would_copy_the_answer_but_somebody_s_own_may():
    class Own:
        name = "own"

        def choose(self, table, rng):
            return "42"

    place, rest = environment("reasoning-gym:chain_sum"), {"sampling": Sampling(), "on_start": lambda name, total: None}
    with pytest.raises(InputError, match="copy the right answer"):
        seated([opponent("random", place)], place, **rest)
    assert [one.name for one in seated([Own()], place, **rest)] == ["own"]


def test_a_wrong_team_is_told_before_another_solves_the_game():
    begun = []
    with pytest.raises(InputError, match="no team"):
        seated(["cfr", "nobody"], environment("leduc-poker"), sampling=Sampling(), on_start=begun.append)
    assert begun == []


def test_options_have_the_types_that_the_rules_give_them():
    assert read_options(["thinking=true", "scale=2", "length=none"]) == {
        "thinking": True,
        "scale": 2.0,
        "length": "none",
    }
    assert read_options(["size=5", "mode=fast"]) == {"size": 5, "mode": "fast"}


@pytest.mark.parametrize(
    ("pairs", "complaint"),
    [
        (["thinking"], "write it like"),
        (["thinking=yes"], "true or false"),
        (["scale=much"], "is a number"),
        (["length=relased"], "did you mean 'released'"),
        (["scale=1", "scale=2"], "given twice"),
    ],
)
def test_an_option_that_is_written_wrong_is_refused(pairs, complaint):
    with pytest.raises(InputError, match=complaint):
        read_options(pairs)


async def test_progress_is_told_by_seating_and_game(desk):
    told = []

    def start(title, total):
        told.append([title, total, 0])
        return lambda: told[-1].__setitem__(2, told[-1][2] + 1)

    await kuhn("cfr:10", "random", games=5, both_seats=True, on_start=start)
    assert told == [
        ["cfr:10 solves kuhn-poker", 1, 1],
        ["cfr:10 against random", 5, 5],
        ["random against cfr:10", 5, 5],
    ]


async def test_a_recorded_match_is_replayed_without_its_model(desk):
    settings = Settings(call_seconds=CALL_SECONDS)
    teams = ("scripted/bets.yaml", "random")
    done = await kuhn(*teams, settings=replace(settings, record=desk / "all.jsonl"))
    (desk / "bets.yaml").unlink()
    again = await kuhn(*teams, settings=replace(settings, replay=desk / "all.jsonl"), store=None)
    assert returns(again) == returns(done)


def test_who_thinks_may_say_more():
    assert usual_sampling({"thinking": True}).max_tokens > usual_sampling({}).max_tokens
