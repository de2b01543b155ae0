"""What the runtime costs: beside bare LangGraph, in imports, in spans, in calls the cache saves, in the ledger.

    python -m benchmarks runtime [--rounds 15]

Everything is kept as in any run: spans, content, the journal and the ledger's lines go to an SQLite file on disk. The
bare graph keeps nothing; its nodes return a constant. The two alternate within one run, and the ratio is the median of
the pairs' ratios, because other work on the machine slows both.
"""

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from operator import or_
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph

from benchmarks.table import table
from benchmarks.tiny import tiny_problem
from composers import compose
from graphs import AgentGraph
from graphs.motifs import MOTIFS
from orchestra.execution import Runtime, Settings
from orchestra.ledger import Ledger
from orchestra.testing import ScriptedModel
from orchestra.traces import names
from orchestra.traces.spans import Tracer
from orchestra.traces.store import Store

CAP_NANO = 10**15
"""A cap that is checked at every call and never reached."""

Timed = Callable[[], Awaitable[float]]
"""One measurement, in seconds."""


class Said(TypedDict):
    """State of the bare graph: last words by node, as the runtime keeps them."""

    said: Annotated[dict[str, str], or_]


Bare = CompiledStateGraph[Said, None, Said, Said]


def bare_chain(count: int, delay_seconds: float | None = None) -> Bare:
    """A chain of nodes that say `ok`, in plain LangGraph."""
    builder: StateGraph[Said, None, Said, Said] = StateGraph(Said)
    ids = [f"n{number}" for number in range(count)]

    async def say(name: str, state: Said) -> dict[str, dict[str, str]]:
        if delay_seconds is not None:
            await asyncio.sleep(delay_seconds)
        return {"said": {name: "ok"}}

    for node_id in ids:
        step: Any = partial(say, node_id)
        builder.add_node(node_id, step)
    for source, target in zip([START, *ids], [*ids, END], strict=True):
        builder.add_edge(source, target)
    return builder.compile()


def chain(count: int) -> AgentGraph:
    """The same chain as an agent graph."""
    return MOTIFS["chain"]([f"n{number}" for number in range(count)])


@asynccontextmanager
async def scripted_runtime(*, delay_seconds: float = 0.0, concurrency: int = 32) -> AsyncIterator[Runtime]:
    """A run under a cap, on a model that says `ok`, with its store in a file of its own."""
    model = ScriptedModel(lambda request: "ok", name="scripted/ok", delay_seconds=delay_seconds)
    settings = Settings(model=model.name, concurrency=concurrency)
    with tempfile.TemporaryDirectory() as folder, Store.open(Path(folder) / "store.sqlite") as store:
        opening = Runtime.opened("run", store=store, settings=settings, cap_nano=CAP_NANO, models={model.name: model})
        async with opening as runtime:
            yield runtime


async def pairs(ours: Timed, bare: Timed, rounds: int) -> tuple[float, float, float]:
    """Median seconds of each, and the median of their ratios, measured in turn."""
    await bare()
    await ours()
    found = [(await bare(), await ours()) for _ in range(rounds)]
    return (
        statistics.median(mine for _, mine in found),
        statistics.median(theirs for theirs, _ in found),
        statistics.median(mine / theirs for theirs, mine in found),
    )


async def chain_rows(rounds: int, nodes: int = 10, episodes: int = 20) -> list[Sequence[str]]:
    """Time per node of a chain played again and again, beside bare LangGraph."""
    app, graph, played = bare_chain(nodes), chain(nodes), 0
    async with scripted_runtime() as runtime:

        async def ours() -> float:
            nonlocal played
            began = time.perf_counter()
            for _ in range(episodes):
                played += 1
                ended = await runtime.play(graph, "What is two plus two?", key=f"task-{played}")
                assert ended.reply == "ok"
            return time.perf_counter() - began

        async def bare() -> float:
            began = time.perf_counter()
            for _ in range(episodes):
                await app.ainvoke(Said(said={}))
            return time.perf_counter() - began

        mine, theirs, ratio = await pairs(ours, bare, rounds)
        kept = runtime.store
        counts = (len(kept.journal(runtime.run_id)), len(kept.ledger_entries(runtime.run_id)))
        assert counts == (2 * played * nodes,) * 2, "every call was journalled and ledgered"
        assert len(kept.spans(runtime.run_id)) == (2 * nodes + 1) * played
    per_node = 1e6 / (episodes * nodes)
    name = f"chain of {nodes}, no latency, per node"
    return [(name, f"{mine * per_node:.0f} µs", f"{theirs * per_node:.0f} µs", f"{ratio:.2f}×", "≤ 4×")]


async def concurrent_rows(rounds: int, episodes: int = 200, nodes: int = 5, delay: float = 0.05) -> list[Sequence[str]]:
    """Time of many episodes at once on a model that takes its time, beside bare LangGraph."""
    app, graph, played = bare_chain(nodes, delay), chain(nodes), 0
    async with scripted_runtime(delay_seconds=delay, concurrency=episodes) as runtime:

        async def ours() -> float:
            nonlocal played
            played += episodes
            began = time.perf_counter()
            keys = (f"task-{number}" for number in range(played - episodes, played))
            await asyncio.gather(*(runtime.play(graph, "What is two plus two?", key=key) for key in keys))
            return time.perf_counter() - began

        async def bare() -> float:
            began = time.perf_counter()
            await asyncio.gather(*(app.ainvoke(Said(said={})) for _ in range(episodes)))
            return time.perf_counter() - began

        mine, theirs, ratio = await pairs(ours, bare, rounds)
        assert runtime.ledger.reserved == 0
    ideal = nodes * delay
    name = f"{episodes} episodes of {nodes} nodes at once, {delay * 1e3:.0f} ms a call (ideal {ideal * 1e3:.0f} ms)"
    return [(name, f"{mine * 1e3:.0f} ms", f"{theirs * 1e3:.0f} ms", f"{ratio:.2f}×", "≤ 1.3×")]


