import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphs import MOTIFS, AgentGraph, AgentNode, Channel, InvalidGraph, Provenance, RouterNode, VoteNode, content_hash
from graphs.edits import rename_node, set_role
from graphs.identity import canonical_form, key
from graphs.schedule import carried


@st.composite
def small_graphs(draw, most=5):
    size = draw(st.integers(1, most))
    pairs = list(itertools.product(range(size), repeat=2))
    wires = draw(st.lists(st.sampled_from(pairs), unique=True, max_size=2 * size))
    roles = draw(st.lists(st.sampled_from(["", "critic"]), min_size=size, max_size=size))
    later = draw(st.sets(st.integers(0, 2 * size)))
    return AgentGraph(
        nodes=[AgentNode(id=f"n{i}", role=role) for i, role in enumerate(roles)],
        channels=[Channel(source=f"n{a}", target=f"n{b}", next_round=i in later) for i, (a, b) in enumerate(wires)],
        output=f"n{draw(st.integers(0, size - 1))}",
    )


def renumbered(graph, order):
    """`graph` with other ids, its carrying channels marked, and everything written down in another order."""
    name = {node.id: f"m{order[i]}" for i, node in enumerate(graph.nodes)}
    nodes = [node.model_copy(update={"id": name[node.id]}) for node in graph.nodes]
    later = set(carried(graph))
    channels = [Channel(source=name[c.source], target=name[c.target], next_round=c in later) for c in graph.channels]
    channels.sort(key=lambda c: (c.target, c.source))
    return graph.model_copy(
        update={
            "nodes": tuple(sorted(nodes, key=lambda node: node.id)),
            "channels": tuple(channels),
            "output": name[graph.output],
        }
    )


def described(graph, order):
    """Everything that counts about `graph` once its nodes are numbered by `order`."""
    at = {node.id: order[i] for i, node in enumerate(graph.nodes)}
    later = set(carried(graph))
    labels = sorted((at[node.id], node.role) for node in graph.nodes)
    return labels, sorted((at[c.source], at[c.target], c in later) for c in graph.channels), at[graph.output]


def same_by_trying_all(one, other):
    if len(one.nodes) != len(other.nodes):
        return False
    orders = list(itertools.permutations(range(len(one.nodes))))
    wanted = described(other, orders[0])
    return any(described(one, order) == wanted for order in orders)


@settings(max_examples=25)
@given(small_graphs(), st.randoms(use_true_random=False))
def test_the_form_is_the_same_under_every_renumbering(graph, rng):
    orders = list(itertools.permutations(range(len(graph.nodes))))
    assert {canonical_form(renumbered(graph, order)) for order in orders} == {canonical_form(graph)}


@settings(max_examples=3)
@given(small_graphs(most=7).filter(lambda graph: len(graph.nodes) == 7), st.randoms(use_true_random=False))
def test_seven_nodes_under_many_renumberings(graph, rng):
    orders = rng.sample(list(itertools.permutations(range(7))), 100)
    assert {key(renumbered(graph, order)) for order in orders} == {key(graph)}


def test_seven_nodes_under_all_renumberings():
    rng = random.Random(0)
    pairs = rng.sample(list(itertools.permutations(range(7), 2)), 12)
    channels = [Channel(source=f"n{a}", target=f"n{b}") for a, b in pairs]
    graph = AgentGraph(nodes=[AgentNode(id=f"n{i}") for i in range(7)], channels=channels, output="n0")
    assert len({key(renumbered(graph, order)) for order in itertools.permutations(range(7))}) == 1


@given(small_graphs(), small_graphs())
def test_two_graphs_have_one_form_exactly_when_some_renumbering_makes_them_equal(one, other):
    assert (canonical_form(one) == canonical_form(other)) == same_by_trying_all(one, other)


