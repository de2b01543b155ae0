import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.environments import environment
from orchestra.errors import InputError

GAMES = ("tic-tac-toe", "connect-four", "kuhn-poker", "leduc-poker", "mini-hanabi", "simple-hanabi")


def moved(table, *actions):
    """The outcomes of moves in turn."""
    return [table.reply(table.answer(action)) for action in actions]


def dealt(name, cards, **options):
    """A game in which the players hold `cards`, as OpenSpiel numbers them."""
    place = environment(name, **options)
    return next(table for table in map(place.begin, range(500)) if table.state.history()[: len(cards)] == list(cards))


def at_random(table, seed):
    """Outcomes of random moves to the end."""
    rng, outcomes = random.Random(seed), []
    while table.to_move is not None:
        outcomes += moved(table, rng.choice(table.legal()))
    return outcomes


@pytest.mark.parametrize(
    ("moves", "returns"),
    [
        (("<PASS>", "<PASS>"), (1.0, -1.0)),
        (("<BET>", "<PASS>"), (1.0, -1.0)),
        (("<BET>", "<BET>"), (2.0, -2.0)),
        (("<PASS>", "<BET>", "<PASS>"), (-1.0, 1.0)),
        (("<PASS>", "<BET>", "<BET>"), (2.0, -2.0)),
    ],
)
def test_kuhn_poker_is_won_as_its_rules_say(moves, returns):
    table = dealt("kuhn-poker", (2, 1))  # K against Q
    outcomes = moved(table, *moves)
    assert table.to_move is None
    assert table.returns == returns
    mover = (len(moves) - 1) % 2
    assert outcomes[-1].rewards[mover] == returns[mover] + 0.05
    assert outcomes[-1].rewards[1 - mover] == returns[1 - mover]


@pytest.mark.parametrize("moves", [(), ("<PASS>",), ("<BET>",), ("<PASS>", "<BET>")])
def test_a_violation_at_kuhn_poker_costs_the_ante_and_ten(moves):
    table = dealt("kuhn-poker", (2, 1))
    moved(table, *moves)
    seat = table.to_move
    outcome = table.reply("<answer><FOLD></answer>")
    assert outcome.violation == "'<FOLD>' is not among the legal actions <PASS>, <BET>"
    assert (outcome.rewards[seat], outcome.rewards[1 - seat]) == (-11.0, 0.0)
    assert table.returns[seat] == -2.0
    assert table.to_move is None


def test_a_raise_at_leduc_poker_is_at_stake():
    table = dealt("leduc-poker", (0, 2))
    moved(table, "<RAISE>", "<RAISE>", "<CALL>", "<RAISE>")
    assert "Chips in the pot: 9 from player 0, 5 from player 1." in table.observation(1)
    assert table.reply("I fold.").rewards == (0.0, -15.0)
    again = dealt("leduc-poker", (0, 2))
    moved(again, "<RAISE>", "<RAISE>", "<CALL>", "<RAISE>", "<FOLD>")
    assert again.returns == (5.0, -5.0)


def test_both_jacks_are_the_same_jack_to_whoever_holds_one():
    one, other = dealt("leduc-poker", (0, 2)), dealt("leduc-poker", (1, 2))
    assert one.state_key(0) == other.state_key(0)
    assert one.observation(0) == other.observation(0)
    assert one.state_key(0) != dealt("leduc-poker", (2, 1)).state_key(0)


def test_cards_of_equal_rank_share_the_pot_at_leduc_and_that_is_no_draw():
    table = dealt("leduc-poker", (0, 1))
    assert moved(table, "<CALL>", "<CALL>", "<CALL>", "<CALL>")[-1].rewards == (0.0, 0.05)
    assert table.returns == (0.0, 0.0)


def test_a_drawn_game_pays_both_the_same():
    table = environment("tic-tac-toe").begin(0)
    cells = ["X11", "O00", "X20", "O02", "X01", "O21", "X12", "O10", "X22"]
    outcomes = moved(table, *(f"<{cell[0]}({cell[1]},{cell[2]})>" for cell in cells))
    assert outcomes[-1].rewards == (pytest.approx(0.15), 0.1)
    assert table.returns == (0.0, 0.0)
    assert environment("tic-tac-toe", draw=0.0).rules.draw == 0.0


