import math
import pickle
from decimal import Decimal
from itertools import chain, combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composers.knapsack.exact import best_additive
from composers.knapsack.selection import Infeasible, Item, whole_numbers
from orchestra.errors import InputError


def item(name, price, value, *groups):
    return Item(name=name, price=price, value=value, groups=groups)


def subsets(items):
    return chain.from_iterable(combinations(items, size) for size in range(len(items) + 1))


def brute_force(items, budget):
    needed = {group for each in items for group in each.groups}
    worth = [
        math.fsum(each.value for each in chosen)
        for chosen in subsets(items)
        if sum(each.price for each in chosen) <= budget and needed <= {g for each in chosen for g in each.groups}
    ]
    return max(worth, default=None)


TIERS = st.sampled_from([Decimal(3), Decimal(5), Decimal(8)])
CENTS = st.integers(0, 900).map(lambda cents: Decimal(cents) / 100)


@st.composite
def instances(draw, prices, most=10):
    count = draw(st.integers(1, most))
    return [
        Item(
            name=f"item-{number}",
            price=draw(prices),
            value=draw(st.floats(-0.5, 1.0, allow_subnormal=False)),
            groups=tuple(sorted(draw(st.sets(st.sampled_from("abc"), max_size=2)))),
        )
        for number in range(count)
    ]


@settings(deadline=None)
@given(st.one_of(instances(TIERS), instances(CENTS)), st.integers(0, 30))
def test_it_equals_brute_force_on_every_small_instance(items, budget):
    best = brute_force(items, budget)
    if best is None:
        with pytest.raises(Infeasible):
            best_additive(items, budget)
        return
    found = best_additive(items, budget)
    assert found.optimal
    assert found.value == pytest.approx(best, abs=1e-9)
    assert found.price <= budget


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0.001, 9), st.floats(0, 1)), min_size=1, max_size=10), st.floats(0, 30))
def test_prices_that_share_no_divisor_are_compared_exactly(pairs, budget):
    items = [item(str(number), price, value) for number, (price, value) in enumerate(pairs)]
    *prices, purse = whole_numbers([*(each.price for each in items), budget])[0]
    best = max(
        math.fsum(items[i].value for i in chosen)
        for chosen in subsets(range(len(items)))
        if sum(prices[i] for i in chosen) <= purse
    )
    assert best_additive(items, budget).value == pytest.approx(best, abs=1e-9)


def test_three_times_a_tenth_fits_into_three_tenths():
    items = [item(name, Decimal("0.1"), 1.0) for name in "abc"]
    assert best_additive(items, Decimal("0.3")).chosen == ("a", "b", "c")
    assert best_additive([item(name, 0.1, 1.0) for name in "abc"], 0.3).chosen == ("a", "b", "c")


def test_a_group_is_covered_even_by_an_item_that_is_worth_nothing():
    items = [item("good", 3, 0.9, "sums"), item("poor", 5, -0.2, "dates")]
    assert best_additive(items, 8).chosen == ("good", "poor")
    assert best_additive(items, 8, groups=()).chosen == ("good",)


def test_an_infeasible_budget_names_the_cheapest_cover():
    items = [item("both", 8, 1.0, "sums", "dates"), item("a", 3, 0.1, "sums"), item("b", 3, 0.1, "dates")]
    with pytest.raises(Infeasible, match=r"cheapest cover costs 6 \('a', 'b'\)") as caught:
        best_additive(items, 5)
    assert (caught.value.cheapest_price, caught.value.budget) == (6, 5)
    assert pickle.loads(pickle.dumps(caught.value)).cheapest_price == 6


def test_a_group_without_items_is_named():
    with pytest.raises(Infeasible, match="no item covers 'dates'"):
        best_additive([item("a", 3, 1.0, "sums")], 30, groups=("sums", "dates"))


def test_every_defect_is_reported_at_once():
    with pytest.raises(InputError) as caught:
        best_additive([item("a", -1, 1.0), item("a", 3, 1.0)], math.nan)
    assert all(part in str(caught.value) for part in ("budget is nan", "'a' occurs twice", "'a' costs -1"))


def test_past_the_deadline_the_bound_still_holds():
    # Values equal prices, all even under an odd budget: every bound is the budget itself, so proof takes very long.
    items = [item(str(i), 2 * (500_000 + 17 * i * i), float(2 * (500_000 + 17 * i * i))) for i in range(60)]
    found = best_additive(items, 15_000_001, deadline_seconds=0.05)
    assert not found.optimal
    assert found.value < found.bound
    assert 0 < found.gap < 0.01
    assert found.seconds < 2


def test_nothing_to_select_from_is_an_empty_selection():
    found = best_additive([], 10)
    assert (found.chosen, found.value, found.gap, found.optimal) == ((), 0.0, 0.0, True)
