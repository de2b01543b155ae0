import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphs.model import VoteNode
from orchestra.execution.votes import extract, tally


def vote(rule="whole", **fields):
    return VoteNode(id="vote", extract=rule, **fields)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("61 times 65 is 3,965.", "3965"),
        ("The answer is -3", "-3"),
        ("x = −3", "-3"),
        ("5-3", "3"),
        ("pages 10–12", "12"),
        ("first 7, then 12.50 dollars", "12.50"),
        ("1,2,3", "3"),
        ("about .5 of it", "0.5"),
        ("change: -.5", "-0.5"),
        ("1e-5", "0.00001"),
        ("The area is 12 m^2", "12"),
        ("12 kg CO2", "12"),
        ("a loss of -$12", "-12"),
        ("no idea", ""),
    ],
)
def test_the_last_number_is_found_as_a_person_would(text, number):
    assert extract(text, vote("last-number")) == number


def test_the_last_line_is_the_last_that_says_something():
    assert extract("thinking\n  Paris  \n\n", vote("last-line")) == "Paris"
    assert extract(" \n ", vote("last-line")) == ""


def test_a_pattern_gives_its_first_group_else_its_match():
    assert extract("so\nAnswer: 42 ", vote("pattern", pattern=r"Answer:\s*(.*)")) == "42"
    assert extract("it is B, I think", vote("pattern", pattern=r"\b[A-D]\b")) == "B"
    assert extract("it is B", vote("pattern", pattern=r"(A)|B")) == "B"
    assert extract("nothing", vote("pattern", pattern=r"\d")) == ""


def test_the_majority_wins_in_the_words_first_heard():
    assert tally([("a", "London"), ("b", " Paris "), ("c", "PARIS")], vote()) == "Paris"


def test_ties_go_to_the_answer_heard_first():
    assert tally([("a", "2"), ("b", "1"), ("c", "1"), ("d", "2")], vote()) == "2"


def test_weights_count_and_absent_ones_are_one():
    heard = [("a", "x"), ("b", "y"), ("c", "y")]
    assert tally(heard, vote(weights={"a": 2.5})) == "x"
    assert tally(heard, vote(weights={"b": 0.0})) == "x"


def test_numbers_are_one_answer_when_they_have_one_value():
    assert tally([("a", "is 7"), ("b", "3,965"), ("c", "= 3965.0")], vote("last-number")) == "3965"


def test_replies_without_an_answer_abstain():
    assert tally([("a", "hm"), ("b", "hm"), ("c", "it is 4")], vote("last-number")) == "4"
    assert tally([("a", "hm"), ("b", "")], vote("last-number")) == ""
    assert tally([], vote()) == ""


@given(st.lists(st.tuples(st.sampled_from("abc"), st.text(max_size=5)), min_size=1))
def test_the_winner_is_always_one_of_the_answers_heard(messages):
    won = tally(messages, vote())
    assert won in {text.strip() for _, text in messages}


@given(st.text(), st.sampled_from(["whole", "last-line", "last-number"]))
def test_extraction_takes_any_text(text, rule):
    tally([("a", text)], vote(rule))
