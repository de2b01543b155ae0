"""After how many queries has a team paid for the search that found it?

With search spend `S`, the team's cost and success per query `c_t`, `p_t`, and the baseline's `c_b`, `p_b`, one query to
the team is worth `p_t` successes, which cost `p_t * c_b / p_b` from the baseline. So it saves
`p_t * c_b / p_b - c_t`, and the search is paid back after

    N = ceil(S / (p_t * c_b / p_b - c_t))

queries; *never* when the denominator is not above zero; and *the baseline never succeeds* when `p_b = 0`: then no
amount of money buys from it what the team sells. Costs are list costs, so that a cache cannot flatter either side;
money is whole nano-USD and the arithmetic is exact, so `N` is not off by one.

Source:
    The formula is the project's own. Cost of a success, `cost_of_pass`: Erol, El, Suzgun, Yuksekgonul and Zou 2025,
    "Cost-of-Pass: An Economic Framework for Evaluating Language Models", arXiv:2504.13359, section 2.
    Interval: Efron 1979, "Bootstrap methods: another look at the jackknife", Annals of Statistics 7; percentile method.
    Deviation: tasks are drawn again jointly for both arms where both answered them, so the pairing survives. "Never" is
    an ordinary value above every count, so the interval's upper end may be "never"; a draw in which the baseline does
    not succeed once counts as paid back by the first query, or as "never" when the team does not succeed either.
    Where every draw agrees (each task alike) the interval is a point: it speaks of variation between tasks only.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from orchestra.evaluation.outcomes import Arm, Outcome, only, shared_tasks

_NEVER = np.inf


@dataclass(frozen=True, slots=True)
class BreakEven:
    """When a search is paid back, with its 95 % interval."""

    outcome: Literal["after", "never", "the baseline never succeeds"]
    queries: int | None
    """How many queries; `None` unless `outcome` is "after"."""
    low: int | None
    """Lower end of the interval; `None` means never."""
    high: int | None
    """Upper end; `None` means never."""
    never_share: float
    """Share of the bootstrap draws in which the search was never paid back."""
    search_nano: int
    """What the search cost, in nano-USD."""

    @property
    def statement(self) -> str:
        """The outcome in words."""
        return f"after {self.queries:,} queries" if self.queries is not None else self.outcome


def queries_until_paid(
    search_nano: int,
    *,
    team_nano: Fraction,
    team_success: Fraction,
    baseline_nano: Fraction,
    baseline_success: Fraction,
) -> int | None:
    """`N` of the formula above; `None` means never.

    Args:
        search_nano: `S`, nano-USD.
        team_nano: `c_t`, nano-USD per query.
        team_success: `p_t`, in [0, 1].
        baseline_nano: `c_b`, nano-USD per query.
        baseline_success: `p_b`, in (0, 1].

    Raises:
        ZeroDivisionError: when the baseline never succeeds.

    >>> queries_until_paid(10_000, team_nano=Fraction(100), team_success=Fraction(4, 5),
    ...                    baseline_nano=Fraction(100), baseline_success=Fraction(2, 5))
    100
    """
    saved = team_success * baseline_nano / baseline_success - team_nano
    return math.ceil(search_nano / saved) if saved > 0 else None


def break_even(search_nano: int, team: Arm, baseline: Arm, *, draws: int = 2000, seed: int = 0) -> BreakEven:
    """When `team` has paid for its search if the alternative is `baseline`, with a bootstrap interval over tasks.

    Each arm's success and cost are taken over the tasks both were measured on.

    Raises:
        ValueError: when they share no measured task, or the search spend is negative.
    """
    shared = shared_tasks(team, baseline)
    if not shared or search_nano < 0:
        raise ValueError(
            f"break-even of {team.name!r} against {baseline.name!r} needs shared tasks and a spend of 0 or more, "
            f"got {len(shared)} tasks and {search_nano} nano-USD"
        )
    team, baseline = only(team, shared), only(baseline, shared)
    low, high, never_share = _interval(search_nano, team, baseline, draws=draws, seed=seed)
    baseline_success = _mean_success(baseline)
    if baseline_success == 0:
        if _mean_success(team) == 0:
            return BreakEven("never", None, low, high, never_share, search_nano)
        return BreakEven("the baseline never succeeds", None, low, high, never_share, search_nano)
    queries = queries_until_paid(
        search_nano,
        team_nano=mean_list_nano(team),
        team_success=_mean_success(team),
        baseline_nano=mean_list_nano(baseline),
        baseline_success=baseline_success,
    )
    return BreakEven("never" if queries is None else "after", queries, low, high, never_share, search_nano)


def mean_list_nano(arm: Arm) -> Fraction:
    """List cost per task of an arm, exact, in nano-USD.

    Raises:
        ValueError: when it has no outcomes.
    """
    if not len(arm):
        raise ValueError(f"arm {arm.name!r} has no outcomes, so no cost per task")
    return Fraction(arm.list_nano, len(arm))


def cost_of_pass(arm: Arm) -> int | None:
    """What one success of `arm` costs at list prices, in nano-USD, rounded up; `None` when it never succeeds."""
    solved = sum((Fraction(outcome.success or 0) for outcome in arm.measured), Fraction(0))
    spent = sum(outcome.list_nano for outcome in arm.measured)
    return math.ceil(spent / solved) if solved else None


def _mean_success(arm: Arm) -> Fraction:
    measured = arm.measured
    return sum((Fraction(outcome.success or 0) for outcome in measured), Fraction(0)) / len(measured)


def _interval(
    search_nano: int, team: Arm, baseline: Arm, *, draws: int, seed: int
) -> tuple[int | None, int | None, float]:
    """Percentile interval of the count over joint draws of tasks, and the share of draws that say "never"."""
    rng = np.random.default_rng(seed)
    count = len(team)
    times_DN = rng.multinomial(count, np.full(count, 1 / count), size=draws)
    solved_team_D, solved_baseline_D = (times_DN @ arm.scores for arm in (team, baseline))
    nano_team_D, nano_baseline_D = (times_DN @ _list_nano(arm.measured) for arm in (team, baseline))
    with np.errstate(divide="ignore", invalid="ignore"):
        saved_D = (solved_team_D * nano_baseline_D / solved_baseline_D - nano_team_D) / count
        queries_D = np.where(saved_D > 0, np.ceil(search_nano / saved_D), _NEVER)
    at_once = min(1, search_nano)  # what is free is paid back before the first query
    queries_D = np.where((solved_baseline_D == 0) & (solved_team_D > 0), at_once, queries_D)
    ordered = np.sort(queries_D)
    low, high = ordered[math.floor(0.025 * (draws - 1))], ordered[math.ceil(0.975 * (draws - 1))]
    return _whole(low), _whole(high), float(np.isinf(queries_D).mean())


def _list_nano(outcomes: Sequence[Outcome]) -> NDArray[np.float64]:
    return np.array([outcome.list_nano for outcome in outcomes], dtype=np.float64)


def _whole(queries: float) -> int | None:
    return None if math.isinf(queries) else int(queries)
