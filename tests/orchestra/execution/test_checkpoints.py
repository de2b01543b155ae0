"""`StoreSaver` under LangGraph itself: its conformance kit, its resumption, and what it leaves behind."""

import asyncio
import gc
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from operator import add
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.messages import AnyMessage, HumanMessage
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Command, interrupt
from sqlalchemy import event, func, select

from orchestra.execution.checkpoints import THREADS_REMEMBERED, StoreSaver
from orchestra.traces.spans import Tracer
from orchestra.traces.store import Store
from orchestra.traces.store.tables import BLOBS


class Log(TypedDict):
    log: Annotated[list[str], add]


@pytest.fixture(params=["sqlite", "postgresql"])
def target(request: pytest.FixtureRequest, tmp_path) -> str:
    url: str = str(tmp_path / "s.sqlite") if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
def store(target: str) -> Iterator[Store]:
    with Store.open(target) as opened:
        yield opened


def place(thread: str) -> Any:
    return {"configurable": {"thread_id": thread}}


def chain(saver: StoreSaver | None, ran: list[str], length: int = 3) -> Any:
    builder = StateGraph(Log)
    ids = [f"n{number}" for number in range(length)]
    for name in ids:

        async def step(state: Log, name: str = name) -> Log:
            ran.append(name)
            return Log(log=[name])

        builder.add_node(name, step)
    for source, aim in zip([START, *ids], [*ids, END], strict=True):
        builder.add_edge(source, aim)
    return builder.compile(checkpointer=saver)


async def test_langgraphs_own_conformance_kit_passes_in_full(store):
    @checkpointer_test(name="StoreSaver")
    async def saver():
        yield StoreSaver(store)

    report = await validate(saver)
    assert report.passed_all(), report.to_dict()


async def test_a_thread_goes_on_in_another_process_where_it_was(target):
    with Store.open(target) as store:
        assert await chain(StoreSaver(store), []).ainvoke(Log(log=["a"]), place("t")) == {
            "log": ["a", "n0", "n1", "n2"]
        }
    with Store.open(target) as store:
        again = await chain(StoreSaver(store), []).ainvoke(Log(log=["b"]), place("t"))
    assert again["log"] == ["a", "n0", "n1", "n2", "b", "n0", "n1", "n2"]


async def test_resuming_is_not_replaying(target):
    """What had finished before the interruption does not run again (langgraph #7361)."""
    ran: list[str] = []

    def build(saver: StoreSaver) -> Any:
        async def draft(state: Log) -> Log:
            ran.append("draft")
            return Log(log=["draft"])

        async def ask(state: Log) -> Log:
            ran.append("ask")
            return Log(log=[interrupt("go on?")])

        async def route(state: Log) -> Command[str]:
            ran.append("route")
            return Command(goto="last" if state["log"][-1] == "yes" else END)

        async def last(state: Log) -> Log:
            ran.append("last")
            return Log(log=["last"])

        builder = StateGraph(Log)
        for name, step in (("draft", draft), ("ask", ask), ("last", last)):
            builder.add_node(name, step)
        builder.add_node("route", route, destinations=("last", END))
        builder.add_edge(START, "draft")
        builder.add_edge("draft", "ask")
        builder.add_edge("ask", "route")
        return builder.compile(checkpointer=saver)

    with Store.open(target) as store:
        asked = await build(StoreSaver(store)).ainvoke(Log(log=[]), place("t"))
        assert asked["__interrupt__"][0].value == "go on?"
    with Store.open(target) as store:
        done = await build(StoreSaver(store)).ainvoke(Command(resume="yes"), place("t"))
    assert done["log"] == ["draft", "yes", "last"]
    assert ran == ["draft", "ask", "ask", "route", "last"]


async def test_a_thread_that_was_resumed_can_stop_and_be_resumed_again(target):
    """The second checkpoint, made after a resume, is as good as the first (llama-agents #281)."""
    ran: list[str] = []

    def build(saver: StoreSaver) -> Any:
        builder = StateGraph(Log)
        ids = ["first", "second", "third"]
        for name in ids:

            async def ask(state: Log, name: str = name) -> Log:
                said = interrupt(f"{name}?")
                ran.append(name)
                return Log(log=[said])

            builder.add_node(name, ask)
        for source, aim in zip([START, *ids], [*ids, END], strict=True):
            builder.add_edge(source, aim)
        return builder.compile(checkpointer=saver)

    heard: list[Any] = []
    for given in (Log(log=[]), Command(resume="a"), Command(resume="b"), Command(resume="c")):
        with Store.open(target) as store:  # each time as another process would
            heard.append(await build(StoreSaver(store)).ainvoke(given, place("t")))
    assert [asked["__interrupt__"][0].value for asked in heard[:3]] == ["first?", "second?", "third?"]
    assert [asked["log"] for asked in heard] == [[], ["a"], ["a", "b"], ["a", "b", "c"]]
    assert ran == ["first", "second", "third"]
    with Store.open(target) as store:
        kept = [state.values["log"] async for state in build(StoreSaver(store)).aget_state_history(place("t"))]
    assert kept[:4] == [["a", "b", "c"], ["a", "b"], ["a"], []]


