"""Time limits of calls, nodes and runs end as typed results, with what there is of a reply."""

import asyncio
import time

import pytest

from graphs import AgentGraph, AgentNode, Channel, Tool, ToolNode, write
from orchestra.benchmarks.tasks import Task
from orchestra.errors import ModelError, OutOfTime
from orchestra.evaluation.sweep import evaluate
from orchestra.execution import Settings, answer
from orchestra.execution.runner import runtime_episodes
from orchestra.execution.timing import Deadline, within
from orchestra.models.retry import RetryPolicy
from orchestra.traces import names

PAIR = AgentGraph(
    nodes=(AgentNode(id="a", role="a"), AgentNode(id="b", role="b")),
    channels=(Channel(source="a", target="b"),),
    output="b",
)


async def test_a_call_that_takes_too_long_fails_its_episode_and_stays_booked(opened, staged):
    staged.hold("a")
    async with opened(staged, settings={"call_seconds": 0.05}) as (runtime, model):
        runtime._calls.retry = RetryPolicy(attempts=1)
        played = await runtime.play(PAIR, "go", key="k")
        assert isinstance(played.error, ModelError)
        assert "--call-seconds" in str(played.error)
        assert runtime.ledger.unknown_total > 0
        assert (runtime.ledger.reserved, model.cancelled) == (0, 1)


async def test_a_node_that_takes_too_long_is_out_of_time_and_what_was_said_is_kept(opened, staged):
    staged.hold("b")
    async with opened(staged, settings={"node_seconds": 0.1}) as (runtime, model):
        played = await runtime.play(PAIR, "go", key="k")
        assert isinstance(played.error, OutOfTime)
        assert "'b' took longer than 0.1 s" in str(played.error)
        assert (played.reply, played.partial) == ("a", True)
        assert runtime.ledger.unknown_total > 0
        assert (runtime.ledger.reserved, model.cancelled) == (0, 1)
        await runtime.store.flush()
        (episode,) = runtime_episodes(runtime.store, runtime.run_id)
        spans = {span.name: span for span in runtime.store.spans(runtime.run_id)}
    assert (episode.error_type, episode.output) == ("OutOfTime", "a")
    assert spans["invoke_agent b"].attributes[names.ERROR_TYPE] == "OutOfTime"
    assert {
        span.status_message for span in spans.values() if span.name.startswith("chat") and span.status == "error"
    } <= {"cancelled"}


async def test_the_time_of_a_node_counts_its_tools_and_ends_their_worker(opened, tools):
    (tools / "slow.py").write_text("import time\ndef sleep(text): time.sleep(60)\n")
    team = AgentGraph(
        nodes=(ToolNode(id="t", tool=Tool(name="sleep", call="slow:sleep", timeout_seconds=50)),), output="t"
    )
    began = time.monotonic()
    async with opened(settings={"node_seconds": 1.0}) as (runtime, _):
        played = await runtime.play(team, "go", key="k")
    assert isinstance(played.error, OutOfTime)
    assert time.monotonic() - began < 30


async def test_a_run_that_takes_too_long_ends_every_play_with_what_there_is(opened, staged):
    staged.hold("b")
    async with opened(staged, settings={"run_seconds": 0.3, "concurrency": 2}) as (runtime, model):
        ended = await asyncio.gather(*(runtime.play(PAIR, "go", key=str(number)) for number in range(4)))
        assert [type(played.error) for played in ended] == [OutOfTime] * 4
        assert [played.reply for played in ended] == ["a", "a", None, None]
        assert len(model.begun) == 4  # the last two never began
        assert runtime.ledger.reserved == 0


async def test_a_run_out_of_time_exits_3_and_goes_on_when_resumed(tmp_path, tools):
    (tools / "slow.py").write_text(
        "import pathlib, time\n"
        "def sleep(text):\n"
        "    here = pathlib.Path(__file__).with_name('done')\n"
        "    if not here.exists():\n"
        "        here.touch()\n"
        "        time.sleep(60)\n"
        "    return 'rested'\n"
    )
    tool = ToolNode(id="t", tool=Tool(name="sleep", call="slow:sleep", timeout_seconds=50))
    team = AgentGraph(nodes=(AgentNode(id="a"), tool), channels=(Channel(source="a", target="t"),), output="t")
    given = {"store": tmp_path / "s.sqlite", "folder": tools}
    settings = Settings(model="scripted/echo", run_seconds=1.5)
    cut = await answer(team, [Task(id="t", input="go")], settings=settings, **given)
    assert (cut.exit_code, cut.rows[0].state, cut.rows[0].reply, cut.rows[0].partial) == (3, "ran-out", "go", True)
    done = await answer(
        team, [Task(id="t", input="go")], settings=Settings(model="scripted/echo"), resume=cut.run_id, **given
    )
    assert (done.exit_code, done.rows[0].reply, done.paid_nano) == (0, "rested", cut.paid_nano)


async def test_an_evaluation_out_of_time_keeps_what_it_paid_for_and_goes_on(tmp_path, tools):
    (tools / "slow.py").write_text("import time\ndef sleep(text): time.sleep(60)\n")
    tool = ToolNode(id="t", tool=Tool(name="sleep", call="slow:sleep", timeout_seconds=50))
    slow = AgentGraph(nodes=(AgentNode(id="a"), tool), channels=(Channel(source="a", target="t"),), output="t")
    write(slow, tools / "team.yaml")
    tasks = [Task(id="t", input="go", target="go")]
    settings = Settings(model="scripted/echo", run_seconds=1.0)
    ended = await evaluate([tools / "team.yaml"], tasks, settings=settings, store=tmp_path / "s.sqlite")
    assert "the run took longer than 1 s" in ended.ran_out
    assert ended.paid_nano > 0


async def test_somebody_else_s_time_out_is_not_taken_for_ours():
    with pytest.raises(TimeoutError) as caught:
        async with within(10, "late"):
            raise TimeoutError("theirs")
    assert not isinstance(caught.value, OutOfTime)


async def test_nothing_begins_when_no_time_is_left():
    with pytest.raises(OutOfTime):
        async with within(Deadline(0).left_seconds, "late"):
            pytest.fail("it began")
