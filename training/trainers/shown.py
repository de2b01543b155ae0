"""Figures of a run as they come, for people who watch."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

ROWS = 12
"""Steps that stay in sight."""
COLUMNS = (
    "step",
    "reward",
    "valid",
    "tokens",
    "loss",
    "KL",
    "clip",
    "entropy",
    "gradient",
    "mismatch",
    "tok/s",
    "cash",
)


@contextmanager
def watched(console: Console, total: int, warmup: int) -> Iterator[Any]:
    """A table that grows with each step; what is yielded takes the figures.

    Args:
        console: on a terminal a live table, elsewhere a line for each step.
        total: steps that will be taken.
        warmup: steps before them.
    """
    rows: list[tuple[str, ...]] = []

    def table() -> Table:
        shown = Table(box=None, pad_edge=False)
        for title in COLUMNS:
            shown.add_column(title, justify="right", no_wrap=True)
        for row in rows[-ROWS:]:
            shown.add_row(*row)
        return shown

    if not console.is_terminal:
        yield lambda figures: console.print(" · ".join(line(figures, total, warmup)), markup=False, soft_wrap=True)
        return
    with Live(table(), console=console, refresh_per_second=4) as live:

        def take(figures: Mapping[str, Any]) -> None:
            rows.append(cells(figures, total, warmup))
            live.update(table())

        yield take


def cells(figures: Mapping[str, Any], total: int, warmup: int) -> tuple[str, ...]:
    """The figures of a step, one for each of `COLUMNS`; a dash is what was not measured."""
    of = warmup if figures["phase"] == "warm-up" else total
    speed = figures["tokens per second"]
    cash = figures.get("cash_usd")
    return (
        f"{'warm-up ' if figures['phase'] == 'warm-up' else ''}{figures['step']}/{of}",
        reward(figures) or "–",
        _number(figures.get("valid actions"), ".0%"),
        _number(figures.get("reply tokens"), ".1f"),
        "skipped" if figures.get("skipped") else _number(figures.get("loss"), ".4f"),
        _number(figures.get("kl"), ".4f"),
        _number(figures.get("clip fraction"), ".1%"),
        _number(figures.get("entropy"), ".3f"),
        _number(figures.get("gradient norm"), ".3f"),
        _number(figures.get("mismatch"), ".1e"),
        "/".join(f"{speed[what]:.0f}" for what in ("play", "credit", "update")),
        "–" if cash is None else f"${cash:.4f}",
    )


def line(figures: Mapping[str, Any], total: int, warmup: int) -> list[str]:
    """The same for a log: what was measured, named."""
    found = zip(COLUMNS, cells(figures, total, warmup), strict=True)
    return [f"{name} {text}" for name, text in found if text != "–"]


def reward(figures: Mapping[str, Any]) -> str:
    """Mean reward of each game and seat, with half its interval."""
    return " ".join(
        f"{cell} {one['mean']:+.2f}±{(one['high'] - one['low']) / 2:.2f}" for cell, one in figures["reward"].items()
    )


def _number(value: float | None, how: str) -> str:
    return "–" if value is None else format(value, how)
