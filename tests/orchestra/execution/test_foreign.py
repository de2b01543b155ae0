"""LangGraph applications read as agent graphs say what they said before."""

import importlib
import operator
import random
import re
import sys
import textwrap
from itertools import pairwise
from typing import Annotated, TypedDict

import pytest
from langchain_core.messages import AIMessage
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.managed import RemainingSteps
from langgraph.store.memory import InMemoryStore
from langgraph.types import CachePolicy, RetryPolicy

from orchestra.errors import InputError
from orchestra.execution import Runtime, Settings
from orchestra.execution.foreign import from_langgraph
from orchestra.traces.store import Store

NODES = """
    import asyncio

    def _speaker(name):
        def speak(state):
            heard = " ".join(message.content for message in state["messages"])
            return {"messages": [("ai", f"{name}({len(heard)}:{len(state['messages'])})")]}
        speak.__name__ = speak.__qualname__ = name
        return speak

    a, b, c, d, e, f = (_speaker(name) for name in "abcdef")

    async def later(state):
        await asyncio.sleep(0.01)
        return {"messages": ("ai", "later")}

    def silent(state):
        return {}

    def count(state):
        return {"messages": [("ai", str(len(state["messages"])))]}

    def enough(state):
        return "__end__" if int(state["messages"][-1].content) > 6 else "more"

    def more(state):
        return {"messages": [("ai", "more")]}

    def left_or_right(state):
        return "b" if "left" in state["messages"][0].content else "c"

    def loud(state):
        raise RuntimeError("no licence")

    def configured(state, config):
        return {}

    def writing(state, *, writer):
        return {}

    def ruled(state, runtime):
        return "b"

    class Held:
        def method(self, state):
            return {}
"""


@pytest.fixture
def app(tmp_path, monkeypatch):
    """A module of node functions that any process can import."""
    (tmp_path / "strangers.py").write_text(textwrap.dedent(NODES))
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    yield importlib.import_module("strangers")
    sys.modules.pop("strangers", None)


@pytest.fixture
def said(tmp_path):
    """What a team says to a task."""

    async def saying(graph, text):
        with Store.open(tmp_path / "store.sqlite") as store:
            async with Runtime.opened("run", store=store, settings=Settings(trust=True)) as runtime:
                played = await runtime.play(graph, text, key="k")
        return played

    return saying


def built(module, nodes, edges, branches=()):
    builder = StateGraph(MessagesState)
    for node in nodes:
        builder.add_node(node, getattr(module, node))
    for source, target in edges:
        builder.add_edge(source, target)
    for source, condition, targets in branches:
        builder.add_conditional_edges(source, getattr(module, condition), targets)
    return builder


async def last_words(builder, text):
    state = await builder.compile().ainvoke({"messages": [("user", text)]})
    return state["messages"][-1].content


SHAPES = {
    "chain": (["a", "b", "c"], [(START, "a"), ("a", "b"), ("b", "c"), ("c", END)]),
    "fan": (["a", "b", "c", "d"], [(START, "a"), ("a", "c"), ("a", "b"), (["b", "c"], "d"), ("d", END)]),
    "uneven": (["a", "b", "c", "d"], [(START, "a"), (START, "b"), ("b", "c"), (["a", "c"], "d"), ("d", END)]),
    "later": (["later", "b", "c"], [(START, "later"), (START, "b"), (["later", "b"], "c"), ("c", END)]),
    "silent": (["silent", "b"], [(START, "silent"), ("silent", "b"), ("b", END)]),
}


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_graph_says_what_langgraph_says(app, said, shape):
    builder = built(app, *SHAPES[shape])
    played = await said(from_langgraph(builder), "hello")
    assert played.error is None
    assert played.reply == await last_words(builder, "hello")


