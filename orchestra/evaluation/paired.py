"""Is the team better than one agent? A paired difference on the same tasks, and a verdict with a margin.

Both arms answer the same held-out tasks; `d` is the mean, over tasks of that kind, of the team's success minus the
single agent's. The *margin* (2 points unless said otherwise) is the lead a team must have before its complexity counts.
With the 95 % interval of `d`:

| verdict | given when | what it claims | it is wrong when in truth |
|---|---|---|---|
| *team better* | the whole interval lies above 0, and not all of it below the margin | d > 0 | d ≤ 0 |
| *single agent as good or better* | the whole interval lies below the margin | d < margin | d ≥ margin |
| *undecided: about n more tasks needed* | otherwise | nothing | never |

A lead that is proven but proven smaller than the margin goes to the single agent: the margin says it does not count.
A decided verdict is wrong in at most 5 % of repetitions: nominally 2.5 %, since each is wrong on one side only; 3.9 %
is the largest found by exact enumeration over 5 to 300 tasks, margins of 1, 2 and 5 points and all shares of tasks on
which the arms differ. `tests/orchestra/evaluation/test_verdicts.py` enumerates and simulates it. Of fewer than 5 tasks
nothing is decided: four wins of four are wrong in 6 %.

That is for one look. Whoever adds tasks because a verdict was undecided, and asks of the old and the new together,
looks again, and is wrong more often (8 to 11 % after up to six looks, simulated): a second verdict takes tasks of its
own.

The interval is the score interval of `orchestra.evaluation.intervals` on the differences, which lie in [-1, 1]. When
every score is 0 or 1 it is Tango's interval for paired proportions: right for few tasks, and for arms that agree on
most or all of them, where t intervals and plain bootstraps collapse to a point.

Source:
    Tango 1998, "Equivalence test and confidence interval for the difference in proportions for the paired-sample
    design", Statistics in Medicine 17, equations 10-12; recommended in Fagerland, Lydersen and Laake 2014,
    "Recommended tests and confidence intervals for paired binomial proportions", Statistics in Medicine 33.
    Deviation: none for scores of 0 and 1 (a test compares it with Tango's closed form). For fractional scores the
    variance under the candidate difference is that of the most likely distribution on the observed differences and
    ±1, which is what Tango's is on {-1, 0, 1}. Bonett and Price's adjusted interval (2012), one formula for both, was
    tried and refused: it reaches 6 % wrong verdicts at 137 and 300 tasks.
    Number of tasks still needed: ours. At the observed proportions the statistic grows with the square root of the
    number of tasks, so the count at which the nearer verdict would be reached follows in closed form.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from orchestra.errors import InputError
from orchestra.evaluation.intervals import Estimate, Z, score_interval, score_statistic
from orchestra.evaluation.outcomes import Arm, shared_tasks

Verdict = Literal["team better", "single agent as good or better", "undecided"]
FEWEST_TASKS = 5
"""With fewer nothing is decided."""
MARGIN = 0.02
"""Lead in success that a team must have before it counts, unless said otherwise: 2 points."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A team against one agent on the same tasks."""

    verdict: Verdict
    difference: Estimate
    """Team minus single agent, in [-1, 1]."""
    margin: float
    wins: int
    """Tasks on which the team scored higher."""
    losses: int
    """Tasks on which the single agent scored higher."""
    ties: int
    more_tasks: int | None
    """When undecided: about how many more tasks would settle it if what was observed stays so; `None` when decided,
    or when no number would."""

    @property
    def statement(self) -> str:
        """The verdict in words."""
        if self.verdict != "undecided":
            return self.verdict
        if self.more_tasks is None:
            return "undecided: at the observed difference no number of tasks would settle it"
        return f"undecided: about {self.more_tasks:,} more tasks needed"


def compare(team: Arm, single: Arm, *, margin: float = MARGIN) -> Comparison:
    """The paired comparison of two arms over the tasks both were measured on.

    Raises:
        InputError: when they share no measured task, or the margin is not in [0, 1).
    """
    shared = shared_tasks(team, single)
    if not shared:
        raise InputError(
            f"{team.name!r} and {single.name!r} have no measured task in common; "
            "a paired comparison needs both on the same tasks"
        )
    differences = [_known(team, task) - _known(single, task) for task in shared]
    return verdict_of(differences, margin=margin)


def verdict_of(differences_N: Sequence[float] | NDArray[np.float64], *, margin: float = MARGIN) -> Comparison:
    """The comparison behind `[N]` paired differences in [-1, 1], team minus single agent.

    Raises:
        InputError: when the margin is not in [0, 1).
        ValueError: when there are no differences, or one is outside [-1, 1].
    """
    if not 0 <= margin < 1:
        raise InputError(f"margin {margin!r} is not a share of tasks from 0 to below 1; 2 points are 0.02")
    values = np.asarray(differences_N, dtype=np.float64)
    low, high = score_interval(values, low=-1.0, high=1.0)
    verdict = decide(low, high, margin) if len(values) >= FEWEST_TASKS else "undecided"
    return Comparison(
        verdict=verdict,
        difference=Estimate(math.fsum(values) / len(values), low, high, len(values)),
        margin=margin,
        wins=int((values > 0).sum()),
        losses=int((values < 0).sum()),
        ties=int((values == 0).sum()),
        more_tasks=more_tasks(values, margin) if verdict == "undecided" else None,
    )


def decide(low: float, high: float, margin: float) -> Verdict:
    """The verdict that an interval for the difference allows; the table above."""
    if high < margin:
        return "single agent as good or better"
    return "team better" if low > 0 else "undecided"


def more_tasks(differences_N: NDArray[np.float64], margin: float) -> int | None:
    """About how many more tasks settle an undecided comparison, if what was observed stays so; `None`: no number does.

    The nearer of the two verdicts counts: the interval leaves 0 after `N (z / T)²` tasks in all, `T` being the
    statistic at 0, and falls below the margin likewise.
    """
    count = len(differences_N)
    above_zero = score_statistic(differences_N, 0.0, low=-1.0, high=1.0)
    below_margin = -score_statistic(differences_N, margin, low=-1.0, high=1.0)
    pull = max(above_zero, below_margin)
    return max(1, FEWEST_TASKS - count, math.ceil(count * (Z / pull) ** 2) - count) if pull > 0 else None


def _known(arm: Arm, task_id: str) -> float:
    success = arm.outcomes[task_id].success
    assert success is not None, "shared_tasks names measured tasks only"
    return success
