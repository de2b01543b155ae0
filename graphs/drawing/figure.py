"""A team as a picture: PNG or SVG, made to be looked at.

The only module of this package that imports matplotlib, and it uses its objects alone: no window, no global state.
Reached through `graphs.drawing.figure`.
"""

import textwrap
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Patch, PathPatch, Polygon, Rectangle
from matplotlib.path import Path as Curve

from graphs.drawing.appearance import INK, LOOKS, QUIET, WIRE, heading, note, price
from graphs.drawing.layout import Layout, layout
from graphs.errors import InvalidFile
from graphs.model import AgentGraph, Channel, Node
from graphs.schedule import carried, cycles

Point = tuple[float, float]

ROW, COLUMN = 0.92, 2.75
"""Distance between rows and columns, in inches."""
WIDTH, HEIGHT = 1.75, 0.66
"""Of a node, in inches."""
_MARGIN, _TITLE, _LEGEND = 0.9, 0.85, 0.55
_LANE = 0.24
_PIXELS_PER_INCH, _MOST_PIXELS = 160, 8000
_SHORTEST_SIDE = 5.2


def draw(graph: AgentGraph, path: Path) -> None:
    """Draw `graph` into the PNG or SVG file at `path`.

    Raises:
        InvalidFile: when the suffix is neither, or the file cannot be written.
    """
    suffix = path.suffix.lower()
    if suffix not in (".png", ".svg"):
        raise InvalidFile(str(path), [f"unknown suffix {path.suffix!r}; a picture ends in .png or .svg"])
    picture = _Picture(graph).figure()
    try:
        if suffix == ".png":
            canvas: Any = FigureCanvasAgg(picture)  # matplotlib leaves the methods below without types
            canvas.print_png(path, metadata={"Software": "orchestra"})
        else:
            with matplotlib.rc_context({"svg.hashsalt": "orchestra"}):  # the same team gives the same file
                canvas = FigureCanvasSVG(picture)
                canvas.print_svg(path, metadata={"Date": None})
    except OSError as cause:
        raise InvalidFile(str(path), [f"cannot be written: {cause.strerror or cause}"]) from cause


