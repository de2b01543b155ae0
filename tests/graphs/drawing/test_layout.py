import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphs import MOTIFS, AgentGraph, AgentNode, Channel
from graphs.drawing.layout import LANE, ROW, layout


@st.composite
def drawn_graphs(draw):
    size = draw(st.integers(1, 30))
    wires = draw(st.sets(st.tuples(st.integers(0, size - 1), st.integers(0, size - 1)), max_size=40))
    return AgentGraph(
        nodes=[AgentNode(id=f"n{i}") for i in range(size)],
        channels=[Channel(source=f"n{a}", target=f"n{b}") for a, b in sorted(wires)],
        output="n0",
    )


def half(place):
    return (ROW if isinstance(place, str) else LANE) / 2


@given(drawn_graphs())
def test_nothing_in_a_column_overlaps_and_no_line_runs_under_a_node(graph):
    found = layout(graph)
    columns = {}
    for place in found.height_of:
        column = found.column_of[place] if isinstance(place, str) else place[1]
        columns.setdefault(column, []).append(place)
    for places in columns.values():
        places.sort(key=lambda place: found.height_of[place])
        for above, below in itertools.pairwise(places):
            assert found.height_of[below] - found.height_of[above] >= half(above) + half(below) - 1e-9


@given(drawn_graphs())
def test_every_node_and_every_channel_has_its_place(graph):
    found = layout(graph)
    assert sorted(n for column in found.columns for n in column) == sorted(n.id for n in graph.nodes)
    assert len(found.onward) + len(found.returning) == len(graph.channels)
    for channel, places in found.onward:
        assert (places[0], places[-1]) == (channel.source, channel.target)
        assert len(places) == found.column_of[channel.target] - found.column_of[channel.source] + 1


@pytest.mark.parametrize("motif", ["star", "chain", "tree", "vote"])
def test_where_nothing_need_cross_nothing_does(motif):
    found = layout(MOTIFS[motif]([""] * 20))
    lines = [list(itertools.pairwise(places)) for _, places in found.onward]
    column = {p: found.column_of[p] if isinstance(p, str) else p[1] for p in found.height_of}
    steps = sorted({step for line in lines for step in line}, key=str)
    for (a, b), (c, d) in itertools.combinations(steps, 2):
        if column[a] == column[c]:
            height = found.height_of
            assert (height[a] - height[c]) * (height[b] - height[d]) >= -1e-9


def test_a_big_stage_is_folded_so_that_the_picture_stays_in_proportion():
    found = layout(MOTIFS["star"]([""] * 29))
    assert max(len(column) for column in found.columns) <= 9
    assert found.height < 15


def test_who_waits_for_nobody_stands_next_to_whom_it_speaks_to():
    channels = [("a", "b"), ("b", "c"), ("t", "c")]
    graph = AgentGraph(
        nodes=[AgentNode(id=i) for i in "abct"], channels=[Channel(source=s, target=t) for s, t in channels], output="c"
    )
    assert layout(graph).columns == (("a",), ("b", "t"), ("c",))
