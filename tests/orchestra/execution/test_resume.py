"""Resuming: what a kill leaves behind, copied at a chosen moment, and what the next attempt makes of it."""

import asyncio
import sqlite3

import pytest

from graphs import AgentGraph, AgentNode, Channel, RouterNode, Tool, ToolNode, VoteNode
from orchestra.benchmarks.tasks import Task
from orchestra.errors import InputError, TeamError
from orchestra.execution import Runtime, Settings
from orchestra.execution.runner import answer
from orchestra.testing import ScriptedModel
from orchestra.traces.store import RunHeld, Store
from orchestra.traces.summary import summary

NUMBER = "import pathlib\nHERE = pathlib.Path(__file__).parent\n"
TOOLS = NUMBER + "def sent(text):\n    with (HERE / 'sent.txt').open('a') as file: file.write('x')\n    return 'sent'\n"


class Killed:
    """A store as a kill at the given request of the model would leave it."""

    def __init__(self, tmp_path, replies, at):
        self.path, self.left = tmp_path / "whole.sqlite", tmp_path / f"left-{at}.sqlite"
        self.replies, self.at, self.count = replies, at, 0

    def __call__(self, request):
        self.count += 1
        if self.count == self.at:
            with sqlite3.connect(self.path) as whole, sqlite3.connect(self.left) as left:
                whole.backup(left)
        return self.replies(request)


def last_words(request):
    return request.messages[-1].content


def graph(*nodes, channels=(), output, rounds=1):
    ways = tuple(Channel(source=source, target=target) for source, target in channels)
    return AgentGraph(name="office", nodes=nodes, channels=ways, output=output, rounds=rounds)


async def played(team, path, replies, *, resume=None, folder=None, name="scripted/test", **settings):
    """The play of `team`, the model that was asked, and the run's id."""
    model = ScriptedModel(replies, name=name)
    with Store.open(path) as store:
        async with Runtime.opened(
            "run",
            store=store,
            settings=Settings(model=name, **settings),
            folder=folder,
            inputs={"team": "same"},
            models={name: model},
            resume=resume,
        ) as runtime:
            return await runtime.play(team, "the task", key="0", seed=0), model, runtime


async def every_kill(team, tmp_path, replies, **settings):
    """Per request of the whole run: what was asked again after a kill there, and that the reply is the same."""
    whole, model, _ = await played(team, tmp_path / "whole.sqlite", replies, **settings)
    asked = [last_words(request) for request in model.requests]
    for at in range(1, len(asked) + 1):
        (tmp_path / "whole.sqlite").unlink()
        killed = Killed(tmp_path, replies, at)
        _, _, runtime = await played(team, killed.path, killed, **settings)
        again, model, _ = await played(team, killed.left, replies, resume=runtime.run_id, **settings)
        assert (again.reply, again.error, again.spoke) == (whole.reply, whole.error, whole.spoke)
        assert sorted(map(last_words, model.requests)) == sorted(asked[at - 1 :]), "the one in flight, and what follows"
        with Store.open(killed.left, read_only=True) as store:
            (run,) = store.runs()
            assert summary(store, run).figures.calls == len(asked), "a reply that was told again is no call"
    return whole, asked


ROUTED = graph(
    RouterNode(id="clerk", role="Send it on."),
    AgentNode(id="left", role="left"),
    AgentNode(id="right", role="right"),
    AgentNode(id="after-right", role="after-right"),
    AgentNode(id="out", role="out"),
    channels=[
        *(("clerk", "left"), ("clerk", "right"), ("right", "after-right")),
        *(("left", "out"), ("after-right", "out")),
    ],
    output="out",
)


async def test_the_branch_a_router_did_not_take_stays_dead_after_a_kill_anywhere(tmp_path):
    whole, asked = await every_kill(
        ROUTED,
        tmp_path,
        lambda request: "left" if "one of" in last_words(request) else f"<{last_words(request)[-20:]}>",
    )
    assert whole.spoke == {"clerk", "left", "out"}
    assert len(asked) == 3


async def test_a_router_that_failed_lets_nothing_pass_on_resume_either(tmp_path):
    failed, _, runtime = await played(ROUTED, tmp_path / "store.sqlite", lambda request: "nowhere")
    assert isinstance(failed.error, TeamError)
    again, model, _ = await played(ROUTED, tmp_path / "store.sqlite", lambda request: "left", resume=runtime.run_id)
    assert (str(again.error), again.spoke) == (str(failed.error), failed.spoke)
    assert model.requests == [], "what it said was paid for, and says the same"


