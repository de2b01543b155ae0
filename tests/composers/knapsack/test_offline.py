import math
import random
from itertools import chain, combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composers.knapsack.exact import best_additive
from composers.knapsack.selection import Infeasible, Item, Limit
from orchestra.errors import InputError

pytest.importorskip("ortools", reason="the solver extra")

from composers.knapsack.offline import best_under_limits

rows = st.lists(
    st.tuples(
        st.sampled_from([3, 5, 8]), st.floats(-0.1, 1), st.integers(0, 30), st.sampled_from(["", "a", "b", "ab"])
    ),
    min_size=1,
    max_size=8,
)


@settings(deadline=None, max_examples=40)
@given(rows, st.integers(0, 80))
def test_it_equals_brute_force_under_price_and_latency(rows, tenths):
    items = [Item(name=str(i), price=p, value=v, groups=tuple(g)) for i, (p, v, _, g) in enumerate(rows)]
    latency = Limit(name="latency_seconds", amounts=[row[2] / 10 for row in rows], cap=tenths / 10)
    needed = set("".join(row[3] for row in rows))
    sets = chain.from_iterable(combinations(rows, size) for size in range(len(rows) + 1))
    worth = [
        math.fsum(row[1] for row in chosen)
        for chosen in sets
        if sum(row[0] for row in chosen) <= 20
        and sum(row[2] for row in chosen) <= tenths
        and needed <= set("".join(row[3] for row in chosen))
    ]
    if not worth:
        with pytest.raises(Infeasible):
            best_under_limits(items, 20, [latency])
        return
    found = best_under_limits(items, 20, [latency])
    assert found.optimal
    assert found.gap == 0
    assert found.value == pytest.approx(max(worth), abs=1e-8)


def test_without_further_limits_it_agrees_with_the_numpy_solver():
    items = [Item(name=str(i), price=3 + i % 7, value=((i * 37) % 11) / 11, groups=("ab"[i % 2],)) for i in range(40)]
    assert best_under_limits(items, 30, []).value == pytest.approx(best_additive(items, 30).value)


def test_a_latency_that_no_cover_meets_says_so():
    items = [Item(name="slow", price=3, value=1.0, groups=("sums",))]
    with pytest.raises(Infeasible, match=r"budget of 10 and latency_seconds ≤ 1 together"):
        best_under_limits(items, 10, [Limit(name="latency_seconds", amounts=[2.5], cap=1)])


def test_measured_latencies_are_rounded_up_never_down():
    items = [Item(name=name, price=1, value=1.0) for name in "ab"]
    barely_too_long = Limit(name="latency_seconds", amounts=[0.5, 0.5000000000000001], cap=1.0)
    assert len(best_under_limits(items, 10, [barely_too_long]).chosen) == 1


def test_a_limit_of_the_wrong_length_is_refused():
    with pytest.raises(InputError, match="2 amounts for 1 items"):
        best_under_limits([Item(name="a", price=1, value=1.0)], 1, [Limit(name="x", amounts=[1, 2], cap=1)])


def test_a_solver_that_stopped_early_is_not_trusted():
    # Values follow the amounts and five constraints bind: the kind of instance that is hard on purpose.
    rng = random.Random(3)
    amounts = [[rng.randint(1, 1000) for _ in range(300)] for _ in range(5)]
    values = [sum(row[i] for row in amounts) / 5 + rng.randint(0, 500) for i in range(300)]
    items = [Item(name=str(i), price=amounts[0][i], value=values[i]) for i in range(300)]
    others = [Limit(name=str(k), amounts=row, cap=sum(row) // 2) for k, row in enumerate(amounts[1:])]
    found = best_under_limits(items, sum(amounts[0]) // 2, others, deadline_seconds=0.3)
    assert not found.optimal
    assert found.value < found.bound
    assert 0 < found.gap < 1
