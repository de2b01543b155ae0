"""How figures are written for people: the same words in the report, on the terminal and in the verdict."""

import math
from decimal import Decimal

from orchestra.evaluation.certificate import BreakEvenResult, Certificate, Headline, Interval
from orchestra.ledger import nano, show_usd


def percent(share: float) -> str:
    """A share: `82.5 %`.

    >>> percent(0.825), percent(1), percent(0.0004)
    ('82.5 %', '100 %', '0.04 %')
    """
    value = 100 * share
    places = 1 if value == 0 or value >= 0.1 else 2
    return f"{value:.{places}f}".removesuffix(".0") + " %"


def points(difference: float) -> str:
    """A difference of two shares, in points with its sign: `+51.0`.

    >>> points(0.51), points(-0.083)
    ('+51.0', '−8.3')
    """
    value = round(100 * difference, 1)
    return f"{'−' if value < 0 else '+'}{abs(value):.1f}"


def percent_range(interval: Interval) -> str:
    """An interval of shares: `74.2 – 89.0 %`."""
    return f"{100 * interval.low:.1f} – {100 * interval.high:.1f} %"


def points_range(interval: Interval) -> str:
    """An interval of differences, in points: `+41.2 to +59.8`."""
    return f"{points(interval.low)} to {points(interval.high)}"


def number(value: float | None) -> str:
    """A value or density in three significant digits; a dash where there is none.

    >>> number(0.21349), number(1234.5), number(None), number(0)
    ('0.213', '1,234', '–', '0')
    """
    if value is None:
        return "–"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}".replace("-", "−")


def number_range(interval: Interval | None) -> str:
    """An interval of values; empty where there is none."""
    return "" if interval is None else f"{number(interval.low)} to {number(interval.high)}"


def cash(amount: Decimal | None) -> str:
    """Cash in USD; a dash where there is none."""
    return "–" if amount is None else show_usd(nano(amount))


def equipment(price: Decimal | None) -> str:
    """An equipment price; a dash where there is none.

    >>> equipment(Decimal(8)), equipment(Decimal("2.5")), equipment(None)
    ('$8', '$2.50', '–')
    """
    if price is None:
        return "–"
    return f"${price:,.0f}" if price == price.to_integral_value() else f"${price:,.2f}"


def samples(expected: float) -> str:
    """Samples per task as expected: `1`, `2.4`."""
    return f"{expected:.2f}".rstrip("0").rstrip(".")


def queries(count: int | None) -> str:
    """A number of queries; `never` where there is none."""
    return "never" if count is None else f"{count:,}"


def break_even(found: BreakEvenResult) -> str:
    """When the search is paid back: `after 1,240 queries (95 % interval 980 to never)`."""
    outcome = f"after {found.queries:,} queries" if found.queries is not None else found.outcome
    if found.low is None or found.outcome == "the baseline never succeeds":
        return outcome
    return f"{outcome} (95 % interval {queries(found.low)} to {queries(found.high)})"


def tone(found: Headline | None) -> str:
    """Which way the verdict points: `better`, `single`, `undecided` or `none`."""
    if found is None:
        return "none"
    return {"team better": "better", "single agent as good or better": "single", "undecided": "undecided"}[
        found.verdict
    ]


def verdict_parts(certificate: Certificate) -> tuple[str, str, str | None]:
    """The verdict in a few words, the rest of its line, and what is missing if that line has not said so already."""
    word = certificate.headline.statement if certificate.headline else "no verdict"
    why = certificate.verdict.removeprefix(word).removeprefix(" — ").removeprefix(": ")
    missing = certificate.incomplete
    return word, why, missing if missing and missing not in certificate.verdict else None


def optimum_lines(certificate: Certificate) -> tuple[tuple[str, str], ...]:
    """Optimum, bound, gap, ratios and what they rest on, each with its name."""
    found = certificate.optimum
    if found is None:
        return ()
    over = "the whole inventory" if found.over == "inventory" else "the components tried, not the whole inventory"
    lines = [
        ("chosen set", f"value {number(found.reached)}"),
        ("optimum", f"value {number(found.value)}, over {over}"),
        ("best set", ", ".join(found.components) or "–"),
        ("bound and gap", f"{number(found.bound)}, gap {number(found.gap)}" + (" (proven)" if found.gap == 0 else "")),
    ]
    if found.ratio is not None:
        lines.append(("competitive ratio", f"{found.ratio:.3f} reached"))
    if found.guarantee is not None and found.highest_density and found.lowest_density:
        beyond = round(found.guarantee - math.log(found.highest_density / found.lowest_density))
        lines += [
            ("guaranteed", f"ln(U/L) + {beyond} = {found.guarantee:.3f}"),
            ("L and U", f"{number(found.lowest_density)} and {number(found.highest_density)}; {found.clipped} clipped"),
        ]
    if found.assumption is not None:
        lines.append(("note", found.assumption))
    return tuple(lines)
