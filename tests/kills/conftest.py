"""Runs that are killed without warning: what is asked, who kills and when, and what the server saw of it."""

import asyncio
import contextlib
import hashlib
import json
import os
import random
import re
import signal
import sys
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from orchestra.testing import Answer, FaultyServer
from orchestra.traces.store import Store

KILLS = int(os.environ.get("KILLS", "100"))
"""Of each command on each store; a fourth of them for each special case."""
PATIENCE_SECONDS = 300
"""Longest one attempt may take before the test gives up."""
LANES = 3
"""Chains carried out at once."""
INTERRUPTED = 130
"""Exit code of a run that was interrupted."""
MOST_A_CHAIN = 10
"""Kills of one run before it is let go on."""

FORKS = """\
import gc, json, os, sys
import anyio._backends._asyncio, httpcore, typer.main
import composers.composing, composers.knapsack.bm25, orchestra.evaluation.sweep, orchestra.models.vllm
from orchestra.cli import execute

gc.freeze()
for line in sys.stdin:
    asked = json.loads(line)
    child = os.fork()
    if child == 0:
        for number, name in enumerate(("out", "err"), 1):
            os.dup2(os.open(asked[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), number)
        os._exit(execute(asked["words"]))
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
"""Imports everything once and forks an attempt per line, so that an attempt costs what it does and no more."""


def reply_to(record):
    """What the model says: a function of the request alone."""
    said = record.body["messages"]
    asked = said[-1]["content"] or ""
    drawn = hashlib.sha256(json.dumps([said, record.body.get("seed")]).encode()).digest()
    delay = 0.002 + drawn[0] / 255 * 0.03
    if choice := re.search(r"Answer with one of: (.*)$", asked):
        names = choice[1].split(", ")
        return Answer(text=names[drawn[1] % len(names)], delay_seconds=delay)
    if record.body.get("tools") and said[-1]["role"] != "tool":
        call = (record.body["tools"][0]["function"]["name"], json.dumps({"input": f"{drawn[2]} * {drawn[3]}"}))
        return Answer(text="", tool_calls=(call,), delay_seconds=delay)
    if found := re.search(r"(?:^|\n)[\w.-]+: (.+)\nAnswer:", asked):
        return Answer(text=found[1], delay_seconds=delay)
    return Answer(text=f"I say {drawn[1] % 5}, as {drawn[4:8].hex()} shows.", delay_seconds=delay)


@dataclass
class Kill:
    """A moment of one attempt."""

    how: str
    """`clock`: so long after the start; `received`, `answered`: at that request of the attempt."""
    request: int
    pause: float
    signal: int = signal.SIGKILL
    """SIGINT cancels every call in flight, and the run ends in order."""

    @classmethod
    def drawn(cls, rng, reach, seconds, signals):
        """A moment among the next `reach` requests, or the next `seconds`, and one of `signals`."""
        number = rng.choice(signals)
        how = rng.choice(["clock", "received", "answered", "answered"][number != signal.SIGKILL :])
        pause = rng.uniform(0.0, seconds) if how == "clock" else rng.choice([0.0, rng.uniform(0.0, 0.006)])
        return cls(how, rng.randint(1, reach), pause, number)


@dataclass
class Lane:
    """One process that forks attempts, and the one server they all ask."""

    folder: Path
    server: FaultyServer = field(init=False)
    _process: asyncio.subprocess.Process = field(init=False)
    _armed: tuple[Kill, int, asyncio.Task] | None = None
    _asked: int = 0
    _killers: set = field(default_factory=set)

    async def __aenter__(self):
        self.server = await FaultyServer(self._plan).__aenter__()
        environment = os.environ | {"OPENAI_API_BASE": self.server.url, "OPENAI_API_KEY": "none"}
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", FORKS),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=self.folder,
            env=environment | {"NO_PROXY": "127.0.0.1", "COLUMNS": "200"},
        )
        return self

    async def __aexit__(self, *error):
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        await self.server.__aexit__(*error)

    async def attempt(self, words, kill=None, name="told"):
        """The exit code of one attempt, and what it printed; -9 or 130 when the kill came in time."""
        out, err = self.folder / f"{name}.out", self.folder / f"{name}.err"
        asked = {"words": [str(word) for word in words], "out": str(out), "err": str(err)}
        self._process.stdin.write(json.dumps(asked).encode() + b"\n")
        async with asyncio.timeout(PATIENCE_SECONDS):
            child = int(await self._process.stdout.readline())
            self._asked = 0
            if kill is not None:
                self._armed = (kill, child)
                if kill.how == "clock":
                    self._later(kill, child)
            code = int(await self._process.stdout.readline())
        self._armed = None
        for killer in self._killers:
            killer.cancel()
        self._killers.clear()
        if code not in (0, -signal.SIGKILL, INTERRUPTED):
            raise AssertionError(f"exit code {code}: {err.read_text()[-2000:]}")
        return code, out.read_text()

    def _plan(self, record):
        self._asked += 1
        if self._armed is not None and self._asked == self._armed[0].request:
            kill, child = self._armed
            if kill.how == "received":
                _kill(child, kill.signal)
            elif kill.how == "answered":
                self._later(kill, child, record)
        return reply_to(record)

    def _later(self, kill, child, record=None):
        async def wait():
            while record is not None and not record.finished:
                await asyncio.sleep(0)
            await asyncio.sleep(kill.pause)
            _kill(child, kill.signal)

        self._killers.add(asyncio.create_task(wait()))


def _kill(child, number):
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, number)


@dataclass
class Chain:
    """One run that is killed again and again, and in the end let go on."""

    name: str
    store: str
    url: str
    kills: list = field(default_factory=list)
    served: list = field(default_factory=list)
    """What the server was asked."""
    run_id: str = ""
    printed: str = ""
    attempts: int = 0


class Killing:
    """Kills one command a hundred times, at moments drawn from a seed, on several lanes at once."""

    kills = KILLS

    def __init__(self, folder, words, new_store, *, seed, signals=(signal.SIGKILL,), kills=KILLS):
        self.folder, self.words, self.new_store, self.signals = folder, words, new_store, signals
        self.rng = random.Random(seed)
        self.left = kills
        self.number = 0

    async def __call__(self):
        """The chain that was never killed, and those that were."""
        async with AsyncExitStack() as stack:
            lanes = [await stack.enter_async_context(Lane(self.folder)) for _ in range(LANES)]
            began = time.monotonic()
            whole = await self._chain(lanes[0], 0, 0.0, most=0)
            seconds, reach = time.monotonic() - began, len(whole.served)
            done = await asyncio.gather(*(self._lane(lane, reach, seconds) for lane in lanes))
        return whole, [chain for chains in done for chain in chains]

    async def _lane(self, lane, reach, seconds):
        chains = []
        while self.left > 0:
            most = min(self.left, MOST_A_CHAIN)
            self.left -= most
            chains.append(await self._chain(lane, max(2, reach // 5), seconds / 3, most=most))
            self.left += most - len(chains[-1].kills)
        return chains

    async def _chain(self, lane, reach, seconds, *, most):
        self.number += 1
        name = f"chain-{self.number}"
        chain, before = Chain(name, self.new_store(name), lane.server.url), len(lane.server.served)
        words = [word.replace("NAME", name).replace("URL", lane.server.url) for word in self.words]
        while True:
            kill = Kill.drawn(self.rng, reach, seconds, self.signals) if len(chain.kills) < most else None
            more = ["--resume", chain.run_id] if chain.run_id else []
            code, chain.printed = await lane.attempt([*words, "--store", chain.store, *more], kill, name)
            chain.attempts += 1
            if code == 0:
                chain.served = lane.server.served[before:]
            if kill is not None and code != 0:
                chain.kills.append(kill)
            with Store.open(chain.store) as opened:
                chain.run_id = next((run.run_id for run in opened.runs(1)), "")
            if code == 0:
                return chain


@pytest.fixture
def killing():
    """Kills a command a hundred times: `await killing(folder, words, new_store, seed=1)()`."""
    return Killing
