import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphs import (
    RULES,
    AgentGraph,
    AgentNode,
    Channel,
    InvalidGraph,
    Progress,
    RouterNode,
    Tool,
    ToolNode,
    VoteNode,
    check,
    problems,
)


def team(*nodes, channels="", output="out", **rest):
    nodes = [AgentNode(id=node) if isinstance(node, str) else node for node in nodes]
    pairs = [word.replace(">>", ">").partition(">") for word in channels.split()]
    wires = [
        Channel(source=source, target=target, next_round=">>" in word)
        for (source, _, target), word in zip(pairs, channels.split(), strict=True)
    ]
    return AgentGraph(nodes=nodes, channels=wires, output=output, **rest)


def told(graph):
    return [(p.rule, p.where) for p in problems(graph)]


def test_a_team_of_one_has_no_problems():
    assert problems(team("out")) == ()
    check(team("out"))


@pytest.mark.parametrize(
    ("graph", "expected"),
    [
        (team(), [("no-nodes", "team")]),
        (team("out", "out"), [("duplicate-id", "out")]),
        (team("ouch"), [("unknown-output", "output")]),
        (team("out", channels="x>out"), [("unknown-node", "x -> out")]),
        (team("out", channels="out>x"), [("unknown-node", "out -> x")]),
        (team("a", "out", channels="a>out a>out"), [("duplicate-channel", "a -> out")]),
        (team("a", "out"), [("unheard-node", "a")]),
        (team("a", "b", "out", channels="a>out out>b"), [("unheard-node", "b")]),
        (team("a", "out", channels="a>out out>a"), [("no-entry", "a, out")]),
        (team("a", "b", "out", channels="a>b b>a b>out"), [("no-entry", "a, b"), ("unreached-node", "out")]),
        (team("a", "out", channels="a>>out"), [("no-next-round", "a -> out")]),
    ],
)
def test_each_defect_of_shape_is_told_once(graph, expected):
    assert told(graph) == expected


@pytest.mark.parametrize(
    "channels", ["out>out", "out>>out", "a>out out>>a", "a>>out out>>a", "a>b b>a b>out a>a t>a", "t>b a>b b>a b>out"]
)
def test_a_cycle_with_an_entry_is_sound(channels):
    ids = [i for i in ("t", "a", "b", "out") if i in channels.replace(">", " ").split()]
    assert problems(team(*ids, channels=channels)) == ()


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ("{task} {messages}", None),
        ("{{literal}} {task}", None),
        ("{messages}", None),
        ("{taks}", "layout names {taks}; it may name {task} and {messages}"),
        ("{} {task}", "layout names {}"),
        ("{task.x}", "layout names {task.x}"),
        ("{task!r}", "layout formats {task}"),
        ("{task:>10}", "layout formats {task}"),
        ("{task", "a brace too many or too few"),
        ("no placeholder", "neither {task} nor {messages}"),
    ],
)
def test_layouts_name_the_task_and_the_messages_only(layout, message):
    found = [p.message for p in problems(team(AgentNode(id="out", layout=layout)))]
    assert len(found) == (message is not None)
    assert all(message in text for text in found)


@pytest.mark.parametrize(
    ("vote", "message"),
    [
        (VoteNode(id="out", weights={"a": 0.5}), None),
        (VoteNode(id="out", extract="pattern", pattern=r"answer: (\w+)"), None),
        (VoteNode(id="out", weights={"b": 1}), "weight for 'b', which it does not hear; there are: a"),
        (VoteNode(id="out", weights={"a": -1}), "weight -1.0 of 'a' must be a number from 0"),
        (VoteNode(id="out", weights={"a": float("nan")}), "weight nan of 'a'"),
        (VoteNode(id="out", weights={"a": 0}), "every voter has weight 0"),
        (VoteNode(id="out", extract="pattern"), "there is no pattern"),
        (VoteNode(id="out", pattern="x"), "extract is 'whole'"),
        (VoteNode(id="out", extract="pattern", pattern="("), "is not a regular expression"),
    ],
)
def test_votes_weigh_whom_they_hear_and_know_an_answer(vote, message):
    found = [p.message for p in problems(team("a", vote, channels="a>out"))]
    assert len(found) == (message is not None)
    assert all(message in text for text in found)


