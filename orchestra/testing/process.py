"""The loopback server in a process of its own: its work takes nothing from the client's event loop."""

import base64
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self
from urllib.request import ProxyHandler, build_opener

from orchestra.testing.answers import Answer, Counts, Plan, Served

START_SECONDS = 30.0
"""The other process answers within this, or something is wrong."""


class ServerProcess:
    """A context manager around a process; made by `FaultyServer.in_process`.

    The process ends with the context, and also when the process that started it is killed.

    Args:
        plan: as of `FaultyServer`; sent to the other process by `pickle`.
        settings: as of `FaultyServer`.
    """

    def __init__(self, plan: Sequence[Answer] | Plan, **settings: Any) -> None:
        self._told = pickle.dumps((plan, settings))
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""
        """Base address, such as `http://127.0.0.1:40123/v1`; empty outside the context."""

    def __enter__(self) -> Self:
        code = "from orchestra.testing.process import serve; serve()"
        paths = os.pathsep.join(path for path in sys.path if path)
        self._process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": paths},
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(base64.b64encode(self._told) + b"\n")
        self._process.stdin.flush()
        self.url = self._process.stdout.readline().decode().strip()
        if not self.url:
            code_number = self._process.wait(START_SECONDS)
            raise RuntimeError(f"the loopback server ended with {code_number}; its error is above")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        self.url = ""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()  # the end of its standard input ends it
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def counts(self) -> Counts:
        """What was served so far."""
        told = dict(self._read("counts"))
        return Counts(**{**told, "statuses": {int(status): n for status, n in told["statuses"].items()}})

    def served(self) -> list[Served]:
        """Every model call so far."""
        return [Served(**record) for record in self._read("served")["served"]]

    def _read(self, what: str) -> dict[str, Any]:
        opener = build_opener(ProxyHandler({}))
        with opener.open(f"{self.url.removesuffix('/v1')}/{what}", timeout=START_SECONDS) as answer:
            told: dict[str, Any] = json.load(answer)
        return told


def serve() -> None:
    """Serve what standard input says, say where on standard output, and end with standard input."""
    import asyncio
    import threading

    from orchestra.testing.faulty import FaultyServer

    plan, settings = pickle.loads(base64.b64decode(sys.stdin.buffer.readline()))

    async def until_left() -> None:
        left = asyncio.Event()
        loop = asyncio.get_running_loop()

        def listen() -> None:
            sys.stdin.buffer.read()
            loop.call_soon_threadsafe(left.set)

        threading.Thread(target=listen, daemon=True).start()
        async with FaultyServer(plan, **settings) as server:
            print(server.url, flush=True)
            await left.wait()

    asyncio.run(until_left())
