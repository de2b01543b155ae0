import re
from decimal import Decimal

import numpy as np
import pytest

from composers.knapsack.bm25 import Bm25
from composers.knapsack.retrieval import candidates, items, one_per_skill, price, rank, text_of
from composers.knapsack.skills import Skill
from orchestra.agents.inventory import Component
from orchestra.errors import InputError


def part(name, usd, description="does it", *categories):
    return Component(
        name=name, kind="tool", description=description, price_usd=Decimal(usd), call="m:f", categories=categories
    )


OFFICE = (
    part("calculator", 5, "adds and multiplies numbers", "arithmetic"),
    part("abacus", 3, "adds numbers slowly"),
    part("calendar", 8, "says on which weekday a date falls", "dates"),
    part("converter", 3, "converts lengths between units"),
)
SKILLS = (
    Skill(name="arithmetic", description="arithmetic: multiply two numbers", weight=0.5),
    Skill(name="dates", description="dates: on which weekday does this date fall", weight=0.5),
)


def shared_words(queries, documents):
    found = [[set(re.findall(r"\w+", text.lower())) for text in texts] for texts in (queries, documents)]
    return np.array([[float(len(q & d)) for d in found[1]] for q in found[0]])


def test_every_skill_ranks_every_component_best_first():
    ranking = rank(SKILLS, OFFICE, similarity=shared_words)
    assert [row[0].component.name for row in ranking] == ["calculator", "calendar"]
    assert all([m.similarity for m in row] == sorted((m.similarity for m in row), reverse=True) for row in ranking)
    assert all(len(row) == len(OFFICE) for row in ranking)


def test_ties_go_to_the_cheaper_then_to_the_name():
    ranking = rank(SKILLS[:1], OFFICE, similarity=lambda q, d: np.ones((len(q), len(d))))
    assert [match.component.name for match in ranking[0]] == ["abacus", "converter", "calculator", "calendar"]


def test_the_retrieval_choice_takes_the_best_of_each_skill_whatever_it_costs():
    chosen = one_per_skill(rank(SKILLS, OFFICE, similarity=shared_words))
    assert [(each.component.name, each.skills) for each in chosen] == [
        ("calculator", ("arithmetic",)),
        ("calendar", ("dates",)),
    ]
    assert price(chosen) == 13


def test_a_component_found_for_two_skills_is_one_candidate():
    found = candidates(rank(SKILLS, OFFICE, similarity=shared_words), k=4)
    assert len(found) == len(OFFICE)
    assert all(each.skills == ("arithmetic", "dates") for each in found)


def test_offline_values_are_similarities_to_all_skills_and_groups_where_it_is_in_the_top():
    ranking = rank(SKILLS, OFFICE, similarity=shared_words)
    found = {item.name: item for item in items(ranking, k=1)}
    assert found["calculator"].groups == ("arithmetic",)
    assert found["calculator"].value == sum(
        match.similarity for row in ranking for match in row if match.component.name == "calculator"
    )
    assert found["calculator"].value_source == "similarity"


def test_text_of_a_component_holds_its_name_description_and_categories():
    assert text_of(part("unit_converter-2", 3, "Converts.", "units")) == "unit converter 2: Converts. units"


def test_nothing_to_retrieve_is_refused():
    with pytest.raises(InputError, match="0 skills, 4 components"):
        rank((), OFFICE, similarity=shared_words)
    with pytest.raises(InputError, match="top 0 per skill"):
        candidates(rank(SKILLS, OFFICE, similarity=shared_words), k=0)


def test_a_similarity_that_gives_rubbish_is_refused():
    with pytest.raises(InputError, match="not finite"):
        rank(SKILLS, OFFICE, similarity=lambda q, d: np.full((len(q), len(d)), np.nan))


def test_words_find_the_right_component():
    pytest.importorskip("bm25s", reason="the retrieval extra")
    ranking = rank(SKILLS, OFFICE, similarity=Bm25())
    assert [row[0].component.name for row in ranking] == ["calculator", "calendar"]


def test_words_that_nobody_shares_score_nothing():
    pytest.importorskip("bm25s", reason="the retrieval extra")
    scores = Bm25()(["zebra", "", "multiply numbers"], ["adds numbers", "", "the"])
    assert scores[:2].tolist() == [[0, 0, 0], [0, 0, 0]]
    assert scores[2, 0] > 0
