"""However runs are begun, a collector gets one tree for each: one root, and no parent that is not there.

What goes wrong elsewhere: opentelemetry-python-genai #513 (every step of an asynchronous LangGraph becomes a trace of
its own), langfuse #13590, #8780, openllmetry #2805, #3460 (context lost in tasks and threads).
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest
from langgraph.graph import END, START, MessagesState, StateGraph
from opentelemetry.sdk.trace import TracerProvider

from graphs import AgentGraph, AgentNode, Channel
from orchestra.execution import Runtime, Settings, run, run_sync, stream
from orchestra.execution.embedding import to_langgraph
from orchestra.testing import LoopbackCollector
from orchestra.traces.store import Store

PAIR = AgentGraph(
    name="pair",
    nodes=(AgentNode(id="left", role="l"), AgentNode(id="right", role="r"), AgentNode(id="end", role="e")),
    channels=(Channel(source="left", target="end"), Channel(source="right", target="end")),
    output="end",
)
SPANS_OF_A_PLAY = 7  # a workflow, three agents, three calls


@pytest.fixture
def collector():
    with LoopbackCollector() as opened:
        yield opened


@pytest.fixture
def once(collector, tmp_path):
    """Makes the coroutine of one run."""
    settings = Settings(model="scripted/echo", otlp=collector.url)
    return lambda text="go": run(PAIR, text, settings=settings, store=tmp_path / "store.sqlite")


def trees(collector):
    """Names of the roots by trace, after checking that every parent is there."""
    ids = {span.span_id for span in collector.spans}
    assert all(span.parent_span_id in ids for span in collector.spans if span.parent_span_id)
    assert len(ids) == len(collector.spans)
    found = {}
    for span in collector.spans:
        found.setdefault(span.trace_id, [])
        if not span.parent_span_id:
            found[span.trace_id].append(span.name)
    return list(found.values())


async def test_runs_gathered_in_one_loop(once, collector):
    await asyncio.gather(*(once(str(number)) for number in range(5)))
    assert trees(collector) == [["orchestra run"]] * 5
    assert len(collector.spans) == 5 * (SPANS_OF_A_PLAY + 1)


def test_runs_in_several_threads_at_once_inside_a_foreign_span(once, collector):
    foreign = TracerProvider().get_tracer("theirs")
    with foreign.start_as_current_span("request"), ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: run_sync(once(str(number))), range(6)))
    assert trees(collector) == [["orchestra run"]] * 6


async def test_a_run_in_a_thread_beside_the_loop(once, collector):
    await asyncio.gather(once(), asyncio.to_thread(lambda: run_sync(once())), once())
    assert trees(collector) == [["orchestra run"]] * 3


async def test_a_stream_that_is_read_to_its_end(collector, tmp_path):
    settings = Settings(model="scripted/echo", otlp=collector.url)
    async for _ in stream(PAIR, "go", settings=settings, store=tmp_path / "store.sqlite"):
        await asyncio.sleep(0)
    assert trees(collector) == [["orchestra run"]]


async def test_a_stream_that_is_left_early_still_ends_its_spans(collector, tmp_path):
    settings = Settings(model="scripted/echo", otlp=collector.url)
    events = stream(PAIR, "go", settings=settings, store=tmp_path / "store.sqlite")
    await anext(events)
    await events.aclose()
    assert trees(collector) == [["orchestra run"]]


async def test_teams_that_are_nodes_of_somebody_elses_graph(collector, tmp_path):
    settings = Settings(model="scripted/echo", otlp=collector.url)
    with Store.open(tmp_path / "store.sqlite") as store:
        async with Runtime.opened("run", store=store, settings=settings) as runtime:
            builder = StateGraph(MessagesState)
            for name in ("first", "second"):
                builder.add_node(name, to_langgraph(PAIR, runtime))
                builder.add_edge(START, name)
                builder.add_edge(name, END)
            theirs = builder.compile()
            await theirs.ainvoke({"messages": [("user", "go")]})
    assert trees(collector) == [["orchestra run"]]
    assert len(collector.spans) == 1 + 2 * SPANS_OF_A_PLAY
