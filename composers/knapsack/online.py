"""The online composer's rule: hire a component, or let it go for good, its price weighed against what is left.

1. Arrival order is an argument (`arrivals`, seeded): an online rule depends on it, so report results over several.
2. Before a trial, `pass_over` says whether trying is pointless: the component is blacklisted, every skill it was
   retrieved for is covered, it no longer fits the budget, or not even a perfect trial could reach the threshold.
3. After a trial, `offer` decides: value = weight not yet covered, density = value / price, threshold = `psi` at the
   share of the budget used, hired when it fits and the density reaches the threshold.
4. Everything the rule remembers is `state`, which is written to a file and read back to resume.

Source:
    Yuan et al. 2025, arXiv:2510.16499, the online composer; Zhou, Chakrabarty & Lukose 2008, "Budget Constrained
    Bidding in Keyword Auctions and Online Knapsack Problems": `Ψ(z) = (U·e/L)^z · (L/e)`, competitive ratio
    `ln(U/L) + 1`.

    Deviation:
    (1) gains are measured and graded, so the value is `Σ_m w_m · max(0, g_im − best gain hired for m)`; for gains of 0
    and 1 this is exactly the paper's weight of uncovered skills;
    (2) `L` is the smallest positive value a trial can resolve (smallest weight times smallest gain) ÷ highest price,
    where the paper has 1 ÷ highest price: the same when weights are whole numbers from 1 and a trial says yes or no;
    (3) densities outside `[L, U]` are clipped and counted instead of assumed away;
    (4) a component that no trial result could get hired is passed over before its trial is paid for; no decision
    changes, since the threshold never falls;
    (5) a free component that helps is always hired;
    (6) values are marginal, as components help with the same skills, and the ratio is for values that add up: ours is
    `ln(U/L) + 2` (`Bounds.guarantee`).
"""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Literal, TypeVar

from pydantic import Field

from composers.knapsack.selection import Amount, Candidate
from composers.knapsack.skills import Skill
from graphs.model import Value
from orchestra.agents.inventory import Component
from orchestra.errors import InputError

Reason = Literal[
    "hired",
    "blacklisted",
    "broken",
    "covered",
    "does not help",
    "does not fit",
    "below threshold",
    "cannot reach threshold",
]
"""Why a component was hired or let go. `covered` and `cannot reach threshold` are said before a trial."""

_Arriving = TypeVar("_Arriving")


class Bounds(Value):
    """Between which densities every useful candidate lies."""

    lowest: float = Field(gt=0)
    """`L`: worst useful density, in value per unit of price."""
    highest: float = Field(gt=0)
    """`U`: best possible density."""

    @property
    def ratio_bound(self) -> float:
        """`ln(U/L) + 1`: the optimum is at most so many times what is hired, if prices are small and values add up."""
        return math.log(self.highest / self.lowest) + 1

    @property
    def guarantee(self) -> float:
        """`ln(U/L) + 2`: the same of values that overlap, as those of components that help with the same skills do.

        What was let go adds to what was hired at most the last threshold for each unit of the budget, and that is at
        most `ratio_bound` times the value hired; what was hired is counted once more, since the optimum may hold it.
        """
        return self.ratio_bound + 1


class OnlineState(Value):
    """Everything the rule remembers between two offers."""

    schema_version: int = 1
    spent: Decimal = Decimal(0)
    """In the unit of the prices."""
    hired: tuple[str, ...] = ()
    """Names, in order of hiring."""
    gains: dict[str, float] = Field(default_factory=dict)
    """Best gain hired so far, by skill."""
    blacklist: tuple[str, ...] = ()
    """Broken components, never tried again."""
    offers: int = 0
    """Candidates decided on, whether tried or passed over."""
    clipped: int = 0
    """Of them, how many had a density outside the bounds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What was decided on one candidate, with the figures at that moment."""

    name: str
    accepted: bool
    reason: Reason
    value: float | None
    """Weighted gain not yet covered; `None` means it was not tried, or was broken."""
    density: float | None
    """Value per unit of price, before clipping (infinite for a free component); `None` as for `value`."""
    threshold: float
    """`psi` at `utilisation`."""
    utilisation: float
    """Share of the budget used before the decision, from 0 to 1."""
    clipped: bool = False
    """Whether the density lay outside the bounds and was compared as the nearer of them."""


