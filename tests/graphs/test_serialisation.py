import json
from pathlib import Path

import networkx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphs import AgentGraph, AgentNode, Channel, InvalidFile, InvalidGraph, Provenance, Sampling, Tool, read, write
from graphs.model import RouterNode, ToolNode, VoteNode
from graphs.serialisation import from_json, from_networkx, from_yaml, json_schema, to_json, to_networkx, to_yaml

GOLDEN = Path(__file__).parents[1] / "golden" / "graphs"

ids = st.from_regex(r"[A-Za-z0-9_.\-]{1,8}", fullmatch=True)
prices = st.none() | st.decimals(0, 10**6, allow_nan=False, allow_infinity=False)
tools = st.builds(Tool, name=st.text(min_size=1, max_size=5), call=st.just("m:f"), description=st.text(max_size=9))
samplings = st.builds(
    Sampling,
    temperature=st.floats(0, 2),
    top_p=st.floats(0, 1, exclude_min=True),
    top_k=st.integers(0, 99),
    stop=st.lists(st.text(max_size=4), max_size=2),
)
nodes = st.one_of(
    st.builds(
        AgentNode,
        id=ids,
        role=st.text(),
        layout=st.text(),
        model=st.none() | st.text(),
        tools=st.lists(tools, max_size=2),
        sampling=st.none() | samplings,
        memory=st.sampled_from(["none", "transcript"]),
        price_usd=prices,
        component=st.none() | st.text(),
    ),
    st.builds(ToolNode, id=ids, tool=tools, price_usd=prices),
    st.builds(
        VoteNode,
        id=ids,
        extract=st.sampled_from(["whole", "last-line", "last-number", "pattern"]),
        pattern=st.none() | st.text(),
        weights=st.dictionaries(ids, st.floats(allow_nan=False)),
    ),
    st.builds(RouterNode, id=ids, call=st.none() | tools, default=st.lists(ids, max_size=2)),
)
provenances = st.none() | st.builds(Provenance, composer=st.text(), seed=st.none() | st.integers(), price_usd=prices)
graphs = st.builds(
    AgentGraph,
    name=st.text(),
    model=st.none() | st.text(),
    sampling=samplings,
    nodes=st.lists(nodes, max_size=4),
    channels=st.lists(st.builds(Channel, source=ids, target=ids, next_round=st.booleans()), max_size=4),
    output=ids,
    rounds=st.integers(1, 9),
    provenance=provenances,
)


@st.composite
def joined_graphs(draw):
    """Graphs whose channels join nodes of theirs, each way at most once."""
    graph = draw(graphs)
    unique = {node.id: node for node in graph.nodes}
    pairs = draw(st.sets(st.tuples(st.sampled_from(list(unique)), st.sampled_from(list(unique))))) if unique else ()
    channels = [Channel(source=a, target=b, next_round=draw(st.booleans())) for a, b in pairs]
    return graph.model_copy(update={"nodes": tuple(unique.values()), "channels": tuple(channels)})


@given(graphs)
def test_any_graph_survives_json_and_yaml(graph):
    assert from_json(to_json(graph)) == graph
    assert from_yaml(to_yaml(graph)) == graph


@given(joined_graphs())
def test_any_joined_graph_survives_networkx_and_its_json(graph):
    drawn = to_networkx(graph)
    assert from_networkx(drawn) == graph
    plain = json.loads(json.dumps(networkx.node_link_data(drawn, edges="edges")))
    assert from_networkx(networkx.node_link_graph(plain, edges="edges")) == graph


@settings(max_examples=20)
@given(graph=graphs, suffix=st.sampled_from([".yaml", ".yml", ".json"]))
def test_any_graph_survives_a_file(graph, suffix, tmp_path_factory):
    path = tmp_path_factory.mktemp("teams") / f"team{suffix}"
    write(graph, path)
    assert read(path) == graph


def test_networkx_refuses_what_it_would_lose():
    twice = AgentGraph(nodes=[AgentNode(id="a"), AgentNode(id="a")], channels=[], output="a")
    with pytest.raises(InvalidGraph, match="duplicate-id"):
        to_networkx(twice)


def test_a_networkx_graph_of_names_becomes_a_team_of_agents():
    graph = from_networkx(networkx.DiGraph([("a", "b"), ("b", "c")], output="c"))
    assert [node.kind for node in graph.nodes] == ["agent"] * 3
    assert graph.channels == (Channel(source="a", target="b"), Channel(source="b", target="c"))


def test_a_networkx_graph_with_mistakes_is_told():
    drawn = networkx.DiGraph(output="a")
    drawn.add_node("a", rol="x")
    with pytest.raises(InvalidFile, match=r"networkx graph: nodes\[0\] \(a\).rol: unknown key 'rol'; did you mean"):
        from_networkx(drawn)


def test_the_schema_names_every_kind_of_node():
    assert set(json_schema()["$defs"]) >= {"AgentNode", "ToolNode", "VoteNode", "RouterNode", "Channel"}


def test_a_team_file_of_version_one_still_reads_and_is_written_alike():
    text = (GOLDEN / "team-v1.yaml").read_text()
    graph = read(GOLDEN / "team-v1.yaml")
    assert [node.kind for node in graph.nodes] == ["agent", "tool", "agent", "router", "vote"]
    assert to_yaml(graph) == text
    assert from_json((GOLDEN / "team-v1.json").read_text()) == graph
