"""Exact selection on measured values, where a second component for the same skill adds only what it does better.

A set S is worth Σ_m w_m · max(0, max_{i ∈ S} g_im): `w_m` the weight of skill m, `g_im` the measured gain of component
i on it. Duplicates add nothing, so the values are not additive and the best set is not a plain knapsack.

The bound: with `a_im` what component i would add to skill m now, `v_i = Σ_m a_im` and density `ρ_i = v_i / c_i`, no
set that fits the remaining budget R adds more than `λ·R + Σ_m max_i a_im · max(0, 1 − λ/ρ_i)`, for every λ ≥ 0. (Each
skill is served by one component, which pays the share `a_im / v_i` of its price; λ prices the budget.) At λ = 0 it is
the best component per skill, price ignored; it never exceeds the fractional knapsack over marginal values.

Source:
    Yuan et al. 2025, arXiv:2510.16499, online composer (value of what is not yet covered); Nemhauser, Wolsey & Fisher
    1978, "An analysis of approximations for maximizing submodular set functions" (objective, greedy); Held & Karp 1971
    (bound by a multiplier on the budget).

    Deviation: gains are measured and graded, where the paper's are 0 or 1; for those the objective is the paper's
    weight of covered skills. The paper has no optimum on measured values; this is what its rule is compared with.
"""

import math
import time
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from composers.knapsack.selection import Amount, Candidate, Selection, check_priced, total, whole_numbers
from orchestra.errors import InputError

_MULTIPLIERS = 24
_Floats = NDArray[np.float64]
_Node = tuple[float, tuple[int, ...], _Floats, int, NDArray[np.intp]]


def team_value(candidates: Sequence[Candidate], weights: Mapping[str, float]) -> float:
    """What the candidates are worth together: Σ weight x best gain.

    >>> pair = [Candidate(name="a", price=3, gains={"sums": 0.5}), Candidate(name="b", price=3, gains={"sums": 0.4})]
    >>> team_value(pair, {"sums": 2.0})
    1.0
    """
    return math.fsum(
        weight * max((each.gains.get(skill, 0.0) for each in candidates), default=0.0)
        for skill, weight in weights.items()
        if any(each.gains.get(skill, 0.0) > 0 for each in candidates)
    )


def best_coverage(
    candidates: Sequence[Candidate],
    weights: Mapping[str, float],
    budget: Amount,
    *,
    deadline_seconds: float | None = None,
) -> Selection:
    """The most valuable set within the budget, on measured gains; broken candidates are never chosen.

    Args:
        candidates: what was tried.
        weights: importance by skill; gains on other skills count nothing.
        budget: in the unit of the candidates' prices.
        deadline_seconds: past it the best set found is given with its bound and gap; `None` runs to the proof.

    Raises:
        InputError: a price, a weight, a gain or the budget is not a number it can be, or a name occurs twice.
    """
    started = time.perf_counter()
    check_priced(candidates, budget)
    _check_numbers(candidates, weights)
    *prices, purse = whole_numbers([*(each.price for each in candidates), budget])[0]
    gains = np.array(
        [[max(0.0, each.gains.get(skill, 0.0)) * weight for skill, weight in weights.items()] for each in candidates],
        dtype=np.float64,
    ).reshape(len(candidates), len(weights))
    usable = [index for index, each in enumerate(candidates) if not each.broken and prices[index] <= purse]
    search = _Search(prices, gains, _undominated(usable, prices, gains))
    bound = search.run(purse, math.inf if deadline_seconds is None else started + deadline_seconds)
    chosen = sorted(search.best)
    value = team_value([candidates[index] for index in chosen], weights)
    return Selection(
        chosen=tuple(candidates[index].name for index in chosen),
        price=total([candidates[index].price for index in chosen]),
        value=value,
        bound=value if bound is None else max(bound, value),
        optimal=bound is None,
        nodes=search.nodes,
        seconds=time.perf_counter() - started,
    )


def _check_numbers(candidates: Sequence[Candidate], weights: Mapping[str, float]) -> None:
    defects = [
        f"skill {skill!r} weighs {weight}: give a finite weight of at least 0"
        for skill, weight in weights.items()
        if not (math.isfinite(weight) and weight >= 0)
    ]
    defects += [
        f"{each.name!r} gains {gain} on {skill!r}: give a finite number of at most 1"
        for each in candidates
        for skill, gain in each.gains.items()
        if not (math.isfinite(gain) and gain <= 1)
    ]
    if defects:
        raise InputError("cannot select:\n" + "\n".join(f"  - {defect}" for defect in defects))


