"""95 % intervals for a mean success, that hold where agents live: near 0, near 1, and on few tasks.

A language model alone often answers 0 of 50 tasks and a good team 50 of 50. The textbook interval (mean ± 1.96 standard
errors) then has width zero and claims certainty. Two that do not:

- *Scores that are all 0 or 1*: Clopper and Pearson's exact interval. It covers the truth in at least 95 % of
  repetitions for every true rate and every number of tasks. Wilson's and Jeffreys' are a little narrower, but cover
  as little as 84 % for true rates near 0 or 1, which are our usual case.
- *Fractional scores*: the score interval below, which needs nothing but the bounds of the score.

**The score interval.** A candidate mean `m` belongs to the interval when the observed mean lies within 1.96 standard
errors of it, the standard error being taken from the most likely distribution *whose mean is m*. That distribution has
weight on the values observed and, where the likelihood asks for it, on the two ends of the range, even if no score has
been there yet. So fifty equal scores still leave an interval of honest width. On scores of 0 and 1 it is exactly
Wilson's interval; on paired differences of -1, 0 and 1 it is exactly Tango's (`orchestra.evaluation.paired`).

Intervals are about the tasks: how much another draw of as many tasks from the same kind could have changed the mean.
They take tasks as independent.

Source:
    Clopper and Pearson 1934, "The use of confidence or fiducial limits illustrated in the case of the binomial",
    Biometrika 26. Brown, Cai and DasGupta 2001, "Interval estimation for a binomial proportion", Statistical Science
    16 (coverage of the alternatives). Wilson 1927, JASA 22. Owen 2001, "Empirical Likelihood", chapter 2 (most likely
    distribution on the observed values under a fixed mean).
    Deviation: Clopper-Pearson, none; its quantiles are found by bisection on binomial tails, without a beta function.
    The score interval joins Wilson's idea (standard error at the candidate mean) with Owen's restricted likelihood, and
    adds the ends of the range to the support; for values other than 0 and 1 this combination is ours, and
    `tests/orchestra/evaluation/test_intervals.py` measures its coverage.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

CONFIDENCE = 0.95
"""Of every interval in this package."""
Z = 1.959963984540054
"""Quantile of the standard normal distribution that leaves 2.5 % on either side."""
_STEPS = 48  # halvings of a bisection: 4e-15 of the range


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with its 95 % interval."""

    mean: float
    low: float
    high: float
    count: int
    """Number of tasks it rests on."""


def success_interval(scores_N: Sequence[float] | NDArray[np.float64]) -> Estimate:
    """Mean of `[N]` scores in [0, 1] with its 95 % interval: exact for 0 and 1, the score interval otherwise.

    Raises:
        ValueError: when there are no scores, or one is outside [0, 1].

    >>> success_interval([0.0] * 50)
    Estimate(mean=0.0, low=0.0, high=0.0711..., count=50)
    """
    scores_N = _checked(scores_N, 0.0, 1.0)
    count = len(scores_N)
    if np.isin(scores_N, (0.0, 1.0)).all():
        successes = int(scores_N.sum())
        return Estimate(successes / count, *clopper_pearson(successes, count), count)
    return Estimate(math.fsum(scores_N) / count, *score_interval(scores_N, low=0.0, high=1.0), count)


def clopper_pearson(successes: int, count: int) -> tuple[float, float]:
    """Exact 95 % interval for the success rate behind `successes` of `count`."""
    tail = (1 - CONFIDENCE) / 2
    low = 0.0 if successes == 0 else _bisect(lambda p: _upper_tail(successes, count, p) < tail, 0.0, 1.0)
    high = 1.0 if successes == count else _bisect(lambda p: _upper_tail(successes + 1, count, p) < 1 - tail, 0.0, 1.0)
    return low, high


