"""What a trainer is given when games are played for it."""

import gc
import re
import weakref

import pytest

from orchestra.environments import sources
from orchestra.environments.sources import demonstrations, self_play
from orchestra.errors import CannotAfford, InputError
from orchestra.ledger import Ledger
from orchestra.traces.store import Store


@pytest.fixture
def opened(tmp_path):
    """Opens a source whose models always pass."""
    script = tmp_path / "pass.yaml"
    script.write_text("rules:\n- match: ''\n  reply: <answer><PASS></answer>\n")

    def source(**settings):
        chosen = {"environments": ["kuhn-poker"], "agents": ["player"], "base": f"scripted/{script}"}
        return self_play(**{**chosen, "store": tmp_path / "s.sqlite", **settings})

    return source


async def test_an_agent_holds_every_seat_and_every_move_is_a_turn_with_a_reward(opened):
    source = opened()
    episodes = await source.episodes({"player": ""}, 6, seed=3)
    await source.close()
    assert len(episodes) == 6
    for episode in episodes:
        assert [seat.team for seat in episode.seats] == ["player", "player"]
        assert all(turn.trainable and turn.reward is not None for turn in episode.turns)


async def test_the_same_seed_deals_the_same_cards_and_another_does_not(opened):
    source = opened()
    tasks = [[one.task_id for one in await source.episodes({}, 5, seed=seed)] for seed in (1, 1, 2)]
    await source.close()
    assert tasks[0] == tasks[1] != tasks[2]


async def test_against_a_fixed_opponent_the_agent_sits_at_each_seat_equally_often(opened):
    source = opened(opponent="random")
    episodes = await source.episodes({}, 8, seed=1)
    await source.close()
    held = [tuple(seat.team for seat in episode.seats) for episode in episodes]
    assert held == [("player", "random")] * 4 + [("random", "player")] * 4


async def test_games_are_dealt_out_evenly_and_ids_stay_unique_over_steps(opened):
    source = opened(environments=["kuhn-poker", "tic-tac-toe"])
    episodes = [*await source.episodes({}, 5, seed=1), *await source.episodes({}, 2, seed=1)]
    await source.close()
    assert [one.environment for one in episodes] == ["kuhn-poker"] * 3 + ["tic-tac-toe"] * 2 + [
        "kuhn-poker",
        "tic-tac-toe",
    ]
    assert len({one.episode_id for one in episodes}) == 7


async def test_teams_of_earlier_steps_are_forgotten(opened, monkeypatch):
    made, player = [], sources.player

    def kept_in_mind(*given, **chosen):
        team = player(*given, **chosen)
        made.append(weakref.ref(team))
        return team

    monkeypatch.setattr(sources, "player", kept_in_mind)
    source = opened()
    for step in range(3):
        await source.episodes({}, 2, seed=step)
        gc.collect()
    await source.close()
    assert len(made) == 6
    assert not any(team() for team in made[:4])


async def test_two_agents_hold_the_seats_they_are_given(opened):
    source = opened(agents=["alice", "bob"], seats=["bob", "alice"])
    (episode,) = await source.episodes({}, 1, seed=1)
    await source.close()
    assert [seat.team for seat in episode.seats] == ["bob", "alice"]


async def test_calls_are_paid_by_the_trainer_and_the_games_are_in_the_store(opened, tmp_path):
    ledger = Ledger(None)
    source = opened(ledger=ledger)
    episodes = await source.episodes({}, 2, seed=1)
    await source.close()
    await source.close()
    assert ledger.spent > 0
    with Store.open(tmp_path / "s.sqlite", read_only=True) as store:
        assert store.run(episodes[0].run_id).command == "play"


async def test_a_team_at_a_seat_wears_the_adapters_of_its_nodes(opened, tmp_path):
    team = tmp_path / "pair.yaml"
    team.write_text(
        "schema_version: 1\nname: pair\nnodes:\n- {kind: agent, id: thinker, role: Think.}\n"
        "- {kind: agent, id: player, role: Play.}\nchannels:\n- {source: thinker, target: player}\noutput: player\n"
    )
    source = opened(team=str(team), opponent="random")
    graph = source._team(source.house.environments[0], "player", {"player": "player@1"})
    assert [node.model for node in graph.nodes][1].endswith("+player@1")
    (episode,) = await source.episodes({}, 1, seed=1)
    await source.close()
    assert {transcript.node for transcript in episode.transcripts if transcript.turns} == {"thinker", "player"}