async def test_random_layered_graphs_say_what_langgraph_says(app, said):
    rng = random.Random(7)
    for _ in range(12):
        names = [*"abcdef"]
        rng.shuffle(names)
        layers = [names[:2], names[2:4], names[4:5]][: rng.randint(2, 3)]
        layers[-1] = layers[-1][:1]
        edges = [(START, node) for node in layers[0]]
        edges += [(before, node) for before, after in pairwise(layers) for node in after]
        edges.append((layers[-1][0], END))
        builder = built(app, [node for layer in layers for node in layer], edges)
        assert (await said(from_langgraph(builder.compile()), "go")).reply == await last_words(builder, "go")


@pytest.mark.parametrize("text", ["go left", "go right"])
async def test_a_condition_chooses_the_branch(app, said, text):
    edges = [(START, "a"), ("b", "d"), ("c", "d"), ("d", END)]
    builder = built(app, ["a", "b", "c", "d"], edges, [("a", "left_or_right", ["b", "c"])])
    assert (await said(from_langgraph(builder), text)).reply == await last_words(builder, text)


async def test_a_loop_runs_until_its_condition_leaves_it(app, said):
    builder = built(app, ["count", "more"], [(START, "count"), ("more", "count")], [("count", "enough", ["more", END])])
    played = await said(from_langgraph(builder), "go")
    assert played.reply == await last_words(builder, "go") == "7"


async def test_a_node_that_raises_ends_the_run_as_it_does_there(app, said):
    builder = built(app, ["loud", "b"], [(START, "loud"), ("loud", "b"), ("b", END)])
    played = await said(from_langgraph(builder), "go")
    assert "no licence" in str(played.error)


def test_every_reason_is_told_at_once(app):
    class Rich(MessagesState):
        notes: str

    builder = StateGraph(Rich)
    builder.add_node("a", app.a, retry_policy=RetryPolicy())
    builder.add_node("lambda", lambda state: {})
    builder.add_node("held", app.Held().method)
    builder.add_edge(START, "a")
    builder.add_conditional_edges("a", lambda state: "held")
    builder.add_edge("held", END)
    with pytest.raises(InputError) as refused:
        from_langgraph(builder)
    for reason in (
        "'notes' is kept besides `messages`",
        "node 'a': its retry_policy would be lost",
        "node 'lambda': ",
        "node 'held': strangers.Held.method cannot be imported",
        "give add_conditional_edges the nodes it may name",
    ):
        assert reason in str(refused.value)


class Overwritten(TypedDict):
    messages: list


class Joined(TypedDict):
    messages: Annotated[list, operator.add]


class Managed(MessagesState):
    left: RemainingSteps


class Wordless(TypedDict):
    said: str


def line(app, *nodes, state=MessagesState, **more):
    """One node after the other."""
    builder = StateGraph(state)
    for node in nodes:
        builder.add_node(node, getattr(app, node), **more)
    for source, target in pairwise((START, *nodes, END)):
        builder.add_edge(source, target)
    return builder


def compiled(app, **settings):
    return line(app, "a", "b").compile(**settings)


