"""Exact selection under one budget with at least one item per group, in numpy: no third-party solver.

Maximise Σ v_i x_i subject to Σ c_i x_i ≤ B and, for every group, at least one selected item. Always exact: the bound
that prunes is a dynamic programme over prices rounded *down* to a grid (so it can only be too high), and it is the true
optimum of what is left whenever prices share a common divisor that makes the grid fine enough, as 3, 5 and 8 do.

Source:
    Yuan et al. 2025, arXiv:2510.16499, section on the offline composer (objective and constraints);
    Horowitz & Sahni 1974, "Computing Partitions with Applications to the Knapsack Problem" (depth-first branch and
    bound in order of density); Dantzig 1957, "Discrete-Variable Extremum Problems" (fractional bound);
    Held & Karp 1971 (multipliers on the group constraints, by subgradient steps).

    Deviation: the paper calls an integer-programming solver; this is the same programme, solved here. Groups enter the
    bound through their multipliers, and the search through `covers`.
"""

import math
import time
from bisect import bisect_right
from collections.abc import Collection, Sequence
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from composers.knapsack.covers import Covers
from composers.knapsack.selection import Amount, Infeasible, Item, Selection, check_priced, total, whole_numbers

GRID_CELLS = 2048
"""Price steps of the bounding table when the budget does not fit it exactly."""

_STEPS_PER_GROUP = 3
_CHECK_EVERY = 256
_Chosen = tuple[int, "_Chosen"] | None
_Node = tuple[float, int, int, float, float, int, _Chosen]


def best_additive(
    items: Sequence[Item],
    budget: Amount,
    *,
    groups: Collection[str] | None = None,
    deadline_seconds: float | None = None,
) -> Selection:
    """The most valuable set within the budget that has at least one item of every group.

    Args:
        items: what there is to select from.
        budget: in the unit of the items' prices.
        groups: the groups that need an item; `None` means every group an item names, empty means none.
        deadline_seconds: past it the best set found is given with its bound and gap; `None` runs to the proof.

    Raises:
        InputError: a price or the budget is not an amount, or a name occurs twice.
        Infeasible: the groups cannot be covered within the budget.
    """
    started = time.perf_counter()
    check_priced(items, budget)
    *prices, purse = whole_numbers([*(item.price for item in items), budget])[0]
    needed = sorted({group for item in items for group in item.groups} if groups is None else set(groups))
    masks, full = group_masks(items, needed)
    covers = Covers(prices, masks, full)
    first = affordable_cover(items, budget, prices, purse, needed, covers)
    search = _Search(prices, [item.value for item in items], masks, full, purse, covers)
    search.note(first)
    stop_at = math.inf if deadline_seconds is None else started + deadline_seconds
    bound = search.run(stop_at)
    chosen = search.best
    value = math.fsum(items[index].value for index in chosen)
    return Selection(
        chosen=tuple(items[index].name for index in chosen),
        price=total([items[index].price for index in chosen]),
        value=value,
        bound=value if bound is None else max(bound, value),
        optimal=bound is None,
        nodes=search.nodes,
        seconds=time.perf_counter() - started,
    )


def group_masks(items: Sequence[Item], needed: Sequence[str]) -> tuple[list[int], int]:
    """Each item's needed groups as bits, and all of them together."""
    bit = {group: 1 << position for position, group in enumerate(needed)}
    masks = [sum(bit[group] for group in set(item.groups) if group in bit) for item in items]
    return masks, (1 << len(needed)) - 1


def affordable_cover(
    items: Sequence[Item], budget: Amount, prices: Sequence[int], purse: int, needed: Sequence[str], covers: Covers
) -> tuple[int, ...]:
    """Indices of the cheapest set that covers every group.

    Raises:
        Infeasible: there is none, or it costs more than the budget.
    """
    missing = covers.missing()
    if missing:
        names = [group for position, group in enumerate(needed) if missing >> position & 1]
        raise Infeasible(f"no item covers {', '.join(map(repr, names))}: add one or drop the group", None, budget)
    price, chosen = covers.cheapest()
    if price > purse:
        cost = total([items[index].price for index in chosen])
        raise Infeasible(
            f"a budget of {budget} cannot cover all {len(needed)} groups: the cheapest cover costs {cost} "
            f"({', '.join(repr(items[index].name) for index in sorted(chosen))}); raise the budget or drop groups",
            cost,
            budget,
        )
    return chosen