class _Picture:
    """One drawing in the making; coordinates are inches from the lower left corner."""

    def __init__(self, graph: AgentGraph) -> None:
        self._graph = graph
        self._layout: Layout = layout(graph)
        self._later = set(carried(graph))
        self._lanes = [c for c in self._layout.returning if self._goes_round(c)]
        above = [c for c in self._lanes if self._is_high(c)]
        self._above = {c: number for number, c in enumerate(sorted(above, key=self._reach))}
        below = sorted((c for c in self._lanes if c not in self._above), key=self._reach)
        self._below = {c: number for number, c in enumerate(below)}
        columns = len(self._layout.columns)
        self._left = _MARGIN + (0.35 if self._has_arcs(0) else 0)
        self._floor = _LEGEND + 0.25 + _LANE * (len(self._below) + 1)
        self._ceiling = self._floor + self._layout.height * ROW
        self.height = self._ceiling + _LANE * (len(self._above) + 1) + _TITLE
        natural = self._left + (columns - 1) * COLUMN + WIDTH + _MARGIN
        self.width = max(natural, _SHORTEST_SIDE)
        self._left += (self.width - natural) / 2

    def figure(self) -> Figure:
        """The finished drawing."""
        picture = Figure(figsize=(self.width, self.height), dpi=self._pixels_per_inch(), facecolor="white")
        axes = picture.add_axes((0, 0, 1, 1))
        axes.set_xlim(0, self.width)
        axes.set_ylim(0, self.height)
        axes.set_axis_off()
        self._write_title(axes)
        self._shade_cycles(axes)
        for channel, places in self._layout.onward:
            self._draw_onward(axes, channel, places)
        self._draw_returning(axes)
        for node in self._graph.nodes:
            self._draw_node(axes, node)
        self._draw_ends(axes)
        self._write_legend(axes)
        return picture

    def _pixels_per_inch(self) -> float:
        return min(_PIXELS_PER_INCH, _MOST_PIXELS / max(self.width, self.height))

    # Places

    def _middle(self, place: str) -> Point:
        column = self._layout.column_of[place]
        return self._left + WIDTH / 2 + column * COLUMN, self._ceiling - self._layout.height_of[place] * ROW

    def _goes_round(self, channel: Channel) -> bool:
        return self._layout.column_of[channel.source] > self._layout.column_of[channel.target]

    def _has_arcs(self, column: int) -> bool:
        of = self._layout.column_of
        return any(of[c.source] == of[c.target] == column and c.source != c.target for c in self._layout.returning)

    def _is_high(self, channel: Channel) -> bool:
        heights = self._layout.height_of
        return heights[channel.source] + heights[channel.target] <= self._layout.height

    def _reach(self, channel: Channel) -> int:
        return self._layout.column_of[channel.source] - self._layout.column_of[channel.target]

    # Nodes

    def _draw_node(self, axes: Axes, node: Node) -> None:
        look, (x, y) = LOOKS[node.kind], self._middle(node.id)
        is_output = node.id == self._graph.output
        for patch in _outline(node.kind, x, y):
            patch.set(facecolor=look.fill, edgecolor=look.line, linewidth=2.6 if is_output else 1.2, zorder=4)
            axes.add_patch(patch)
        if node.kind == "tool":  # the stripe that tells a tool from an agent without colour
            stripe = Rectangle((x - WIDTH / 2, y - HEIGHT / 2), 0.09, HEIGHT, color=look.line, linewidth=0, zorder=5)
            axes.add_patch(stripe)
        below = note(node)
        lines = _wrapped(node.id, 20, 2 if below else 3)
        size = 9.5 if max(len(line) for line in lines) <= 17 else 8.2
        rise = 0.1 if below else 0.0
        name = "\n".join(lines)
        style: dict[str, Any] = {"ha": "center", "va": "center", "zorder": 6, "parse_math": False}
        axes.text(x, y + rise, name, fontsize=size, color=INK, fontweight="bold", linespacing=1.05, **style)
        if below:
            drop = 0.2 if len(lines) == 1 else 0.25
            axes.text(x, y - drop, _shortened(below, 30), fontsize=6.6, color=QUIET, **style)
        if node.price_usd is not None:
            self._draw_price(axes, price(node.price_usd), x + WIDTH / 2 - 0.12, y - HEIGHT / 2, look.line)

    def _draw_price(self, axes: Axes, text: str, right: float, y: float, colour: str) -> None:
        box = {
            "boxstyle": "round,pad=0.28,rounding_size=0.7",
            "facecolor": "white",
            "edgecolor": colour,
            "linewidth": 1,
        }
        axes.text(
            right, y, text, fontsize=7.4, color=INK, ha="right", va="center", bbox=box, zorder=7, parse_math=False
        )

    # Channels

    def _draw_onward(self, axes: Axes, channel: Channel, places: Sequence[Any]) -> None:
        (x, y), points = self._middle(channel.source), []
        points.append((x + WIDTH / 2, y))
        for place in places[1:-1]:
            # Between its ends a channel passes columns: every such `Place` is a (source, column, carried).
            column = place[1]
            height = self._ceiling - self._layout.height_of[place] * ROW
            start = self._left + column * COLUMN
            points += [(start, height), (start + WIDTH, height)]
        x, y = self._middle(channel.target)
        points.append((x - WIDTH / 2 - 0.03, y))
        self._draw_wire(axes, _smooth(points), channel)

    def _draw_returning(self, axes: Axes) -> None:
        drawn: set[frozenset[str]] = set()
        for channel in self._layout.returning:
            if channel.source == channel.target:
                self._draw_loop(axes, channel)
            elif self._goes_round(channel):
                self._draw_round(axes, channel)
            elif frozenset((channel.source, channel.target)) not in drawn:
                drawn.add(frozenset((channel.source, channel.target)))
                self._draw_arc(axes, channel)

    def _draw_arc(self, axes: Axes, channel: Channel) -> None:
        """Between two nodes of a column, on its left side; two heads where it leads both ways."""
        (x, y), (_, end) = self._middle(channel.source), self._middle(channel.target)
        back = next(
            (c for c in self._layout.returning if (c.source, c.target) == (channel.target, channel.source)), None
        )
        inwards = 0.17 if end > y else -0.17  # clear of where the task comes in
        y, end, side = y + inwards, end - inwards, x - WIDTH / 2
        bulge = _bulge(end - y)
        points = [(side, y), (side - bulge, y), (side - bulge, end), (side, end)]
        codes = [Curve.MOVETO, Curve.CURVE4, Curve.CURVE4, Curve.CURVE4]
        self._draw_wire(axes, Curve(points, codes), channel, both_ways=back is not None)

    def _draw_loop(self, axes: Axes, channel: Channel) -> None:
        x, y = self._middle(channel.source)
        top = y + HEIGHT / 2
        points = [(x + 0.32, top), (x + 0.5, top + 0.42), (x - 0.5, top + 0.42), (x - 0.32, top)]
        codes = [Curve.MOVETO, Curve.CURVE4, Curve.CURVE4, Curve.CURVE4]
        self._draw_wire(axes, Curve(points, codes), channel)

    def _draw_round(self, axes: Axes, channel: Channel) -> None:
        """To an earlier column: through the gutters, and over or under everything else."""
        high = channel in self._above
        number = self._above[channel] if high else self._below[channel]
        lane = self._ceiling + _LANE * (number + 0.6) if high else self._floor - _LANE * (number + 0.6)
        start, end = self._middle(channel.source), self._middle(channel.target)
        points = [*self._way_out(channel.source, start, high, number, 1)]
        points += [(points[-1][0], lane)]
        back = [*self._way_out(channel.target, end, high, number, -1)]
        points += [(back[-1][0], lane), *reversed(back)]
        self._draw_wire(axes, _rounded(points, 0.16), channel)

    def _way_out(self, node_id: str, middle: Point, high: bool, number: int, side: int) -> list[Point]:
        """From a node to where the way up or down is free: its own middle when it stands outermost, else the gutter."""
        column = self._layout.columns[self._layout.column_of[node_id]]
        x, y = middle
        passing = [
            height
            for place, height in self._layout.height_of.items()
            if not isinstance(place, str) and place[1] == self._layout.column_of[node_id]
        ]
        own = self._layout.height_of[node_id]
        outermost = node_id == (column[0] if high else column[-1])
        free = not any(height < own if high else height > own for height in passing)
        if outermost and free:
            shift = 0.14 * (number % 4) * side
            return [(x + side * 0.2 + shift, y + (HEIGHT / 2 if high else -HEIGHT / 2))]
        gap = 0.16 + 0.08 * (number % 4)
        rim = x + side * WIDTH / 2
        return [(rim, y + (0.12 if high else -0.12)), (rim + side * gap, y + (0.12 if high else -0.12))]

    def _draw_wire(self, axes: Axes, curve: Curve, channel: Channel, *, both_ways: bool = False) -> None:
        later = channel in self._later
        colour = LOOKS["router"].line if self._graph.node(channel.source).kind == "router" else WIRE
        crowded = len(self._graph.channels) > 40
        wire = PathPatch(
            curve,
            facecolor="none",
            edgecolor=colour,
            linewidth=0.9 if crowded else 1.3,
            linestyle=(0, (4, 2.5)) if later else "-",
            zorder=2,
        )
        axes.add_patch(wire)
        vertices = [(float(x), float(y)) for x, y in np.asarray(curve.vertices)]
        ends = [(vertices[-2], vertices[-1])]
        ends += [(vertices[1], vertices[0])] if both_ways else []
        for before, tip in ends:
            axes.add_patch(_head(before, tip, colour))

    # Everything else

    def _shade_cycles(self, axes: Axes) -> None:
        for cycle in cycles(self._graph):
            middles = [self._middle(member) for member in cycle]
            left, right = min(x for x, _ in middles) - WIDTH / 2 - 0.16, max(x for x, _ in middles) + WIDTH / 2 + 0.16
            low, high = min(y for _, y in middles) - HEIGHT / 2 - 0.15, max(y for _, y in middles) + HEIGHT / 2 + 0.15
            others = [self._middle(node.id) for node in self._graph.nodes if node.id not in cycle]
            if len(cycle) == 1 or any(left < x < right and low < y < high for x, y in others):
                continue  # a frame that held a stranger would say something false
            if len({x for x, _ in middles}) == 1:
                left -= _bulge(max(y for _, y in middles) - min(y for _, y in middles)) * 0.75
            box = FancyBboxPatch((left, low), right - left, high - low, boxstyle="round,pad=0,rounding_size=0.16")
            box.set(facecolor="#f4f6f9", edgecolor="#d5dbe3", linewidth=1, zorder=0)
            axes.add_patch(box)

    def _draw_ends(self, axes: Axes) -> None:
        """Where the task comes in, and where the answer goes out."""
        targets = {c.target for c in self._graph.channels if c not in self._later}
        for node in self._graph.nodes:
            if node.id not in targets:
                x, y = self._middle(node.id)
                self._draw_stub(axes, (x - WIDTH / 2 - 0.3, y), (x - WIDTH / 2 - 0.03, y))
                axes.plot([x - WIDTH / 2 - 0.3], [y], marker="o", markersize=3.6, color=INK, zorder=3)
        if any(node.id == self._graph.output for node in self._graph.nodes):
            x, y = self._middle(self._graph.output)
            self._draw_stub(axes, (x + WIDTH / 2, y), (x + WIDTH / 2 + 0.36, y))
            axes.text(x + WIDTH / 2 + 0.4, y, "answer", fontsize=7, color=INK, ha="left", va="center", zorder=6)

    def _draw_stub(self, axes: Axes, start: Point, end: Point) -> None:
        axes.plot([start[0], end[0]], [start[1], end[1]], color=INK, linewidth=1.3, zorder=3)
        axes.add_patch(_head(start, end, INK))

    def _write_title(self, axes: Axes) -> None:
        left = 0.3
        letters = max(20, int((self.width - 0.6) / 0.135))
        axes.text(left, self.height - 0.36, _shortened(self._graph.name, letters), fontsize=14, color=INK,
                  fontweight="bold", va="center", parse_math=False)  # fmt: skip
        about = _shortened(heading(self._graph), max(30, int((self.width - 0.6) / 0.073)))
        axes.text(left, self.height - 0.63, about, fontsize=8.5, color=QUIET, va="center", parse_math=False)

    def _write_legend(self, axes: Axes) -> None:
        x, y = 0.3, 0.3
        for kind, look in LOOKS.items():
            if any(node.kind == kind for node in self._graph.nodes):
                for patch in _outline(kind, x + 0.13, y, width=0.26, height=0.15):
                    patch.set(facecolor=look.fill, edgecolor=look.line, linewidth=1)
                    axes.add_patch(patch)
                axes.text(x + 0.33, y, kind, fontsize=7.5, color=QUIET, va="center_baseline")
                x += 0.45 + 0.075 * len(kind)
        x += 0.12
        axes.plot([x], [y], marker="o", markersize=3.6, color=INK)
        axes.text(x + 0.1, y, "hears the task first", fontsize=7.5, color=QUIET, va="center_baseline")
        x += 1.4
        if self._later:
            axes.plot([x, x + 0.36], [y, y], color=WIRE, linewidth=1.3, linestyle=(0, (4, 2.5)))
            axes.text(x + 0.43, y, "heard next round", fontsize=7.5, color=QUIET, va="center_baseline")


