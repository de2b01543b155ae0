import asyncio
import gc
import random
import weakref
from itertools import count

import pytest

from orchestra.environments import environment, opponent, play
from orchestra.environments.games.spiel import pyspiel
from orchestra.errors import InputError


def played(place, players, seed):
    """Returns of one game between programs."""
    table, steps = place.begin(seed), count()
    while (seat := table.to_move) is not None:
        action = players[seat].choose(table, random.Random(f"{seed}/{next(steps)}"))
        assert table.reply(table.answer(action)).valid
    return table.returns


@pytest.mark.parametrize("seat", [0, 1])
def test_tree_search_seldom_loses_to_chance(seat):
    place = environment("tic-tac-toe")
    players = [opponent("random", place), opponent("random", place)]
    players[seat] = opponent("mcts:100", place)
    assert sum(played(place, players, seed)[seat] for seed in range(12)) >= 6


def test_tree_search_takes_a_win_that_is_there():
    table = environment("connect-four").begin(0)
    for move in ("<X(3)>", "<O(0)>", "<X(3)>", "<O(0)>", "<X(3)>", "<O(1)>"):
        table.reply(table.answer(move))
    assert opponent("mcts:100", environment("connect-four")).choose(table, random.Random(1)) == "<X(3)>"


def test_the_average_policy_of_regret_minimisation_is_close_to_an_equilibrium():
    place = environment("kuhn-poker")
    solved = opponent("cfr", place)
    assert solved.name == "cfr:1000"
    assert pyspiel.exploitability(place.game, solved.policy) < 0.002
    rough = opponent("cfr:10", environment("leduc-poker"))
    uniform = pyspiel.UniformRandomPolicy(pyspiel.load_game("leduc_poker"))
    assert pyspiel.exploitability(pyspiel.load_game("leduc_poker"), rough.policy) < 1
    assert pyspiel.exploitability(pyspiel.load_game("leduc_poker"), uniform) > 2


def test_the_equilibrium_at_kuhn_poker_does_not_bluff_with_a_queen():
    place = environment("kuhn-poker")
    table = next(t for t in map(place.begin, range(50)) if t.state.history()[0] == 1)
    solved = opponent("cfr", place)
    said = [solved.choose(table, random.Random(draw)) for draw in range(40)]
    assert said.count("<PASS>") >= 38


@pytest.mark.parametrize(
    ("name", "game"), [("mcts:5", "tic-tac-toe"), ("cfr:5", "kuhn-poker"), ("random", "leduc-poker")]
)
def test_the_same_numbers_choose_the_same_move(name, game):
    place = environment(game)
    chosen = {opponent(name, place).choose(place.begin(3), random.Random(7)) for _ in range(3)}
    assert len(chosen) == 1


@pytest.mark.parametrize(
    ("name", "game", "said"),
    [
        ("mtcs", "tic-tac-toe", "no opponent 'mtcs'"),
        ("mcts:many", "tic-tac-toe", "no opponent 'mcts:many'"),
        ("mcts:0", "tic-tac-toe", "at least one simulation"),
        ("cfr:0", "kuhn-poker", "at least one iteration"),
        ("mcts:10", "kuhn-poker", "the others' secrets"),
        ("cfr", "tic-tac-toe", "small games of hidden cards"),
        ("cfr", "openspiel:kuhn_poker(players=3)", "small games of hidden cards"),
        ("cfr", "mini-hanabi", "small games of hidden cards"),
        ("mcts:10", "reasoning-gym:chain_sum", "is none"),
    ],
)
def test_an_opponent_that_cannot_play_a_game_is_refused(name, game, said):
    with pytest.raises(InputError, match=said):
        opponent(name, environment(game))


def test_an_opponent_for_one_game_is_for_it_in_generic_words_too():
    assert opponent("cfr:5", environment("openspiel:kuhn_poker")).name == "cfr:5"


async def test_games_between_programs_let_others_have_a_turn_and_are_forgotten_once_told(opened):
    kuhn, ticks, alive = environment("kuhn-poker"), 0, []

    async def tick():
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    async with opened([]) as (runtime, _):
        other = asyncio.ensure_future(tick())
        async for episode in play(runtime, kuhn, [opponent("random", kuhn)] * 2, range(20), concurrency=1):
            alive.append(weakref.ref(episode))
        other.cancel()
        del episode
    gc.collect()
    assert ticks > 20
    assert sum(one() is not None for one in alive[:-1]) == 0
