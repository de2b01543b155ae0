"""The curves of a run, as a picture."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestra.errors import InputError, MissingExtra
from orchestra.plugins import closest

PANELS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("loss", ("loss",)),
    ("entropy, nats", ("entropy",)),
    ("KL to the base, nats", ("kl",)),
    ("clipped tokens", ("clip fraction",)),
    ("gradient norm", ("gradient norm",)),
    ("trainer and sampler apart, nats", ("mismatch", "mismatch max")),
    ("valid actions", ("valid actions",)),
    ("reply, tokens", ("reply tokens",)),
)
"""Title of each panel below the rewards, and the figures in it."""
_SUFFIXES = ("png", "pdf", "svg")


def draw(curve: Sequence[Mapping[str, Any]], path: Path, *, title: str = "") -> Path:
    """Draw the figures of every step to `path`; panels of what was not measured are left out.

    Where a figure was measured in some steps alone, such as `kl`, a dot stands at each of them.

    Raises:
        InputError: there is nothing to draw, or the format is not known.
        MissingExtra: matplotlib is not installed.
    """
    if not curve:
        raise InputError("this run has taken no step yet, so there is no curve to draw")
    Figure = canvas(path)
    panels = [(name, keys) for name, keys in PANELS if any(key in line for key in keys for line in curve)]
    rows = 1 + -(-len(panels) // 3)
    figure = Figure(figsize=(11, 2.6 * rows), layout="constrained")
    grid = figure.add_gridspec(rows, 3)
    _rewards(figure.add_subplot(grid[0, :2]), curve)
    _seconds(figure.add_subplot(grid[0, 2]), curve)
    for at, (name, keys) in enumerate(panels):
        _panel(figure.add_subplot(grid[1 + at // 3, at % 3]), curve, name, keys)
    places = _places(curve)
    for axes in figure.axes:  # one axis of steps, whatever was measured in which
        axes.set_xlim(places[0] - 0.5, places[-1] + 0.5)
    figure.suptitle(title)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    return path


def canvas(path: Path) -> Any:
    """What a picture at `path` is drawn on; asked before a run too, which must not end for want of it.

    Raises:
        InputError: the format is not known.
        MissingExtra: matplotlib is not installed.
    """
    if path.suffix[1:] not in _SUFFIXES:
        raise InputError(f"no picture format {path.suffix!r}; {closest(path.suffix[1:], _SUFFIXES)}")
    try:
        from matplotlib.figure import Figure
    except ImportError as cause:
        raise MissingExtra("draw", "drawing curves") from cause
    return Figure


def _places(curve: Sequence[Mapping[str, Any]]) -> list[int]:
    """Steps on one axis: those of the warm-up end at 0."""
    warmed = sum(line["phase"] == "warm-up" for line in curve)
    return [line["step"] - (warmed if line["phase"] == "warm-up" else 0) for line in curve]


def _rewards(axes: Any, curve: Sequence[Mapping[str, Any]]) -> None:
    cells = sorted({cell for line in curve for cell in line["reward"]})
    for cell in cells:
        known = [
            (x, line["reward"][cell]) for x, line in zip(_places(curve), curve, strict=True) if cell in line["reward"]
        ]
        steps = [x for x, _ in known]
        axes.plot(steps, [one["mean"] for _, one in known], label=f"{cell.rpartition('/')[0]}, seat {cell[-1]}")
        axes.fill_between(steps, [one["low"] for _, one in known], [one["high"] for _, one in known], alpha=0.2)
    axes.set_title("reward of an episode, 95 % interval", fontsize=9)
    axes.set_xlabel("step", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.3)
    if cells:
        axes.legend(fontsize=8)


def _seconds(axes: Any, curve: Sequence[Mapping[str, Any]]) -> None:
    kinds = ("play", "credit", "update", "publish")
    axes.stackplot(
        _places(curve), *([line["seconds"].get(kind, 0.0) for line in curve] for kind in kinds), labels=kinds, alpha=0.8
    )
    axes.set_title("seconds of a step", fontsize=9)
    axes.tick_params(labelsize=8)
    axes.set_ylim(top=1.3 * axes.get_ylim()[1])  # room for the legend
    axes.legend(fontsize=7, loc="upper left", ncols=len(kinds))


def _panel(axes: Any, curve: Sequence[Mapping[str, Any]], name: str, keys: Sequence[str]) -> None:
    for key in keys:
        known = [(x, line[key]) for x, line in zip(_places(curve), curve, strict=True) if key in line]
        if known:
            steps = [x for x, _ in known]
            # A line hides which of its points were measured, and a single one altogether.
            has_gaps = len(steps) == 1 or any(after - before > 1 for before, after in itertools.pairwise(steps))
            axes.plot(steps, [y for _, y in known], label=key, marker="o" if has_gaps else None, markersize=3)
    if any(line["phase"] == "warm-up" for line in curve):
        axes.axvline(0.5, color="grey", linewidth=0.8, linestyle=":")
    axes.set_title(name, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.3)
    if len(keys) > 1:
        axes.legend(fontsize=7)
