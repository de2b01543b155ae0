"""Rewards of turns to the estimators, and advantages back to tokens."""

import numpy as np
import pytest

from orchestra.traces.episode import Episode, Score, Seat, Transcript, Turn
from training.advantages import ADVANTAGES
from training.samples import NoReward, credit_rows, strands


def turns(rewards, begin=0, lengths=None):
    made, ids = [], [begin, begin + 1]
    for at, reward in enumerate(rewards):
        reply = tuple(range(100, 100 + (lengths or [2] * len(rewards))[at]))
        made.append(
            Turn(
                span_id=str(at),
                messages=(),
                reply="",
                prompt_token_ids=tuple(ids),
                reply_token_ids=reply,
                logprobs=(-1.0,) * len(reply),
                started_ns=at,
                latency_seconds=0.0,
                reward=reward,
            )
        )
        ids += [*reply, 7]
    return tuple(made)


def game(name, *seats, environment="ttt", nodes=None, rewards=None, **more):
    transcripts = tuple(
        Transcript(seat=0 if nodes else at, node=nodes[at] if nodes else "player", turns=made)
        for at, made in enumerate(seats)
    )
    count = 1 if nodes else len(seats)
    return Episode(
        episode_id=name,
        run_id="r",
        environment=environment,
        seats=tuple(Seat(seat=at, reward=rewards[at] if rewards else None) for at in range(count)),
        transcripts=transcripts,
        **more,
    )


MARSHAL = [
    game("one", turns([0.05, 0.05, 1.05]), turns([0.05, -0.95])),
    game("two", turns([0.05, -0.95]), turns([0.05, 1.05])),
]


def test_mars_over_episodes_gives_the_published_vector_on_every_token():
    found = strands(MARSHAL).strands
    credit = credit_rows(found, MARSHAL)
    advantages, _ = ADVANTAGES["mars"](credit.rows)
    tokens = credit.spread(found, advantages)
    by_row = {strand.row[:2]: np.round(each, 10).tolist() for strand, each in zip(found, tokens, strict=True)}
    assert by_row["r/one", 0] == [0.86, 0.86, 0.81, 0.81, 0.76, 0.76]
    assert by_row["r/one", 1] == [-0.975, -0.975, -1.025, -1.025]
    assert by_row["r/two", 0] == [-1.19, -1.19, -1.24, -1.24]
    assert by_row["r/two", 1] == [1.025, 1.025, 0.975, 0.975]


def test_without_turn_rewards_the_last_turn_earns_the_seats():
    played = [game("one", turns([None, None]), turns([None]), rewards=(1.0, -1.0))]
    credit = credit_rows(strands(played).strands, played)
    assert [row.rewards_K.tolist() for row in credit.rows] == [[0.0, 1.0], [-1.0]]


def test_a_score_stands_in_for_a_reward_and_nothing_is_an_error():
    scored = [game("one", turns([None]), scores=(Score(name="exact", value=0.5, source="t", at=0.0),))]
    assert credit_rows(strands(scored).strands, scored).rows[0].rewards_K.tolist() == [0.5]
    silent = [game("one", turns([None]))]
    with pytest.raises(NoReward, match="episode 'one' has no reward for seat 0"):
        credit_rows(strands(silent).strands, silent)


def test_a_reward_of_a_turn_that_is_not_trained_goes_to_the_one_before():
    played = [game("one", turns([1.0, 2.0, 4.0, 8.0]))]
    transcript = played[0].transcripts[0]
    kept = [transcript.turns[1], transcript.turns[3]]

    def teaching(episode, transcript, turn):
        return "a" if turn in kept else None

    credit = credit_rows(strands(played, teaching).strands, played)
    assert credit.rows[0].rewards_K.tolist() == [6.0, 8.0]
    assert credit.turns == ((1, 3),)


def test_pieces_of_a_cut_transcript_are_one_row():
    first, second = turns([1.0, 2.0]), turns([4.0], begin=50)
    played = [game("one", (*first, *second))]
    found = strands(played, breaks="cut").strands
    credit = credit_rows(found, played)
    assert [row.rewards_K.tolist() for row in credit.rows] == [[1.0, 2.0, 4.0]]
    spread = credit.spread(found, [np.array([10.0, 20.0, 30.0])])
    assert [each.tolist() for each in spread] == [[10.0, 10.0, 20.0, 20.0], [30.0, 30.0]]


def test_nodes_of_one_seat_are_compared_with_themselves():
    played = [
        game("one", turns([0.0]), turns([1.0]), nodes=("left", "right")),
        game("two", turns([2.0]), turns([5.0]), nodes=("left", "right")),
    ]
    credit = credit_rows(strands(played).strands, played)
    advantages, _ = ADVANTAGES["mars"](credit.rows)
    assert {row.role for row in credit.rows} == {"left", "right"}
    assert np.concatenate(advantages).tolist() == [-1.0, -2.0, 1.0, 2.0]


def test_tokens_of_each_turn_are_counted():
    played = [game("one", turns([0.0, 1.0], lengths=[3, 5]))]
    assert credit_rows(strands(played).strands, played).rows[0].tokens_K.tolist() == [3, 5]