async def test_demonstrations_are_what_a_player_would_have_said(tmp_path):
    source = demonstrations(environments=["kuhn-poker"], store=tmp_path / "s.sqlite")
    episodes = await source.episodes({}, 4, seed=1)
    await source.close()
    turns = [turn for episode in episodes for turn in episode.turns]
    assert {turn.reply for turn in turns} <= {"<answer><PASS></answer>", "<answer><BET></answer>"}
    assert all(turn.messages[0].role == "system" and not turn.trainable for turn in turns)


@pytest.fixture
def other(tmp_path):
    """Another team, which bets by the code of a tool beside its file, under a name of its own."""
    (tmp_path / "moves.py").write_text("def bet(text):\n    return '<answer><BET></answer>'\n")
    path = tmp_path / "bettor.yaml"
    path.write_text(
        "schema_version: 1\nname: bettor\nnodes:\n"
        "- {kind: tool, id: bets, tool: {name: bet, call: 'moves:bet'}}\nchannels: []\noutput: bets\n"
    )
    return path


async def test_another_team_may_be_the_opponent_with_its_tools(opened, other):
    source = opened(opponent=str(other))
    episodes = await source.episodes({}, 2, seed=1)
    await source.close()
    assert [tuple(seat.team for seat in one.seats) for one in episodes] == [
        ("player", "opponent"),
        ("opponent", "player"),
    ]
    assert [one.error for one in episodes] == [None, None]


@pytest.mark.parametrize("name", ["local/base+player", "vllm/base+player@http://127.0.0.1:8000"])
def test_an_opponent_whose_weights_may_change_is_told_to_name_a_version(opened, name):
    at = name.find("@")
    bare, address = (name, "") if at < 0 else (name[:at], name[at:])
    with pytest.raises(InputError, match=re.escape(f"give it a version, {bare}@VERSION{address}")):
        opened(opponent=name)


def test_a_team_with_such_a_player_is_no_opponent_either(opened, other):
    other.write_text(
        "schema_version: 1\nname: pair\nnodes:\n- {kind: agent, id: player, role: Play., model: local/base+player}\n"
        "channels: []\noutput: player\n"
    )
    with pytest.raises(InputError, match="live ones included"):
        opened(opponent=str(other))


@pytest.mark.parametrize("name", ["local/base+player@1f", "local/base+./folder", "vllm/base+player@1@http://host:1"])
def test_an_opponent_with_a_version_or_a_folder_is_taken(opened, name):
    (rival,) = opened(opponent=name).fixed.values()
    assert (rival.name, rival.model) == ("opponent", name)


def test_a_draw_is_worth_something_where_one_of_the_games_can_be_drawn(opened):
    assert opened(environments=["kuhn-poker", "tic-tac-toe"], options={"draw": 0.5}).house.environments


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"sampling": {"temprature": 1}}, "did you mean 'temperature'"),
        ({"sampling": {"temperature": -1, "max_tokens": 0}}, "temperature=-1.*; max_tokens=0"),
        ({"options": {"thinkin": True}}, "did you mean 'thinking'"),
        ({"options": {"draw": 0.5}}, "'kuhn-poker' counts as a draw"),
        ({"environments": []}, "at least one name"),
        ({"environments": ["kuhn-pocker"]}, "did you mean 'kuhn-poker'"),
        ({"agents": ["alice", "bob"]}, "must name the agents that hold them, of alice, bob"),
        ({"seats": ["carol"]}, "must name the agents"),
        ({"opponent": "mtcs:5"}, "no opponent 'mtcs:5'"),
        ({"opponent": "mcts:5"}, "secrets"),
    ],
)
def test_what_cannot_be_played_is_refused_before_anything_is(opened, settings, words):
    with pytest.raises(InputError, match=words):
        opened(**settings)


async def test_a_step_that_money_cut_short_is_told_as_that(opened):
    source = opened(ledger=Ledger(100))
    with pytest.raises(CannotAfford, match="cut short"):
        await source.episodes({}, 4, seed=1)
    await source.close()