def test_a_won_game_of_connect_four_is_won_by_four_in_a_row():
    table = environment("connect-four").begin(0)
    moved(table, "<X(3)>", "<O(0)>", "<X(3)>", "<O(0)>", "<X(3)>", "<O(0)>")
    grid = table.observation(0).rpartition("GAME STATE:\n")[2].splitlines()[:6]
    assert grid == ["_______", "_______", "_______", "O__X___", "O__X___", "O__X___"]
    assert moved(table, "<X(3)>")[-1].rewards == (1.05, -1.0)


def test_a_full_column_of_connect_four_is_no_legal_action():
    table = environment("connect-four").begin(0)
    moved(table, "<X(3)>", "<O(3)>", "<X(3)>", "<O(3)>", "<X(3)>", "<O(3)>")
    assert table.legal() == ("<X(0)>", "<X(1)>", "<X(2)>", "<X(4)>", "<X(5)>", "<X(6)>")


@given(st.integers(0, 10**6))
def test_a_card_of_hanabi_pays_both_once_and_the_last_life_takes_everything(seed):
    table = environment("mini-hanabi", format_bonus=0.0, length="none").begin(seed)
    rng, came_to, lives = random.Random(seed), 0.0, 3
    while table.to_move is not None:
        play = [move for move in table.legal() if move.startswith("<Play")]
        (outcome,) = moved(table, rng.choice(play))
        lives -= outcome.rewards[0] <= 0
        assert (
            outcome.rewards[0] == outcome.rewards[1] == (1.0 if outcome.rewards[0] > 0 else 0.0 if lives else -came_to)
        )
        came_to += outcome.rewards[0]
    assert table.returns == (came_to, came_to)


def test_a_violation_at_hanabi_costs_the_offender_the_points_and_ten_and_everybody_s_return():
    place = environment("mini-hanabi")
    for table in map(place.begin, range(100)):
        if moved(table, "<Play card 0>")[0].rewards == (1.05, 1.0):
            break
    assert table.reply("<answer><Play card 7></answer>").rewards == (0.0, -11.0)
    assert table.returns == (0.0, 0.0)


def test_a_player_of_hanabi_is_told_what_was_revealed_and_what_that_rules_out():
    table = next(
        t for t in map(environment("mini-hanabi").begin, range(100)) if "card 0: R1;" in t.observation(0)
        and "card 1: Y2;" in t.observation(0)
    )  # fmt: skip
    moved(table, "<Reveal player +1 color R>")
    assert "  card 0: colour R (revealed), rank 1 or 2\n  card 1: colour Y, rank 1 or 2\n" in table.observation(1)
    assert "Information tokens: 2" in table.observation(1)


@pytest.mark.parametrize("name", GAMES)
@pytest.mark.parametrize("history", [None, "actions", "none"])
def test_others_moves_are_shown_as_asked(name, history):
    place = environment(name, history=history)
    table = place.begin(1)
    move = table.legal()[0]
    state = table.observation(0).rpartition("GAME STATE:\n")[2]
    moved(table, move)
    news = table.observation(1).partition("Information of Turn-2 (you):")[0]
    full = history is None and place.nature.deterministic
    assert ("CHOSEN ACTION:" in news) == (history != "none")
    assert (state in news) == full
    assert news.startswith(f"Information of Turn-1 (player 0):\n{'GAME STATE' if full else 'CHOSEN'}") == bool(news)


def test_what_is_private_is_never_shown_in_full():
    with pytest.raises(InputError, match="others' secrets"):
        environment("kuhn-poker", history="full")


def test_moves_that_may_be_private_are_not_shown_in_generic_words():
    table = environment("openspiel:turn_based_simultaneous_game(game=matrix_rps())").begin(0)
    moved(table, table.legal()[0])
    assert "CHOSEN ACTION" not in table.observation(1)


