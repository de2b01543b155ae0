"""What a trial measured: the gain in success of having a component, on the same queries with and without it.

Pairing removes how hard the queries are; the interval is for the mean of the differences, each in [-1, 1].

The paper's three verdicts map to numbers: *helpful* = 1 is a gain above 0, *not helpful* = 0 is a gain of 0 or less,
*broken* = -1 is `broken`, which blacklists and is not a number to average.

Why this interval: trials are few (two to ten queries), differences are -1, 0 or 1, and a search may look early and try
again. A t interval collapses to a point when all differences agree, the bootstrap does too, and neither holds at n = 5.
A confidence sequence by betting holds for any bounded outcome at any n and at any time one looks. It is wide at small
n because the data say little.

Source:
    Yuan et al. 2025, arXiv:2510.16499 (sandbox trials, verdicts); Waudby-Smith & Ramdas 2024, "Estimating means of
    bounded random variables by betting", JRSS B 86, section 4 (capital process `Π (1 + λ(x_t − m))`, Ville's
    inequality); Cover 1991, "Universal Portfolios" (the mixture over λ); Capen, Clapp & Campbell 1971 (winner's curse).

    Deviation: the paper judges by a language model and has neither pairs nor intervals. The bet is a uniform mixture
    over fixed fractions instead of a predictable plug-in, so that the order of the queries does not matter.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from composers.knapsack.selection import Candidate, ValueSource
from graphs.model import Value
from orchestra.agents.inventory import Component
from orchestra.errors import InputError

CONFIDENCE = 0.95

_FRACTIONS = np.concatenate([sign * np.linspace(0.05, 1.0, 20) for sign in (-1, 1)])
_MEANS = np.linspace(0.0, 1.0, 1001)

Verdict = Literal["helpful", "not helpful", "broken"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One query, answered with the component and without it."""

    query: str
    """Task id."""
    with_score: float | None
    """From 0 to 1; `None` means not measured: the episode failed."""
    without_score: float | None
    """As `with_score`; the same for every component, so it is paid for once."""
    tool_failed: bool = False
    """The component itself failed (`ToolError`): its answer counts as a score of 0."""
    answered: bool = True
    """Whether the component said anything."""


class TrialEstimate(Value):
    """A component's measured value for one skill."""

    component: str
    skill: str
    n: int = Field(ge=0)
    """Pairs measured."""
    gain: float = Field(ge=-1, le=1)
    """Mean paired difference in score; 0 when nothing was measured."""
    low: float = Field(ge=-1, le=1)
    """Lower end of the interval."""
    high: float = Field(ge=-1, le=1)
    """Upper end of the interval."""
    confidence: float = CONFIDENCE
    calls: int = Field(ge=0)
    """Queries tried, measured or not."""
    errors: int = Field(ge=0)
    """Of them, how many the component itself failed."""
    unmeasured: int = Field(ge=0)
    """Of them, how many say nothing about the component: an episode failed for another reason."""
    silent: bool = False
    """It said nothing on any query. For one skill that means it does not help; see `is_broken`."""
    broken: bool = False
    """It failed on at least half of its calls."""
    queries: tuple[str, ...] = ()
    """Ids of the queries tried; re-estimation must use others."""
    value_source: ValueSource = "trials"

    @property
    def verdict(self) -> Verdict:
        """The paper's 1, 0 or -1, in words."""
        if self.broken:
            return "broken"
        return "helpful" if self.gain > 0 else "not helpful"


def estimate(component: str, skill: str, pairs: Sequence[Pair], *, confidence: float = CONFIDENCE) -> TrialEstimate:
    """The paired gain with its interval.

    Args:
        component: name of what was tried.
        skill: what it was tried for.
        pairs: one per query.
        confidence: of the interval, between 0 and 1.

    Raises:
        InputError: a score lies outside [0, 1], or a query occurs twice.
    """
    queries = tuple(pair.query for pair in pairs)
    if len(set(queries)) < len(queries):
        raise InputError(f"the trial of {component!r} for {skill!r} repeats a query: pair every query once")
    differences = [difference for pair in pairs if (difference := _difference(pair)) is not None]
    errors = sum(pair.tool_failed for pair in pairs)
    low, high = mean_interval(differences, confidence=confidence)
    return TrialEstimate(
        component=component,
        skill=skill,
        n=len(differences),
        gain=math.fsum(differences) / len(differences) if differences else 0.0,
        low=low,
        high=high,
        confidence=confidence,
        calls=len(pairs),
        errors=errors,
        unmeasured=len(pairs) - len(differences),
        silent=bool(pairs) and not any(pair.answered for pair in pairs),
        broken=bool(pairs) and 2 * errors >= len(pairs),
        queries=queries,
    )


def _difference(pair: Pair) -> float | None:
    with_score = 0.0 if pair.tool_failed else pair.with_score
    for score in (with_score, pair.without_score):
        if score is not None and not 0 <= score <= 1:
            raise InputError(f"the query {pair.query!r} scored {score}: scores lie between 0 and 1")
    return None if with_score is None or pair.without_score is None else with_score - pair.without_score


