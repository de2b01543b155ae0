import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.evaluation.intervals import Z, clopper_pearson, score_interval, score_statistic, success_interval


def wilson(successes, count):
    p = successes / count
    centre = (p + Z**2 / (2 * count)) / (1 + Z**2 / count)
    half = Z * math.sqrt(p * (1 - p) / count + Z**2 / (4 * count**2)) / (1 + Z**2 / count)
    return centre - half, centre + half


# Reference values: beta quantiles, scipy.stats.beta.ppf.
@pytest.mark.parametrize(
    ("successes", "count", "low", "high"),
    [
        (0, 50, 0.0, 0.07112173646419764),
        (1, 50, 0.000506227983040829, 0.1064695457114999),
        (25, 50, 0.3552729971299086, 0.6447270028700913),
        (50, 50, 0.9288782635358024, 1.0),
        (120, 200, 0.528535672797046, 0.6684537362643604),
    ],
)
def test_clopper_pearson_equals_the_beta_quantiles(successes, count, low, high):
    assert clopper_pearson(successes, count) == pytest.approx((low, high), abs=1e-12)


@pytest.mark.parametrize("count", [5, 20, 50, 100])
def test_exact_interval_covers_every_true_rate_in_at_least_95_percent(count):
    intervals = [clopper_pearson(k, count) for k in range(count + 1)]
    for rate in (*np.linspace(0.001, 0.999, 199), 0.0005, 0.9999):
        covered = math.fsum(
            math.comb(count, k) * rate**k * (1 - rate) ** (count - k)
            for k, (low, high) in enumerate(intervals)
            if low <= rate <= high
        )
        assert covered >= 0.95 - 1e-9, rate


@pytest.mark.parametrize(("successes", "count"), [(0, 50), (1, 50), (25, 50), (49, 50), (50, 50), (3, 7)])
def test_on_zeros_and_ones_the_score_interval_is_wilsons(successes, count):
    scores = [1.0] * successes + [0.0] * (count - successes)
    assert score_interval(scores, low=0, high=1) == pytest.approx(wilson(successes, count), abs=1e-9)


FRACTIONAL = {
    "even": lambda rng, n: rng.uniform(size=n),
    "mostly right, partly": lambda rng, n: rng.beta(8, 1, size=n),
    "u-shaped": lambda rng, n: rng.beta(0.3, 0.3, size=n),
    "quarters": lambda rng, n: rng.choice([0, 0.25, 0.5, 0.75, 1], p=[0.1, 0.1, 0.1, 0.2, 0.5], size=n),
    "rarely anything": lambda rng, n: np.where(rng.uniform(size=n) < 0.1, rng.uniform(size=n), 0.0),
}
MEANS = {"even": 0.5, "mostly right, partly": 8 / 9, "u-shaped": 0.5, "quarters": 0.725, "rarely anything": 0.05}


@pytest.mark.parametrize("kind", FRACTIONAL)
@pytest.mark.parametrize("count", [20, 100])
def test_score_interval_covers_fractional_means_in_about_95_percent(kind, count):
    rng = np.random.default_rng(7)
    draws = 1500
    covered = sum(
        abs(score_statistic(FRACTIONAL[kind](rng, count), MEANS[kind], low=0, high=1)) <= Z for _ in range(draws)
    )
    assert covered / draws >= 0.93


scores = st.lists(st.floats(0, 1), min_size=1, max_size=40)


@given(scores)
def test_the_interval_holds_its_mean_and_stays_in_range(values):
    found = success_interval(values)
    assert -1e-9 <= found.low <= found.mean + 1e-9
    assert found.mean - 1e-9 <= found.high <= 1 + 1e-9


@given(scores)
def test_mirrored_scores_have_the_mirrored_interval(values):
    low, high = score_interval(values, low=0, high=1)
    mirrored = score_interval([1 - v for v in values], low=0, high=1)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-6)


def test_the_interval_end_is_where_the_statistic_reaches_z():
    values = [0.1, 0.4, 0.4, 0.9, 1.0, 0.0, 0.7]
    low, high = score_interval(values, low=0, high=1)
    assert score_statistic(values, low, low=0, high=1) == pytest.approx(Z, abs=1e-6)
    assert score_statistic(values, high, low=0, high=1) == pytest.approx(-Z, abs=1e-6)


def test_equal_scores_still_leave_an_interval_of_honest_width():
    found = success_interval([0.6] * 40)
    assert found.low < 0.57
    assert found.high > 0.62


def test_four_times_the_tasks_halve_the_interval():
    values = [0.2, 0.5, 0.9, 1.0] * 50
    small, large = score_interval(values, low=0, high=1), score_interval(values * 4, low=0, high=1)
    assert (small[1] - small[0]) / (large[1] - large[0]) == pytest.approx(2, rel=0.02)


@pytest.mark.parametrize("values", [[], [1.2], [float("nan")]])
def test_values_that_are_no_scores_are_refused(values):
    with pytest.raises(ValueError, match=r"interval needs at least one|values must lie in"):
        success_interval(values)
