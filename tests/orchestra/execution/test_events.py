"""Events of a play, in order and as they happen; whoever stops listening stops the run."""

import asyncio
from contextlib import aclosing

import pytest

from graphs import PERSON, AgentGraph, AgentNode, Channel, Tool, ToolNode
from orchestra.errors import InputError, ModelError
from orchestra.execution import Settings, stream
from orchestra.execution.events import Asked, Cost, Done, NodeStarted, Said, Token, ToolUsed
from orchestra.models.protocol import Capabilities
from orchestra.models.retry import RetryPolicy
from orchestra.testing import ScriptedModel
from orchestra.traces import names
from orchestra.traces.store import Store

PAIR = AgentGraph(
    nodes=(AgentNode(id="a", role="a"), AgentNode(id="b", role="b")),
    channels=(Channel(source="a", target="b"),),
    output="b",
)
ECHO = Settings(model="scripted/echo")


async def test_events_come_in_order_and_end_with_the_episode(tmp_path):
    events = [event async for event in stream(PAIR, "one two", settings=ECHO, store=tmp_path / "s.sqlite")]
    kinds = [type(event).__name__ for event in events if not isinstance(event, Token)]
    assert kinds == ["NodeStarted", "Cost", "Said", "NodeStarted", "Cost", "Said", "Done"]
    assert [event.text for event in events if isinstance(event, Token) and event.node == "a"] == ["one", " two"]
    done = events[-1]
    assert isinstance(done, Done)
    assert done.episode.output == next(event.text for event in reversed(events) if isinstance(event, Said))
    costs = [event for event in events if isinstance(event, Cost)]
    assert 0 < costs[0].paid_nano < costs[1].paid_nano == costs[1].list_nano


async def test_tokens_come_while_the_reply_is_being_made(opened, staged):
    """Of two agents at once, each token comes when it is made, before its node has said anything."""
    async with opened(lambda request: "one two three") as (runtime, _):
        heard = []
        await runtime.play(PAIR, "go", key="k", listener=heard.append)
    assert heard[:4] == [NodeStarted("a", 1), Token("a", "one"), Token("a", " two"), Token("a", " three")]
    assert isinstance(heard[4], Cost)
    assert heard[5] == Said("a", 1, "one two three")


async def test_a_model_that_does_not_stream_gives_one_token_of_the_whole_reply(opened):
    async with opened(lambda request: "one two", capabilities=Capabilities(stream=False)) as (runtime, _):
        heard = []
        await runtime.play(PAIR, "go", key="k", listener=heard.append)
    assert [event for event in heard if isinstance(event, Token)] == [Token("a", "one two"), Token("b", "one two")]


async def test_the_journal_gives_one_token_of_the_whole_reply(opened):
    async with opened(lambda request: "one two") as (runtime, _):
        await runtime.play(PAIR, "go", key="k")
    async with opened([], resume=runtime.run_id) as (again, _):
        heard = []
        await again.play(PAIR, "go", key="k", listener=heard.append)
    assert [event for event in heard if isinstance(event, Token)] == [Token("a", "one two"), Token("b", "one two")]


async def test_a_reply_that_was_cut_off_and_comes_again_begins_anew(opened):
    class Cutting(ScriptedModel):
        async def stream(self, request):
            first = not self.requests
            async for event in super().stream(request):
                yield event
                if first:
                    raise ModelError("cut off", retryable=True, retry_after_seconds=0)

    solo = AgentGraph(nodes=(AgentNode(id="a"),), output="a")
    async with opened(Cutting(lambda request: "one two")) as (runtime, _):
        runtime._calls.retry = RetryPolicy(first_seconds=0)
        heard = []
        await runtime.play(solo, "go", key="k", listener=heard.append)
    tokens = [event for event in heard if isinstance(event, Token)]
    assert tokens == [Token("a", "one"), Token("a", "one", anew=True), Token("a", " two")]