class _Search:
    """One depth-first search over items in order of density."""

    def __init__(
        self,
        prices: Sequence[int],
        values: Sequence[float],
        masks: Sequence[int],
        full: int,
        purse: int,
        covers: Covers,
    ) -> None:
        self._full, self._purse, self._covers = full, min(purse, sum(prices)), covers
        self._all_prices, self._all_values, self._all_masks = prices, values, masks
        self._tolerance = 1e-12 * max(1.0, math.fsum(map(abs, values)))
        self._best_value = -math.inf
        self._best: tuple[int, ...] = ()
        self.nodes = 0

    @property
    def best(self) -> list[int]:
        """Indices of the best set found, ascending."""
        return sorted(self._best)

    def note(self, chosen: Sequence[int]) -> None:
        """Keep a permitted set if it is the best so far."""
        value = math.fsum(self._all_values[index] for index in chosen)
        if value > self._best_value:
            self._best_value, self._best = value, tuple(chosen)

    def run(self, stop_at: float) -> float | None:
        """Search to the end (`None`) or to the deadline (a bound on every permitted set)."""
        self._arrange(np.zeros(self._full.bit_length()))
        if self._full and not self._plain_optimum_covers():
            self._arrange(self._multipliers())
        return self._descend(stop_at)

    def _plain_optimum_covers(self) -> bool:
        """Whether the best set without group constraints happens to satisfy them: then no multiplier is needed."""
        remaining, covered = self._purse, 0
        for position, (price, value) in enumerate(zip(self._prices, self._values, strict=True)):
            if price <= remaining and value + self._limit(position + 1, remaining - price) >= self._limit(
                position, remaining
            ):
                remaining -= price
                covered |= self._masks[position]
        return covered & self._full == self._full

    def _multipliers(self) -> NDArray[np.float64]:
        """One per group, by Polyak's subgradient steps on the fractional relaxation."""
        bits = range(self._full.bit_length())
        member = np.array([[mask >> bit & 1 for bit in bits] for mask in self._all_masks], dtype=np.float64)
        values, prices = np.array(self._all_values), np.array(self._all_prices, dtype=np.float64)
        safe = np.maximum(prices, 1e-300)
        multipliers = best = np.zeros(len(bits))
        lowest, pace = math.inf, 1.0
        for _ in range(12 + _STEPS_PER_GROUP * len(bits)):
            boosted = values + member @ multipliers
            order = np.argsort(-boosted / safe, kind="stable")
            order = order[boosted[order] > 0]
            room = self._purse - (np.cumsum(prices[order]) - prices[order])
            taken = np.clip(room / safe[order], 0.0, 1.0)
            bound = float(taken @ boosted[order] - multipliers.sum())
            if bound < lowest:
                lowest, best = bound, multipliers
            else:
                pace *= 0.8
            slope = 1.0 - taken @ member[order]
            steepness = float(slope @ slope)
            if steepness < 1e-18 or lowest - self._best_value <= self._tolerance:
                break
            multipliers = np.maximum(0.0, multipliers + pace * (bound - self._best_value) / steepness * slope)
        return best

    def _arrange(self, multipliers: NDArray[np.float64]) -> None:
        """Order items by boosted density and make the tables that bound a subtree."""
        boosts = multipliers.tolist()
        self._offset = math.fsum(boosts)
        boosted = [
            value + (math.fsum(boost for bit, boost in enumerate(boosts) if mask >> bit & 1) if mask else 0.0)
            for value, mask in zip(self._all_values, self._all_masks, strict=True)
        ]
        fitting = [index for index, price in enumerate(self._all_prices) if price <= self._purse]
        fitting.sort(key=lambda index: (-boosted[index] / max(self._all_prices[index], 1e-300), index))
        self._order = fitting
        self._prices = [self._all_prices[index] for index in fitting]
        self._boosted = [boosted[index] for index in fitting]
        self._values = [self._all_values[index] for index in fitting]
        self._masks = [self._all_masks[index] for index in fitting]
        self._reach = [*accumulate(reversed(self._masks), lambda left, right: left | right, initial=0)][::-1]
        self._fill_table()
        self._price_sums = [*accumulate(self._prices, initial=0)]
        self._value_sums = [*accumulate((max(0.0, value) for value in self._boosted), initial=0.0)]

    def _fill_table(self) -> None:
        """`table[k, r]`: most boosted value of items `k` onwards for `r` price steps, prices rounded down to steps."""
        divisor = math.gcd(*self._prices) or 1
        cells = self._purse // divisor + 1
        # Small prices beside a big table make a cheap table a good bound; 16 MiB is the most it may take.
        most = max(64, min(GRID_CELLS, 2_000_000 // (len(self._prices) + 1)))
        self._step, self._exact = (divisor, True) if cells <= most else (divisor * -(-cells // most), False)
        width = self._purse // self._step + 1
        table = np.zeros((len(self._prices) + 1, width))
        for position in range(len(self._prices) - 1, -1, -1):
            steps, later, row = self._prices[position] // self._step, table[position + 1], table[position]
            row[:steps] = later[:steps]
            np.maximum(later[steps:], later[: width - steps] + self._boosted[position], out=row[steps:])
        self._table = table

    def _limit(self, position: int, remaining: int) -> float:
        """No choice among the items from `position` on is worth more, boosts included."""
        table = float(self._table.item(position, remaining // self._step))
        return table if self._exact else min(table, self._fractional(position, remaining))

    def _fractional(self, position: int, remaining: int) -> float:
        room = self._price_sums[position] + remaining
        end = bisect_right(self._price_sums, room, lo=position) - 1
        value = self._value_sums[end] - self._value_sums[position]
        if end < len(self._prices) and self._boosted[end] > 0:
            value += self._boosted[end] * ((room - self._price_sums[end]) / self._prices[end])
        return value

    def _descend(self, stop_at: float) -> float | None:
        stack: list[_Node] = [(math.inf, 0, self._purse, 0.0, 0.0, 0, None)]
        while stack:
            bound, position, remaining, value, boosted, covered, chosen = stack.pop()
            if bound <= self._best_value + self._tolerance:
                continue
            self.nodes += 1
            if self.nodes % _CHECK_EVERY == 0 and time.perf_counter() > stop_at:
                return max(bound, *(node[0] for node in stack)) if stack else bound
            if covered == self._full and value > self._best_value + self._tolerance:
                self._best_value, self._best = value, self._indices(chosen)
            if position < len(self._prices):
                self._branch(stack, position, remaining, value, boosted, covered, chosen)
        return None

    def _branch(
        self,
        stack: list[_Node],
        position: int,
        remaining: int,
        value: float,
        boosted: float,
        covered: int,
        chosen: _Chosen,
    ) -> None:
        """Push the children that may still win, the more promising on top."""
        after = position + 1
        children: list[_Node] = []
        price = self._prices[position]
        if price <= remaining:
            with_value, with_boost = value + self._values[position], boosted + self._boosted[position]
            bound = with_boost + self._limit(after, remaining - price) - self._offset
            with_mask = covered | self._masks[position]
            children.append((bound, after, remaining - price, with_value, with_boost, with_mask, (position, chosen)))
        bound = boosted + self._limit(after, remaining) - self._offset
        children.append((bound, after, remaining, value, boosted, covered, chosen))
        if len(children) == 2 and children[0][0] >= children[1][0]:
            children.reverse()
        stack.extend(node for node in children if self._may_win(node))

    def _may_win(self, node: _Node) -> bool:
        bound, position, remaining, _, _, covered, _ = node
        return (
            bound > self._best_value + self._tolerance
            and covered | self._reach[position] == self._full
            and self._covers.bound(covered) <= remaining
        )

    def _indices(self, chosen: _Chosen) -> tuple[int, ...]:
        found: list[int] = []
        while chosen is not None:
            position, chosen = chosen
            found.append(self._order[position])
        return tuple(found)