REFUSED = {
    "messages that are overwritten": (lambda app: line(app, "a", "b", state=Overwritten), "added up by `add_messages`"),
    "messages that are joined": (lambda app: line(app, "a", state=Joined), "added up by `add_messages`"),
    "no messages": (lambda app: line(app, "a", state=Wordless), "it has no `messages`"),
    "a managed value": (lambda app: line(app, "a", state=Managed), "'left' is managed by LangGraph"),
    "a node that takes the configuration": (lambda app: line(app, "configured"), "'configured': it takes 'config'"),
    "a node that takes a writer": (lambda app: line(app, "writing"), "node 'writing': it takes 'writer'"),
    "a condition that takes the runtime": (
        lambda app: built(app, ["a", "b"], [(START, "a"), ("b", END)], [("a", "ruled", ["b"])]),
        "condition 'ruled' after 'a': it takes 'runtime'",
    ),
    "a cache": (lambda app: line(app, "a", cache_policy=CachePolicy()), "its cache_policy would be lost"),
    "a deferred node": (lambda app: line(app, "a", defer=True), "its defer would be lost"),
    "a node that says where to go": (lambda app: line(app, "a", destinations=("a",)), "it returns Command(goto=...)"),
    "a condition at the start": (
        lambda app: built(app, ["b", "c"], [("b", END), ("c", "b")], [(START, "left_or_right", ["b", "c"])]),
        "a condition at the start",
    ),
    "two conditions": (
        lambda app: built(
            *(app, ["a", "b", "c"], [(START, "a"), ("c", "b"), ("b", END)]),
            [("a", "left_or_right", ["b", "c"]), ("a", "enough", ["b"])],
        ),
        "2 conditions follow it",
    ),
    "a condition beside an edge": (
        lambda app: built(
            app, ["a", "b", "c"], [(START, "a"), ("a", "b"), ("c", "b"), ("b", END)], [("a", "left_or_right", ["c"])]
        ),
        "a condition and a plain edge both follow it",
    ),
    "a table of answers": (
        lambda app: built(app, ["a", "b"], [(START, "a"), ("b", END)], [("a", "left_or_right", {"left": "b"})]),
        "names of nodes, not keys of a table",
    ),
    "two last words": (
        lambda app: built(app, ["a", "b"], [(START, "a"), (START, "b"), ("a", END), ("b", END)]),
        "2 nodes lead to the end (a, b)",
    ),
    "a cycle entered twice": (
        lambda app: built(
            *(app, ["count", "more"], [(START, "count"), (START, "more"), ("more", "count")]),
            [("count", "enough", ["more", END])],
        ),
        "is entered at 2 nodes",
    ),
    "side by side beside a condition": (
        lambda app: built(
            *(app, ["a", "b", "c", "d"], [(START, "a"), (START, "d"), ("d", "b"), ("c", "b"), ("b", END)]),
            [("a", "left_or_right", ["b", "c"])],
        ),
        "run side by side in a graph with conditions",
    ),
    "a stop before a node": (lambda app: compiled(app, interrupt_before=["b"]), "it stops at interrupt_before"),
    "a stop after a node": (lambda app: compiled(app, interrupt_after=["a"]), "it stops at interrupt_after"),
    "a store": (lambda app: compiled(app, store=InMemoryStore()), "it has a LangGraph store"),
}


@pytest.mark.parametrize(("build", "reason"), REFUSED.values(), ids=REFUSED)
def test_whatever_would_be_lost_is_refused_by_name(app, build, reason):
    with pytest.raises(InputError, match=re.escape(reason)):
        from_langgraph(build(app))


def test_a_join_that_langgraph_runs_twice_is_refused(app):
    builder = built(app, ["a", "b", "c"], [(START, "a"), (START, "b"), ("b", "c"), ("a", "c"), ("a", "b"), ("c", END)])
    with pytest.raises(InputError, match=r"node 'b': LangGraph runs it 2 times"):
        from_langgraph(builder)


def test_a_cycle_that_nothing_leaves_is_refused(app):
    builder = built(app, ["a", "b"], [(START, "a"), ("a", "b"), ("b", "a")], [])
    builder.add_node("c", app.c)
    builder.add_edge("b", "c")
    builder.add_edge("c", END)
    with pytest.raises(InputError, match="never ends; let a condition leave it"):
        from_langgraph(builder)


def test_what_is_no_graph_is_refused():
    with pytest.raises(InputError, match="a str is no LangGraph StateGraph"):
        from_langgraph("team.yaml")


async def test_messages_that_a_text_cannot_carry_are_an_error_not_a_loss(app, said):
    app_file = app.__file__
    with open(app_file, "a") as file:
        file.write("\ndef person(state):\n    return {'messages': [('user', 'as if I were you')]}\n")
    importlib.reload(app)
    builder = built(app, ["person"], [(START, "person"), ("person", END)])
    played = await said(from_langgraph(builder), "go")
    assert "it must add one assistant message" in str(played.error)
    assert isinstance(AIMessage("x"), AIMessage)
