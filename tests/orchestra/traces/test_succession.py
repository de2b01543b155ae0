import pytest

from orchestra.traces.episode import Transcript, Turn
from orchestra.traces.succession import continuity


def turn(prompt, reply=()):
    return Turn(
        span_id="s",
        messages=(),
        reply="",
        prompt_token_ids=prompt,
        reply_token_ids=reply,
        started_ns=0,
        latency_seconds=0,
    )


def test_a_transcript_that_grows_by_appending_is_unbroken():
    told = continuity(
        Transcript(seat=0, node="a", turns=(turn((1, 2), (3,)), turn((1, 2, 3, 4), (5,)), turn((1, 2, 3, 4, 5))))
    )
    assert told.unbroken
    assert told.stretches == ((0, 1, 2),)


@pytest.mark.parametrize(
    ("later", "kind", "at"),
    [
        ((1, 2, 3, 4, 9), "continues", None),
        ((1, 2, 3, 4), "continues", None),
        ((1, 2, 3, 9), "drifts", 3),
        ((1, 2, 3), "drifts", 3),
        ((1, 2), "drifts", 2),
        ((1, 9, 3, 4), "departs", 1),
        ((1,), "departs", 1),
        (None, "unknown", None),
    ],
)
def test_where_and_how_a_turn_leaves_the_one_before(later, kind, at):
    (step,) = continuity([turn((1, 2), (3, 4)), turn(later)]).steps
    assert (step.turn, step.kind, step.at) == (1, kind, at)


def test_turns_are_one_sequence_as_far_as_they_continue():
    told = continuity([turn((1,), (2,)), turn((1, 2), (3,)), turn((1, 2, 7), (8,)), turn((1, 2, 7, 8))])
    assert told.stretches == ((0, 1), (2, 3))
    assert (told.count("continues"), told.count("drifts"), told.unbroken) == (2, 1, False)


def test_ids_that_were_not_captured_say_nothing():
    assert continuity([turn((1,), None), turn((1, 2))]).steps[0].kind == "unknown"
    assert continuity([turn((1,), (2,))]).unbroken
