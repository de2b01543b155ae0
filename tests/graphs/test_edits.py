import pytest

from graphs import AgentGraph, AgentNode, Channel, InvalidEdit, RouterNode, Sampling, Tool, VoteNode
from graphs.edits import (
    add_node,
    connect,
    disconnect,
    drop_node,
    rename_node,
    replace_node,
    set_model,
    set_output,
    set_role,
    set_rounds,
    set_sampling,
    set_tools,
    set_weights,
)

PAIR = AgentGraph(nodes=[AgentNode(id="a"), AgentNode(id="b")], channels=[Channel(source="a", target="b")], output="b")
VOTED = AgentGraph(
    nodes=[
        RouterNode(id="r", default=("a",)),
        AgentNode(id="a"),
        AgentNode(id="b"),
        VoteNode(id="v", weights={"a": 2}),
    ],
    channels=[Channel(source=s, target=t) for s, t in [("r", "a"), ("r", "b"), ("a", "v"), ("b", "v")]],
    output="v",
)


def test_an_edit_returns_a_new_graph_and_leaves_the_old_one():
    before = PAIR.model_copy(deep=True)
    add_node(PAIR, AgentNode(id="c"))
    assert before == PAIR


def test_what_is_added_can_be_taken_away_again():
    assert drop_node(add_node(PAIR, AgentNode(id="c")), "c") == PAIR
    assert disconnect(connect(PAIR, "b", "a", next_round=True), "b", "a") == PAIR
    assert rename_node(rename_node(VOTED, "a", "z"), "z", "a") == VOTED


def test_dropping_a_node_takes_its_channels_weights_and_defaults_along():
    less = drop_node(VOTED, "a")
    assert [(c.source, c.target) for c in less.channels] == [("r", "b"), ("b", "v")]
    assert less.node("v").weights == {}
    assert less.node("r").default == ()


def test_disconnecting_forgets_what_was_said_about_that_channel_only():
    assert disconnect(VOTED, "r", "a").node("r").default == ()
    assert disconnect(VOTED, "r", "a").node("v").weights == {"a": 2}
    assert disconnect(VOTED, "a", "v").node("v").weights == {}


def test_renaming_reaches_every_mention():
    renamed = rename_node(VOTED, "a", "z")
    assert renamed.node("v").weights == {"z": 2}
    assert renamed.node("r").default == ("z",)
    assert rename_node(VOTED, "v", "out").output == "out"


def test_settings_are_set_for_a_node_or_for_the_team():
    assert set_role(PAIR, "a", "critic").node("a").role == "critic"
    assert set_model(PAIR, "scripted").model == "scripted"
    assert set_model(PAIR, "scripted", "a").node("a").model == "scripted"
    assert set_sampling(PAIR, Sampling(top_k=5), "a").node("a").sampling.top_k == 5
    assert set_sampling(PAIR, None).sampling == Sampling()
    assert set_tools(PAIR, "a", [Tool(name="t", call="t")]).node("a").tools[0].name == "t"
    assert set_weights(VOTED, "v", {"b": 3}).node("v").weights == {"b": 3}
    assert set_output(PAIR, "a").output == "a"
    assert set_rounds(PAIR, 3).rounds == 3
    assert replace_node(PAIR, VoteNode(id="b")).node("b").kind == "vote"


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda: add_node(PAIR, AgentNode(id="a")), "there is a node 'a' already"),
        (lambda: drop_node(PAIR, "c"), "there is no node 'c'; there are: a, b"),
        (lambda: drop_node(PAIR, "b"), "'b' is the output; call set_output"),
        (lambda: rename_node(PAIR, "a", "b"), "there is a node 'b' already"),
        (lambda: connect(PAIR, "a", "b"), "there is a channel 'a' -> 'b' already"),
        (lambda: connect(PAIR, "a", "c"), "there is no node 'c'"),
        (lambda: disconnect(PAIR, "b", "a"), "there is no channel 'b' -> 'a'"),
        (lambda: set_role(VOTED, "v", "x"), "'v' is a vote node, which has no role"),
        (lambda: set_rounds(PAIR, 0), "a cycle runs at least once; got rounds=0"),
    ],
)
def test_an_edit_that_makes_no_sense_says_why(edit, message):
    with pytest.raises(InvalidEdit, match=message):
        edit()


def test_an_edit_checks_what_it_is_given():
    with pytest.raises(ValueError, match="should match pattern"):
        rename_node(PAIR, "a", "a b")