async def test_routing_goes_on_after_a_router_has_failed(store):
    """A resumed run asks the router again; it does not end as if it had (langgraph #8834)."""
    failing = [True]
    builder = StateGraph(Log)
    ran: list[str] = []

    async def work(state: Log) -> Log:
        ran.append("work")
        return Log(log=["work"])

    async def after(state: Log) -> Log:
        return Log(log=["after"])

    async def route(state: Log) -> Command[str]:
        if failing.pop() if failing else False:
            raise RuntimeError("the router's model is away")
        return Command(goto="after")

    builder.add_node("work", work)
    builder.add_node("route", route, destinations=("after",))
    builder.add_node("after", after)
    builder.add_edge(START, "work")
    builder.add_edge("work", "route")
    app = builder.compile(checkpointer=StoreSaver(store))
    with pytest.raises(RuntimeError, match="away"):
        await app.ainvoke(Log(log=[]), place("t"))
    assert await app.ainvoke(None, place("t")) == {"log": ["work", "after"]}
    assert ran == ["work"]


KILLED = """
import asyncio, os, signal, sys
from operator import add
from typing import Annotated, TypedDict
from langgraph.graph import END, START, StateGraph
from orchestra.execution.checkpoints import StoreSaver
from orchestra.traces.store import Store

class Log(TypedDict):
    log: Annotated[list[str], add]

async def step(state, name):
    print(name, flush=True)
    if name == sys.argv[2]:
        os.kill(os.getpid(), signal.SIGKILL)
    return {"log": [name]}

async def main():
    builder = StateGraph(Log)
    ids = [f"n{number}" for number in range(6)]
    for name in ids:
        async def node(state, name=name):
            return await step(state, name)
        builder.add_node(name, node)
    for source, target in zip([START, *ids], [*ids, END]):
        builder.add_edge(source, target)
    with Store.open(sys.argv[1]) as store:
        app = builder.compile(checkpointer=StoreSaver(store))
        place = {"configurable": {"thread_id": "t"}}
        begun = (await app.aget_state(place)).values
        done = await app.ainvoke(None if begun else {"log": []}, place, durability="sync")
    print(*done["log"], flush=True)

asyncio.run(main())
"""


def test_what_was_acknowledged_survives_a_kill_and_is_not_run_again(target):
    """Checkpoints are there after a crash (langgraph #8298)."""
    first = subprocess.run([sys.executable, "-c", KILLED, target, "n3"], capture_output=True, text=True, timeout=120)
    assert first.returncode == -9, first.stderr
    assert first.stdout.split() == ["n0", "n1", "n2", "n3"]
    second = subprocess.run([sys.executable, "-c", KILLED, target, "-"], capture_output=True, text=True, timeout=120)
    assert second.stdout.splitlines() == ["n3", "n4", "n5", "n0 n1 n2 n3 n4 n5"], second.stderr


async def test_checkpoints_share_transactions_with_spans_and_each_other(store):
    app = chain(StoreSaver(store), [], length=5)
    tracer = Tracer(store, "r")
    before = store.commits

    async def one(number: int) -> None:
        with tracer.span(f"invoke_agent {number}"):
            await app.ainvoke(Log(log=[]), place(f"t{number}"), durability="sync")

    await asyncio.gather(*map(one, range(50)))
    writes = 50 * (5 + 6 + 1)  # the tasks' writes, the checkpoints and the input's
    assert store.commits - before < writes / 4
    assert len(store.spans("r")) == 50


async def test_plain_code_and_threads_use_it_too(store):
    builder = StateGraph(Log)
    builder.add_node("n", lambda state: Log(log=["n"]))
    builder.add_edge(START, "n")
    app = builder.compile(checkpointer=StoreSaver(store))
    result = await asyncio.to_thread(app.invoke, Log(log=[]), place("t"))
    assert result == {"log": ["n"]}
    assert [state.values["log"] for state in app.get_state_history(place("t"))] == [["n"], [], []]


async def test_messages_and_history_come_back_as_they_were(store):
    builder = StateGraph(MessagesState)

    async def answer(state: MessagesState) -> dict[str, list[AnyMessage]]:
        return {"messages": [HumanMessage(f"answer {len(state['messages'])}", id=str(len(state["messages"])))]}

    builder.add_node("answer", answer)
    builder.add_edge(START, "answer")
    app = builder.compile(checkpointer=StoreSaver(store))
    for number in range(40):
        await app.ainvoke({"messages": [HumanMessage(f"ask {number}", id=f"q{number}")]}, place("t"))
    state = await app.aget_state(place("t"))
    assert [message.content for message in state.values["messages"]][-2:] == ["ask 39", "answer 79"]
    assert len([one async for one in app.aget_state_history(place("t"))]) == 3 * 40


async def test_a_fork_does_not_see_the_other_branch(store):
    saver = StoreSaver(store)
    app = chain(saver, [])
    await app.ainvoke(Log(log=["a"]), place("t"))
    history = [state async for state in app.aget_state_history(place("t"))]
    early = next(state for state in history if state.values["log"] == ["a", "n0"])
    forked = await app.aupdate_state(early.config, Log(log=["fork"]))
    assert (await app.ainvoke(None, forked))["log"] == ["a", "n0", "fork", "n1", "n2"]
    assert (await app.aget_state(history[0].config)).values["log"] == ["a", "n0", "n1", "n2"]


