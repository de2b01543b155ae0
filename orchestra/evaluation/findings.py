"""From outcomes to the parts of a certificate: each function measures one thing and returns its record."""

import math
from collections.abc import Iterable
from decimal import Decimal

from orchestra.evaluation.breakeven import break_even, cost_of_pass, mean_list_nano
from orchestra.evaluation.certificate import ArmResult, BreakEvenResult, Headline, Interval, Spend, SpendRow
from orchestra.evaluation.intervals import success_interval
from orchestra.evaluation.outcomes import Arm
from orchestra.evaluation.paired import MARGIN, compare
from orchestra.evaluation.wording import cash, percent, points
from orchestra.ledger import usd


def arm_result(
    arm: Arm,
    *,
    description: str = "",
    samples_per_task: float = 1.0,
    equipment_usd: Decimal | None = None,
    trial: Arm | None = None,
) -> ArmResult:
    """Success of `arm` with its interval, and what it cost.

    Args:
        arm: outcomes on held-out tasks.
        description: what answers, and how.
        samples_per_task: expected k.
        equipment_usd: price of its components; `None` means it has none.
        trial: the same arm's outcomes on the trial split, where it was measured there.

    Raises:
        ValueError: when no held-out task was measured.
    """
    measured = success_interval(arm.scores)
    per_success = cost_of_pass(arm)
    return ArmResult(
        arm=arm.name,
        description=description,
        tasks=measured.count,
        success=measured.mean,
        interval=Interval(low=measured.low, high=measured.high),
        failures=arm.failures,
        samples_per_task=samples_per_task,
        list_usd=usd(arm.list_nano),
        paid_usd=usd(arm.paid_nano),
        list_usd_per_task=usd(math.ceil(mean_list_nano(arm))),
        cost_of_pass_usd=None if per_success is None else usd(per_success),
        equipment_usd=equipment_usd,
        trial_success=None if trial is None else trial.success,
    )


def headline(team: Arm, baseline: Arm, *, chosen_because: str, margin: float = MARGIN) -> Headline:
    """The team against the baseline it must face, on the held-out tasks both were measured on.

    Raises:
        InputError: when they share no measured task, or the margin is not in [0, 1).
    """
    found = compare(team, baseline, margin=margin)
    return Headline(
        verdict=found.verdict,
        statement=found.statement,
        baseline=baseline.name,
        chosen_because=chosen_because,
        difference=found.difference.mean,
        interval=Interval(low=found.difference.low, high=found.difference.high),
        margin=margin,
        tasks=found.difference.count,
        wins=found.wins,
        losses=found.losses,
        ties=found.ties,
        more_tasks=found.more_tasks,
    )


def break_even_result(search_nano: int, team: Arm, other: Arm, *, seed: int = 0) -> BreakEvenResult:
    """When the team has paid for its search, if the alternative is `other`.

    Raises:
        ValueError: when the arms share no measured task.
    """
    found = break_even(search_nano, team, other, seed=seed)
    return BreakEvenResult(
        against=other.name,
        outcome=found.outcome,
        queries=found.queries,
        low=found.low,
        high=found.high,
        never_share=found.never_share,
        search_usd=usd(search_nano),
    )


def spend(rows: Iterable[SpendRow], *, settled_nano: int, unknown_nano: int = 0, cap_nano: int | None = None) -> Spend:
    """The spend table; it refuses rows that do not add up to the ledger.

    Raises:
        ValueError: when the rows' paid amounts are not `settled_nano + unknown_nano` together.
    """
    return Spend(
        rows=tuple(rows),
        settled_usd=usd(settled_nano),
        unknown_usd=usd(unknown_nano),
        cap_usd=None if cap_nano is None else usd(cap_nano),
    )


def verdict_line(found: Headline, success: Iterable[ArmResult]) -> str:
    """The whole in one line: the verdict, both successes at equal cost, and the difference with its interval.

    Raises:
        KeyError: when the baseline is not among `success`.
    """
    by_arm = {result.arm: result for result in success}
    team, baseline = by_arm["team"], by_arm[found.baseline]
    low, high = points(found.interval.low), points(found.interval.high)
    return (
        f"{found.statement} — {percent(team.success)} against {percent(baseline.success)} for the {baseline.arm} "
        f"{_cost_in_words(team, baseline)} ({points(found.difference)} points, 95 % interval {low} to {high}, "
        f"{found.tasks} held-out tasks)"
    )


def _cost_in_words(team: ArmResult, baseline: ArmResult) -> str:
    """`at equal cost` where that is so; a baseline cannot draw less than one sample, so it may cost more."""
    if abs(baseline.list_usd_per_task - team.list_usd_per_task) * 10 <= team.list_usd_per_task:
        return "at equal cost"
    return f"at {cash(baseline.list_usd_per_task)} per task to the team's {cash(team.list_usd_per_task)}"
