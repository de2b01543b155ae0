"""What one agent call costs in Orchestra and in the frameworks it will be compared with, on one server in one run.

    python -m benchmarks peers [--episodes 100] [--repeats 3] [--envs DIR]

The chain is the same everywhere: five agents, each with a system prompt, each hearing what the one before it said. The
server answers at once, on loopback, in a process of its own, so what is measured is the framework and its HTTP client.
Orchestra runs with everything on (tracing, ledger, journal, a durable store in a file), sending messages as the others
do, and once more by token ids, where the server tokenises every prompt in a request of its own; the others run with
their own tracing off. Every contestant is a process of its own; they take turns, and the best of the repeats' medians
counts, because other work on the machine only ever slows them. `make bench` installs the frameworks, each set that can
live together in an environment of its own.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.peers.timing import ROLES, TASK
from benchmarks.table import table
from graphs import AgentGraph, AgentNode, Channel
from orchestra.execution import Runtime, Settings
from orchestra.ledger import Price
from orchestra.testing import Answer, FaultyServer
from orchestra.testing.answers import Served
from orchestra.traces.store import Store

PEERS = Path(__file__).parent / "peers"
CAP_NANO = 10**15
"""A cap that is checked at every call and never reached."""


@dataclass(frozen=True, slots=True)
class Peer:
    """One contestant."""

    title: str
    environment: str
    """Folder under `--envs`; `own` is the environment this runs in."""
    script: str
    more: tuple[str, ...] = ()


CONTESTANTS = (
    Peer("Orchestra, everything on", "own", "orchestra", ("?token_ids=false",)),
    Peer("the same by token ids, for training", "own", "orchestra", ("",)),
    Peer("a raw loop over httpx, its client", "own", "raw_httpx.py"),
    Peer("a raw loop over aiohttp", "own", "raw_aiohttp.py"),
    Peer("bare LangGraph over httpx", "own", "langgraph_raw.py"),
    Peer("LangGraph, langchain-openai", "graphs", "langgraph_openai.py"),
    Peer("the same with its SQLite saver", "graphs", "langgraph_openai.py", ("saver",)),
    Peer("AutoGen", "graphs", "autogen_team.py"),
    Peer("OpenAI Agents SDK", "agents", "openai_agents.py"),
    Peer("pydantic-ai", "agents", "pydantic_agents.py"),
    Peer("smolagents", "agents", "smol_agents.py"),
    Peer("CrewAI", "crewai", "crew_ai.py"),
)


def chain() -> AgentGraph:
    """The five agents as an agent graph."""
    nodes = tuple(AgentNode(id=f"worker{n}", role=role, layout="{messages}") for n, role in enumerate(ROLES))
    first = nodes[0].model_copy(update={"layout": "{task}"})
    channels = tuple(Channel(source=f"worker{n}", target=f"worker{n + 1}") for n in range(len(ROLES) - 1))
    return AgentGraph(name="chain", nodes=(first, *nodes[1:]), channels=channels, output=nodes[-1].id)


async def orchestra_seconds(url: str, episodes: int, switches: str) -> list[float]:
    """Seconds of each episode of the chain, with everything on; no two ask the same, so that no prompt is known."""
    settings = Settings(
        model=f"vllm/test@{url}{switches}", use_cache=False, price=Price.per_million("0.1", "0.4", source="bench")
    )
    found = []
    with tempfile.TemporaryDirectory() as folder, Store.open(Path(folder) / "store.sqlite") as store:
        async with Runtime.opened("run", store=store, settings=settings, cap_nano=CAP_NANO) as runtime:
            graph = chain()
            for number in range(episodes + 3):
                began = time.perf_counter()
                played = await runtime.play(graph, f"{TASK} ({number})", key=str(number))
                if number >= 3:
                    found.append(time.perf_counter() - began)
                assert played.error is None, played.error
                assert played.reply == "ok"
    return found


def answered(asked: Served) -> Answer:
    """`ok`, by way of the function that ends a smolagents step where the request offers it."""
    offered = [tool.get("function", {}).get("name") for tool in asked.body.get("tools") or ()]
    if "final_answer" in offered:
        return Answer(text="", tool_calls=(("final_answer", '{"answer": "ok"}'),))
    return Answer(text="ok")


def measured(peer: Peer, url: str, episodes: int, environments: Path) -> dict[str, float] | str:
    """What a contestant printed, or why it could not run."""
    python = Path(sys.executable) if peer.environment == "own" else environments / peer.environment / "bin/python"
    if not python.is_file():
        return f"not installed ({python})"
    if peer.script == "orchestra":
        words = [str(python), "-m", "benchmarks.bench_peers", "--only", url, str(episodes), *peer.more]
    else:
        words = [str(python), str(PEERS / peer.script), url, str(episodes), *peer.more]
    quiet = {"NO_PROXY": "127.0.0.1", "OPENAI_API_KEY": "none", "LANGSMITH_TRACING": "false"}
    done = subprocess.run(words, capture_output=True, text=True, timeout=600, env=os.environ | quiet)
    if done.returncode:
        return f"failed: {done.stderr.strip().splitlines()[-1][:100]}"
    told: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return told


def rows(episodes: int, repeats: int, environments: Path) -> list[Sequence[str]]:
    """One row per contestant: milliseconds per agent call, beside Orchestra's, and peak memory."""
    found: dict[str, list[dict[str, float]]] = {peer.title: [] for peer in CONTESTANTS}
    absent: dict[str, str] = {}
    with FaultyServer(answered, model="test").in_process() as server:
        for _ in range(repeats):
            for peer in CONTESTANTS:
                told = measured(peer, server.url, episodes, environments)
                if isinstance(told, str):
                    absent[peer.title] = told
                else:
                    found[peer.title].append(told)
    best = {title: min(row["median_ms"] for row in told) for title, told in found.items() if told}
    ours = best[CONTESTANTS[0].title]
    lines: list[Sequence[str]] = []
    for peer in CONTESTANTS:
        if peer.title not in best:
            lines.append((peer.title, absent[peer.title], "", "", ""))
            continue
        told = found[peer.title]
        medians = [row["median_ms"] for row in told]
        spread = f"{min(medians):.2f}–{max(medians):.2f}"
        memory = statistics.median(row["peak_mib"] for row in told)
        ratio = f"{best[peer.title] / ours:.2f}×"
        lines.append((peer.title, f"{best[peer.title]:.2f}", spread, ratio, f"{memory:.0f}"))
    return lines


def main(arguments: list[str]) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks peers")
    parser.add_argument("--episodes", type=int, default=100, help="chains played by each contestant in each repeat")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--envs", type=Path, default=Path(".venv-peers"), help="folder of the frameworks' environments")
    chosen = parser.parse_args(arguments)
    lines = rows(chosen.episodes, chosen.repeats, chosen.envs.absolute())
    heads = ("five agents in a chain", "ms per agent call", "repeats", "beside Orchestra", "peak MiB")
    print(table(heads, lines))


def _only(arguments: Sequence[str]) -> None:
    from benchmarks.peers import timing

    found: Any = asyncio.run(orchestra_seconds(arguments[0], int(arguments[1]), arguments[2]))
    timing.report(found)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--only"]:
        _only(sys.argv[2:])
    else:
        main(sys.argv[1:])