def _outline(kind: str, x: float, y: float, *, width: float = WIDTH, height: float = HEIGHT) -> Iterable[Patch]:
    """The shape of a node kind about a middle."""
    left, right, low, high = x - width / 2, x + width / 2, y - height / 2, y + height / 2
    cut = height * 0.3
    match kind:
        case "agent":
            style = f"round,pad=0,rounding_size={height * 0.32}"
            yield FancyBboxPatch((left, low), width, height, boxstyle=style)
        case "tool":
            yield Rectangle((left, low), width, height)
        case "vote":
            yield Polygon([(left, y), (left + cut, high), (right - cut, high), (right, y), (right - cut, low),
                           (left + cut, low)])  # fmt: skip
        case _:
            yield Polygon([(left, high), (right - cut, high), (right, y), (right - cut, low), (left, low)])


def _bulge(height: float) -> float:
    """How far an arc between two nodes of a column reaches to the left."""
    return min(0.34 + 0.16 * abs(height) / ROW, COLUMN - WIDTH - 0.2)


def _head(before: Point, tip: Point, colour: str) -> FancyArrowPatch:
    """An arrow head at `tip`, coming from `before`."""
    arrow = FancyArrowPatch(
        _towards(tip, before, 0.05), tip, arrowstyle="-|>,head_length=4.2,head_width=2.3", shrinkA=0, shrinkB=0
    )
    arrow.set(facecolor=colour, edgecolor=colour, linewidth=0.5, zorder=3)
    return arrow


