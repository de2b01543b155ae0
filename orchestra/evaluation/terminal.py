"""A certificate on a terminal of 100 columns: the verdict first, then the arms, the team, and where the cash went."""

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from orchestra.evaluation.certificate import ArmResult, Certificate
from orchestra.evaluation.wording import (
    break_even,
    cash,
    equipment,
    number,
    number_range,
    optimum_lines,
    percent,
    percent_range,
    samples,
    tone,
    verdict_parts,
)

WIDTH = 100
"""Columns it never exceeds."""
NARROW = 90
"""Below as many columns, what can be read elsewhere is left out."""
_BAR = 16  # cells of the success bar
_COLOURS = {"better": "green", "single": "yellow", "undecided": "cyan", "none": "yellow"}


def summary(certificate: Certificate, console: Console) -> None:
    """Print `certificate` on `console`, at most 100 columns wide."""
    width = min(WIDTH, console.width)
    narrow = width < NARROW
    shown = (
        _verdict(certificate),
        _arms(certificate, narrow),
        _team(certificate),
        _break_even(certificate),
        _optimum(certificate),
        _spend(certificate, narrow),
    )
    console.print(Group(*(block for block in shown if block is not None)), width=width)


def _verdict(certificate: Certificate) -> RenderableType:
    word, why, missing = verdict_parts(certificate)
    colour = _COLOURS[tone(certificate.headline)]
    lines = [Text(word[:1].upper() + word[1:], style=f"bold {colour}"), Text(why)]
    if missing:
        lines.append(Text(f"Incomplete: {missing}", style="yellow"))
    return Panel(Group(*lines), border_style=colour, box=box.ROUNDED, padding=(0, 2))


def _arms(certificate: Certificate, narrow: bool) -> RenderableType | None:
    if not certificate.success:
        return None
    rows = _table("on held-out tasks")
    if not narrow:
        rows.add_column("", min_width=_BAR, no_wrap=True)
    for title in ("success", "95 % interval", "samples", "list/task", "equipment"):
        rows.add_column(title, justify="right", no_wrap=True)
    for result in certificate.success:
        rows.add_row(
            Text(result.arm),
            *(() if narrow else (_bar(result),)),
            percent(result.success),
            percent_range(result.interval),
            samples(result.samples_per_task),
            cash(result.list_usd_per_task),
            equipment(result.equipment_usd),
            style="bold" if result.arm == "team" else "",
        )
    return _block(rows)


def _bar(result: ArmResult) -> Text:
    """The interval as a line with the mean on it, on a scale from 0 to 100 %."""
    low, mean, high = (
        min(_BAR - 1, int(share * _BAR)) for share in (result.interval.low, result.success, result.interval.high)
    )
    cells = "".join("●" if i == mean else "━" if low <= i <= high else "·" for i in range(_BAR))
    colour = "green" if result.arm == "team" else "cyan"
    bar = Text()
    for cell in cells:
        bar.append(cell, style="dim" if cell == "·" else colour)
    return bar


def _team(certificate: Certificate) -> RenderableType:
    team = certificate.team
    tried = {trial.component: trial for trial in certificate.components if trial.decision == "accepted"}
    rows = _table("the team")
    for title in ("price", "value", "95 % interval", "on fresh queries"):
        rows.add_column(title, justify="right", no_wrap=True)
    for name in team.components:
        trial = tried.get(name)
        if trial is None:
            rows.add_row(Text(name), *["–"] * 4)
            continue
        fresh = f"{number(trial.fresh_value)}  {number_range(trial.fresh_interval)}".rstrip()
        rows.add_row(Text(name), equipment(trial.price_usd), number(trial.value), number_range(trial.interval), fresh)
    budget = f" of {equipment(team.budget_usd)}" if team.budget_usd is not None else ""
    counts = [
        (kind, sum(t.decision == kind for t in certificate.components)) for kind in ("rejected", "skipped", "broken")
    ]
    passed = "".join(f", {many} {kind}" for kind, many in counts if many)
    line = (
        f"equipment {equipment(team.equipment_usd)}{budget} · {cash(team.expected_cash_usd)} cash per task · "
        f"{len(certificate.components)} tried, {len(team.components)} chosen{passed}"
    )
    return _block(*([rows] if team.components else []), Text(line))


def _break_even(certificate: Certificate) -> RenderableType | None:
    if not certificate.break_even:
        return None
    rows = _table("search paid back")
    rows.add_column("")
    for entry in certificate.break_even:
        rows.add_row(Text(f"against {entry.against}"), break_even(entry))
    return _block(rows)


def _optimum(certificate: Certificate) -> RenderableType | None:
    lines = optimum_lines(certificate)
    if not lines:
        return None
    rows = _table("optimum")
    rows.add_column("")
    for name, text in lines:
        rows.add_row(name, Text(text))
    return _block(rows)


def _spend(certificate: Certificate, narrow: bool) -> RenderableType:
    spend = certificate.spend
    counted = {"calls": "calls", "cached_calls": "from cache", "input_tokens": "tokens in", "output_tokens": "out"}
    if narrow:
        del counted["cached_calls"]
    rows = _table("cash")
    for title in (*counted.values(), "list", "paid"):
        rows.add_column(title, justify="right", no_wrap=True)
    for row in spend.rows:
        counts = [f"{getattr(row, key):,}" for key in counted]
        rows.add_row(Text(row.category), *counts, cash(row.list_usd), cash(row.paid_usd))
    totals = [f"{sum(getattr(row, key) for row in spend.rows):,}" for key in counted]
    rows.add_section()
    rows.add_row("together", *totals, cash(spend.list_usd), cash(spend.paid_usd), style="bold")
    return _block(rows)


def _table(first: str) -> Table:
    """A table whose first column is headed by what it is about."""
    made = Table(box=box.SIMPLE_HEAD, header_style="dim", padding=(0, 1), pad_edge=False, show_edge=False)
    made.add_column(Text(first), overflow="fold", min_width=12, header_style="bold not dim")
    return made


def _block(*parts: RenderableType) -> RenderableType:
    return Padding(Group(*parts), (1, 0, 0, 2))