def test_a_vote_that_hears_nobody_is_told():
    assert told(team(VoteNode(id="out"))) == [("bad-vote", "out")]


@pytest.mark.parametrize(
    ("router", "channels", "message"),
    [
        (RouterNode(id="r", default=("out",)), "r>out", None),
        (RouterNode(id="r", default=("ou",)), "r>out", "default 'ou' is not the target of a channel of its; did you"),
        (RouterNode(id="r", default=("out", "out")), "r>out", "default names 'out' 2 times"),
        (RouterNode(id="r", call=Tool(name="f", call="f"), role="x"), "r>out", "a function and settings for a model"),
    ],
)
def test_routers_choose_among_their_channels(router, channels, message):
    found = [p.message for p in problems(team(router, "out", channels=channels))]
    assert len(found) == (message is not None)
    assert all(message in text for text in found)


def test_a_router_without_channels_is_told():
    assert told(team(RouterNode(id="out"))) == [("bad-router", "out")]


def test_tools_need_different_names_and_a_call_that_says_where():
    twice = AgentNode(id="a", tools=(Tool(name="f", call="m:f"), Tool(name="f", call="plug-in")))
    lost = ToolNode(id="b", tool=Tool(name="g", call="m.py:g:h"))
    assert told(team(twice, lost, "out", channels="a>out b>out")) == [("bad-tool", "a"), ("bad-tool", "b")]


def test_every_problem_is_reported_at_once():
    graph = team(
        AgentNode(id="writer", layout="{x}"),
        AgentNode(id="critic"),
        VoteNode(id="count"),
        RouterNode(id="route"),
        channels="writer>critc writer>count writer>count",
        output="countt",
    )
    with pytest.raises(InvalidGraph) as caught:
        check(graph)
    assert str(caught.value) == (
        "the agent graph is not runnable:\n"
        "  - [unknown-output] output: there is no node 'countt'; did you mean 'count'?\n"
        "  - [unknown-node] writer -> critc: there is no node 'critc'; did you mean 'critic'?\n"
        "  - [duplicate-channel] writer -> count: 2 channels lead the same way and would carry the same message twice;"
        " keep one\n"
        "  - [bad-layout] writer: layout names {x}; it may name {task} and {messages}; write {{ for a brace itself\n"
        "  - [bad-router] route: no channel leads out of it; add one for each choice"
    )


def test_the_error_survives_pickling_with_its_problems():
    error = InvalidGraph(problems(team()))
    assert pickle.loads(pickle.dumps(error)).problems == error.problems


def test_every_rule_says_what_it_holds():
    assert all(rule.__doc__ for rule in RULES)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 5), st.booleans()), max_size=12), st.integers(0, 5))
def test_rules_never_fail_and_a_sound_graph_lets_its_output_speak(wires, output):
    channels = [Channel(source=f"n{a}", target=f"n{b}", next_round=later) for a, b, later in wires]
    graph = AgentGraph(nodes=[AgentNode(id=f"n{i}") for i in range(5)], channels=channels, output=f"n{output}")
    if not problems(graph):
        progress = Progress(graph)
        due = list(progress.start())
        while due:
            due += progress.deliver(due.pop())
        assert graph.output in progress.spoken


@pytest.mark.parametrize("call", ["tools:add", "a.b:Type.method", "plug-in", "person", "mcp:clock/now", "mcp:a-b/c.d"])
def test_a_call_names_a_function_a_plug_in_or_a_tool_of_a_server(call):
    team = AgentGraph(nodes=(ToolNode(id="t", tool=Tool(name="t", call=call)),), output="t")
    assert problems(team) == ()


@pytest.mark.parametrize(
    ("tool", "message"),
    [
        (Tool(name="boss", call="Person"), "did you mean 'person'"),
        (Tool(name="boss", call="person", takes="messages"), "who reads text"),
    ],
)
def test_a_person_is_spelt_as_such_and_reads_text(tool, message):
    (problem,) = problems(AgentGraph(nodes=(ToolNode(id="t", tool=tool),), output="t"))
    assert message in str(problem)


def test_a_model_cannot_write_the_messages_that_a_node_function_takes():
    tool = Tool(name="t", call="a:b", takes="messages")
    (problem,) = problems(AgentGraph(nodes=(AgentNode(id="a", tools=(tool,)),), output="a"))
    assert "make it a tool node" in str(problem)
