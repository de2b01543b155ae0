"""A run has one root, however its plays are begun."""

import asyncio
import threading

from graphs import AgentGraph, AgentNode, Channel
from orchestra.execution import Settings, run, run_sync, stream
from orchestra.execution.events import Done
from orchestra.traces import names
from orchestra.traces.spans import current_span
from orchestra.traces.store import Store

PAIR = AgentGraph(
    nodes=(AgentNode(id="a", role="a"), AgentNode(id="b", role="b")),
    channels=(Channel(source="a", target="b"),),
    output="b",
)
ECHO = Settings(model="scripted/echo")


def roots(spans) -> list[str]:
    ids = {span.span_id for span in spans}
    return [span.name for span in spans if span.parent_id not in ids]


def parents(spans, name: str) -> set[str]:
    by_id = {span.span_id: span.name for span in spans}
    return {by_id[span.parent_id] for span in spans if span.name.startswith(name)}


async def test_plays_begun_by_other_threads_hang_from_the_root(opened):
    async with opened() as (runtime, _):
        loop = asyncio.get_running_loop()

        def begin(number: int) -> None:
            asyncio.run_coroutine_threadsafe(runtime.play(PAIR, "go", key=str(number)), loop).result(20)

        threads = [threading.Thread(target=begin, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            await asyncio.sleep(0.01)
        await runtime.store.flush()
    async with opened() as (other, _):
        spans = other.store.spans(runtime.run_id)
    assert roots(spans) == ["attempt"]
    assert parents(spans, "invoke_workflow") == {"attempt"}


async def test_runs_streamed_at_once_have_a_root_each(tmp_path):
    async def listen(number: int):
        events = [event async for event in stream(PAIR, str(number), settings=ECHO, store=tmp_path / "s.sqlite")]
        assert current_span() is None
        done = events[-1]
        assert isinstance(done, Done)
        return done.episode

    played = await asyncio.gather(*map(listen, range(5)))
    with Store.open(tmp_path / "s.sqlite") as store:
        for episode in played:
            spans = store.spans(episode.run_id)
            assert roots(spans) == ["attempt"]
            assert {span.trace_id for span in spans} == {episode.trace_id}


async def test_a_run_begun_inside_another_is_linked_to_it_and_has_its_own_root(opened, tmp_path):
    inner = []

    class Nested:
        async def __call__(self):
            inner.append(await run(PAIR, "inner", settings=ECHO, store=tmp_path / "inner.sqlite"))

    async with opened() as (runtime, _):
        with runtime.tracer.span("around"):
            await Nested()()
            await asyncio.to_thread(lambda: inner.append(run_sync(run(PAIR, "x", settings=ECHO, store=tmp_path / "t"))))
        await runtime.store.flush()
    for episode, where in zip(inner, ("inner.sqlite", "t"), strict=True):
        with Store.open(tmp_path / where) as store:
            spans = store.spans(episode.run_id)
        assert roots(spans) == ["attempt"]
        (root,) = [span for span in spans if span.name == "attempt"]
        assert [link["trace_id"] for link in root.links] == [runtime.tracer.trace_id]


async def test_a_resumed_run_has_a_root_for_each_attempt_in_one_trace(opened):
    async with opened() as (runtime, _):
        await runtime.play(PAIR, "go", key="k")
    async with opened(resume=runtime.run_id) as (again, _):
        await again.play(PAIR, "go", key="k")
    async with opened() as (other, _):
        spans = other.store.spans(runtime.run_id)
    assert roots(spans) == ["attempt", "attempt"]
    assert len({span.trace_id for span in spans}) == 1
    assert {span.attributes[names.RUN_ID] for span in spans if span.name == "attempt"} == {runtime.run_id}
