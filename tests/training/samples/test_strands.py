"""Episodes to strands: exact ids, one sequence a transcript, and what is refused or counted."""

import pickle

import numpy as np
import pytest

from orchestra.traces.episode import Episode, Score, Seat, Transcript, Turn, TurnSampling
from training.recipes import Recipe
from training.samples import ContinuityBroken, NotTrainable, Span, Strand, Trained, groups, strands
from training.trainers.study import OPPONENT, teaching


def turn(prompt, ids, **more):
    logprobs = tuple(-0.5 - i / 10 for i in range(len(ids))) if ids is not None else None
    given = {
        "span_id": "s",
        "messages": (),
        "reply": "",
        "prompt_token_ids": prompt,
        "reply_token_ids": ids,
        "logprobs": logprobs,
        "started_ns": 0,
        "latency_seconds": 0.0,
        **more,
    }
    return Turn(**given)


def episode(*turns, name="e", node="player", seat=0, **more):
    seats = tuple(Seat(seat=number, team=f"team-{number}") for number in range(seat + 1))
    transcript = Transcript(seat=seat, node=node, kind="agent", turns=turns)
    return Episode(**{"episode_id": name, "run_id": "r", "seats": seats, "transcripts": (transcript,), **more})


RECIPE = Recipe.model_validate({"name": "r", "base": {"model": "local/x"}, "agents": {"a": {}}})
GROWING = (turn((1, 2, 3), (4, 5)), turn((1, 2, 3, 4, 5, 6), (7,)), turn((1, 2, 3, 4, 5, 6, 7, 8, 9), (10, 11)))


def test_turns_that_extend_the_same_prefix_are_one_strand():
    (strand,) = strands([episode(*GROWING)]).strands
    assert strand.token_ids.tolist() == list(range(1, 12))
    assert [(span.turn, span.start, span.end) for span in strand.spans] == [(0, 3, 5), (1, 6, 7), (2, 9, 11)]
    assert strand.logprobs.tolist() == [-0.5, -0.6, -0.5, -0.5, -0.6]
    assert strand.targets().tolist() == [3, 4, 6, 9, 10]


def test_a_drifted_prompt_is_an_error_that_names_turn_and_position():
    drifted = (GROWING[0], turn((1, 2, 3, 4, 99, 6), (7,)))
    with pytest.raises(ContinuityBroken, match=r"turn 1 of node 'player', seat 0, episode 'e'.*position 4") as caught:
        strands([episode(*drifted)])
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.turn, again.position) == (1, 4)


def test_a_prompt_that_departs_is_an_error_as_well():
    with pytest.raises(ContinuityBroken, match="differs from the prompt before it at position 1"):
        strands([episode(GROWING[0], turn((1, 9), (7,)))])


def test_a_caller_may_cut_where_a_transcript_breaks():
    first, second = strands([episode(*GROWING[:2], turn((50, 51), (52,)))], breaks="cut").strands
    assert (first.piece, second.piece) == (0, 1)
    assert first.token_ids.tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert second.token_ids.tolist() == [50, 51, 52]
    assert second.spans[0].turn == 2
    assert first.row == second.row


def test_samples_of_one_request_are_strands_of_their_own():
    found = strands([episode(turn((1, 2), (3,), sample_index=0), turn((1, 2), (4, 5), sample_index=1))]).strands
    assert [strand.token_ids.tolist() for strand in found] == [[1, 2, 3], [1, 2, 4, 5]]


def test_a_turn_without_ids_is_an_error_and_never_tokenised():
    with pytest.raises(NotTrainable, match=r"turn 1 of node .player.*was not captured"):
        strands([episode(GROWING[0], turn(None, None, reply="hello"))])


def test_a_redacted_turn_says_so():
    with pytest.raises(NotTrainable, match="was redacted"):
        strands([episode(turn(None, None, redacted=True))])


def test_turns_without_ids_are_counted_where_they_may_be_skipped():
    found = strands([episode(GROWING[0], turn(None, None), turn((1,), ()))], without_ids="skip")
    assert len(found.strands) == 1
    assert found.skipped == {"without token ids": 1, "empty reply": 1}


def test_a_failed_turn_is_counted_and_the_others_still_teach():
    found = strands([episode(turn((1, 2), None, error="it broke"), *GROWING)])
    assert [len(strand.spans) for strand in found.strands] == [3]
    assert found.skipped == {"failed": 1}


