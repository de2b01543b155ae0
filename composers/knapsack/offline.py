"""Exact selection under several constraints (price and expected latency), by CP-SAT; the only module that loads it.

For one constraint `composers.knapsack.exact` needs no solver. Only the status OPTIMAL counts as proof: a solver that
stopped early gives its best set with its own bound and gap. OR-tools' dedicated knapsack solver is not used: past its
limit it reports sets up to 15.8 % short as if they were best.

Source:
    Yuan et al. 2025, arXiv:2510.16499, offline composer (objective, at least one item per skill); Perron & Didier,
    CP-SAT, OR-tools.

    Deviation: the paper has one constraint, the price; expected latency and others may join it.
"""

import math
import time
from collections.abc import Collection, Sequence
from decimal import Decimal
from fractions import Fraction

from composers.knapsack.covers import Covers
from composers.knapsack.exact import affordable_cover, group_masks
from composers.knapsack.selection import (
    Amount,
    DeadlineReached,
    Infeasible,
    Item,
    Limit,
    Selection,
    check_priced,
    total,
    whole_numbers,
)
from orchestra.errors import InputError, MissingExtra

try:
    from ortools.sat.python import cp_model
except ImportError as missing:
    raise MissingExtra("solver", "exact selection under several constraints") from missing

_MOST = 2**53
"""Totals stay below this, where floats are exact too and the solver is quick."""
_VALUE_STEPS = 10**9
_BILLIONTH = Fraction(1, 10**9)


def best_under_limits(
    items: Sequence[Item],
    budget: Amount,
    limits: Sequence[Limit],
    *,
    groups: Collection[str] | None = None,
    deadline_seconds: float | None = None,
    seed: int = 0,
) -> Selection:
    """The most valuable set within the budget and every limit that has at least one item of every group.

    Args:
        items: what there is to select from.
        budget: in the unit of the items' prices.
        limits: further constraints. Float amounts are measurements: read to a billionth, rounded up.
        groups: the groups that need an item; `None` means every group an item names, empty means none.
        deadline_seconds: past it the best set found is given with its bound and gap; `None` runs to the proof.
        seed: of the solver; one worker and a seed make a finished run exact.

    Raises:
        InputError: an amount is not one, does not fit exact integers, or the limits do not match the items.
        Infeasible: no set covers the groups within the budget and the limits.
        DeadlineReached: time ran out before any permitted set was found.
    """
    started = time.perf_counter()
    check_priced(items, budget)
    rows = [_row("price", [item.price for item in items], budget), *_limit_rows(items, limits)]
    needed = sorted({group for item in items for group in item.groups} if groups is None else set(groups))
    masks, full = group_masks(items, needed)
    prices, purse = rows[0]
    affordable_cover(items, budget, prices, purse, needed, Covers(prices, masks, full))

    model = cp_model.CpModel()
    takes = [model.new_bool_var(f"take_{index}") for index in range(len(items))]
    for amounts, cap in rows:
        model.add(cp_model.LinearExpr.weighted_sum(takes, amounts) <= cap)
    for position in range(len(needed)):
        model.add_bool_or([take for take, mask in zip(takes, masks, strict=True) if mask >> position & 1])
    steps, step, slack = _value_steps([item.value for item in items])
    model.maximize(cp_model.LinearExpr.weighted_sum(takes, steps))
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = seed
    if deadline_seconds is not None:
        solver.parameters.max_time_in_seconds = max(0.0, deadline_seconds - (time.perf_counter() - started))
    status = solver.solve(model)
    _check_status(status, solver, budget, limits, deadline_seconds)
    chosen = [index for index, take in enumerate(takes) if solver.boolean_value(take)]
    value = math.fsum(items[index].value for index in chosen)
    optimal = status == cp_model.OPTIMAL
    return Selection(
        chosen=tuple(items[index].name for index in chosen),
        price=total([items[index].price for index in chosen]),
        value=value,
        bound=value if optimal and not slack else max(value, solver.best_objective_bound * step + slack),
        optimal=optimal,
        nodes=solver.num_branches,
        seconds=time.perf_counter() - started,
    )


def _limit_rows(items: Sequence[Item], limits: Sequence[Limit]) -> list[tuple[list[int], int]]:
    for limit in limits:
        if len(limit.amounts) != len(items):
            raise InputError(
                f"the limit {limit.name!r} has {len(limit.amounts)} amounts for {len(items)} items: give one per item"
            )
        for amount, name in [(limit.cap, "the cap"), *zip(limit.amounts, (item.name for item in items), strict=True)]:
            if not (math.isfinite(amount) and amount >= 0):
                raise InputError(f"the limit {limit.name!r}: {name!r} is {amount}: give a finite amount of at least 0")
    return [_row(limit.name, [_measured(amount) for amount in limit.amounts], limit.cap) for limit in limits]


def _measured(amount: Amount) -> Amount:
    """A float at most a billionth up: what a clock measured has no exact decimal worth keeping."""
    return Decimal(math.ceil(Fraction(str(amount)) / _BILLIONTH)).scaleb(-9) if isinstance(amount, float) else amount


def _row(name: str, amounts: Sequence[Amount], cap: Amount) -> tuple[list[int], int]:
    """A constraint in whole numbers without their common divisor."""
    whole, unit = whole_numbers(amounts)
    divisor = math.gcd(*whole) or 1
    whole = [amount // divisor for amount in whole]
    limit = math.floor((Fraction(str(cap)) if isinstance(cap, float) else Fraction(cap)) / (unit * divisor))
    if sum(whole) >= _MOST:
        raise InputError(f"{name!r}: the amounts need too many digits to add up exactly; round them to 9 decimals")
    return whole, min(limit, sum(whole))


def _value_steps(values: Sequence[float]) -> tuple[list[int], float, float]:
    """Values as whole steps, the size of a step, and by how much rounding may misjudge a set (0 when exact)."""
    whole, unit = whole_numbers([*values])
    divisor = math.gcd(*whole) or 1
    if sum(map(abs, whole)) // divisor < _MOST:
        return [value // divisor for value in whole], float(unit * divisor), 0.0
    step = max(map(abs, values)) / _VALUE_STEPS
    return [round(value / step) for value in values], step, step * len(values) / 2


def _check_status(
    status: object,
    solver: cp_model.CpSolver,
    budget: Amount,
    limits: Sequence[Limit],
    deadline_seconds: float | None,
) -> None:
    if status == cp_model.INFEASIBLE:
        caps = ", ".join(f"{limit.name} ≤ {limit.cap}" for limit in limits)
        raise Infeasible(
            f"no set covers every group within the budget of {budget} and {caps} together: raise one of them",
            None,
            budget,
        )
    if status == cp_model.UNKNOWN:
        raise DeadlineReached(f"no permitted set was found in {deadline_seconds} s: raise the deadline")
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        raise InputError(f"CP-SAT refuses the selection problem: {solver.status_name()}")