POOL_THREADS = min(32, (os.cpu_count() or 1) + 4)


async def test_nothing_is_left_in_memory_by_threads_that_have_ended(store):
    """Objects, tasks and threads stay as many as they were (langgraph #7094, #3898, #3481)."""
    saver = StoreSaver(store)
    app = chain(saver, [], length=2)

    async def play(first: int, last: int) -> tuple[int, int, int]:
        for number in range(first, last):
            await app.ainvoke(Log(log=["x" * 1000]), place(f"t{number}"))
        gc.collect()
        theirs = [thread.name for thread in threading.enumerate() if thread.name != "orchestra-store"]
        return len(gc.get_objects()), len(asyncio.all_tasks()), len(theirs)

    await play(0, 60)
    saver._last.clear()
    before = await play(60, 80)
    saver._last.clear()
    after = await play(80, 280)
    assert len(saver._last) == 200 < THREADS_REMEMBERED
    saver._last.clear()
    gc.collect()
    assert len(gc.get_objects()) - before[0] < 1000  # 200 threads of 4 checkpoints would be many times that
    assert after[1] == before[1]
    assert after[2] <= before[2] + POOL_THREADS  # asyncio's own pool may still be growing to its bound


async def test_a_growing_list_costs_the_same_at_every_step(store):
    saver = StoreSaver(store)
    builder = StateGraph(Log)
    builder.add_node("say", lambda state: Log(log=[f"{len(state['log'])} " + "x" * 300]))
    builder.add_edge(START, "say")
    app = builder.compile(checkpointer=saver)

    def kept() -> int:
        return int(store.query(select(func.coalesce(func.sum(func.length(BLOBS.c.body)), 0)))[0][0])

    grown = []
    for _ in range(3):
        before = kept()
        for _ in range(64):
            await app.ainvoke(Log(log=[]), place("t"))
        grown.append(kept() - before)
    assert grown[2] <= 1.2 * grown[0] + 10_000


async def test_reading_a_state_takes_as_few_statements_on_a_long_thread_as_on_a_short_one(store):
    """State reads take tens of milliseconds in LangGraph #2403 and #3515, and scan what grows in #8220."""
    asked: list[str] = []
    event.listen(store._engine, "before_cursor_execute", lambda *call: asked.append(call[2]))
    app = chain(StoreSaver(store), [], length=1)
    counts = []
    for plays in (1, 40):
        for _ in range(plays):
            await app.ainvoke(Log(log=["x" * 400]), place("t"))
        asked.clear()
        state = await app.aget_state(place("t"))
        counts.append(sum(statement.startswith("SELECT") for statement in asked))
    assert len(state.values["log"]) == 2 * 41
    assert counts[0] <= counts[1] <= 3  # the checkpoint, its writes, and once the content of both


async def test_an_encrypting_serialiser_is_given_everything(store):
    class Cipher:
        def encrypt(self, plaintext: bytes) -> tuple[str, bytes]:
            return "xor", bytes(byte ^ 7 for byte in plaintext)

        def decrypt(self, ciphername: str, ciphertext: bytes) -> bytes:
            return bytes(byte ^ 7 for byte in ciphertext)

    app = chain(StoreSaver(store, serde=EncryptedSerializer(Cipher())), [])
    assert (await app.ainvoke(Log(log=["secret"]), place("t")))["log"][0] == "secret"
    found = [str(row) for table in ("checkpoints", "checkpoint_writes") for row in store.query(_everything(table))]
    assert found
    assert not any("secret" in row for row in found)
    assert (await app.aget_state(place("t"))).values["log"][0] == "secret"


async def test_pruning_keeps_what_a_channel_of_changes_is_made_of(store):
    saver = StoreSaver(store)
    whole = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}
    config: Any = whole
    for number, values in enumerate([{"log": ["a"]}, {}, {}]):
        checkpoint: Any = {
            "v": 1,
            "id": f"{number:04}",
            "ts": "",
            "channel_values": values,
            "channel_versions": {"log": number},
            "versions_seen": {},
            "updated_channels": None,
        }
        counted: Any = {"step": number, "counters_since_delta_snapshot": {"log": (number, number)}}
        config = await saver.aput(config, checkpoint, counted, {"log": number})
        await saver.aput_writes(config, [("log", [f"w{number}"])], "task")
    await saver.aprune(["t"])
    history = await saver.aget_delta_channel_history(config=config, channels=["log"])
    assert history["log"]["seed"] == ["a"]
    assert [write[2] for write in history["log"]["writes"]] == [["w0"], ["w1"]]
    with pytest.raises(ValueError, match="no strategy 'all'"):
        saver.prune(["t"], strategy="all")


def _everything(name: str) -> Any:
    from orchestra.traces.store.tables import TABLES_BY_NAME

    return select(TABLES_BY_NAME[name])
