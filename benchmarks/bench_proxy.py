"""What the proxy costs: latency and throughput through it and without it, with a server that answers at once.

Three processes of their own, as in use: the server, the proxy with its store, the client. The client is httpx; its own
cost is in both columns. With token ids is what the server sends when it is asked for them, without the proxy: a part of
the difference is the larger answer.
"""

import asyncio
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from benchmarks.table import table
from orchestra.testing.answers import Answer
from orchestra.testing.faulty import FaultyServer

WARMING = 20
ONE_BY_ONE = 200
TOGETHER = 500
AT_ONCE = 32
ASKED = {"model": "loopback", "messages": [{"role": "user", "content": "How much is 17 and 25? " * 10}]}
MORE = {"return_token_ids": True, "logprobs": True}

HEADINGS = (
    *("answer", "ms", "ms, ids asked for", "ms through the proxy", "ms added"),
    *("calls/s", "calls/s, ids asked for", "calls/s through the proxy", "CPU ms of the proxy a call"),
)


@contextmanager
def proxy_process(upstream: str) -> Iterator[str]:
    """The command `orchestra proxy` in front of `upstream`; its address."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["proxy", "--upstream", upstream, "--port", "0", "--store", str(Path(folder) / "store.sqlite")]
        command = [sys.executable, "-m", "orchestra", *words]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip().removeprefix("OPENAI_BASE_URL=")
        finally:
            process.terminate()
            process.wait(30)
            process.stdout.close()


async def ask(client: httpx.AsyncClient, url: str, body: dict[str, object]) -> float:
    """Seconds until the whole answer was there."""
    began = time.perf_counter()
    async with client.stream("POST", f"{url}/chat/completions", json=body) as answer:
        async for _ in answer.aiter_bytes():
            pass
    assert answer.status_code == 200
    return time.perf_counter() - began


async def measure(url: str, body: dict[str, object]) -> tuple[float, float]:
    """Median seconds of a call when there is one at a time, and calls a second when there are many."""
    limits = httpx.Limits(max_connections=AT_ONCE)
    async with httpx.AsyncClient(timeout=60, limits=limits) as client:
        for _ in range(WARMING):
            await ask(client, url, body)
        alone = [await ask(client, url, body) for _ in range(ONE_BY_ONE)]
        began = time.perf_counter()
        await asyncio.gather(*(ask(client, url, body) for _ in range(TOGETHER)))
        return statistics.median(alone), TOGETHER / (time.perf_counter() - began)


def through_proxy(upstream: str, body: dict[str, object]) -> tuple[float, float, float]:
    """As `measure`, through a proxy of its own; and the seconds of processor that proxy took for a call."""
    before = _children_seconds()
    with proxy_process(upstream) as url:
        alone, rate = asyncio.run(measure(url, body))
    started = _children_seconds()
    with proxy_process(upstream):
        pass
    idle = _children_seconds() - started
    return alone, rate, (started - before - idle) / (WARMING + ONE_BY_ONE + TOGETHER)


def _children_seconds() -> float:
    """Processor time of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main(arguments: list[str]) -> None:
    """Print the table."""
    text = " ".join(["word"] * 20)
    rows = []
    with FaultyServer([Answer(text=text)]).in_process() as server:
        for name, more in (("one document", {}), ("20 words streamed", {"stream": True})):
            without = asyncio.run(measure(server.url, {**ASKED, **more}))
            with_ids = asyncio.run(measure(server.url, {**ASKED, **more, **MORE}))
            through = through_proxy(server.url, {**ASKED, **more})
            waits = [f"{seconds * 1000:.2f}" for seconds in (without[0], with_ids[0], through[0])]
            added = f"{(through[0] - without[0]) * 1000:.2f}"
            rates = [f"{rate:,.0f}" for rate in (without[1], with_ids[1], through[1])]
            rows.append([name, *waits, added, *rates, f"{through[2] * 1000:.2f}"])
    print(table(HEADINGS, rows))


if __name__ == "__main__":
    main([])
