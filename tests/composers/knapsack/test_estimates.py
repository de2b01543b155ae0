import random
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composers.knapsack.estimates import (
    Pair,
    candidate,
    estimate,
    is_broken,
    mean_interval,
    reestimate,
    shrinkage,
)
from orchestra.agents.inventory import Component
from orchestra.errors import InputError

CALCULATOR = Component(name="calculator", kind="tool", description="sums", price_usd=Decimal(3), call="m:f")


def pairs(*scores, prefix="q"):
    return [
        Pair(query=f"{prefix}{i}", with_score=with_it, without_score=without)
        for i, (with_it, without) in enumerate(scores)
    ]


def trial(*rows, skill="sums", prefix="q"):
    return estimate("calculator", skill, pairs(*rows, prefix=prefix))


def test_the_gain_is_the_mean_of_paired_differences():
    found = trial((1, 0), (1, 1), (0, 0), (1, 0))
    assert (found.gain, found.n, found.verdict) == (0.5, 4, "helpful")
    assert found.low <= 0.5 <= found.high


def test_a_harmful_component_is_not_helpful():
    assert trial((0, 1), (0, 1)).verdict == "not helpful"


def test_a_query_that_failed_for_another_reason_says_nothing():
    found = trial((None, 0), (1, None), (1, 0))
    assert (found.n, found.unmeasured, found.gain, found.errors) == (1, 2, 1.0, 0)


def test_a_failed_tool_call_counts_as_a_wrong_answer():
    rows = [*pairs((1, 0), (1, 0)), Pair(query="x", with_score=None, without_score=1, tool_failed=True)]
    found = estimate("calculator", "sums", rows)
    assert (found.n, found.errors, found.broken) == (3, 1, False)
    assert found.gain == pytest.approx(1 / 3)


def test_failing_on_half_of_its_calls_is_broken():
    rows = [*pairs((1, 0)), Pair(query="x", with_score=None, without_score=0, tool_failed=True)]
    found = estimate("calculator", "sums", rows)
    assert (found.broken, found.verdict) == (True, "broken")


def quiet(skill):
    return estimate("calculator", skill, [Pair(query="a", with_score=0, without_score=0, answered=False)])


def test_saying_nothing_is_broken_only_if_it_is_so_for_every_skill():
    assert quiet("dates").silent
    assert not quiet("dates").broken
    assert is_broken([quiet("dates"), quiet("sums")])
    assert not is_broken([quiet("dates"), trial((1, 0))])


def test_nothing_measured_is_the_widest_interval():
    found = trial()
    assert (found.n, found.gain, found.low, found.high, found.broken) == (0, 0.0, -1.0, 1.0, False)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 10])
def test_differences_that_all_agree_do_not_make_a_point(n):
    low, high = mean_interval([1.0] * n)
    assert low < 0.95
    assert high == 1.0


def test_ten_agreeing_differences_exclude_no_gain_and_two_do_not():
    assert mean_interval([1.0] * 10)[0] > 0 > mean_interval([1.0] * 2)[0]


@settings(deadline=None)
@given(st.lists(st.floats(-1, 1, allow_subnormal=False), min_size=1, max_size=40), st.randoms())
def test_the_interval_holds_the_mean_mirrors_and_forgets_the_order(differences, rng):
    low, high = mean_interval(differences)
    mean = sum(differences) / len(differences)
    assert -1 <= low <= mean + 1e-9
    assert mean - 1e-9 <= high <= 1
    assert mean_interval([-d for d in differences]) == pytest.approx((-high, -low), abs=0.0041)
    shuffled = list(differences)
    rng.shuffle(shuffled)
    assert mean_interval(shuffled) == pytest.approx((low, high), abs=0.0041)


@pytest.mark.parametrize("chances", [(0.05, 0.55, 0.4), (0.0, 0.9, 0.1), (0.3, 0.0, 0.7), (0.0, 0.05, 0.95)])
@pytest.mark.parametrize("n", [3, 8, 20])
def test_the_interval_misses_the_truth_no_more_often_than_it_says(chances, n):
    rng = random.Random(n)
    truth = chances[2] - chances[0]
    spans = [mean_interval(rng.choices([-1.0, 0.0, 1.0], chances, k=n)) for _ in range(200)]
    assert sum(not low <= truth <= high for low, high in spans) / 200 <= 0.05


def test_a_candidate_takes_its_gains_from_the_estimates():
    found = candidate(CALCULATOR, [trial((1, 0), (0, 0)), trial((0, 1), skill="dates")])
    assert (found.name, found.price, found.gains) == ("calculator", Decimal(3), {"sums": 0.5, "dates": -1.0})
    assert not found.broken


def test_a_candidate_refuses_the_estimates_of_another():
    with pytest.raises(InputError, match="not one per skill"):
        candidate(CALCULATOR, [estimate("abacus", "sums", [])])


def test_reestimation_shows_what_the_choice_overstated():
    again = reestimate(trial((1, 0), (1, 0)), trial((1, 0), (0, 0), prefix="fresh"))
    assert (again.shrinkage, again.kept_share) == (0.5, 0.5)
    together = shrinkage([again])
    assert (together.n, together.first_gain, together.fresh_gain, together.shrinkage) == (1, 1.0, 0.5, 0.5)
    assert shrinkage([]) is None


def test_reestimation_refuses_the_queries_that_made_the_choice():
    with pytest.raises(InputError, match=r"repeats the queries \['q0'\]"):
        reestimate(trial((1, 0)), trial((1, 0)))


def test_a_score_outside_its_range_or_a_repeated_query_is_refused():
    with pytest.raises(InputError, match="'q0' scored 2"):
        trial((2, 0))
    with pytest.raises(InputError, match="repeats a query"):
        estimate("calculator", "sums", [*pairs((1, 0)), *pairs((1, 0))])


def test_an_estimate_survives_its_file():
    found = trial((1, 0), (0, 1), (1, 1))
    assert type(found).model_validate_json(found.model_dump_json()) == found
