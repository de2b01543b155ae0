"""From facts on episodes to results by seat, against numbers known by hand or by theory."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.environments import GameResult, Nature, normalised, seat_results
from orchestra.environments.playing import FACT_MOVES, FACT_RETURN, FACT_VIOLATION
from orchestra.environments.results import SeatGame, results_over_seats
from orchestra.errors import InputError
from orchestra.traces.episode import Episode, Score, Seat, Transcript, Turn, Usage


def nature(**changes):
    usual = {"name": "game", "seats": 2, "low": -2.0, "high": 2.0, "zero_sum": True, "cooperative": False}
    return Nature(**{**usual, "deterministic": False, "steps": 9, **changes})


def game(*returns, violator=None, error_type=None, failed=None, moves=1):
    """A game with these returns; `error_type` means that it did not end."""
    seats = tuple(
        SeatGame(
            came_to=None if error_type else came_to,
            moves=moves - (at == violator),
            violations=int(at == violator),
            input_tokens=10,
            output_tokens=2,
            failed=at == failed,
        )
        for at, came_to in enumerate(returns)
    )
    return GameResult(episode_id="g", seats=seats, error=error_type and "why", error_type=error_type)


def label(name, **value):
    return Score(name=name, value={"episode_id": "g", **value}, source="game", at=0.0)


def turn(span_id, output_tokens):
    usage = Usage(input_tokens=10, output_tokens=output_tokens)
    return Turn(span_id=span_id, messages=(), reply="x", usage=usage, started_ns=0, latency_seconds=0.0)


def test_the_least_is_0_and_the_most_is_100_and_kuhn_s_equilibrium_in_between():
    assert [normalised(value, nature()) for value in (-2.0, 0.0, 2.0)] == [0.0, 50.0, 100.0]
    assert normalised(-1 / 18, nature()) == pytest.approx(48.61, abs=0.01)
    with pytest.raises(ValueError, match="no range"):
        normalised(1.0, nature(low=1.0, high=1.0))


@given(st.floats(-2, 2), st.floats(-2, 2))
def test_normalising_keeps_the_order_and_shares_of_zero_sums_add_to_100(one, other):
    assert (one <= other) or normalised(one, nature()) >= normalised(other, nature())
    assert normalised(one, nature()) + normalised(-one, nature()) == pytest.approx(100.0)


def test_wins_draws_and_losses_of_two_seats_are_each_other_s():
    games = [game(1, -1), game(1, -1), game(0, 0), game(-2, 2)]
    first, second = seat_results(games, nature(), ["a", "b"])
    assert (first.wins, first.draws, first.losses) == (2, 1, 1)
    assert (second.wins, second.draws, second.losses) == (1, 1, 2)
    assert first.mean_return.mean == 0.0
    assert (first.team, first.seat, first.games) == ("a", 0, 4)
    assert [one.mean for one in (first.won, first.drawn, first.lost)] == [0.5, 0.25, 0.25]


def test_shares_of_games_have_the_exact_interval():
    first, _ = seat_results([game(0, 0)] * 3 + [game(1, -1)] * 47, nature(), ["a", "b"])
    assert (first.drawn.mean, first.drawn.count) == (0.06, 50)
    # Clopper and Pearson's for 3 of 50, and the rule of three for none of 50.
    assert (first.drawn.low, first.drawn.high) == (pytest.approx(0.01255, abs=1e-5), pytest.approx(0.16548, abs=1e-5))
    assert (first.lost.mean, first.lost.high) == (0.0, pytest.approx(1 - 0.025 ** (1 / 50)))


def test_of_three_seats_the_highest_alone_wins_and_two_highest_draw():
    one, two, three = seat_results([game(1, 1, -2), game(2, -1, -1)], nature(seats=3), ["a", "b", "c"])
    assert (one.wins, one.draws, one.losses) == (1, 1, 0)
    assert (two.wins, two.draws, two.losses) == (0, 1, 1)
    assert (three.wins, three.draws, three.losses) == (0, 0, 2)


@pytest.mark.parametrize("changes", [{"cooperative": True, "zero_sum": False}, {"seats": 1}])
def test_nobody_wins_where_there_is_nobody_to_win_against(changes):
    place = nature(**changes)
    result = seat_results([game(*[1.0] * place.seats)], place, ["a"] * place.seats)[0]
    assert (result.wins, result.draws, result.losses) == (None, None, None)
    assert (result.won, result.drawn, result.lost) == (None, None, None)
    assert result.normalised.mean == 75.0


def test_fifty_equal_returns_leave_an_interval_of_honest_width():
    first, _ = seat_results([game(2, -2)] * 50, nature(), ["a", "b"])
    assert first.mean_return.high == 2.0
    assert 1.6 < first.mean_return.low < 1.9
    assert first.normalised.low == pytest.approx(normalised(first.mean_return.low, nature()))


def test_the_share_of_valid_moves_has_wilson_s_interval():
    games = [game(1, -1)] * 97 + [game(-2, 0, violator=0)] * 3
    share = seat_results(games, nature(), ["a", "b"])[0].valid
    assert (share.mean, share.count) == (0.97, 100)
    assert (share.low, share.high) == (pytest.approx(0.9155, abs=1e-4), pytest.approx(0.9897, abs=1e-4))


def test_games_that_failed_have_no_return_and_are_the_failing_team_s():
    games = [game(1, -1), game(0, 0, error_type="ModelError", failed=1)]
    first, second = seat_results(games, nature(), ["a", "b"])
    assert (first.games, first.failures, second.failures) == (1, 0, 1)
    assert first.mean_return.mean == 1.0
    assert second.output_tokens == 4, "what a failed game cost was spent all the same"


@pytest.mark.parametrize("error_type", ["CannotAfford", "OutOfTime"])
def test_games_that_money_or_time_cut_short_are_nobody_s_failure(error_type):
    cut = game(0, 0, error_type=error_type, failed=0)
    assert cut.cut_short
    assert [one.failures for one in seat_results([cut], nature(), ["a", "b"])] == [0, 0]


def test_of_no_games_nothing_is_known():
    first, _ = seat_results([], nature(), ["a", "b"])
    assert (first.games, first.mean_return, first.normalised, first.valid) == (0, None, None, None)
    assert (first.wins, first.won) == (0, None)


def test_too_few_names_for_the_seats_are_refused():
    with pytest.raises(InputError, match="2 seats"):
        seat_results([], nature(), ["a"])


def test_over_all_seats_the_luck_of_the_cards_cancels_out():
    dealt = [1.0, -1.0, 2.0, -1.5, 1.0, -1.5] * 10
    there = [game(luck, -luck) for luck in dealt]
    back = [game(luck - 0.5, 0.5 - luck) for luck in dealt]
    better, worse = results_over_seats([(("a", "b"), there), (("b", "a"), back)], nature())
    assert (better.seat, better.games, better.mean_return.count) == (None, 120, 60)
    assert better.mean_return.mean == pytest.approx(0.25)
    alone = seat_results(there, nature(), ["a", "b"])[0].mean_return
    assert better.mean_return.high - better.mean_return.low < (alone.high - alone.low) * 0.5
    assert worse.mean_return.mean == -better.mean_return.mean


def test_over_all_seats_games_with_the_same_cards_are_one_draw_and_not_two():
    there = [game(0, 0)] * 10 + [game(1, -1)] * 30
    back = [game(0, 0)] * 10 + [game(-1, 1)] * 15 + [game(1, -1)] * 15
    first, _ = results_over_seats([(("a", "b"), there), (("b", "a"), back)], nature())
    assert (first.draws, first.games) == (20, 80)
    assert (first.drawn.mean, first.drawn.count) == (0.25, 40)
    assert first.drawn == seat_results(there, nature(), ["a", "b"])[0].drawn
    assert (first.won.mean, first.lost.mean) == (0.5625, 0.1875)
    assert first.won.low < 0.5625 < first.won.high


def test_where_nothing_is_dealt_every_game_is_a_value():
    seatings = [(("a", "b"), [game(1, -1)] * 4), (("b", "a"), [game(-1, 1)] * 4)]
    first, _ = results_over_seats(seatings, nature(deterministic=True))
    assert (first.mean_return.mean, first.mean_return.count) == (1.0, 8)


def test_a_deal_that_did_not_end_at_every_seating_does_not_count_to_the_return():
    there = [game(2, -2), game(1, -1)]
    back = [game(0, 0, error_type="ModelError", failed=0), game(1, -1)]
    first, second = results_over_seats([(("a", "b"), there), (("b", "a"), back)], nature())
    assert (first.games, first.mean_return.count, first.mean_return.mean) == (3, 1, 0.0)
    assert (first.failures, second.failures) == (0, 1)


def test_a_seating_that_was_not_come_to_leaves_the_counts_of_the_other():
    first, _ = results_over_seats([(("a", "b"), [game(1, -1)]), (("b", "a"), [])], nature())
    assert (first.games, first.wins, first.mean_return, first.won) == (1, 1, None, None)


def test_an_episode_tells_returns_moves_violations_and_tokens_by_seat():
    spoken = Transcript(seat=0, node="player", turns=(turn("1", 3), turn("2", 4)))
    facts = (
        label(FACT_VIOLATION, seat=0, step=2, why="no move"),
        *(label(FACT_RETURN, seat=at, **{"return": came_to}) for at, came_to in enumerate((-2.0, 0.0))),
        *(label(FACT_MOVES, seat=at, moves=1) for at in range(2)),
    )
    episode = Episode(episode_id="g", run_id="r", seats=(Seat(seat=0),), transcripts=(spoken,), labels=facts)
    first, second = GameResult.of(episode, 2).seats
    assert (first.came_to, first.moves, first.violations, first.output_tokens) == (-2.0, 1, 1, 7)
    assert (second.came_to, second.moves, second.violations, second.output_tokens) == (0.0, 1, 0, 0)


def test_what_a_resumed_run_tells_again_is_counted_once():
    told = (label(FACT_RETURN, seat=0, **{"return": 1.0}), label(FACT_VIOLATION, seat=0, step=2, why="no"))
    episode = Episode(episode_id="g", run_id="r", seats=(Seat(seat=0),), labels=(*told, *told))
    (part,) = GameResult.of(episode, 1).seats
    assert (part.came_to, part.violations) == (1.0, 1)


def test_tokens_that_a_model_did_not_count_are_not_known():
    silent = Transcript(seat=0, node="player", turns=(turn("1", 3), turn("2", None)))
    episode = Episode(episode_id="g", run_id="r", seats=(Seat(seat=0),), transcripts=(silent,), error="cut")
    (part,) = GameResult.of(episode, 1).seats
    assert (part.input_tokens, part.output_tokens) == (20, None)


def test_an_episode_with_an_error_is_the_failure_of_the_seat_that_has_it():
    seats = (Seat(seat=0), Seat(seat=1, error="the server is down"))
    episode = Episode(episode_id="g", run_id="r", seats=seats, error="the server is down", error_type="ModelError")
    result = GameResult.of(episode, 2)
    assert [seat.failed for seat in result.seats] == [False, True]
    assert not result.finished
