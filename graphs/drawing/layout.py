"""Where the nodes of a picture stand and which way its channels take. Pure geometry; nothing is drawn here.

A team is laid out in columns by stage. What passes a column has a place in it, so no line runs under a node; channels
out of one node share that place and part behind it. A stage with many nodes is folded into several columns.

Source: Sugiyama, Tagawa and Toda 1981, "Methods for visual understanding of hierarchical system structures", IEEE
    Transactions on Systems, Man, and Cybernetics 11(2): layers, dummy nodes, barycentres. Heights by isotonic
    regression (pool adjacent violators: Ayer et al. 1955, Annals of Mathematical Statistics 26(4)).
Deviation: layers are the stages of the schedule; cyclic channels are routed round the outside instead of reversed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil

from graphs.model import AgentGraph, Channel
from graphs.schedule import carried, stages

ROW, LANE = 1.0, 0.28
"""Height of a node's row, and of a line's that passes by."""
_TALLEST = 9
"""Nodes in a column before its stage is folded."""
_SWEEPS = 12

Place = str | tuple[str, int, bool]
"""A node, or (source, column, carried): where what a node says, now or for the next round, passes a column."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Places in units of rows, from the top, and columns, from the left."""

    columns: tuple[tuple[str, ...], ...]
    """Nodes of each column, top to bottom."""
    column_of: Mapping[str, int]
    height_of: Mapping[Place, float]
    """Distance of a place's middle from the top."""
    onward: tuple[tuple[Channel, tuple[Place, ...]], ...]
    """Channels that lead to a later column, and the places they pass, ends included."""
    returning: tuple[Channel, ...]
    """Channels that lead to the same or an earlier column."""
    height: float
    """Of the tallest column."""


def layout(graph: AgentGraph) -> Layout:
    """Places for a graph that passes `graphs.check`."""
    column_of = _columns(graph)
    order: list[list[Place]] = [[] for _ in range(max(column_of.values()) + 1)]
    for node_id, column in column_of.items():
        order[column].append(node_id)
    onward: list[tuple[Channel, tuple[Place, ...]]] = []
    later = set(carried(graph))
    for channel in graph.channels:
        first, last = column_of[channel.source], column_of[channel.target]
        if first < last:
            lanes: list[Place] = [(channel.source, column, channel in later) for column in range(first + 1, last)]
            onward.append((channel, (channel.source, *lanes, channel.target)))
    for lane in dict.fromkeys(place for _, places in onward for place in places if not isinstance(place, str)):
        order[lane[1]].append(lane)
    # Declared order is the order a person expects, so crossings are taken out of that and of no other.
    declared = {node.id: float(number) for number, node in enumerate(graph.nodes)}
    for stack in order:
        stack.sort(key=lambda place: declared[place if isinstance(place, str) else place[0]])
    beside: dict[Place, list[Place]] = {}
    for left, right in dict.fromkeys(step for _, places in onward for step in pairwise(places)):
        beside.setdefault(left, []).append(right)
        beside.setdefault(right, []).append(left)
    height_of = _heights(order, beside)
    top = min(height_of[place] - _half(place) for place in height_of)
    height_of = {place: height - top for place, height in height_of.items()}
    stacked = [sorted(column, key=lambda place: height_of[place]) for column in order]
    return Layout(
        columns=tuple(tuple(place for place in column if isinstance(place, str)) for column in stacked),
        column_of=column_of,
        height_of=height_of,
        onward=tuple(onward),
        returning=tuple(c for c in graph.channels if column_of[c.source] >= column_of[c.target]),
        height=max(height_of[place] + _half(place) for place in height_of),
    )


def _columns(graph: AgentGraph) -> dict[str, int]:
    """Column by node. Who waits for nobody stands just before whom it speaks to."""
    stage = {node_id: number for number, members in enumerate(stages(graph)) for node_id in members}
    later = set(carried(graph))
    waiting = {c.target for c in graph.channels if c not in later}
    in_cycle = {end for c in later for end in (c.source, c.target)}
    for node_id in stage:
        listeners = [stage[c.target] for c in graph.channels if c.source == node_id and c not in later]
        if listeners and node_id not in waiting | in_cycle:
            stage[node_id] = max(stage[node_id], min(listeners) - 1)
    column_of, first = {}, 0
    for number in sorted(set(stage.values())):
        members = [node.id for node in graph.nodes if stage[node.id] == number]
        folds = ceil(len(members) / _TALLEST)
        for position, node_id in enumerate(members):
            column_of[node_id] = first + position % folds
        first += folds
    return column_of


def _heights(order: list[list[Place]], beside: Mapping[Place, Sequence[Place]]) -> dict[Place, float]:
    """Heights at which channels are short and seldom cross."""
    heights: dict[Place, float] = {}
    for column in order:
        heights.update(_spread(column, [0.0] * len(column)))
    best, fewest = [list(column) for column in order], _crossings(order, beside, heights)
    for sweep in range(_SWEEPS):  # first the order: each place near the mean of its neighbours
        for column in order if sweep % 2 else reversed(order):
            wanted = {place: _mean([heights[other] for other in beside.get(place, [place])]) for place in column}
            column.sort(key=lambda place: (round(wanted[place], 6), heights[place]))
            heights.update(_spread(column, [wanted[place] for place in column]))
        if (crossings := _crossings(order, beside, heights)) < fewest:
            best, fewest = [list(column) for column in order], crossings
    for column in best:
        heights.update(_spread(column, [0.0] * len(column)))
    column_of = {place: number for number, column in enumerate(best) for place in column}
    for sweep in range(_SWEEPS):  # then the heights, the order kept: back from the listeners, on from the speakers
        on = sweep % 2 == 1
        for column in best if on else reversed(best):
            wanted = {}
            for place in column:
                others = [o for o in beside.get(place, ()) if (column_of[o] < column_of[place]) == on] or [place]
                wanted[place] = _mean([heights[other] for other in others])
            heights.update(_spread(column, [wanted[place] for place in column]))
    return heights


def _spread(column: Sequence[Place], wanted: Sequence[float]) -> dict[Place, float]:
    """Heights nearest to those wanted, in this order and far enough apart."""
    offsets, at = [], 0.0
    for position, place in enumerate(column):
        at += _half(column[position - 1]) + _half(place) if position else 0.0
        offsets.append(at)
    pools: list[tuple[float, int]] = []  # mean and size, means ascending
    for height, offset in zip(wanted, offsets, strict=True):
        mean, size = height - offset, 1
        while pools and pools[-1][0] >= mean:
            before, count = pools.pop()
            mean, size = (before * count + mean * size) / (count + size), count + size
        pools.append((mean, size))
    means = [mean for mean, size in pools for _ in range(size)]
    return {place: mean + offset for place, mean, offset in zip(column, means, offsets, strict=True)}


def _crossings(
    order: Sequence[Sequence[Place]], beside: Mapping[Place, Sequence[Place]], heights: Mapping[Place, float]
) -> int:
    crossings = 0
    for left, right in pairwise(order):
        here = set(right)
        ends = [(heights[a], heights[b]) for a in left for b in beside.get(a, ()) if b in here]
        crossings += sum((a - c) * (b - d) < 0 for i, (a, b) in enumerate(ends) for c, d in ends[:i])
    return crossings


def _half(place: Place) -> float:
    return (ROW if isinstance(place, str) else LANE) / 2


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