def test_all_small_graphs_fall_into_as_many_forms_as_trying_all_finds():
    pairs = list(itertools.permutations(range(3), 2))
    forms, classes = set(), []
    for count in range(len(pairs) + 1):
        for wires in itertools.combinations(pairs, count):
            channels = [Channel(source=f"n{a}", target=f"n{b}", next_round=True) for a, b in wires]
            graph = AgentGraph(nodes=[AgentNode(id=f"n{i}") for i in range(3)], channels=channels, output="n0")
            forms.add(canonical_form(graph))
            if not any(same_by_trying_all(graph, seen) for seen in classes):
                classes.append(graph)
    assert len(forms) == len(classes)


def test_graphs_that_refinement_cannot_tell_apart_have_different_forms():
    ring = [(i, (i + 1) % 6) for i in range(6)]
    triangles = [(0, 1), (1, 2), (2, 0), (3, 4), (4, 5), (5, 3)]

    def form(wires):
        nodes = [AgentNode(id=f"n{i}") for i in range(6)] + [AgentNode(id="out", role="head")]
        both = [*wires, *((b, a) for a, b in wires)]
        channels = [Channel(source=f"n{a}", target=f"n{b}", next_round=True) for a, b in both]
        channels += [Channel(source=f"n{i}", target="out") for i in range(6)]
        return canonical_form(AgentGraph(nodes=nodes, channels=channels, output="out"))

    assert form(ring) != form(triangles)


@pytest.mark.parametrize("motif", sorted(set(MOTIFS) - {"solo"}))
def test_thirty_alike_agents_are_told_alike_without_trying_every_order(motif):
    graph = MOTIFS[motif]([""] * 29)
    order = list(range(len(graph.nodes)))
    random.Random(1).shuffle(order)
    assert key(renumbered(graph, order)) == key(graph)


def test_parallel_chains_are_told_alike_without_trying_every_order():
    def rows(names):
        channels = [Channel(source=f"{n}{i}", target=f"{n}{i + 1}") for n in names for i in range(2)]
        channels += [Channel(source=f"{n}2", target="out") for n in names]
        nodes = [AgentNode(id=f"{n}{i}") for n in names for i in range(3)]
        return AgentGraph(nodes=[*nodes, AgentNode(id="out")], channels=channels, output="out")

    assert key(rows("abcdefgh")) == key(rows("hgfedcba")) != key(rows("abcdefg"))


def test_weights_and_defaults_follow_their_nodes():
    def voted(heavy):
        vote = VoteNode(id="v", weights={heavy: 2})
        router = RouterNode(id="r", default=(heavy,))
        channels = [("r", "a"), ("r", "b"), ("a", "v"), ("b", "v")]
        return AgentGraph(
            nodes=[router, AgentNode(id="a"), AgentNode(id="b", role="other"), vote],
            channels=[Channel(source=s, target=t) for s, t in channels],
            output="v",
        )

    assert key(voted("a")) != key(voted("b"))
    assert key(voted("a")) == key(rename_node(voted("a"), "a", "z"))


def test_a_graph_that_cannot_be_numbered_has_no_form():
    with pytest.raises(InvalidGraph):
        canonical_form(AgentGraph(nodes=[AgentNode(id="a"), AgentNode(id="a")], output="a"))


def test_the_content_hash_leaves_out_where_a_team_came_from_and_nothing_else():
    graph = AgentGraph(nodes=[AgentNode(id="a")], output="a")
    bought = graph.model_copy(update={"provenance": Provenance(composer="identity")})
    assert content_hash(bought) == content_hash(graph)
    assert content_hash(set_role(graph, "a", "x")) != content_hash(graph)
    assert content_hash(rename_node(graph, "a", "b")) != content_hash(graph)
    assert content_hash(graph.model_copy(update={"name": "other"})) != content_hash(graph)


def test_the_content_hash_is_the_same_in_every_version():
    graph = AgentGraph(nodes=[AgentNode(id="a", price_usd="3.0")], output="a")
    assert content_hash(graph) == "d7f5c91402c36f00b28c47594ef46bb17f5dd2b5f9f7406b984cc75cb3a952ba"
