"""A team as a node of somebody's LangGraph application."""

import asyncio

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph

from graphs import AgentGraph, AgentNode, Channel
from orchestra.errors import CannotAfford, ModelError
from orchestra.execution.embedding import to_langgraph

PAIR = AgentGraph(
    name="pair",
    nodes=(AgentNode(id="a"), AgentNode(id="b")),
    channels=(Channel(source="a", target="b"),),
    output="b",
)


def embedding(team):
    """An application that asks a team and then repeats what it said."""

    def before(state):
        return {"messages": [("user", state["messages"][-1].text + "!")]}

    def after(state):
        return {"messages": [("ai", f"it said {state['messages'][-1].text}")]}

    builder = StateGraph(MessagesState)
    builder.add_node("before", before)
    builder.add_node("team", team)
    builder.add_node("after", after)
    for source, target in ((START, "before"), ("before", "team"), ("team", "after"), ("after", END)):
        builder.add_edge(source, target)
    return builder


def echo(request):
    return request.messages[-1].content.upper()


async def test_it_says_what_a_run_says(opened):
    async with opened(echo) as (runtime, _):
        alone = await runtime.play(PAIR, "hello!", key="alone")
        app = embedding(to_langgraph(PAIR, runtime)).compile()
        state = await app.ainvoke({"messages": [("user", "hello")]})
    assert state["messages"][-2].text == alone.reply
    assert state["messages"][-2].name == "pair"
    assert state["messages"][-1].text == f"it said {alone.reply}"


async def test_many_calls_at_once_are_many_episodes_of_one_run(opened):
    async with opened(echo) as (runtime, _):
        app = embedding(to_langgraph(PAIR, runtime)).compile()
        await asyncio.gather(*(app.ainvoke({"messages": [("user", f"task {n}")]}) for n in range(10)))
        await runtime.store.flush()
        spans = runtime.store.spans(runtime.run_id)
    plays = [span for span in spans if span.name == "invoke_workflow pair"]
    assert len(plays) == 10
    assert len({span.attributes["orchestra.episode.id"] for span in plays}) == 10
    assert len({span.trace_id for span in spans}) == 1


async def test_running_out_reaches_the_application_as_it_is(opened):
    async with opened(echo, cap_nano=10) as (runtime, model):
        with pytest.raises(CannotAfford, match="raise the cap"):
            await embedding(to_langgraph(PAIR, runtime)).compile().ainvoke({"messages": [("user", "hello")]})
    assert model.requests == []


async def test_an_interrupted_thread_goes_on_without_paying_twice(opened):
    saver, failing = InMemorySaver(), {"on": True}

    def flaky(request):
        if failing["on"] and "A" in request.messages[-1].content:
            raise ModelError("gone for a moment")
        return "A" if "hello" in request.messages[-1].content and "a:" not in request.messages[-1].content else "B"

    thread = {"configurable": {"thread_id": "t"}}
    async with opened(flaky) as (runtime, model):
        app = embedding(to_langgraph(PAIR, runtime)).compile(checkpointer=saver)
        with pytest.raises(ModelError):
            await app.ainvoke({"messages": [("user", "hello")]}, thread)
        assert len(model.requests) == 2
    failing["on"] = False
    async with opened(flaky, resume=runtime.run_id) as (again, model):
        app = embedding(to_langgraph(PAIR, again)).compile(checkpointer=saver)
        state = await app.ainvoke(None, thread)
        assert len(model.requests) == 1
    assert state["messages"][-1].text == "it said B"


async def test_a_thread_goes_on_with_its_next_question(opened):
    async with opened(echo) as (runtime, _):
        app = embedding(to_langgraph(PAIR, runtime)).compile(checkpointer=InMemorySaver())
        thread = {"configurable": {"thread_id": "t"}}
        first = await app.ainvoke({"messages": [("user", "one")]}, thread)
        second = await app.ainvoke({"messages": [("user", "two")]}, thread)
    assert "ONE" in first["messages"][-1].text
    assert "TWO" in second["messages"][-1].text
