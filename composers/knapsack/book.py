"""What happened to every component: the rows of the certificate, and the optimum on what was measured."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Literal

from composers.knapsack.coverage import best_coverage, team_value
from composers.knapsack.estimates import TrialEstimate, candidate, is_broken
from composers.knapsack.online import Bounds, Decision
from composers.knapsack.retrieval import Retrieved
from composers.knapsack.selection import Candidate
from orchestra.agents.inventory import Component
from orchestra.evaluation.certificate import Interval, Optimum, Trial

OPTIMUM_SECONDS = 20.0
"""Time the exact search for the optimum may take before it gives its bound and gap."""

Verdict = Literal["accepted", "rejected", "skipped", "broken"]

REASONS: Mapping[str, tuple[Verdict, str]] = {
    "hired": ("accepted", "density reaches the threshold"),
    "below threshold": ("rejected", "density below the threshold"),
    "does not help": ("rejected", "adds nothing to what is hired"),
    "does not fit": ("rejected", "price above what is left of the budget"),
    "broken": ("broken", "failed on at least half of its calls, or never said anything"),
    "blacklisted": ("skipped", "found broken before"),
    "covered": ("skipped", "every skill it was retrieved for is covered"),
    "cannot reach threshold": ("skipped", "not even a perfect trial would reach the threshold"),
}
"""Verdict and words for each reason of the online rule."""

UNOFFERED = "tried for the optimum alone"
"""Of what the rule was never offered."""


@dataclass(slots=True, kw_only=True)
class Entry:
    """One component."""

    component: Component
    skills: tuple[str, ...]
    """It was retrieved, or tried, for."""
    estimates: tuple[TrialEstimate, ...] = ()
    """On which it was decided."""
    fresh: tuple[TrialEstimate, ...] = ()
    """Of a chosen one, on other queries."""
    later: tuple[TrialEstimate, ...] = ()
    """After the decision, for the optimum alone: on skills it had not been tried for."""
    hired_before: Mapping[str, float] = field(default_factory=dict)
    """Best gain by skill of what was hired before it."""
    verdict: Verdict = "rejected"
    reason: str = "not decided"
    density: float | None = None
    threshold: float | None = None
    spent_before: Decimal | None = None


@dataclass(slots=True)
class Book:
    """Every component looked at, in order of arrival."""

    weights: Mapping[str, float]
    bounds: Bounds | None = None
    """Of the densities; `None` where no threshold rule was used."""
    clipped: int = 0
    entries: dict[str, Entry] = field(default_factory=dict)

    def enter(self, component: Component, skills: Sequence[str], estimates: Sequence[TrialEstimate] = ()) -> Entry:
        """A row for `component`, not decided yet."""
        entry = Entry(component=component, skills=tuple(skills), estimates=tuple(estimates))
        self.entries[component.name] = entry
        return entry

    def decide(self, entry: Entry, decision: Decision, *, budget: Decimal, gains: Mapping[str, float]) -> None:
        """Write down what the online rule decided, with the figures at that moment.

        Args:
            gains: best gain by skill of what was hired before.
        """
        entry.verdict, entry.reason = REASONS[decision.reason]
        entry.hired_before = dict(gains)
        entry.threshold = decision.threshold
        entry.density = decision.density
        entry.spent_before = (budget * Decimal(decision.utilisation)).quantize(Decimal("0.01"))

    def candidates(self) -> tuple[Candidate, ...]:
        """Everything that was tried, as the exact search takes it."""
        return tuple(
            replace(
                candidate(entry.component, (*entry.estimates, *entry.later)),
                broken=is_broken(entry.estimates or entry.later),
            )
            for entry in self.entries.values()
            if entry.estimates or entry.later
        )

    def optimum(self, chosen: Collection[str], budget: Decimal, *, whole_inventory: bool) -> Optimum | None:
        """The best set on measured gains beside the chosen one; `None` when nothing was tried.

        Args:
            whole_inventory: whether every component of the inventory was tried.
        """
        tried = self.candidates()
        if not tried:
            return None
        best = best_coverage(tried, self.weights, budget, deadline_seconds=OPTIMUM_SECONDS)
        reached = team_value([each for each in tried if each.name in chosen], self.weights)
        # The search proves to a tolerance, so what was chosen may come out a rounding above what it found.
        value = max(best.value, reached)
        bound = value if best.optimal else max(best.bound, value)
        dearest = max(float(entry.component.price_usd) for entry in self.entries.values())
        limits = self.bounds
        return Optimum(
            over="inventory" if whole_inventory else "tried",
            reached=reached,
            value=value,
            bound=bound,
            gap=bound - value,
            components=best.chosen,
            ratio=value / reached if reached > 0 else None,
            # Of what was offered; a whole inventory holds components that the rule never saw.
            guarantee=limits.guarantee if limits and not whole_inventory else None,
            lowest_density=limits.lowest if limits else None,
            highest_density=limits.highest if limits else None,
            clipped=self.clipped,
            largest_price_share=dearest / float(budget) if limits else None,
        )

    def trials(self) -> tuple[Trial, ...]:
        """The rows of the certificate."""
        return tuple(self._row(entry) for entry in self.entries.values())

    def _row(self, entry: Entry) -> Trial:
        value = interval = fresh_value = fresh_interval = None
        measured = entry.estimates or entry.later
        if measured:
            value, interval = self._worth(entry, measured)
        if entry.fresh:
            fresh_value, fresh_interval = self._worth(entry, entry.fresh)
        price = float(entry.component.price_usd)
        return Trial(
            component=entry.component.name,
            skills=entry.skills,
            value=value,
            interval=interval,
            value_source="trials",
            queries=sum(each.calls for each in measured),
            fresh_value=fresh_value,
            fresh_interval=fresh_interval,
            price_usd=entry.component.price_usd,
            density=value / price if value is not None and price else None,
            threshold=entry.threshold,
            spent_before_usd=entry.spent_before,
            decision=entry.verdict,
            reason=entry.reason,
        )

    def _worth(self, entry: Entry, estimates: Sequence[TrialEstimate]) -> tuple[float, Interval]:
        """Weighted gain over what was hired before, and the same of the ends of the gains' intervals."""

        def added(gains: Iterable[float]) -> float:
            return math.fsum(
                self.weights.get(each.skill, 0.0) * max(0.0, gain - max(0.0, entry.hired_before.get(each.skill, 0.0)))
                for each, gain in zip(estimates, gains, strict=True)
            )

        ends = Interval(low=added(each.low for each in estimates), high=added(each.high for each in estimates))
        return added(each.gain for each in estimates), ends


def similarity_trials(
    looked_at: Sequence[Retrieved], chosen: Collection[str], values: Mapping[str, float] | None = None
) -> tuple[Trial, ...]:
    """Rows of composers that try nothing: the value is a similarity, which is no estimate and has no interval.

    Args:
        values: by name; `None` takes the similarity to the skills it was retrieved for.
    """
    rows = []
    for each in looked_at:
        component = each.component
        value = values[component.name] if values else sum(match.similarity for match in each.matches)
        taken = component.name in chosen
        rows.append(
            Trial(
                component=component.name,
                skills=each.skills,
                value=value,
                value_source="similarity",
                price_usd=component.price_usd,
                density=value / float(component.price_usd) if component.price_usd else None,
                decision="accepted" if taken else "rejected",
                reason="in the best set on similarity" if taken else "not in the best set on similarity",
            )
        )
    return tuple(rows)