def start_rows(runs: int = 7) -> list[Sequence[str]]:
    """Time of fresh processes, median of `runs`."""
    rows: list[Sequence[str]] = []
    for name, arguments, goal in (
        ("python -c pass", ["-c", "pass"], ""),
        ("python -c 'import orchestra'", ["-c", "import orchestra"], "≤ 0.2 s"),
        ("orchestra --help", ["-m", "orchestra", "--help"], "≤ 0.3 s"),
    ):
        seconds = []
        for _ in range(runs + 1):
            began = time.perf_counter()
            subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
            seconds.append(time.perf_counter() - began)
        rows.append((f"`{name}`", f"{statistics.median(seconds[1:]):.2f} s", goal))
    return rows


async def span_rate(count: int = 10_000, target: str | None = None, run_id: str = "benchmark") -> float:
    """Spans a second, each with eight attributes and a text, until all of them are committed.

    Args:
        count: how many.
        target: store they go to; `None` is an SQLite file.
        run_id: the run they belong to.
    """
    attributes = {f"orchestra.benchmark.{number}": "value" for number in range(8)}
    with tempfile.TemporaryDirectory() as folder, Store.open(target or Path(folder) / "store.sqlite") as store:
        tracer = Tracer(store, run_id)
        began = time.perf_counter()
        with tracer.span("root"):
            for number in range(count):
                with tracer.span("invoke_agent n", attributes=attributes) as span:
                    span.content(names.OUTPUT, f"reply {number}")
                if number % 100 == 0:
                    await asyncio.sleep(0)
        await store.flush()
        seconds = time.perf_counter() - began
        assert len(store.spans(run_id)) == count + 1
    return count / seconds


async def ledger_microseconds(room: int, workers: int = 50, calls: int = 400) -> float:
    """Microseconds to reserve and settle, by `workers` at once under a cap with room for `room` calls at a time."""
    ledger = Ledger(workers * calls + room * 10)

    async def work(number: int) -> None:
        for call in range(calls):
            reservation = await ledger.reserve(10, f"call {number}/{call}")
            await asyncio.sleep(0)
            ledger.settle(reservation, 1)

    async def idle() -> None:
        for _ in range(calls):
            await asyncio.sleep(0)

    began = time.perf_counter()
    await asyncio.gather(*(idle() for _ in range(workers)))
    waiting = time.perf_counter() - began
    began = time.perf_counter()
    await asyncio.gather(*(work(number) for number in range(workers)))
    assert ledger.spent == workers * calls
    assert ledger.reserved == 0
    return (time.perf_counter() - began - waiting) / (workers * calls) * 1e6


async def cache_rows() -> list[Sequence[str]]:
    """Model calls of one search, paid for with and without the completion cache."""
    asked: list[int] = []
    paid: list[int] = []
    for use_cache in (False, True):
        with tempfile.TemporaryDirectory() as folder:
            problem = tiny_problem(Path(folder), use_cache=use_cache)
            made = await compose(problem, store=Path(folder) / "store.sqlite")
            assert made.certificate is not None, "the search has no budget to run out of"
            rows = made.certificate.spend.rows
            asked.append(sum(row.calls for row in rows))
            paid.append(sum(row.calls - row.cached_calls for row in rows))
    return [
        ("without the cache", f"{asked[0]:,}", f"{paid[0]:,}", ""),
        ("with the cache", f"{asked[1]:,}", f"{paid[1]:,}", f"{1 - paid[1] / paid[0]:.0%}"),
    ]


async def measure(rounds: int) -> None:
    """Measure and print each table."""
    headings = ("beside bare LangGraph", "Orchestra", "bare", "ratio", "goal")
    print(table(headings, [*await chain_rows(rounds), *await concurrent_rows(max(3, rounds // 3))]))
    print(table(("start of a fresh process", "median of 7", "goal"), start_rows()))
    rate = statistics.median([await span_rate() for _ in range(3)])
    alone = statistics.median([await ledger_microseconds(50) for _ in range(3)])
    crowded = statistics.median([await ledger_microseconds(10) for _ in range(3)])
    rows = [
        ("spans into SQLite, 8 attributes and a text each", f"{rate:,.0f} a second"),
        ("ledger, reserve and settle, 50 at once, room for all", f"{alone:.1f} µs"),
        ("ledger, reserve and settle, 50 at once, room for 10", f"{crowded:.1f} µs"),
    ]
    print(table(("store and ledger", "median of 3"), rows))
    print(table(("one search, model calls", "asked", "paid for", "saved"), await cache_rows()))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="pairs of measurements, Orchestra and bare in turn")
    asyncio.run(measure(parser.parse_args(arguments).rounds))


if __name__ == "__main__":
    main()
