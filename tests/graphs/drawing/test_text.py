from pathlib import Path

from graphs import AgentGraph, AgentNode, Channel, read
from graphs.drawing import dot, mermaid

GOLDEN = Path(__file__).parents[2] / "golden" / "graphs"


def test_mermaid_is_as_it_was():
    assert mermaid(read(GOLDEN / "team-v1.yaml")) == (GOLDEN / "team-v1.mmd").read_text()


def test_dot_is_as_it_was():
    assert dot(read(GOLDEN / "team-v1.yaml")) == (GOLDEN / "team-v1.dot").read_text()


def test_names_that_mean_something_to_mermaid_are_only_labels():
    graph = AgentGraph(nodes=[AgentNode(id="end"), AgentNode(id="a.b-c", model='x"y<z>#')], output="end")
    assert 'n0("end")' in mermaid(graph)
    assert 'n1("a.b-c<br/>x#quot;y#lt;z#gt;#35;")' in mermaid(graph)


def test_quotes_in_a_name_do_not_end_a_dot_string():
    graph = AgentGraph(name='say "hi"\\', nodes=[AgentNode(id="a")], output="a")
    assert dot(graph).startswith('digraph "say \\"hi\\"\\\\" {')


def test_a_channel_heard_in_the_next_round_is_dashed_in_both():
    channels = [Channel(source="a", target="b"), Channel(source="b", target="a"), Channel(source="t", target="a")]
    graph = AgentGraph(nodes=[AgentNode(id=i) for i in "tab"], channels=channels, output="b")
    assert "n2 -.-> n1" in mermaid(graph)
    assert '"b" -> "a" [style=dashed' in dot(graph)
