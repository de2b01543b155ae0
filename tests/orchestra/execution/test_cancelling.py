"""A run that is cancelled reaches everybody, leaves nobody behind, and says so."""

import asyncio
import os

import pytest

from graphs import AgentGraph, AgentNode, Channel, RouterNode, Tool, ToolNode
from orchestra.errors import ModelError
from orchestra.execution.runner import runtime_episodes
from orchestra.testing import ScriptedModel
from orchestra.traces import names
from orchestra.traces.summary import summary

PAIR = AgentGraph(
    nodes=(AgentNode(id="a", role="a"), AgentNode(id="b", role="b"), AgentNode(id="out", role="out")),
    channels=(Channel(source="a", target="out"), Channel(source="b", target="out")),
    output="out",
)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def others() -> set[asyncio.Task]:
    return asyncio.all_tasks() - {asyncio.current_task()}


def end_of(store, run_id) -> dict:
    (end,) = [fact.value for fact in store.facts(run_id) if fact.name == names.FACT_END]
    return end


async def test_a_cancelled_run_reaches_every_call_and_no_task_outlives_it(opened, staged):
    """langchain-ai/langgraph 5682 and 8302: cancelling does not reach what runs below."""
    staged.hold("a", "b")
    before = others()

    async def run():
        async with opened(staged) as (runtime, _):
            ids.append(runtime.run_id)
            await asyncio.gather(*(runtime.play(PAIR, "go", key=str(number)) for number in range(5)))

    ids: list[str] = []
    running = asyncio.create_task(run())
    await staged.asked_by("a")
    await staged.asked_by("b")
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert others() <= before
    assert staged.running == 0
    async with opened() as (other, _):
        store = other.store
        spans, played = store.spans(ids[0]), runtime_episodes(store, ids[0])
        entries = store.ledger_entries(ids[0])
        told = summary(store, store.run(ids[0]))
        assert end_of(store, ids[0])["state"] == "cancelled"
    assert told.state == "cancelled"
    assert [(one.error, one.error_type) for one in played] == [("cancelled", "CancelledError")] * len(played)
    assert {(span.status, span.status_message) for span in spans} == {("error", "cancelled")}
    sent = {line.entry.reservation_id for line in entries if line.entry.event == "reserve"}
    closed = {line.entry.reservation_id: line.entry.event for line in entries if line.entry.event != "reserve"}
    assert set(closed) == sent
    assert set(closed.values()) <= {"unknown", "release"}


async def test_what_was_said_before_the_cancellation_is_kept(opened, staged):
    staged.hold("b")
    async with opened(staged) as (runtime, _):
        playing = asyncio.create_task(runtime.play(PAIR, "go", key="k"))
        await staged.asked_by("b")
        await asyncio.sleep(0.05)
        playing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await playing
        await runtime.store.flush()
        (episode,) = runtime_episodes(runtime.store, runtime.run_id)
    assert (episode.error, episode.output) == ("cancelled", "a")


async def test_a_cancelled_play_is_not_reported_as_done_and_the_others_go_on(opened, staged):
    """strands-agents/harness-sdk 4419 and 3798: a cancelled child is reported as completed, and routed on from."""
    staged.hold("a")
    async with opened(staged) as (runtime, model):
        one = asyncio.create_task(runtime.play(PAIR, "go", key="one"))
        two = asyncio.create_task(runtime.play(PAIR, "go", key="two"))
        await staged.asked_by("a")
        await asyncio.sleep(0.05)
        one.cancel()
        await asyncio.wait([one])
        model.open("a")
        assert (await two).reply == "out"
        assert one.cancelled()
        assert model.begun.count("out") == 1
        await runtime.store.flush()
        errors = {one.episode_id: one.error for one in runtime_episodes(runtime.store, runtime.run_id)}
    assert errors == {"one": "cancelled", "two": None}


async def test_a_call_that_something_else_cancels_is_a_failure_and_nothing_routes_on_from_it(opened):
    def answer(request):
        if request.messages[0].content == "child":
            raise asyncio.CancelledError
        return "left"

    nodes = (AgentNode(id="child", role="child"), RouterNode(id="r"), AgentNode(id="left"), AgentNode(id="right"))
    ways = (("child", "r"), ("r", "left"), ("r", "right"), ("right", "left"))
    team = AgentGraph(nodes=nodes, channels=tuple(Channel(source=a, target=b) for a, b in ways), output="left")
    async with opened(answer) as (runtime, model):
        played = await runtime.play(team, "go", key="k")
        assert runtime.ledger.unknown_total > 0
    assert isinstance(played.error, ModelError)
    assert "was cancelled, and not by the run" in str(played.error)
    assert len(model.requests) == 1