def test_an_observation_tells_what_came_since_the_seat_s_own_last_move_however_often_it_is_asked():
    table = environment("tic-tac-toe", history="actions").begin(0)
    moved(table, "<X(0,0)>", "<O(0,1)>", "<X(0,2)>")
    assert table.observation(1) == table.observation(1)
    assert [line for line in table.observation(1).splitlines() if line.startswith("Information")] == [
        "Information of Turn-3 (player 0):",
        "Information of Turn-4 (you):",
    ]


@given(st.sampled_from(GAMES), st.integers(0, 10**6), st.sampled_from([0.5, 1.0, 2.0]))
def test_without_bonuses_rewards_are_returns_to_scale_and_sum_to_what_is_declared(name, seed, scale):
    place = environment(name, format_bonus=0.0, draw=0.0, length="none", scale=scale)
    table = place.begin(seed)
    outcomes = at_random(table, seed)
    earned = [sum(rewards) for rewards in zip(*(outcome.rewards for outcome in outcomes), strict=True)]
    assert earned == pytest.approx([scale * came_to for came_to in table.returns])
    assert place.nature.low <= min(table.returns) <= max(table.returns) <= place.nature.high
    if place.nature.zero_sum:
        assert sum(table.returns) == 0
    else:
        assert len(set(table.returns)) == 1


@given(st.sampled_from(GAMES), st.integers(0, 10**6), st.integers(0, 30))
def test_whoever_breaks_the_rules_alone_pays_for_it(name, seed, when):
    place, rng = environment(name), random.Random(seed)
    table, made = place.begin(seed), 0
    while made < when and len(table.state.legal_actions()) > 0:
        moved(table, rng.choice(table.legal()))
        made += 1
        if table.to_move is None:
            return
    seat = table.to_move
    outcome = table.reply("no move")
    assert outcome.rewards[seat] <= -10
    assert outcome.rewards[1 - seat] == 0
    assert table.returns[seat] == place.nature.low


def test_a_long_reply_costs_and_a_short_one_does_not():
    tables = [dealt("kuhn-poker", (0, 1)) for _ in range(2)]
    short, long = (
        table.reply("<answer><PASS></answer>", tokens) for table, tokens in zip(tables, (20, 3000), strict=True)
    )
    assert short.rewards[0] == 0.05
    assert long.rewards[0] == pytest.approx(0.05 - 0.2337, abs=5e-5)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("openspiel:kuhn_pokr", "did you mean 'kuhn_poker'"),
        ("openspiel:goofspiel", "do not take turns"),
        ("openspiel:tarok", "draws by itself"),
        ("openspiel:breakthrough(rows=two)", "does not load"),
        ("openspiel:nfg_game", "does not load"),
        ("openspiel:crossword", "does not load"),
        ("openspiel", "write openspiel:GAME"),
        ("kuhn-pokr", "did you mean 'kuhn-poker'"),
        ("orchestra.environments.rules:Rules", "which is no environment"),
    ],
)
def test_what_cannot_be_opened_is_refused_with_the_reason(name, said):
    with pytest.raises(InputError, match=said):
        environment(name)


def test_an_option_that_there_is_not_is_refused():
    with pytest.raises(InputError, match="thinkin"):
        environment("kuhn-poker", thinkin=True)


def test_games_without_their_library_say_which_extra_brings_it():
    import subprocess
    import sys

    code = (
        "import sys; sys.modules['pyspiel'] = None\n"
        "from orchestra.environments import environment\n"
        "try: environment('kuhn-poker')\n"
        "except ImportError as missing: print(type(missing).__name__, missing)\n"
        "from importlib import import_module\n"
        "try: import_module('orchestra.environments.games.bots')\n"
        "except ImportError as missing: print(type(missing).__name__, missing)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (
        done.stdout.splitlines()
        == ["MissingExtra a game of OpenSpiel needs an extra: pip install 'orchestra-mas[games]'"] * 2
    )
