"""What no router can turn away, against every choice routers make."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from graphs import AgentGraph, AgentNode, Channel, RouterNode, Tool, check
from graphs.certainty import surely_run
from graphs.motifs import debate
from graphs.schedule import Progress, runs
from graphs.validation import problems

CHOOSER = Tool(name="choose", call="choose")


@st.composite
def graphs(draw):
    """Random runnable graphs of up to seven nodes, with cycles and routers."""
    size = draw(st.integers(1, 7))
    ids = [f"n{number}" for number in range(size)]
    pairs = draw(st.lists(st.tuples(st.integers(0, size - 1), st.integers(0, size - 1)), unique=True, max_size=10))
    routers = draw(st.sets(st.integers(0, size - 1), max_size=2))
    nodes = [RouterNode(id=i, call=CHOOSER) if n in routers else AgentNode(id=i) for n, i in enumerate(ids)]
    channels = [Channel(source=ids[a], target=ids[b]) for a, b in pairs]
    return AgentGraph(nodes=nodes, channels=channels, output=ids[-1], rounds=draw(st.integers(1, 3)))


def played(graph, data):
    """How often each node ran when routers chose at random."""
    progress, ran = Progress(graph), Counter()
    due = list(progress.start())
    while due:
        node = due.pop(data.draw(st.integers(0, len(due) - 1)))
        ran[node] += 1
        targets = sorted({c.target for c in graph.channels if c.source == node})
        router = isinstance(graph.node(node), RouterNode) and targets
        due += progress.deliver(node, data.draw(st.sets(st.sampled_from(targets))) if router else None)
    return ran


@given(graphs().filter(lambda graph: not problems(graph)), st.data())
def test_whatever_routers_choose_a_node_runs_as_often_as_is_sure_and_no_more_than_its_rounds(graph, data):
    ran = played(graph, data)
    if not ran[graph.output]:
        return  # that run has failed
    sure, most = surely_run(graph), runs(graph)
    assert all(sure.get(node.id, 0) <= ran[node.id] <= most[node.id] for node in graph.nodes)


def test_without_routers_it_is_exact():
    assert surely_run(debate(["a", "b"], rounds=3)) == {"agent-1": 3, "agent-2": 3, "judge": 1}


def test_behind_a_router_only_the_output_is_sure():
    nodes = [RouterNode(id="r", call=CHOOSER), *(AgentNode(id=i) for i in "abc")]
    pairs = [("r", "a"), ("r", "b"), ("a", "c"), ("b", "c")]
    graph = AgentGraph(nodes=nodes, channels=[Channel(source=s, target=t) for s, t in pairs], output="c")
    check(graph)
    assert surely_run(graph) == {"r": 1, "c": 1}