def _undominated(usable: Sequence[int], prices: Sequence[int], gains: _Floats) -> NDArray[np.intp]:
    """Those of `usable` that help, and that no other beats or equals in price and in every gain."""
    kept: list[int] = []
    # Cheapest first, then most helpful: whatever dominates a candidate has been kept before it is looked at.
    for index in sorted(usable, key=lambda each: (prices[each], -float(gains[each].sum()), each)):
        if gains[index].any() and not (kept and (gains[kept] >= gains[index]).all(axis=1).any()):
            kept.append(index)
    return np.array(kept, dtype=np.intp)


class _Search:
    """Depth-first branch and bound: take or leave the candidate of the highest density."""

    def __init__(self, prices: Sequence[int], gains: _Floats, usable: NDArray[np.intp]) -> None:
        self._prices, self._gains, self._usable = prices, gains, usable
        self._float_prices = np.array([float(price) for price in prices])
        self._tolerance = 1e-12 * max(1.0, float(gains.max(axis=0, initial=0.0).sum()))
        self._best_value = 0.0
        self.best: tuple[int, ...] = ()
        self.nodes = 0

    def run(self, purse: int, stop_at: float) -> float | None:
        """Search to the end (`None`) or to the deadline (a bound on every set)."""
        stack: list[_Node] = [(math.inf, (), np.zeros(self._gains.shape[1]), purse, self._usable)]
        while stack:
            bound, chosen, reached, remaining, open_ = stack.pop()
            if bound <= self._best_value + self._tolerance:
                continue
            self.nodes += 1
            if self.nodes > 1 and time.perf_counter() > stop_at:
                return max(bound, *(node[0] for node in stack)) if stack else bound
            stack.extend(self._children(chosen, reached, remaining, open_))
        return None

    def _children(
        self, chosen: tuple[int, ...], reached: _Floats, remaining: int, open_: NDArray[np.intp]
    ) -> list[_Node]:
        """The two halves of a node that may still win: without the densest candidate, and (on top) with it."""
        value = float(reached.sum())
        if value > self._best_value + self._tolerance:
            self._best_value, self.best = value, chosen
        added, worth, open_ = self._marginal(reached, remaining, open_)
        if not len(open_):
            return []
        with np.errstate(divide="ignore"):  # what is free has infinite density
            density = worth / self._float_prices[open_]
        here = value + self._most_added(added, density, remaining)
        if here <= self._best_value + self._tolerance:
            return []
        at = int(density.argmax())
        taken, rest = int(open_[at]), np.delete(open_, at)
        without = np.delete(added, at, axis=0)
        bound = min(here, value + self._most_added(without, np.delete(density, at), remaining))
        left_out: _Node = (bound, chosen, reached, remaining, rest)
        with_it: _Node = (
            here,
            (*chosen, taken),
            np.maximum(reached, self._gains[taken]),
            remaining - self._prices[taken],
            rest,
        )
        return [left_out, with_it]

    def _marginal(
        self, reached: _Floats, remaining: int, open_: NDArray[np.intp]
    ) -> tuple[_Floats, _Floats, NDArray[np.intp]]:
        """What each open candidate that fits and helps would add: by skill, together, and which they are."""
        added = np.maximum(0.0, self._gains[open_] - reached)
        worth = added.sum(axis=1)
        helps = worth > self._tolerance
        if int(self._float_prices[open_].max(initial=0.0)) >= remaining:
            helps &= np.fromiter((self._prices[index] <= remaining for index in open_), bool, len(open_))
        return added[helps], worth[helps], open_[helps]

    def _most_added(self, added: _Floats, density: _Floats, remaining: int) -> float:
        """A bound on what any set that costs at most `remaining` adds."""
        if not len(density):
            return 0.0
        # The bound is convex in λ and bends where λ is some density: a sample of those, with 0, comes near the best.
        bends = np.unique(density[np.isfinite(density)])
        if len(bends) > _MULTIPLIERS:
            bends = bends[np.linspace(0, len(bends) - 1, _MULTIPLIERS).astype(np.intp)]
        lambdas = np.concatenate(([0.0], bends))
        kept = np.maximum(0.0, 1.0 - lambdas[:, None] / density)
        best = (kept[:, :, None] * added).max(axis=1).sum(axis=1)
        return float((lambdas * remaining + best).min())