async def test_rounds_of_a_cycle_go_on_counting_after_a_kill_in_any_of_them(tmp_path):
    debate = graph(
        AgentNode(id="chair", role="chair"),
        AgentNode(id="pro", role="pro", memory="transcript"),
        AgentNode(id="con", role="con", memory="transcript"),
        channels=[("chair", "pro"), ("pro", "con"), ("con", "pro")],
        output="con",
        rounds=3,
    )
    _, asked = await every_kill(debate, tmp_path, lambda request: f"{len(request.messages)}:{last_words(request)[:30]}")
    assert len(asked) == 7


async def test_a_vote_counts_replies_of_both_attempts(tmp_path):
    def number(request):
        return "I say 4" if request.messages[0].content in ("a", "b") else "I say 5"

    jury = graph(
        *(AgentNode(id=name, role=name) for name in "abc"),
        VoteNode(id="vote", extract="last-number"),
        channels=[(name, "vote") for name in "abc"],
        output="vote",
    )
    whole, _, _ = await played(jury, tmp_path / "whole.sqlite", number)
    for at in (1, 2, 3):
        (tmp_path / "whole.sqlite").unlink()
        killed = Killed(tmp_path, number, at)
        _, _, runtime = await played(jury, killed.path, killed)
        again, _, _ = await played(jury, killed.left, number, resume=runtime.run_id)
        assert again.reply == whole.reply == "4"


@pytest.mark.parametrize("use_cache", [True, False])
async def test_a_killed_run_pays_its_finished_calls_once_with_the_cache_on_and_off(tmp_path, use_cache):
    chain = graph(*(AgentNode(id=name, role=name) for name in "abcd"), channels=["ab", "bc", "cd"], output="d")
    await every_kill(chain, tmp_path, lambda request: f"<{last_words(request)[-40:]}>", use_cache=use_cache)


async def test_a_cancelled_child_is_asked_again_and_its_siblings_are_not(tmp_path):
    pair = graph(
        *(AgentNode(id=name, role=name) for name in ("quick", "slow", "out")),
        channels=[("quick", "out"), ("slow", "out")],
        output="out",
    )
    model = HangingModel(lambda request: request.messages[0].content)
    path = tmp_path / "store.sqlite"
    with Store.open(path) as store:
        async with Runtime.opened(
            "run", store=store, settings=Settings(model=model.name), models={model.name: model}
        ) as runtime:
            playing = asyncio.create_task(runtime.play(pair, "the task", key="0"))
            async with asyncio.timeout(10):
                await model.hanging.wait()
                while model.finished < 1:
                    await asyncio.sleep(0)
            playing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await playing
    with Store.open(path) as store:
        again = ScriptedModel(lambda request: request.messages[0].content, name=model.name)
        async with Runtime.opened(
            *("run",),
            store=store,
            settings=Settings(model=model.name),
            models={model.name: again},
            resume=runtime.run_id,
        ) as resumed:
            ended = await resumed.play(pair, "the task", key="0")
            unknown = resumed.ledger.unknown_total
    assert (ended.reply, ended.error) == ("out", None)
    assert [request.messages[0].content for request in again.requests] == ["slow", "out"]
    assert unknown > 0, "the cancelled call may have been served, and stays booked"


class HangingModel(ScriptedModel):
    """Never answers the agent called `slow`."""

    def __init__(self, replies):
        super().__init__(replies)
        self.hanging = asyncio.Event()

    async def stream(self, request):
        if request.messages[0].content == "slow":
            self.hanging.set()
            await asyncio.Event().wait()
        async for event in super().stream(request):
            yield event


@pytest.mark.parametrize(("rerun", "said"), [(False, "the task"), (True, "mail: sent")])
async def test_a_tool_that_is_not_idempotent_is_called_again_only_when_asked(tmp_path, rerun, said):
    (tmp_path / "post.py").write_text(TOOLS)
    mail = Tool(name="mail", call="post:sent", idempotent=False)
    team = graph(
        ToolNode(id="mail", tool=mail), AgentNode(id="out", role="out"), channels=[("mail", "out")], output="out"
    )
    left = tmp_path / "left.sqlite"
    path = tmp_path / "whole.sqlite"
    (tmp_path / "post.py").write_text(
        TOOLS.replace(
            "    return",
            f"    import sqlite3; sqlite3.connect({str(path)!r}).backup(sqlite3.connect({str(left)!r}))\n    return",
        )
    )
    _, _, runtime = await played(team, path, last_words, folder=tmp_path)
    (tmp_path / "post.py").write_text(TOOLS)
    again, _, _ = await played(team, left, last_words, folder=tmp_path, resume=runtime.run_id, rerun_tools=rerun)
    assert said in again.reply
    assert (tmp_path / "sent.txt").read_text() == ("xx" if rerun else "x")
    assert any("--rerun-tools" in fault for fault in again.faults) is not rerun


