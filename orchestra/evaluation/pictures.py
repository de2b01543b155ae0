"""The report's pictures as inline SVG: they stretch with the page while their lettering keeps its size.

Horizontal positions are percentages of the drawing, vertical ones pixels; a drawing may letter its margins, so the page
leaves room around it (`.picture` in `orchestra.evaluation.stylesheet`). No library, no script, no network.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

from orchestra.evaluation.certificate import ArmResult, Certificate, Headline, Trial
from orchestra.evaluation.markup import Markup, join, tag
from orchestra.evaluation.wording import cash, equipment, number, percent, percent_range, points, points_range

_Across = Callable[[int], float]
_Height = Callable[[float | None], float]
_ROW = 34  # pixels per arm
_TICKS = {0: "start", 25: "middle", 50: "middle", 75: "middle", 100: "end"}  # percent, and how its label is anchored
_PLOT = 250  # height of the density picture
_FLOOR = 34  # strip below it for components without a positive density
_NAME_ROW = 16  # height of a row of names above it
_NAMED = 16  # names at most; the table has them all
_LETTERS = 20  # of a name at most
_LABEL_SHARE = 2.3  # width of one letter, in percent of the narrowest drawing (a page of 400 px)


class _Name(NamedTuple):
    """The name of a component above the plot, all across in percent."""

    x: float
    mark: float
    """Height of what it names, in pixels from the top of the plot."""
    text: str
    span: tuple[float, float]
    row: int
    """From 0, the lowest."""


def success_picture(results: Sequence[ArmResult]) -> Markup:
    """Success of every arm with its 95 % interval, one row each, on a common scale from 0 to 100 %."""
    ticks = [
        tag("text", f"{share} %", x=f"{share}%", y=15, text_anchor=_TICKS[share], class_="tick") for share in _TICKS
    ]
    rows = [_success_row(result) for result in results]
    rows.append(tag("div", tag("svg", *ticks, width="100%", height=20), class_="arm-row axis"))
    label = "; ".join(f"{r.arm} {percent(r.success)} ({percent_range(r.interval)})" for r in results)
    return tag(
        "div",
        *rows,
        role="img",
        aria_label=f"Success on held-out tasks with 95 % intervals: {label}",
        class_="picture arms",
    )


def _success_row(result: ArmResult) -> Markup:
    """Name, interval and figure on one line; the style sheet sets them below each other where it is narrow."""
    middle = _ROW / 2
    low, high = 100 * result.interval.low, 100 * result.interval.high
    drawn = [tag("line", x1=f"{share}%", x2=f"{share}%", y1=0, y2=_ROW, class_="grid") for share in _TICKS]
    drawn += [
        tag("title", f"{result.arm}: {percent(result.success)} of {result.tasks} ({percent_range(result.interval)})"),
        tag("line", x1="0%", x2="100%", y1=middle, y2=middle, class_="track"),
        tag("line", x1=_at(low), x2=_at(high), y1=middle, y2=middle, class_="interval"),
        tag("circle", cx=_at(100 * result.success), cy=middle, r=5.5, class_="mean"),
    ]
    return tag(
        "div",
        tag("span", result.arm, class_="arm"),
        tag("svg", *drawn, width="100%", height=_ROW),
        tag("span", percent(result.success), class_="value"),
        class_="arm-row team" if result.arm == "team" else "arm-row",
    )


def difference_picture(found: Headline) -> Markup:
    """The paired difference with its interval, beside 0 and the margin."""
    reach = max(abs(found.interval.low), abs(found.interval.high), 2 * found.margin, 0.05) * 1.15

    def at(difference: float) -> str:
        return _at(50 + 50 * difference / reach)

    kind = {"team better": "team"}.get(found.verdict, "other")
    drawn = [
        tag("rect", x=0, width="50%", y=16, height=44, class_="behind"),
        tag("line", x1=at(0), x2=at(0), y1=10, y2=66, class_="zero"),
        tag("line", x1=at(found.margin), x2=at(found.margin), y1=10, y2=66, class_="margin"),
        tag("text", "0", x=at(0), y=80, text_anchor="end", dx=-3, class_="tick"),
        tag("text", f"margin {points(found.margin)}", x=at(found.margin), y=80, dx=3, class_="tick"),
        tag("text", "← single agent ahead", x="0%", y=10, class_="tick"),
        tag("text", "team ahead →", x="100%", y=10, text_anchor="end", class_="tick"),
        tag(
            "g",
            tag("line", x1=at(found.interval.low), x2=at(found.interval.high), y1=38, y2=38, class_="interval"),
            tag("circle", cx=at(found.difference), cy=38, r=6.5, class_="mean"),
            class_=kind,
        ),
    ]
    return _svg(86, drawn, f"Difference {points(found.difference)} points, interval {points_range(found.interval)}")


def density_picture(trials: Sequence[Trial]) -> Markup:
    """Density of every component against the threshold of its moment, in order of arrival, on a logarithmic scale."""
    positive = [t.density for t in trials if t.density is not None and t.density > 0]
    positive += [t.threshold for t in trials if t.threshold is not None and t.threshold > 0]
    lowest, highest = (min(positive), max(positive)) if positive else (0.1, 1.0)
    bottom, top = math.log10(lowest) - 0.12, math.log10(highest) + 0.12

    def height(density: float | None) -> float:
        if density is None or density <= 0:
            return _PLOT + _FLOOR - 14
        return _PLOT * (1 - (math.log10(density) - bottom) / (top - bottom))

    def across(index: int) -> float:
        return 100 * (index + 0.5) / len(trials)

    drawn: list[Markup] = []
    for mark in _marks(bottom, top):
        y = _px(height(mark))
        drawn.append(tag("line", x1="0%", x2="100%", y1=y, y2=y, class_="grid"))
        drawn.append(tag("text", f"{mark:g}", x=-8, y=_px(height(mark) + 4), text_anchor="end", class_="tick"))
    drawn.append(tag("text", "none", x=-8, y=_PLOT + _FLOOR - 10, text_anchor="end", class_="tick"))
    drawn += _threshold(trials, across, height)
    leaders, names, rows = _names(trials, across, height)
    drawn += leaders
    drawn += [_component(t, across(i), height(t.density)) for i, t in enumerate(trials)]
    drawn += names
    drawn.append(tag("text", "order of arrival →", x="100%", y=_PLOT + _FLOOR + 16, text_anchor="end", class_="tick"))
    above = _NAME_ROW * rows + 8
    return _svg(
        above + _PLOT + _FLOOR + 22,
        [tag("g", *drawn, transform=f"translate(0 {above})")],
        "Value per dollar of each component against the threshold, as it arrived",
    )


def _marks(bottom: float, top: float) -> list[float]:
    """Round numbers between two powers of ten: the powers themselves, and multiples where these are too few."""
    found: list[float] = []
    for steps in ((1,), (1, 3), (1, 2, 5)):
        powers = range(math.floor(bottom), math.ceil(top) + 1)
        found = [step * 10.0**power for power in powers for step in steps if bottom <= math.log10(step) + power <= top]
        if len(found) >= 3:
            break
    return found[:: max(1, len(found) // 6)]


def _threshold(trials: Sequence[Trial], across: _Across, height: _Height) -> list[Markup]:
    """The threshold as a staircase through the moments at which it was asked."""
    asked = [(across(i), height(t.threshold)) for i, t in enumerate(trials) if t.threshold is not None]
    drawn = []
    for (x, y), (next_x, next_y) in pairwise(asked):
        drawn.append(tag("line", x1=_at(x), x2=_at(next_x), y1=_px(y), y2=_px(y), class_="threshold"))
        if next_y != y:
            drawn.append(tag("line", x1=_at(next_x), x2=_at(next_x), y1=_px(y), y2=_px(next_y), class_="threshold"))
    return drawn


def _component(trial: Trial, x: float, y: float) -> Markup:
    asked = "" if trial.threshold is None else f", threshold {number(trial.threshold)}"
    story = (
        f"{trial.component}: {trial.decision}, {trial.reason} "
        f"(value {number(trial.value)}, price {equipment(trial.price_usd)}, density {number(trial.density)}{asked})"
    )
    if trial.decision == "broken":
        mark = tag("text", "×", x=_at(x), y=_px(y + 5), text_anchor="middle", class_="cross")
    else:
        mark = tag("circle", cx=_at(x), cy=_px(y), r={"accepted": 6.5, "rejected": 4.5}.get(trial.decision, 2.5))
    return tag("g", tag("title", story), mark, class_=f"component {trial.decision}")


def _names(trials: Sequence[Trial], across: _Across, height: _Height) -> tuple[list[Markup], list[Markup], int]:
    """Names of the accepted components in rows above the plot, the lines that lead to them, and how many rows.

    Names in the left half run to the right of their line, the others to the left. Each takes the lowest row where it
    meets no name and no line; the nearest to the middle come first, so that lines further out pass outside of them.
    """
    chosen = [(across(i), t) for i, t in enumerate(trials) if t.decision == "accepted"]
    chosen = sorted(chosen, key=lambda one: one[1].density or 0, reverse=True)[:_NAMED]
    placed: list[_Name] = []
    for x, trial in sorted(chosen, key=lambda one: abs(one[0] - 50)):
        name = trial.component if len(trial.component) <= _LETTERS else trial.component[: _LETTERS - 1] + "…"
        width = _LABEL_SHARE * (len(name) + 1)
        span = (x, x + width) if x < 50 else (x - width, x)
        row = min(range(len(placed) + 1), key=lambda row: _conflicts(placed, x, span, row))
        placed.append(_Name(x, height(trial.density), name, span, row))
    leaders, names = [], []
    for one in placed:
        y = -_NAME_ROW * one.row - 8
        leaders.append(tag("line", x1=_at(one.x), x2=_at(one.x), y1=_px(y - 9), y2=_px(one.mark - 8), class_="leader"))
        anchor, away = ("start", 5) if one.x < 50 else ("end", -5)
        names.append(tag("text", one.text, x=_at(one.x), y=_px(y), dx=away, text_anchor=anchor, class_="name"))
    return leaders, names, max((one.row + 1 for one in placed), default=0)


def _conflicts(placed: Sequence[_Name], x: float, span: tuple[float, float], row: int) -> int:
    """How badly a name in `row` would stand: names it covers weigh more than lines it crosses."""
    found = 0
    for other in placed:
        if other.row == row and span[0] < other.span[1] and other.span[0] < span[1]:
            found += 100
        elif (other.row < row and other.span[0] <= x <= other.span[1]) or (
            other.row > row and span[0] <= other.x <= span[1]
        ):
            found += 1
    return found


def spend_picture(certificate: Certificate) -> Markup | None:
    """Where the cash went, as one bar; by list price when nothing was paid; `None` when nothing was spent at all."""
    rows = certificate.spend.rows
    by_list = not certificate.spend.paid_usd
    total = certificate.spend.list_usd if by_list else certificate.spend.paid_usd
    if not total:
        return None
    drawn, legend, left = [], [], 0.0
    for index, row in enumerate(rows):
        amount = row.list_usd if by_list else row.paid_usd
        share = 100 * float(amount / total)
        story = f"{row.category}: {cash(amount)} ({share:.1f} %)"
        colour = f"slice-{index % 8}"
        drawn.append(
            tag(
                "g",
                tag("title", story),
                tag("rect", x=_at(left), width=_at(share), y=0, height=26),
                class_=f"slice {colour}",
            )
        )
        legend.append(tag("li", tag("span", class_=f"swatch {colour}"), f"{row.category} ", tag("b", f"{share:.1f} %")))
        left += share
    kind = "at list prices; everything came from the cache" if by_list else "as paid"
    picture = _svg(26, drawn, f"Cash by category, {kind}")
    return join([picture, tag("ul", *legend, class_="legend")])


def _svg(height: float, drawn: Sequence[Markup], label: str) -> Markup:
    return tag(
        "div",
        tag("svg", *drawn, width="100%", height=f"{height:g}", role="img", aria_label=label),
        class_="picture",
    )


def _at(percent_across: float) -> str:
    return f"{percent_across:.2f}%"


def _px(pixels: float) -> str:
    return f"{pixels:.1f}"
