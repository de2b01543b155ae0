import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.evaluation.breakeven import break_even, cost_of_pass, mean_list_nano, queries_until_paid
from orchestra.evaluation.outcomes import Arm, Outcome

MILLI = 1_000_000  # nano-USD


def arm(name, scores, nano):
    costs = nano if isinstance(nano, list) else [nano] * len(scores)
    return Arm.of(
        name,
        [
            Outcome(task_id=f"t{i}", score=s, list_nano=c, paid_nano=0, latency_seconds=0.1)
            for i, (s, c) in enumerate(zip(scores, costs, strict=True))
        ],
    )


def test_a_search_is_paid_back_by_what_the_team_saves_per_query():
    # 0.8 successes for 2 m$; the baseline asks 3 m$ / 0.4 * 0.8 = 6 m$ for as many: 4 m$ saved per query
    team, baseline = arm("team", [1, 1, 1, 1, 0], 2 * MILLI), arm("single", [1, 1, 0, 0, 0], 3 * MILLI)
    found = break_even(100 * MILLI, team, baseline)
    assert (found.outcome, found.queries) == ("after", 25)
    assert found.statement == "after 25 queries"
    assert break_even(100 * MILLI + 1, team, baseline).queries == 26


def test_a_team_that_saves_nothing_never_pays_its_search():
    team, baseline = arm("team", [1, 0], 2 * MILLI), arm("single", [1, 0], 2 * MILLI)
    found = break_even(1, team, baseline)
    assert (found.outcome, found.queries, found.high) == ("never", None, None)


def test_a_baseline_that_never_succeeds_is_said_so():
    found = break_even(5 * MILLI, arm("team", [1] * 20, MILLI), arm("single", [0] * 20, MILLI))
    assert found.statement == "the baseline never succeeds"
    assert (found.queries, found.low, found.high, found.never_share) == (None, 1, 1, 0.0)


def test_two_arms_that_never_succeed_never_break_even():
    found = break_even(5 * MILLI, arm("team", [0] * 20, MILLI), arm("single", [0] * 20, MILLI))
    assert (found.statement, found.low, found.high, found.never_share) == ("never", None, None, 1.0)


def test_a_search_that_cost_nothing_is_paid_back_before_the_first_query():
    assert break_even(0, arm("team", [1, 1], 1), arm("single", [1, 0], 1)).queries == 0


def test_the_interval_holds_the_estimate_and_may_end_at_never():
    team = arm("team", [1] * 30 + [0] * 20, 2 * MILLI)
    baseline = arm("single", [1] * 12 + [0] * 8 + [1] * 14 + [0] * 16, 2 * MILLI)
    found = break_even(100 * MILLI, team, baseline)
    assert found.low <= found.queries
    assert found.high is None
    assert 0.025 < found.never_share < 0.9


def test_the_same_seed_draws_the_same_interval():
    team, baseline = arm("team", [1, 1, 0, 1, 1, 1], [9, 3, 5, 8, 2, 7]), arm("single", [1, 0, 0, 1, 0, 1], 4)
    assert break_even(900, team, baseline, seed=3) == break_even(900, team, baseline, seed=3)


def test_bootstrap_interval_covers_the_true_count():
    import numpy as np

    rng, truth = np.random.default_rng(5), 100 * MILLI / (0.8 * 2 * MILLI / 0.4 - 2 * MILLI)
    covered = 0
    for _ in range(120):
        team = arm("team", [float(x) for x in rng.random(100) < 0.8], 2 * MILLI)
        baseline = arm("single", [float(x) for x in rng.random(100) < 0.4], 2 * MILLI)
        found = break_even(100 * MILLI, team, baseline, draws=400)
        covered += found.low <= math.ceil(truth) and (found.high is None or truth <= found.high)
    assert covered >= 0.9 * 120


rates = st.fractions(Fraction(1, 100), 1)
amounts = st.integers(1, 10**12)


@given(amounts, amounts, amounts, rates, rates)
def test_the_count_is_the_first_at_which_the_search_is_paid_back(search, team_nano, baseline_nano, p_t, p_b):
    count = queries_until_paid(
        search,
        team_nano=Fraction(team_nano),
        team_success=p_t,
        baseline_nano=Fraction(baseline_nano),
        baseline_success=p_b,
    )
    saved = p_t * baseline_nano / p_b - team_nano
    if count is None:
        assert saved <= 0
    else:
        assert (count - 1) * saved < search <= count * saved


@given(amounts, amounts, rates, rates)
def test_a_cheaper_search_is_never_paid_back_later(search, nano, p_t, p_b):
    args = {
        "team_nano": Fraction(nano),
        "team_success": p_t,
        "baseline_nano": Fraction(nano),
        "baseline_success": p_b,
    }
    dear, cheap = queries_until_paid(search, **args), queries_until_paid(search // 2, **args)
    assert (dear is None) == (cheap is None)
    assert dear is None or cheap <= dear


def test_a_success_costs_all_that_was_spent_over_all_that_was_solved():
    assert cost_of_pass(arm("team", [1, 0, 1], [10, 10, 11])) == 16
    assert cost_of_pass(arm("team", [0, 0], 10)) is None


def test_arms_that_share_no_task_are_refused():
    with pytest.raises(ValueError, match="needs shared tasks"):
        break_even(1, arm("team", [1], 1), Arm.of("single", []))
    with pytest.raises(ValueError, match="no outcomes"):
        mean_list_nano(Arm.of("single", []))