async def test_a_finished_tool_that_is_not_idempotent_is_never_called_again(tmp_path):
    (tmp_path / "post.py").write_text(TOOLS)
    mail = Tool(name="mail", call="post:sent", idempotent=False)
    team = graph(
        ToolNode(id="mail", tool=mail), AgentNode(id="out", role="out"), channels=[("mail", "out")], output="out"
    )
    path = tmp_path / "store.sqlite"
    _, _, runtime = await played(team, path, last_words, folder=tmp_path)
    again, model, _ = await played(team, path, last_words, folder=tmp_path, resume=runtime.run_id, rerun_tools=True)
    assert (again.faults, model.requests) == ((), [])
    assert (tmp_path / "sent.txt").read_text() == "x"


async def test_a_tool_that_was_mended_in_between_is_called_again_and_so_is_the_model_that_hears_it(tmp_path):
    (tmp_path / "office.py").write_text("def measure(text): return 'wrong'\n")
    tool = Tool(name="measure", call="office:measure")
    team = graph(ToolNode(id="m", tool=tool), AgentNode(id="out", role="out"), channels=[("m", "out")], output="out")
    path = tmp_path / "store.sqlite"
    first, _, runtime = await played(team, path, last_words, folder=tmp_path)
    (tmp_path / "office.py").write_text("def measure(text): return 'right'\n")
    again, model, _ = await played(team, path, last_words, folder=tmp_path, resume=runtime.run_id)
    assert "wrong" in first.reply
    assert "right" in again.reply
    assert len(model.requests) == 1
    third, model, _ = await played(team, path, last_words, folder=tmp_path, resume=runtime.run_id)
    assert (third.reply, model.requests) == (again.reply, [])


async def test_two_cannot_go_on_with_one_run_at_once(tmp_path):
    team = graph(AgentNode(id="out", role="out"), output="out")
    path = tmp_path / "store.sqlite"
    _, _, runtime = await played(team, path, last_words)
    refused = pytest.raises(RunHeld, match="being carried out by another process")
    with Store.open(path) as store, store.hold(runtime.run_id), refused:
        await played(team, path, last_words, resume=runtime.run_id)
    again, _, _ = await played(team, path, last_words, resume=runtime.run_id)
    assert again.error is None
    assert list(tmp_path.glob("*-run-*")) == [], "no lock is left lying about"


async def test_two_cannot_go_on_with_one_run_at_once_on_postgresql_either(postgres_url):
    team = graph(AgentNode(id="out", role="out"), output="out")
    _, _, runtime = await played(team, postgres_url, last_words)
    refused = pytest.raises(RunHeld, match="being carried out by another process")
    with Store.open(postgres_url) as store, store.hold(runtime.run_id), refused:
        await played(team, postgres_url, last_words, resume=runtime.run_id)
    again, _, _ = await played(team, postgres_url, last_words, resume=runtime.run_id)
    assert again.error is None


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"store": "other.sqlite"}, "no run"),
        ({"resume": "2020"}, "no run '2020'"),
        ({"text": "something else"}, "started with other tasks"),
        ({"seed": 7}, "started with other seed"),
        ({"model": "scripted/other"}, "started with other model"),
    ],
)
async def test_what_does_not_belong_to_the_run_is_refused_before_anything_is_sent(tmp_path, change, complaint):
    team = graph(AgentNode(id="out", role="out"), output="out")

    async def go(resume=None, store="store.sqlite", text="the task", seed=0, model="scripted/echo"):
        tasks = (Task(id="t", input=text),)
        where = tmp_path / store
        return await answer(team, tasks, settings=Settings(model=model), store=where, seed=seed, resume=resume)

    done = await go()
    with pytest.raises(InputError, match=complaint):
        await go(**{"resume": done.run_id, **change})
    assert (await go(resume=done.run_id[:-2])).rows[0].reply == done.rows[0].reply
