"""What the store takes: spans a second from one process and from several, and what a checkpoint costs a LangGraph node.

    python -m benchmarks store [--rounds 5]

SQLite is a file; PostgreSQL a server of its own on the same machine, reached through a Unix socket, which flushes each
commit to the disk as a real one does. LangGraph's own SQLite saver is measured where it is installed; savers alternate
within one run.
"""

import argparse
import asyncio
import contextlib
import importlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from operator import add, or_
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langgraph.graph import END, START, StateGraph

from benchmarks.bench_runtime import span_rate
from benchmarks.table import table
from orchestra.execution.checkpoints import StoreSaver
from orchestra.testing.postgres import LocalPostgres
from orchestra.traces.store import Store

PROCESSES = 4
SPANS = 10_000
"""By each process."""

WRITER = """
import asyncio, sys
from benchmarks.bench_runtime import span_rate
print("ready", flush=True)
sys.stdin.readline()
asyncio.run(span_rate(int(sys.argv[2]), sys.argv[1], sys.argv[3]))
"""


class State(TypedDict):
    """What a small application keeps: last words by node, and a list that grows."""

    said: Annotated[dict[str, str], or_]
    log: Annotated[list[str], add]


def together(target: str) -> float:
    """Spans a second that several processes write at once, from the first that begins to the last that ends."""
    Store.open(target).close()
    command = [sys.executable, "-c", WRITER, target, str(SPANS)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    writers = [subprocess.Popen([*command, f"run-{number}"], **pipes) for number in range(PROCESSES)]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n"
    began = time.perf_counter()
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate(timeout=300)
    seconds = time.perf_counter() - began
    with Store.open(target, read_only=True) as store:
        assert all(len(store.spans(f"run-{number}")) == SPANS + 1 for number in range(PROCESSES))
    return PROCESSES * SPANS / seconds


async def rate_rows(folder: Path, server: LocalPostgres) -> list[Sequence[str]]:
    """Spans a second into each database."""
    rows: list[Sequence[str]] = []
    for name, targets in (
        ("SQLite", [str(folder / f"rate-{number}.sqlite") for number in range(4)]),
        ("PostgreSQL", [server.database() for _ in range(4)]),
    ):
        alone = statistics.median([await span_rate(SPANS, target) for target in targets[:3]])
        rows.append((name, f"{alone:,.0f}", f"{await asyncio.to_thread(together, targets[3]):,.0f}"))
    return rows


def chain(nodes: int, saver: Any) -> Any:
    """A chain of nodes that say a sentence each."""
    builder: StateGraph[State, None, State, State] = StateGraph(State)
    ids = [f"n{number}" for number in range(nodes)]
    for name in ids:

        async def say(state: State, name: str = name) -> State:
            return State(said={name: "ok"}, log=[f"{name} says a sentence. " + "word " * 40])

        builder.add_node(name, say)
    for source, target in zip([START, *ids], [*ids, END], strict=True):
        builder.add_edge(source, target)
    return builder.compile(checkpointer=saver)


@contextlib.asynccontextmanager
async def savers(folder: Path, server: LocalPostgres) -> AsyncIterator[dict[str, Any]]:
    """The savers compared, open."""
    async with contextlib.AsyncExitStack() as stack:
        found: dict[str, Any] = {"no saver": None}
        for name, target in (("SQLite", str(folder / "saver.sqlite")), ("PostgreSQL", server.database())):
            found[f"StoreSaver, {name}"] = StoreSaver(stack.enter_context(Store.open(target)))
        with contextlib.suppress(ModuleNotFoundError):
            theirs: Any = importlib.import_module("langgraph.checkpoint.sqlite.aio").AsyncSqliteSaver
            opened = theirs.from_conn_string(str(folder / "theirs.sqlite"))
            found["LangGraph's own, SQLite"] = await stack.enter_async_context(opened)
        yield found


async def saver_rows(folder: Path, server: LocalPostgres, rounds: int) -> list[Sequence[str]]:
    """Time per node of a chain of ten, each step durable before the next begins, and what a saver adds."""
    nodes, plays = 10, 10
    async with savers(folder, server) as compared:
        apps = {name: chain(nodes, saver) for name, saver in compared.items()}
        found: dict[str, list[float]] = {name: [] for name in apps}
        for turn in range(rounds + 1):
            for name, app in apps.items():
                options: dict[str, Any] = {} if compared[name] is None else {"durability": "sync"}
                began = time.perf_counter()
                for number in range(plays):
                    place: Any = {"configurable": {"thread_id": f"{turn}-{number}"}}
                    await app.ainvoke(State(said={}, log=[]), place, **options)
                if turn:  # the first warms up
                    found[name].append((time.perf_counter() - began) / nodes / plays * 1e6)
    bare = statistics.median(found["no saver"])
    return [
        (name, f"{statistics.median(times):,.0f} µs", f"{statistics.median(times) - bare:+,.0f} µs")
        for name, times in found.items()
    ]


async def measure(rounds: int) -> None:
    """Measure and print each table."""
    with tempfile.TemporaryDirectory() as name, LocalPostgres(durable=True) as server:
        folder = Path(name)
        headings = ("spans a second, 8 attributes and a text each", "one process", f"{PROCESSES} processes")
        print(table(headings, await rate_rows(folder, server)))
        headings = ("LangGraph, chain of 10, every step durable", "per node", "the saver's part")
        print(table(headings, await saver_rows(folder, server, rounds)))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each saver, in turn")
    asyncio.run(measure(parser.parse_args(arguments).rounds))


if __name__ == "__main__":
    main()
