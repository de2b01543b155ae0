"""What the exact solvers take and give: priced items, and a selection that always carries its bound and gap.

Prices are compared exactly: integers, `Decimal`s and floats (read as their shortest decimal) are turned into whole
numbers of one common unit. Values are float64, so "optimal" means up to 1e-12 of the sum of all values.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from typing import Literal

from orchestra.errors import InputError, OrchestraError

Amount = int | float | Decimal
"""A price or another amount that adds up; an integer is taken in whatever unit the budget has."""

ValueSource = Literal["similarity", "trials"]
"""Where a value came from: similarity to the skills, or measured by trials."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """Something to select whose value does not depend on what else is selected."""

    name: str
    """Unique among the items."""
    price: Amount
    value: float
    """May be negative: such an item is selected only where a group needs it."""
    groups: tuple[str, ...] = ()
    """Groups (skills) it counts for; every group needs at least one selected item."""
    value_source: ValueSource = "similarity"


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A component that was tried."""

    name: str
    """Unique in its inventory."""
    price: Amount
    gains: Mapping[str, float] = field(default_factory=dict)
    """Gain in success by skill, at most 1; a gain of 0 or less counts as no help. Absent means not tried for it."""
    broken: bool = False
    """Its trials failed: it is blacklisted."""
    value_source: ValueSource = "trials"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A further constraint: the amounts of the selected items add up to at most `cap`."""

    name: str
    """What is limited, such as `latency_seconds`."""
    amounts: Sequence[Amount]
    """One per item, in the items' order."""
    cap: Amount


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """A chosen set, and how good it is known to be."""

    chosen: tuple[str, ...]
    """Names, in the order the items were given."""
    price: Amount
    """Of the chosen together, in the unit of the items' prices."""
    value: float
    bound: float
    """No permitted set is worth more than this."""
    optimal: bool
    """Whether `value` is proven to be the best; otherwise the search stopped at its deadline."""
    nodes: int
    """Search nodes (branches, for CP-SAT) looked at."""
    seconds: float

    @property
    def gap(self) -> float:
        """Share of `bound` that may be missing, from 0 (proven) to 1."""
        missing = self.bound - self.value
        return 0.0 if self.optimal or missing <= 0 else min(1.0, missing / abs(self.bound)) if self.bound else 1.0


class Infeasible(InputError):
    """No set covers every group within the limits.

    Attributes:
        cheapest_price: what the cheapest set that covers every group costs; `None` means no set does.
        budget: what there was.
    """

    def __init__(self, message: str, cheapest_price: Amount | None = None, budget: Amount | None = None) -> None:
        super().__init__(message)
        self.cheapest_price, self.budget = cheapest_price, budget

    def __reduce__(self) -> tuple[type["Infeasible"], tuple[str, Amount | None, Amount | None]]:
        return type(self), (str(self), self.cheapest_price, self.budget)


class DeadlineReached(OrchestraError, TimeoutError):
    """Time ran out before any permitted set was found."""


def whole_numbers(amounts: Sequence[Amount]) -> tuple[list[int], Fraction]:
    """The amounts as whole numbers, and the unit they count.

    >>> whole_numbers([Decimal("0.30"), 5])
    ([3, 50], Fraction(1, 10))
    """
    if all(type(amount) is int for amount in amounts):
        return [int(amount) for amount in amounts], Fraction(1)
    exact = [Fraction(str(amount)) if isinstance(amount, float) else Fraction(amount) for amount in amounts]
    scale = math.lcm(*(amount.denominator for amount in exact))
    return [amount.numerator * (scale // amount.denominator) for amount in exact], Fraction(1, scale)


def total(amounts: Sequence[Amount]) -> Amount:
    """The exact sum: a float only where a float went in."""
    if any(isinstance(amount, float) for amount in amounts):
        return math.fsum(amounts)
    return sum((amount for amount in amounts if not isinstance(amount, float)), start=0)


def check_priced(named: Sequence[Item] | Sequence[Candidate], budget: Amount) -> None:
    """Check names, prices and the budget.

    Raises:
        InputError: every defect at once.
    """
    defects = [] if _is_amount(budget) else [f"the budget is {budget}: give a finite amount of at least 0"]
    seen: set[str] = set()
    for each in named:
        if each.name in seen:
            defects.append(f"{each.name!r} occurs twice: give every one its own name")
        seen.add(each.name)
        if not _is_amount(each.price):
            defects.append(f"{each.name!r} costs {each.price}: give a finite price of at least 0")
    if defects:
        raise InputError("cannot select:\n" + "\n".join(f"  - {defect}" for defect in defects))


def _is_amount(amount: Amount) -> bool:
    return math.isfinite(amount) and amount >= 0
