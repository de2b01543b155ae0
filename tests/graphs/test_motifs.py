import pytest

from graphs import MOTIFS, AgentNode, Tool, ToolNode, VoteNode, problems
from graphs.schedule import runs, stages


def tool(name):
    return ToolNode(id=name, tool=Tool(name=name, call=f"tools:{name}"))


def wires(graph):
    return {(c.source, c.target) for c in graph.channels}


REFUSED = {("solo", size, head) for size in (2, 3, 5, 8) for head in (None, "head")}
REFUSED |= {("solo", 1, "head"), ("debate", 1, None), ("debate", 1, "head")}
SHAPES = [(name, size, head) for name in sorted(MOTIFS) for size in (1, 2, 3, 5, 8) for head in (None, "head")]


@pytest.mark.parametrize(("name", "size", "head"), [shape for shape in SHAPES if shape not in REFUSED])
@pytest.mark.parametrize("tools", [(), ("calc", "dates")])
def test_every_motif_of_sound_members_can_run_and_seats_them_all(name, size, head, tools):
    node = head and (VoteNode(id=head) if name == "vote" else AgentNode(id=head))
    graph = MOTIFS[name]([*map(tool, tools), *["role"] * size], head=node)
    assert problems(graph) == ()
    assert sum(node.kind == "agent" and node.role == "role" for node in graph.nodes) == size
    agents = [n.id for n in graph.nodes if n.kind == "agent"]
    assert {(t, a) for t in tools for a in agents} <= wires(graph)


def test_a_solo_is_one_agent_hearing_its_tools():
    graph = MOTIFS["solo"]([tool("calc"), tool("dates")])
    assert stages(graph) == (("calc", "dates"), ("agent",))
    assert graph.output == "agent"


def test_a_solo_of_nothing_is_the_bare_model():
    assert [node.id for node in MOTIFS["solo"]([]).nodes] == ["agent"]


def test_a_chain_hands_on():
    assert wires(MOTIFS["chain"](["a", "b", "c"])) == {("agent-1", "agent-2"), ("agent-2", "agent-3")}


def test_a_star_has_a_supervisor_who_hears_all():
    graph = MOTIFS["star"](["a", "b"])
    assert wires(graph) == {("agent-1", "supervisor"), ("agent-2", "supervisor")}
    assert graph.output == "supervisor"


def test_a_tree_has_its_first_member_at_the_root():
    graph = MOTIFS["tree"]([""] * 7)
    assert graph.output == "agent-1"
    assert [len(stage) for stage in stages(graph)] == [4, 2, 1]


def test_in_a_debate_every_agent_speaks_in_both_rounds_and_the_judge_once():
    assert runs(MOTIFS["debate"](["a", "b", "c"])) == {"agent-1": 2, "agent-2": 2, "agent-3": 2, "judge": 1}


def test_a_vote_needs_no_further_model():
    assert MOTIFS["vote"](["a", "b", "c"]).nodes[-1].kind == "vote"


def test_a_relay_runs_round_after_round_before_its_head():
    graph = MOTIFS["relay"](["a", "b"], head=AgentNode(id="end"), rounds=3)
    assert runs(graph) == {"agent-1": 3, "agent-2": 3, "end": 1}


def test_a_layered_team_has_two_layers_and_an_aggregator():
    assert [len(stage) for stage in stages(MOTIFS["layered"]([""] * 5))] == [3, 2, 1]


def test_in_a_complete_team_each_hears_all_before_it():
    assert len(MOTIFS["complete"]([""] * 6).channels) == 15


def test_settings_are_those_of_the_team():
    graph = MOTIFS["chain"](["a"], name="mine", model="scripted", rounds=4)
    assert (graph.name, graph.model, graph.rounds) == ("mine", "scripted", 4)


def test_given_nodes_keep_their_ids_and_new_ones_avoid_them():
    graph = MOTIFS["star"]([AgentNode(id="agent-1"), "x", AgentNode(id="supervisor")])
    assert [node.id for node in graph.nodes] == ["agent-1", "agent-2", "supervisor", "supervisor-2"]


@pytest.mark.parametrize(
    ("name", "members", "head", "message"),
    [
        ("solo", ["a", "b"], None, "a solo is one agent with its tools; got 2"),
        ("chain", [], None, "a chain needs at least one agent"),
        ("debate", ["a"], None, "a debate needs two agents or more; got 1"),
        ("vote", ["a"], AgentNode(id="x"), "the head of a vote is a vote node, not .* like 'x'; use star"),
        ("star", [AgentNode(id="x"), AgentNode(id="x")], None, r"are called \['x'\]; give each its own id"),
    ],
)
def test_a_motif_says_what_it_needs(name, members, head, message):
    with pytest.raises(ValueError, match=message):
        MOTIFS[name](members, head=head)