def test_a_logprob_that_is_missing_is_an_error():
    with pytest.raises(NotTrainable, match="2 reply ids and 1 log-probabilities"):
        strands([episode(turn((1, 2), (3, 4), logprobs=(-0.1,)))])


def test_settings_of_the_sampler_are_kept_span_by_span():
    hot = turn((1, 2), (3,), sampling=TurnSampling(temperature=0.6, top_p=0.99, top_k=100), adapter="a@v2")
    greedy = turn((1, 2, 3, 4), (5,), sampling=TurnSampling(temperature=0.0, top_p=0.5))
    (strand,) = strands([episode(hot, greedy)]).strands
    assert [(s.temperature, s.top_p, s.top_k, s.truncated, s.adapter) for s in strand.spans] == [
        (0.6, 0.99, 100, True, "a@v2"),
        (1.0, 1.0, 0, False, None),
    ]


def test_turns_of_others_are_context():
    mixed = (turn((1, 2), (3,), adapter="a@v1"), turn((1, 2, 3), (4,)), turn((1, 2, 3, 4), (5, 6), adapter="a@v2"))
    (strand,) = strands([episode(*mixed)], [Trained(agent="a", adapters=("a",))]).strands
    assert strand.token_ids.tolist() == [1, 2, 3, 4, 5, 6]
    assert [(span.start, span.end) for span in strand.spans] == [(2, 3), (4, 6)]


def test_context_that_was_not_captured_is_no_error():
    frozen = turn(None, None, reply="an API model said this")
    later = turn((1, 2), (3,), adapter="a@v1")
    (strand,) = strands([episode(frozen, later)], [Trained(agent="a", adapters=("a",))]).strands
    assert strand.spans[0].turn == 1


def test_agents_are_told_apart_by_node_seat_and_team():
    played = [
        episode(*GROWING, name="x"),
        episode(*GROWING, name="y", seat=1),
        episode(*GROWING, name="z", node="judge"),
    ]
    rules = [
        Trained(agent="judge", nodes=("judge",)),
        Trained(agent="second", seats=(1,), teams=("team-1",)),
        Trained(agent="nobody", teams=("unknown",)),
    ]
    assert [(s.episode_id, s.agent) for s in strands(played, rules).strands] == [("y", "second"), ("z", "judge")]


def test_an_opponent_in_an_agent_s_own_past_adapter_teaches_nothing():
    (own, past) = (episode(turn((1, 2), (3,), adapter=served), name=served) for served in ("a@v2", "a@v1"))
    past = past.model_copy(update={"seats": (Seat(seat=0, team=OPPONENT),)})
    (rule,) = teaching(RECIPE)
    assert [strand.episode_id for strand in strands([own, past], [rule]).strands] == ["a@v2"]


def test_two_agents_in_one_transcript_have_a_strand_each():
    rules = [Trained(agent="a", adapters=("a",)), Trained(agent="b", adapters=("b",))]
    both = (turn((1, 2), (3,), adapter="a@v1"), turn((1, 2, 3), (4,), adapter="b@v1"))
    found = strands([episode(*both)], rules).strands
    assert [(s.agent, s.token_ids.tolist(), s.spans[0].start) for s in found] == [
        ("a", [1, 2, 3], 2),
        ("b", [1, 2, 3, 4], 3),
    ]


def test_long_strands_are_counted_out():
    found = strands([episode(*GROWING)], longest_tokens=10)
    assert (found.strands, found.skipped) == ((), {"longer than 10 tokens": 3})


def test_a_strand_that_contradicts_itself_is_refused():
    with pytest.raises(ValueError, match="spans follow each other"):
        Strand(
            agent="a",
            episode_id="e",
            seat=0,
            node="n",
            token_ids=np.arange(5),
            spans=(Span(turn=0, start=2, end=4),),
            logprobs=np.zeros(2),
        )


def test_episodes_of_a_task_are_a_group_and_so_are_those_of_a_game():
    played = [
        episode(*GROWING, name="x", task_id="7"),
        episode(*GROWING, name="y", task_id="7"),
        episode(*GROWING, name="z", environment="kuhn-poker", scores=(Score(name="s", value=1, source="t", at=0),)),
    ]
    assert groups(played) == {"task 7": ("r/x", "r/y"), "game kuhn-poker": ("r/z",)}


def test_tasks_of_one_id_that_were_heard_in_other_words_are_no_group():
    heard = [
        episode(*GROWING, name=name, task_id="question", input=text) for name, text in zip("xyz", "aba", strict=True)
    ]
    assert sorted(groups(heard).values()) == [("r/x", "r/z"), ("r/y",)]