def psi(utilisation: float, *, lowest: float, highest: float) -> float:
    """The threshold: the density a candidate must reach when this share of the budget is used.

    >>> [round(psi(z, lowest=0.125, highest=5), 3) for z in (0, 0.25, 0.5, 0.75, 1)]
    [0.046, 0.148, 0.48, 1.548, 5.0]
    """
    return math.pow(highest * math.e / lowest, utilisation) * (lowest / math.e)


def bounds(skills: Sequence[Skill], components: Sequence[Component], smallest_gain: float) -> Bounds:
    """`L` and `U` for these skills and prices; free components set neither; where all are free, nothing hangs on them.

    Args:
        skills: what is needed, with weights.
        components: what may be offered.
        smallest_gain: smallest positive gain a trial can resolve: 1 over its number of queries.

    Raises:
        InputError: no skill, no component, or a gain outside (0, 1].
    """
    if not skills or not components or not 0 < smallest_gain <= 1:
        raise InputError(
            f"no bounds on the density: {len(skills)} skills, {len(components)} components, smallest gain "
            f"{smallest_gain}; give some skills, some components and a gain above 0 up to 1"
        )
    prices = [float(component.price_usd) for component in components if component.price_usd > 0] or [1.0]
    weights = [skill.weight for skill in skills]
    return Bounds(lowest=min(weights) * smallest_gain / max(prices), highest=math.fsum(weights) / min(prices))


def arrivals(candidates: Sequence[_Arriving], seed: int) -> tuple[_Arriving, ...]:
    """The candidates in a random order that only the seed and the order they are given in decide."""
    order = list(candidates)
    random.Random(seed).shuffle(order)
    return tuple(order)