async def test_tools_and_questions_are_events_too(opened):
    shout = ToolNode(id="t", tool=Tool(name="shout", call="office:shout"))
    boom = ToolNode(id="u", tool=Tool(name="boom", call="office:boom"))
    asks = ToolNode(id="p", tool=Tool(name="boss", call=PERSON))
    ways = (Channel(source="t", target="p"), Channel(source="u", target="p"))
    async with opened() as (runtime, _):
        heard = []
        await runtime.play(
            AgentGraph(nodes=(shout, boom, asks), channels=ways, output="p"), "hey", key="k", listener=heard.append
        )
    used = {event.tool: event for event in heard if isinstance(event, ToolUsed)}
    assert used["shout"] == ToolUsed("t", "shout", "hey", "HEY")
    assert used["boom"].said is None
    assert "no licence" in used["boom"].error
    assert heard[-1] == Asked("p", "t: HEY", "k/p/1")


async def leave_early(events) -> None:
    async for event in events:
        if isinstance(event, NodeStarted) and event.node == "t":
            break


async def close_early(events) -> None:
    async with aclosing(events):
        await leave_early(events)


async def be_cancelled(events) -> None:
    reached = asyncio.Event()

    async def listen() -> None:
        async for event in events:
            if isinstance(event, NodeStarted) and event.node == "t":
                reached.set()

    listening = asyncio.create_task(listen())
    await reached.wait()
    listening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await listening


@pytest.mark.parametrize("listen", [leave_early, close_early, be_cancelled])
async def test_who_stops_listening_early_cancels_the_run(tmp_path, tools, listen):
    (tools / "slow.py").write_text("import time\ndef sleep(text): time.sleep(60)\n")
    sleeps = ToolNode(id="t", tool=Tool(name="sleep", call="slow:sleep", timeout_seconds=50))
    team = AgentGraph(nodes=(AgentNode(id="a"), sleeps), channels=(Channel(source="a", target="t"),), output="t")
    before = asyncio.all_tasks()
    await listen(stream(team, "hi", settings=ECHO, store=tmp_path / "s.sqlite", folder=tools))
    async with asyncio.timeout(20):  # a loop that is left takes a moment to close its iterator
        while asyncio.all_tasks() - before:
            await asyncio.sleep(0.01)
    with Store.open(tmp_path / "s.sqlite") as store:
        (run,) = store.runs()
        (end,) = [fact.value for fact in store.facts(run.run_id) if fact.name == names.FACT_END]
        outer = [span for span in store.spans(run.run_id) if not span.name.startswith(("chat", "invoke_agent a"))]
    assert end["state"] == "cancelled"
    assert {span.status_message for span in outer} == {"cancelled"}


async def test_what_is_wrong_with_a_team_is_raised_by_the_stream(tmp_path):
    broken = AgentGraph(nodes=(ToolNode(id="t", tool=Tool(name="t", call="os:system")),), output="t")
    with pytest.raises(InputError, match="trust"):
        [event async for event in stream(broken, "go", settings=ECHO, store=tmp_path / "s.sqlite")]


async def test_a_team_that_fails_ends_its_stream_with_the_episode(tmp_path):
    script = tmp_path / "script.txt"
    script.write_text("only\n")
    settings = Settings(model=f"scripted/{script}")
    *_, done = [event async for event in stream(PAIR, "go", settings=settings, store=tmp_path / "s.sqlite")]
    assert "has no scripted reply" in done.episode.error
    assert done.episode.output == "only"


async def test_first_token_time_is_on_the_span_even_if_the_model_does_not_measure_it(opened):
    from dataclasses import replace

    from orchestra.models.protocol import Completion

    class Unmeasured(ScriptedModel):
        async def stream(self, request):
            async for event in super().stream(request):
                yield replace(event, first_token_seconds=None) if isinstance(event, Completion) else event

    async with opened(Unmeasured(lambda request: "one two", delay_seconds=0.02)) as (runtime, _):
        await runtime.play(PAIR, "go", key="k")
        await runtime.store.flush()
        chats = [span for span in runtime.store.spans(runtime.run_id) if span.name.startswith("chat")]
    assert all(span.attributes[names.FIRST_TOKEN_SECONDS] >= 0.02 for span in chats)