def mean_interval(differences: Sequence[float], *, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """An interval for the mean of independent differences in [-1, 1], valid at every n; rounded outwards to 0.002.

    >>> mean_interval([])
    (-1.0, 1.0)

    Raises:
        InputError: the confidence is not between 0 and 1.
    """
    if not 0 < confidence < 1:
        raise InputError(f"a confidence of {confidence} is none: give one between 0 and 1, such as 0.95")
    if not differences:
        return -1.0, 1.0
    capital = _log_capital(np.array(differences, dtype=np.float64))
    kept = np.flatnonzero(capital < -math.log(1 - confidence)).tolist()
    # The sample's own mean always survives, but the points of the grid on either side of it may not: keep them.
    own = (math.fsum(differences) / len(differences) + 1) / 2 * (len(_MEANS) - 1)
    first = max(0, min([*kept, math.floor(own)]) - 1)
    last = min(len(_MEANS) - 1, max([*kept, math.ceil(own)]) + 1)
    return 2 * float(_MEANS[first]) - 1, 2 * float(_MEANS[last]) - 1


def _log_capital(differences: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log wealth of the mixture of bets against every mean of the grid, after seeing the differences."""
    outcomes, counts = np.unique((differences + 1) / 2, return_counts=True)
    inner = np.clip(_MEANS, 1e-9, 1 - 1e-9)[:, None]
    bets = np.where(_FRACTIONS > 0, _FRACTIONS / inner, _FRACTIONS / (1 - inner))
    wealth = np.zeros_like(bets)
    with np.errstate(divide="ignore"):  # a bet of everything that loses leaves nothing: its logarithm is -inf
        for outcome, count in zip(outcomes, counts, strict=True):
            wealth += count * np.log(np.maximum(0.0, 1.0 + bets * (outcome - inner)))
    top = wealth.max(axis=1)
    total = top + np.log(np.exp(wealth - top[:, None]).mean(axis=1))
    return np.asarray(total)


def is_broken(estimates: Iterable[TrialEstimate]) -> bool:
    """Whether a component is broken over everything it was tried for: the paper's -1, which blacklists.

    It failed on at least half of all its calls, or it never said anything to anyone. Saying nothing on one skill alone
    is not enough: a component retrieved for the wrong skill is right to keep quiet.
    """
    seen = list(estimates)
    calls = sum(each.calls for each in seen)
    return calls > 0 and (2 * sum(each.errors for each in seen) >= calls or all(each.silent for each in seen))


def candidate(component: Component, estimates: Sequence[TrialEstimate]) -> Candidate:
    """What the online rule and the optimum on measured values take, from a component's estimates.

    Raises:
        InputError: an estimate is of another component, or a skill occurs twice.
    """
    gains = {each.skill: each.gain for each in estimates}
    if len(gains) < len(estimates) or any(each.component != component.name for each in estimates):
        raise InputError(f"the estimates given for {component.name!r} are not one per skill, all of it")
    return Candidate(name=component.name, price=component.price_usd, gains=gains, broken=is_broken(estimates))


class Reestimate(Value):
    """A chosen component measured again on queries that did not choose it (the winner's curse made visible)."""

    first: TrialEstimate
    """The estimate it was chosen on; too high on average, because it was chosen for being high."""
    fresh: TrialEstimate
    """The estimate on fresh queries: the one to believe."""

    @property
    def shrinkage(self) -> float:
        """How much of the gain went away: first gain minus fresh gain."""
        return self.first.gain - self.fresh.gain

    @property
    def kept_share(self) -> float | None:
        """Fresh gain as a share of the first; `None` when the first was not above 0."""
        return self.fresh.gain / self.first.gain if self.first.gain > 0 else None


class Shrinkage(Value):
    """The winner's curse over all chosen components."""

    n: int = Field(ge=1)
    first_gain: float
    """Mean of the gains they were chosen on."""
    fresh_gain: float
    """Mean on fresh queries."""

    @property
    def shrinkage(self) -> float:
        """First minus fresh."""
        return self.first_gain - self.fresh_gain


def reestimate(first: TrialEstimate, fresh: TrialEstimate) -> Reestimate:
    """The two estimates side by side.

    Raises:
        InputError: they are of different things, or share a query.
    """
    if (first.component, first.skill) != (fresh.component, fresh.skill):
        raise InputError(
            f"cannot compare {first.component!r} for {first.skill!r} with {fresh.component!r} for {fresh.skill!r}"
        )
    shared = sorted(set(first.queries) & set(fresh.queries))
    if shared:
        raise InputError(f"the fresh estimate of {fresh.component!r} repeats the queries {shared!r}: use others")
    return Reestimate(first=first, fresh=fresh)


def shrinkage(reestimates: Sequence[Reestimate]) -> Shrinkage | None:
    """How much all chosen components lost together; `None` when none was measured again."""
    if not reestimates:
        return None
    count = len(reestimates)
    return Shrinkage(
        n=count,
        first_gain=math.fsum(each.first.gain for each in reestimates) / count,
        fresh_gain=math.fsum(each.fresh.gain for each in reestimates) / count,
    )