class OnlineKnapsack:
    """A team being hired under a budget, one candidate at a time.

    Args:
        budget: in the unit of the prices.
        lowest: `L`, the worst useful density.
        highest: `U`, the best possible one.
        weights: importance by skill.
        state: where an interrupted search stopped; `None` starts one.

    Raises:
        InputError: the budget, a bound or a weight is not a number it can be.
    """

    def __init__(
        self,
        budget: Amount,
        *,
        lowest: float,
        highest: float,
        weights: Mapping[str, float],
        state: OnlineState | None = None,
    ) -> None:
        if not (math.isfinite(budget) and budget > 0 and 0 < lowest <= highest < math.inf):
            raise InputError(f"need budget > 0 and 0 < L <= U, got {budget=}, {lowest=}, {highest=}")
        wrong = {skill: weight for skill, weight in weights.items() if not (math.isfinite(weight) and weight >= 0)}
        if wrong:
            raise InputError(f"weights must be finite and at least 0, got {wrong!r}")
        begun = state or OnlineState()
        self._budget, self._weights = _decimal(budget), dict(weights)
        self._lowest, self._highest = lowest, highest
        self._spent, self._offers, self._clipped = begun.spent, begun.offers, begun.clipped
        self._hired, self._gains, self._blacklist = list(begun.hired), dict(begun.gains), dict.fromkeys(begun.blacklist)
        self._spend(Decimal(0))

    @property
    def state(self) -> OnlineState:
        """What to write down so that the search can be resumed here."""
        return OnlineState(
            spent=self._spent,
            hired=tuple(self._hired),
            gains=dict(self._gains),
            blacklist=tuple(self._blacklist),
            offers=self._offers,
            clipped=self._clipped,
        )

    @property
    def spent(self) -> Decimal:
        """Price of the hired together."""
        return self._spent

    @property
    def hired(self) -> tuple[str, ...]:
        """Names, in order of hiring."""
        return tuple(self._hired)

    @property
    def clipped(self) -> int:
        """How many densities lay outside the bounds."""
        return self._clipped

    @property
    def value(self) -> float:
        """Σ weight x best gain hired."""
        return math.fsum(self._weights.get(skill, 0.0) * gain for skill, gain in self._gains.items())

    @property
    def utilisation(self) -> float:
        """Share of the budget used, from 0 to 1."""
        return self._utilisation

    @property
    def threshold(self) -> float:
        """The density the next candidate must reach."""
        return self._threshold

    def pass_over(self, name: str, price: Amount, skills: Sequence[str]) -> Decision | None:
        """The decision on a candidate that is not worth a trial; `None` means: try it, then `offer` it.

        Args:
            name: the component's.
            price: the component's.
            skills: what it was retrieved for.
        """
        reason = self._pointless(name, price, skills)
        return None if reason is None else self._decide(name, reason)

    def would_try(self, name: str, price: Amount, skills: Sequence[str]) -> bool:
        """Whether `pass_over` would ask for a trial, as things stand; asking changes nothing."""
        return self._pointless(name, price, skills) is None

    def _pointless(self, name: str, price: Amount, skills: Sequence[str]) -> Reason | None:
        """Why no trial result could get the candidate hired; `None` when one could."""
        if name in self._blacklist:
            return "blacklisted"
        most = self._added(dict.fromkeys(skills, 1.0))
        if most <= 0:
            return "covered"
        cost = _decimal(price)
        if self._spent + cost > self._budget:
            return "does not fit"
        return "cannot reach threshold" if cost and self._clip(most / float(cost)) < self.threshold else None

    def offer(self, candidate: Candidate) -> Decision:
        """Decide on a candidate that was tried. The decision is final.

        Raises:
            InputError: its price or a gain is not a number it can be, or it is hired already.
        """
        name, price = candidate.name, candidate.price
        _check(candidate, name in self._hired)
        if name in self._blacklist:
            return self._decide(name, "blacklisted")
        if candidate.broken:
            self._blacklist[name] = None
            return self._decide(name, "broken")
        cost, value = _decimal(price), self._added(candidate.gains)
        density = value / float(cost) if cost else math.inf
        if value <= 0:
            return self._decide(name, "does not help", 0.0, 0.0)
        compared = self._clip(density)
        clipped = compared != density and cost > 0
        self._clipped += clipped
        if self._spent + cost > self._budget:
            return self._decide(name, "does not fit", value, density, clipped=clipped)
        if cost and compared < self.threshold:
            return self._decide(name, "below threshold", value, density, clipped=clipped)
        decision = self._decide(name, "hired", value, density, clipped=clipped)
        self._spend(cost)
        self._hired.append(name)
        for skill, gain in candidate.gains.items():
            if skill in self._weights and gain > self._gains.get(skill, 0.0):
                self._gains[skill] = gain
        return decision

    def _spend(self, cost: Decimal) -> None:
        self._spent += cost
        self._utilisation = float(Fraction(self._spent) / Fraction(self._budget))
        self._threshold = psi(self._utilisation, lowest=self._lowest, highest=self._highest)

    def _added(self, gains: Mapping[str, float]) -> float:
        return math.fsum(
            self._weights.get(skill, 0.0) * max(0.0, gain - self._gains.get(skill, 0.0))
            for skill, gain in gains.items()
        )

    def _clip(self, density: float) -> float:
        # A density that equals a bound on paper may miss it by a rounding; that is not outside.
        slack = 1e-12
        if density < self._lowest * (1 - slack):
            return self._lowest
        return self._highest if density > self._highest * (1 + slack) else density

    def _decide(
        self,
        name: str,
        reason: Reason,
        value: float | None = None,
        density: float | None = None,
        *,
        clipped: bool = False,
    ) -> Decision:
        self._offers += 1
        return Decision(
            name=name,
            accepted=reason == "hired",
            reason=reason,
            value=value,
            density=density,
            threshold=self.threshold,
            utilisation=self.utilisation,
            clipped=clipped,
        )


def _decimal(amount: Amount) -> Decimal:
    return amount if isinstance(amount, Decimal) else Decimal(str(amount))


def _check(candidate: Candidate, hired: bool) -> None:
    if hired:
        raise InputError(f"{candidate.name!r} is hired already: offer every component once")
    if not (math.isfinite(candidate.price) and candidate.price >= 0):
        raise InputError(f"{candidate.name!r} costs {candidate.price}: give a finite price of at least 0")
    wrong = {skill: gain for skill, gain in candidate.gains.items() if not (math.isfinite(gain) and gain <= 1)}
    if wrong:
        raise InputError(f"{candidate.name!r} gains {wrong!r}: give finite numbers of at most 1")
