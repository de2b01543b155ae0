"""The report's pictures as inline SVG: they stretch with the page while their lettering keeps its size.

Horizontal positions are percentages of the drawing, vertical ones pixels; a drawing may letter its margins, so the page
leaves room around it (`.picture` in `orchestra.evaluation.stylesheet`). No library, no script, no network.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

from orchestra.evaluation.certificate import ArmResult, Certificate, Headline, Trial
from orchestra.evaluation.markup import Markup, join, tag
from orchestra.evaluation.wording import cash, equipment, number, percent, percent_range, points, points_range

_Across = Callable[[int], float]
_Height = Callable[[float | None], float]
_ROW = 46  # pixels per arm
_PLOT = 250  # height of the density picture
_FLOOR = 34  # strip below it for components without a positive density
_LABEL_SHARE = 0.95  # width of one letter of a label, in percent of a 780 px drawing


def success_picture(results: Sequence[ArmResult]) -> Markup:
    """Success of every arm with its 95 % interval, one row each, on a common scale from 0 to 100 %."""
    height = _ROW * len(results)
    drawn: list[Markup] = []
    for share in (0, 25, 50, 75, 100):
        drawn.append(tag("line", x1=f"{share}%", x2=f"{share}%", y1=0, y2=height, class_="grid"))
        anchor = {0: "start", 100: "end"}.get(share, "middle")
        drawn.append(tag("text", f"{share} %", x=f"{share}%", y=height + 16, text_anchor=anchor, class_="tick"))
    for index, result in enumerate(results):
        drawn.append(_success_row(result, top=_ROW * index))
    label = "; ".join(f"{r.arm} {percent(r.success)} ({percent_range(r.interval)})" for r in results)
    return _svg(height + 22, drawn, f"Success on held-out tasks with 95 % intervals: {label}")


def _success_row(result: ArmResult, *, top: int) -> Markup:
    middle = top + 32
    kind = "team" if result.arm == "team" else "other"
    low, high = 100 * result.interval.low, 100 * result.interval.high
    return tag(
        "g",
        tag("title", f"{result.arm}: {percent(result.success)} of {result.tasks} ({percent_range(result.interval)})"),
        tag("text", result.arm, x=0, y=top + 17, class_="arm"),
        tag("text", percent(result.success), x="100%", y=top + 17, text_anchor="end", class_="arm value"),
        tag("line", x1="0%", x2="100%", y1=middle, y2=middle, class_="track"),
        tag("line", x1=_at(low), x2=_at(high), y1=middle, y2=middle, class_="interval"),
        tag("circle", cx=_at(100 * result.success), cy=middle, r=5.5, class_="mean"),
        class_=kind,
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
    bottom, top = math.floor(math.log10(lowest) - 0.05), math.ceil(math.log10(highest) + 0.05)

    def height(density: float | None) -> float:
        if density is None or density <= 0:
            return _PLOT + _FLOOR - 14
        return _PLOT * (1 - (math.log10(density) - bottom) / (top - bottom))

    def across(index: int) -> float:
        return 100 * (index + 0.5) / len(trials)

    drawn: list[Markup] = []
    for power in range(bottom, top + 1, max(1, (top - bottom) // 6)):
        y = height(10.0**power)
        drawn.append(tag("line", x1="0%", x2="100%", y1=y, y2=y, class_="grid"))
        drawn.append(tag("text", f"{10.0**power:g}", x=-8, y=y + 4, text_anchor="end", class_="tick"))
    drawn.append(tag("text", "none", x=-8, y=_PLOT + _FLOOR - 10, text_anchor="end", class_="tick"))
    drawn += _threshold(trials, across, height)
    drawn += [_component(t, across(i), height(t.density)) for i, t in enumerate(trials)]
    drawn += _names(trials, across, height)
    drawn.append(tag("text", "order of arrival →", x="100%", y=_PLOT + _FLOOR + 16, text_anchor="end", class_="tick"))
    return _svg(_PLOT + _FLOOR + 22, drawn, "Value per dollar of each component against the threshold, as it arrived")


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


def _names(trials: Sequence[Trial], across: _Across, height: _Height) -> list[Markup]:
    """Names of the accepted components above their marks; a name that would run into an earlier one moves up."""
    drawn: list[Markup] = []
    taken: list[tuple[float, float, float]] = []  # left and right in percent, baseline in pixels
    for index, trial in enumerate(trials):
        if trial.decision != "accepted":
            continue
        name = trial.component if len(trial.component) <= 24 else trial.component[:23] + "…"
        x, y, width = across(index), height(trial.density) - 11, _LABEL_SHARE * len(name)
        anchor = "start" if x < width / 2 else "end" if x > 100 - width / 2 else "middle"
        left = {"start": x, "end": x - width, "middle": x - width / 2}[anchor]
        while any(left < end and start < left + width and abs(y - line) < 13 for start, end, line in taken):
            y -= 13
        taken.append((left, left + width, y))
        drawn.append(tag("text", name, x=_at(x), y=_px(y), text_anchor=anchor, class_="name"))
    return drawn


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