def score_interval(values_N: Sequence[float] | NDArray[np.float64], *, low: float, high: float) -> tuple[float, float]:
    """95 % interval for the mean of `[N]` values that can lie anywhere in [`low`, `high`].

    Raises:
        ValueError: when there are no values, or one is outside the range.
    """
    values_N = _checked(values_N, low, high)
    mean = math.fsum(values_N) / len(values_N)

    def inside(candidate: float) -> bool:
        return abs(score_statistic(values_N, candidate, low=low, high=high)) <= Z

    lower = _bisect(lambda m: not inside(m), low, mean) if mean > low else low
    upper = _bisect(inside, mean, high) if mean < high else high
    return lower, upper


def score_statistic(values_N: ArrayLike, mean: float, *, low: float, high: float) -> float:
    """Standard errors by which the mean of `[N]` values lies above `mean`, the error being taken under that mean.

    Scaling the number of tasks at the same proportions by `r` scales it by `sqrt(r)`.

    Args:
        values_N: `[N]` values in [`low`, `high`].
        mean: the candidate; at an end of the range only values equal to it are possible.
        low: smallest value possible.
        high: largest value possible.
    """
    values, counts = np.unique(np.asarray(values_N, dtype=np.float64), return_counts=True)
    share = counts / counts.sum()
    excess = float(share @ values) - mean
    if abs(excess) < 1e-12:
        return 0.0
    if not low < mean < high:
        return math.copysign(math.inf, excess)
    if excess > 0:
        variance = _restricted_variance(mean - values, share, mean - low)
    else:
        variance = _restricted_variance(values - mean, share, high - mean)
    return excess * math.sqrt(counts.sum() / variance)


def _restricted_variance(gap: NDArray[np.float64], share: NDArray[np.float64], end: float) -> float:
    """Variance of the most likely distribution with mean gap 0, when the observed mean gap is below 0.

    Args:
        gap: distinct values minus the candidate mean.
        share: how often each was observed; sums to 1.
        end: gap of the far end of the range, above 0.

    The weights are `share / (1 - u * gap / end)` for the `u` in (0, 1] that brings the mean to the candidate. At u = 1
    what is missing to a total of 1 lies on the far end, where nothing has been observed.
    """
    relative = gap / end
    if relative.max() < 1 and float(share @ (gap / (1 - relative))) <= 0:
        weight = share / (1 - relative)
        return float(weight @ gap**2) + max(0.0, 1.0 - float(weight.sum())) * end**2
    weight = share / (1 - _tilt(gap, relative, share) * relative)
    return float(weight @ gap**2)


def _tilt(gap: NDArray[np.float64], relative: NDArray[np.float64], share: NDArray[np.float64]) -> float:
    """The `u` at which the weighted gaps cancel: Newton's steps, halving wherever one would leave the bracket."""
    low, high, u = 0.0, 1.0, 0.5
    for _ in range(_STEPS):
        pulled = gap / (1 - u * relative)
        pull = float(share @ pulled)
        low, high = (u, high) if pull < 0 else (low, u)
        step = pull / float(share @ (pulled * relative / (1 - u * relative)))
        following = u - step if low < u - step < high else (low + high) / 2
        if abs(following - u) < 1e-15:
            break
        u = following
    return u


def _bisect(below: Callable[[float], bool], low: float, high: float) -> float:
    """The place in [`low`, `high`] where `below` turns from true to false."""
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if below(middle):
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _upper_tail(successes: int, count: int, rate: float) -> float:
    """Probability of at least `successes` of `count` at `rate`, which is inside (0, 1)."""
    k = range(successes, count + 1)
    log_choose = math.lgamma(count + 1)
    logs = (
        log_choose
        - math.lgamma(i + 1)
        - math.lgamma(count - i + 1)
        + i * math.log(rate)
        + (count - i) * math.log1p(-rate)
        for i in k
    )
    return min(1.0, math.fsum(math.exp(term) for term in logs))


def _checked(values_N: ArrayLike, low: float, high: float) -> NDArray[np.float64]:
    values = np.asarray(values_N, dtype=np.float64)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"an interval needs at least one value in one dimension, got shape {values.shape}")
    if not bool(np.all((values >= low) & (values <= high))):
        raise ValueError(f"values must lie in [{low}, {high}], got {values.min()} to {values.max()}")
    return values
