"""A thousand episodes at once, beside bare LangGraph: throughput, the slowest percentile, and memory.

    python -m benchmarks crowd [--episodes 1000] [--repeats 3]

Every episode is a chain of five nodes on a model that answers after half a second, so a perfect runtime needs 2.5 s for
all of them together. Each contestant is a process of its own; Orchestra keeps spans, content, journal and ledger in a
file, bare LangGraph keeps nothing. An idle episode is one that waits for a reply which does not come: its memory is
what the process grows by from 100 such episodes to `--episodes`, divided by their difference.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from benchmarks.bench_runtime import Said, bare_chain, chain, scripted_runtime
from benchmarks.table import table

NODES, DELAY_SECONDS = 5, 0.5
IDLE_SECONDS = 3600.0
FEW = 100
Episode = Callable[[int], Awaitable[object]]


async def opened(stack: AsyncExitStack, contestant: str, episodes: int, delay_seconds: float) -> Episode:
    """What plays one episode of a contestant."""
    if contestant == "bare":
        app = bare_chain(NODES, delay_seconds)
        return lambda number: app.ainvoke(Said(said={}))
    runtime = await stack.enter_async_context(scripted_runtime(delay_seconds=delay_seconds, concurrency=episodes))
    graph = chain(NODES)

    async def played(number: int) -> None:
        ended = await runtime.play(graph, "What is two plus two?", key=f"task-{number}")
        assert ended.reply == "ok"

    return played


async def crowd(contestant: str, episodes: int) -> dict[str, float]:
    """Seconds of all episodes together, of the slowest percent of them, and the most memory held."""
    async with AsyncExitStack() as stack:
        episode = await opened(stack, contestant, episodes, DELAY_SECONDS)
        seconds = []

        async def timed(number: int) -> None:
            began = time.perf_counter()
            await episode(number)
            seconds.append(time.perf_counter() - began)

        began = time.perf_counter()
        await asyncio.gather(*(timed(number) for number in range(episodes)))
        whole = time.perf_counter() - began
    slowest = sorted(seconds)[int(0.99 * len(seconds))]
    return {"seconds": whole, "slowest_percentile": slowest, "peak_mib": memory_kib("VmHWM") / 1024}


async def idle_kib(contestant: str, episodes: int) -> dict[str, float]:
    """Memory that one more episode holds while it waits, in KiB."""
    held = []
    async with AsyncExitStack() as stack:
        episode = await opened(stack, contestant, episodes, IDLE_SECONDS)
        waiting: list[asyncio.Task[object]] = []
        for count in (FEW, episodes):
            waiting += [asyncio.ensure_future(_awaited(episode, number)) for number in range(len(waiting), count)]
            await asyncio.sleep(2.0)
            held.append(memory_kib("VmRSS"))
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    return {"idle_kib": (held[1] - held[0]) / (episodes - FEW)}


async def _awaited(episode: Episode, number: int) -> object:
    return await episode(number)


def memory_kib(line: str) -> int:
    """`VmRSS` or `VmHWM` of this process, in KiB."""
    for told in Path("/proc/self/status").read_text().splitlines():
        if told.startswith(f"{line}:"):
            return int(told.split()[1])
    raise RuntimeError("/proc/self/status says nothing of memory; this benchmark runs on Linux")


def measured(what: str, contestant: str, episodes: int) -> dict[str, float]:
    """What a process of its own measured."""
    words = [sys.executable, "-m", "benchmarks.bench_crowd", "--only", what, contestant, str(episodes)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=True)
    told: dict[str, float] = json.loads(done.stdout)
    return told


def rows(episodes: int, repeats: int) -> list[Sequence[str]]:
    """Both contestants and their ratio, line by line."""
    found: dict[str, list[dict[str, float]]] = {"orchestra": [], "bare": []}
    for _ in range(repeats):
        for contestant, told in found.items():
            told.append(measured("crowd", contestant, episodes) | measured("idle", contestant, episodes))

    def row(title: str, name: str, shown: Callable[[float], str], goal: str = "") -> Sequence[str]:
        mine, bare = (statistics.median(each[name] for each in found[who]) for who in ("orchestra", "bare"))
        return (title, shown(mine), shown(bare), f"{mine / bare:.2f}×", goal)

    ideal = NODES * DELAY_SECONDS
    return [
        row(f"all {episodes}, from first to last (ideal {ideal:.1f} s)", "seconds", lambda s: f"{s:.2f} s"),
        row("the slowest percent of episodes take", "slowest_percentile", lambda s: f"{s:.2f} s"),
        (*row("episodes a second", "seconds", lambda s: f"{episodes / s:,.0f}")[:3], "", ""),
        row("most memory held", "peak_mib", lambda mib: f"{mib:.0f} MiB"),
        row("memory of one idle episode", "idle_kib", lambda kib: f"{kib:.1f} KiB", "≤ 50 KiB"),
    ]


def main(arguments: Sequence[str]) -> None:
    """Print the table."""
    if arguments[:1] == ["--only"]:
        what = crowd if arguments[1] == "crowd" else idle_kib
        print(json.dumps(asyncio.run(what(arguments[2], int(arguments[3])))))
        return
    parser = argparse.ArgumentParser(prog="python -m benchmarks crowd")
    parser.add_argument("--episodes", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    chosen = parser.parse_args(arguments)
    heads = (f"{chosen.episodes} episodes at once", "Orchestra", "bare LangGraph", "ratio", "goal")
    print(table(heads, rows(chosen.episodes, chosen.repeats)))


if __name__ == "__main__":
    main(sys.argv[1:])