def _smooth(points: Sequence[Point]) -> Curve:
    """A curve through `points` that is level at each of them."""
    vertices, codes = [points[0]], [Curve.MOVETO]
    for (x, y), (u, v) in pairwise(points):
        middle = (x + u) / 2
        vertices += [(middle, y), (middle, v), (u, v)]
        codes += [Curve.CURVE4] * 3
    return Curve(vertices, codes)


def _rounded(points: Sequence[Point], radius: float) -> Curve:
    """Straight lines between `points`, their corners rounded."""
    vertices, codes = [points[0]], [Curve.MOVETO]
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        vertices += [_towards(corner, before, radius), corner, _towards(corner, after, radius)]
        codes += [Curve.LINETO, Curve.CURVE3, Curve.CURVE3]
    return Curve([*vertices, points[-1]], [*codes, Curve.LINETO])


def _towards(start: Point, end: Point, distance: float) -> Point:
    length = ((end[0] - start[0]) ** 2 + (end[1] - start[1]) ** 2) ** 0.5
    share = min(0.5, distance / length) if length else 0.0
    return start[0] + (end[0] - start[0]) * share, start[1] + (end[1] - start[1]) * share


def _wrapped(name: str, width: int, most: int) -> list[str]:
    """`name` in at most so many lines, broken after its own separators where it has some."""
    spaced = "".join(f"{letter}\0" if letter in "-_." else letter for letter in _printable(name))
    lines = [""]
    for part in (piece for word in spaced.split("\0") for piece in textwrap.wrap(word, width) or [""]):
        if lines[-1] and len(lines[-1]) + len(part) > width:
            lines.append("")
        lines[-1] += part
    return lines if len(lines) <= most else [*lines[: most - 1], _shortened("".join(lines[most - 1 :]), width)]


def _shortened(text: str, width: int) -> str:
    line = " ".join(_printable(text).split())
    return line if len(line) <= width else f"{line[: width - 1].rstrip()}…"


def _printable(text: str) -> str:
    """`text` without letters that a picture cannot hold, such as control characters, which are no XML."""
    return "".join(letter if letter.isprintable() or letter.isspace() else "�" for letter in text)
