"""The cheapest way to have at least one item per group: what tells an infeasible budget from a tight one.

Source:
    Hart, Nilsson & Raphael 1968, "A Formal Basis for the Heuristic Determination of Minimum Cost Paths" (A*), over the
    sets of groups covered so far; the estimate shares an item's price equally among the groups it still covers, which
    is the linear-programming dual used for set cover (Chvátal 1979).

    Deviation: a set of groups is reached by covering its rarest missing group first, so that orders of the same
    items are not all visited.
"""

import heapq
import math
from collections.abc import Sequence
from itertools import count


class Covers:
    """Price bounds on covering groups, where a set of groups is an integer's bits."""

    def __init__(self, prices: Sequence[int], masks: Sequence[int], full: int) -> None:
        cheapest: dict[int, int] = {}
        for index, (price, mask) in enumerate(zip(prices, masks, strict=True)):
            if mask and (mask not in cheapest or price < prices[cheapest[mask]]):
                cheapest[mask] = index
        self._kinds = [(prices[index], mask, index) for mask, index in cheapest.items()]
        self._full = full
        self._bounds: dict[int, int] = {full: 0}
        self._groups = [1 << position for position in range(full.bit_length()) if full >> position & 1]
        self._helpers = {group: [kind for kind in self._kinds if kind[1] & group] for group in self._groups}
        self._groups.sort(key=lambda group: len(self._helpers[group]))

    def missing(self) -> int:
        """The groups that no item covers, as bits."""
        return sum(group for group in self._groups if not self._helpers[group])

    def bound(self, covered: int) -> int:
        """A price that covering everything else cannot fall below."""
        known = self._bounds.get(covered)
        if known is None:
            shares = math.fsum(
                min(price / (mask & ~covered).bit_count() for price, mask, _ in self._helpers[group])
                for group in self._groups
                if not covered & group
            )
            # Shares are rounded floats of whole numbers: a hair less is surely a bound, and the next whole number too.
            known = self._bounds[covered] = math.ceil(shares * (1 - 1e-12) - 1e-9)
        return known

    def cheapest(self) -> tuple[int, tuple[int, ...]]:
        """Price and item indices of the cheapest cover; every group must have an item."""
        order = count()
        frontier: list[tuple[int, int, int, int, tuple[int, ...]]] = [(self.bound(0), next(order), 0, 0, ())]
        best = {0: 0}
        while True:
            _, _, price, covered, chosen = heapq.heappop(frontier)
            if covered == self._full:
                return price, chosen
            if price > best[covered]:
                continue
            rarest = next(group for group in self._groups if not covered & group)
            for step, mask, index in self._helpers[rarest]:
                after, then = price + step, covered | mask & self._full
                if after < best.get(then, after + 1):
                    best[then] = after
                    heapq.heappush(frontier, (after + self.bound(then), next(order), after, then, (*chosen, index)))
