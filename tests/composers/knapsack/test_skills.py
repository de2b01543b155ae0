from dataclasses import dataclass

import numpy as np
import pytest

from composers.knapsack.skills import from_labels, parse, prompt, weights_of, with_queries
from orchestra.errors import InputError


@dataclass(frozen=True)
class Question:
    id: str
    input: str
    skills: tuple[str, ...] = ()


TASKS = (
    Question("t1", "What is 61 * 65?", ("arithmetic",)),
    Question("t2", "What is 2 + 2?", ("arithmetic",)),
    Question("t3", "Which weekday is 3 May?", ("week_days",)),
    Question("t4", "Half of the days between 1 and 9 May?", ("arithmetic", "week_days")),
)


def test_a_labelled_skill_weighs_its_share_of_the_tasks():
    arithmetic, days = from_labels(TASKS)
    assert (arithmetic.name, arithmetic.weight, arithmetic.queries) == ("arithmetic", 2.5 / 4, ("t1", "t2", "t4"))
    assert (days.weight, days.queries) == (1.5 / 4, ("t3", "t4"))


def test_equal_weights_are_equal_and_add_up_to_one():
    assert [skill.weight for skill in from_labels(TASKS, weights="equal")] == [0.5, 0.5]


def test_a_description_is_the_words_of_the_name_and_a_few_inputs():
    assert from_labels(TASKS, examples=1)[1].description == "week days: Which weekday is 3 May?"


def test_tasks_without_labels_are_one_general_skill():
    (only,) = from_labels([Question("t1", "Hello?")])
    assert (only.name, only.weight) == ("general", 1.0)


def test_no_tasks_is_an_error_that_says_what_to_do():
    for made_from in (from_labels, prompt):
        with pytest.raises(InputError, match="mark some with"):
            made_from([])


def test_the_prompt_shows_tasks_and_the_form_of_the_answer():
    asked = prompt(TASKS, most=4)
    assert "What is 61 * 65?" in asked
    assert "at most 4" in asked
    assert "name | description | weight" in asked
    assert prompt([Question(str(i), f"task {i}") for i in range(99)]).count("- task") == 12


@pytest.mark.parametrize(
    "reply",
    [
        "arithmetic | adds numbers | 3\nweek days | knows dates | 1",
        "Here you are:\n```\n1. Arithmetic | adds numbers | 3\n2) **Week days** | knows dates | weight: 1\n```",
        "| name | what | weight |\n|-|-|-|\n| arithmetic | adds numbers | 75% |\n| week-days | knows dates | 25% |",
        "- arithmetic | adds numbers | 3/10\n* Week_days | knows dates | 1/10\n\nGood luck!",
    ],
    ids=["plain", "fenced", "table", "bullets"],
)
def test_a_models_list_is_read_through_its_decoration(reply):
    first, second = parse(reply.replace("Week_days", "Week days"))
    assert (first.name, first.description, first.weight) == ("arithmetic", "arithmetic: adds numbers", 0.75)
    assert (second.name, second.weight) == ("week-days", 0.25)


def test_a_reply_without_skills_is_quoted():
    with pytest.raises(InputError, match="I cannot do that"):
        parse("I cannot do that.")


def test_every_contradiction_is_reported_at_once():
    with pytest.raises(InputError) as caught:
        parse("sums | adds | 0\nsums | adds again | 2\ndates | days | 1", most=2)
    message = str(caught.value)
    assert all(part in message for part in ("lists 3 skills", "'sums' occurs twice", "'sums' weighs 0"))


def test_queries_of_a_written_skill_are_the_tasks_closest_to_it():
    skills = parse("arithmetic | adds | 1\ndates | days | 1\nunused | nothing | 1")
    scores = np.array([[0.9, 0.1, 0.0], [0.8, 0.1, 0.0], [0.1, 0.9, 0.3], [0.2, 0.7, 0.1]])
    tested = with_queries(skills, TASKS, lambda queries, documents: scores)
    assert [skill.queries for skill in tested] == [("t1", "t2"), ("t3", "t4"), ("t3",)]


def test_two_skills_of_one_name_have_no_weights():
    skill = from_labels(TASKS)[0]
    assert weights_of([skill]) == {"arithmetic": 2.5 / 4}
    with pytest.raises(InputError, match="same name"):
        weights_of([skill, skill])
