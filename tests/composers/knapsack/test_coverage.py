import random
from itertools import chain, combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composers.knapsack.coverage import best_coverage, team_value
from composers.knapsack.selection import Candidate
from orchestra.errors import InputError

SKILLS = ("sums", "dates", "units", "words")


def candidate(name, price, broken=False, **gains):
    return Candidate(name=name, price=price, gains=gains, broken=broken)


def brute_force(candidates, weights, budget):
    sets = chain.from_iterable(combinations(candidates, size) for size in range(len(candidates) + 1))
    return max(
        team_value(chosen, weights)
        for chosen in sets
        if sum(each.price for each in chosen) <= budget and not any(each.broken for each in chosen)
    )


gains = st.dictionaries(st.sampled_from(SKILLS), st.sampled_from([-0.5, 0.0, 0.2, 0.4, 0.6, 0.8, 1.0]), max_size=3)
prices = st.one_of(st.sampled_from([3, 5, 8]), st.integers(0, 1000))
weights = st.fixed_dictionaries({skill: st.floats(0, 5, allow_subnormal=False) for skill in SKILLS})


@settings(deadline=None)
@given(st.lists(st.tuples(prices, gains, st.booleans()), max_size=10), weights, st.integers(0, 40))
def test_it_equals_brute_force_on_every_small_instance(rows, weights, budget):
    tried = [Candidate(name=str(i), price=p, gains=g, broken=b and i % 3 == 0) for i, (p, g, b) in enumerate(rows)]
    found = best_coverage(tried, weights, budget)
    assert found.optimal
    assert found.value == pytest.approx(brute_force(tried, weights, budget), abs=1e-9)
    assert found.price <= budget


@pytest.mark.parametrize("seed", range(3))
def test_it_equals_brute_force_on_sixteen_candidates(seed):
    rng = random.Random(seed)
    tried = [
        candidate(str(i), rng.choice([3, 5, 8]), **{s: rng.randint(0, 5) / 5 for s in rng.sample(SKILLS, 2)})
        for i in range(16)
    ]
    weights = {skill: rng.uniform(0.5, 5) for skill in SKILLS}
    assert best_coverage(tried, weights, 20).value == pytest.approx(brute_force(tried, weights, 20), abs=1e-9)


def test_a_duplicate_adds_nothing():
    twins = [candidate("a", 3, sums=1.0), candidate("b", 3, sums=1.0), candidate("c", 5, dates=0.5)]
    found = best_coverage(twins, {"sums": 2.0, "dates": 1.0}, 30)
    assert (found.chosen, found.value, found.price) == (("a", "c"), 2.5, 8)


def test_yes_and_no_gains_give_the_weight_of_covered_skills():
    tried = [candidate("a", 3, sums=1.0, dates=1.0), candidate("b", 3, dates=1.0, units=1.0)]
    assert team_value(tried, {"sums": 5.0, "dates": 4.0, "units": 3.0, "words": 2.0}) == 12.0


def test_a_broken_candidate_is_never_chosen():
    assert best_coverage([candidate("a", 1, broken=True, sums=1.0)], {"sums": 1.0}, 10).chosen == ()


def test_past_the_deadline_the_bound_still_holds():
    rng = random.Random(5)
    skills = [f"skill-{i}" for i in range(25)]
    tried = [
        candidate(str(i), rng.randint(1000, 9000), **{s: rng.random() for s in rng.sample(skills, 5)})
        for i in range(120)
    ]
    found = best_coverage(tried, dict.fromkeys(skills, 1.0), 30_000, deadline_seconds=0.05)
    assert not found.optimal
    assert 0 < found.gap < 1
    assert found.value < found.bound < 25
    assert found.seconds < 2


def test_weights_and_gains_that_are_none_are_all_named():
    with pytest.raises(InputError) as caught:
        best_coverage([candidate("a", 3, sums=1.5)], {"sums": -1.0}, 10)
    assert "'sums' weighs -1.0" in str(caught.value)
    assert "'a' gains 1.5" in str(caught.value)