async def test_cancelling_an_application_reaches_a_team_that_is_a_node_of_it(opened, staged):
    """langchain-ai/langgraph 5682: the subgraph goes on."""
    from langgraph.graph import END, START, MessagesState, StateGraph

    from orchestra.execution.embedding import to_langgraph

    staged.hold("a", "b")
    async with opened(staged) as (runtime, model):
        builder = StateGraph(MessagesState)
        builder.add_node("team", to_langgraph(PAIR, runtime))
        builder.add_edge(START, "team")
        builder.add_edge("team", END)
        before = others()
        calling = asyncio.create_task(builder.compile().ainvoke({"messages": [("user", "go")]}))
        await model.asked_by("a")
        await model.asked_by("b")
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling
        assert (model.running, model.cancelled, runtime.ledger.reserved) == (0, 2, 0)
        assert others() <= before
        await runtime.store.flush()
        (episode,) = runtime_episodes(runtime.store, runtime.run_id)
    assert episode.error == "cancelled"


async def test_cancelling_kills_the_worker_of_a_tool(opened, tools, tmp_path):
    note = f"pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(os.getpid()))"
    (tools / "slow.py").write_text(f"import os, pathlib, time\ndef sleep(text):\n    {note}\n    time.sleep(60)\n")
    team = AgentGraph(
        nodes=(ToolNode(id="t", tool=Tool(name="sleep", call="slow:sleep", timeout_seconds=50)),), output="t"
    )
    async with opened() as (runtime, _):
        playing = asyncio.create_task(runtime.play(team, "go", key="k"))
        for _ in range(400):
            if (tmp_path / "pid").exists() and (tmp_path / "pid").read_text():
                break
            await asyncio.sleep(0.05)
        pid = int((tmp_path / "pid").read_text())
        assert alive(pid)
        playing.cancel()
        await asyncio.wait([playing])
    assert not alive(pid)


async def test_a_cancelled_run_can_be_resumed_and_asks_only_what_was_in_flight(opened, staged):
    staged.hold("b")
    async with opened(staged) as (runtime, _):
        playing = asyncio.create_task(runtime.play(PAIR, "go", key="k"))
        await staged.asked_by("b")
        await asyncio.sleep(0.05)
        playing.cancel()
        await asyncio.wait([playing])
    async with opened(lambda request: request.messages[0].content, resume=runtime.run_id) as (again, model):
        played = await again.play(PAIR, "go", key="k")
    assert played.reply == "out"
    assert sorted(request.messages[0].content for request in model.requests) == ["b", "out"]


async def test_cancelled_over_and_over_at_any_point_nothing_stays_reserved_or_running(opened):
    before = others()
    async with opened(ScriptedModel(lambda request: "ok", delay_seconds=0.005)) as (runtime, model):
        for hops in range(0, 40, 2):
            playing = asyncio.create_task(runtime.play(PAIR, "go", key=f"k{hops}"))
            for _ in range(hops):
                await asyncio.sleep(0)
            playing.cancel()
            await asyncio.wait([playing])
            assert (runtime.ledger.reserved, model.running) == (0, 0)
        await runtime.store.flush()
        starts = [span for span in runtime.store.spans(runtime.run_id) if span.name.startswith("invoke_workflow")]
    assert {span.status_message for span in starts} == {"cancelled"}
    assert others() <= before


@pytest.mark.parametrize(
    ("error", "state"),
    [(None, "finished"), (ModelError("no"), "failed"), (KeyboardInterrupt(), "cancelled"), (ValueError("x"), "failed")],
)
async def test_a_run_says_how_it_ended(opened, error, state):
    ids = []

    async def body():
        async with opened() as (runtime, _):
            ids.append(runtime.run_id)
            if error is not None:
                raise error

    if error is None:
        await body()
    else:
        with pytest.raises(type(error)):
            await body()
    async with opened() as (other, _):
        assert end_of(other.store, ids[0])["state"] == state
        assert summary(other.store, other.store.run(ids[0])).state == state


async def test_a_run_whose_every_play_failed_has_failed_and_one_that_ran_out_says_so(opened):
    async with opened([ModelError("no")]) as (runtime, _):
        await runtime.play(PAIR, "go", key="k")
    async with opened(cap_nano=1) as (short, _):
        await short.play(PAIR, "go", key="k")
    async with opened() as (other, _):
        assert end_of(other.store, runtime.run_id)["state"] == "failed"
        assert end_of(other.store, short.run_id)["state"] == "ran-out"


async def test_a_run_that_is_going_on_again_is_not_told_as_ended(opened):
    async with opened() as (runtime, _):
        await runtime.play(PAIR, "go", key="k")
    async with opened(resume=runtime.run_id) as (again, _):
        await again.store.flush()
        assert summary(again.store, again.store.run(again.run_id)).state == "interrupted"
    async with opened() as (other, _):
        assert summary(other.store, other.store.run(runtime.run_id)).state == "finished"
